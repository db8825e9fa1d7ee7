"""Hold the conversations of a specification, resumably, and put them into tables."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm4rec.agents.simulate.controls import GivenAgent
from llm4rec.agents.simulate.measure import cost_figures, list_figures, talk_figures, taste_figures
from llm4rec.agents.simulate.moments import Moment
from llm4rec.agents.simulate.preference import Judge
from llm4rec.agents.simulate.rule import RuleSimulator
from llm4rec.agents.simulate.spoken import LLMSimulator, LLMSimulatorConfig
from llm4rec.agents.simulate.talk import Goal, Talk, TalkConfig, answered, hold
from llm4rec.agents.simulate.values import Simulator, Wish
from llm4rec.agents.tools import Session
from llm4rec.agents.turn import Agent
from llm4rec.app.conversations.bench import Bench
from llm4rec.app.conversations.kinds import KINDS, Surroundings
from llm4rec.app.conversations.parts import Part, part_path, told
from llm4rec.app.conversations.preferences import Preferred, prefer
from llm4rec.app.conversations.report import write_conversations
from llm4rec.app.conversations.spec import ConversationSpec, Protocol
from llm4rec.app.conversations.summary import put_together
from llm4rec.experiment.code import fingerprint
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.plan import digest
from llm4rec.experiment.resources import RunResources
from llm4rec.llm import Mode

_LOG = logging.getLogger(__name__)
#: Modules whose source shapes a conversation, with all that they import.
_SHAPED_BY = frozenset(
    {"llm4rec.agents.simulate.talk", "llm4rec.agents.simulate.measure", "llm4rec.agents.simulate.spoken",
     "llm4rec.agents.simulate.moments", "llm4rec.agents.simulate.people", "llm4rec.app.conversations.kinds"}
)  # fmt: skip


def converse(spec: ConversationSpec, out: Path, *, mode: Mode = "use", tell: Callable[[str], None] = _LOG.info) -> Path:
    """Hold all conversations of a specification in ``out`` and return the path of the report; continues what was begun.

    Args:
        spec: what is held.
        out: the directory; made if it is not there.
        mode: of the store of model calls: ``use``, ``refresh`` or ``replay``.
        tell: called with a line for people whenever something begins (``...``) or ends.
    """
    directory = RunDirectory(out)
    directory.open()
    with directory.lock():
        directory.sweep()
        resources = RunResources(spec.llm, {}, directory.store, mode, spec.budget)
        resources.open_store()  # every run directory holds one
        benches = {n: Bench(w, directory / f"worlds/{n}", mode, tell) for n, w in spec.worlds.items()}
        try:
            return _Host(spec, directory, resources, benches, tell).hold_all()
        finally:
            for bench in benches.values():
                bench.close()
            resources.close()


@dataclass
class _Host:
    spec: ConversationSpec
    directory: RunDirectory
    resources: RunResources
    benches: dict[str, Bench]
    tell: Callable[[str], None]
    _facts: dict[str, Any] = field(default_factory=dict)

    def hold_all(self) -> Path:
        """Do what is not yet done."""
        began = time.time()
        (self.directory / "summary.json").unlink(missing_ok=True)  # from here to the end it would be of two specifications
        self.directory.write_text("spec.toml", self.spec.dump())
        for name, protocol in self.spec.protocols.items():
            bench = self.benches[protocol.world]
            self._facts[name] = {"world": bench.facts()}
            for seed in self.spec.seeds(name):
                self._hold(name, protocol, bench, seed)
        judged = {name: self._prefer(name) for name in self.spec.preferences}
        self.tell("summary: intervals and tests ...")
        put_together(self.spec, self.directory, self._facts, judged, self.resources, began)
        self.tell("report ...")
        return write_conversations(self.directory.path)

    def _hold(self, name: str, protocol: Protocol, bench: Bench, seed: int) -> None:
        """Hold one protocol's conversations of one seed with every agent."""
        first = self.spec.conversations.seeds[0]
        moments: list[Moment] = []
        if protocol.kind == "dialogues":
            moments, whole = bench.moments(protocol, first)
            goals = [Goal(m.case, m.user, frozenset(m.truth), (), Wish(())) for m in moments]
            self._facts[name]["mapped"] = {
                "requests": whole.requests, "cases": len(whole.moments), "truth": dict(whole.truth),
                "repeated": whole.repeated, "answers": dict(whole.answers),
            }  # fmt: skip
        else:
            goals = bench.goals(protocol, seed, first)
        for agent in self.spec.taking_part(name):
            mine = goals[: protocol.sample] if self.spec.sampled(name, agent) else goals
            part = Part(part_path(self.directory.path, name, agent, seed), self._key(name, agent, bench, seed))
            done = part.open(fresh=self.resources.mode == "refresh" and self._asks(name, agent))
            left = [at for at, goal in enumerate(mine) if goal.case not in done]
            label = f"{name}, {agent}" + (f" (seed {seed})" if len(self.spec.seeds(name)) > 1 else "")
            if left:
                self.tell(f"{label}: {len(left)} of {len(mine)} conversations ...")
            clock = time.perf_counter()
            for chunk in _chunks(left, self.spec.conversations.batch):
                held = [goals[at] for at in chunk]
                if moments:
                    talks = self._answered([moments[at] for at in chunk], held, agent, protocol, bench)
                else:
                    make, users = self._agent(agent, protocol, bench), self._simulator(protocol, bench)
                    facets = bench.facets(protocol.least)
                    talks = hold(held, make, users, lambda g: Session(bench.engine, None, g.user), facets, protocol.talk, seed)
                figures = self._figures(talks, [moments[at] for at in chunk] if moments else [], protocol, bench)
                ids = bench.engine.catalogue.items.ids
                part.add([told(talk, values, ids) for talk, values in zip(talks, figures, strict=True)])
            if left:
                self.tell(f"{label}: {len(left)} conversations in {time.perf_counter() - clock:.1f} s")

    def _prefer(self, name: str) -> Preferred:
        """Judge one table's pairs; its answers are in the store, so that nothing is asked twice."""
        table = self.spec.preferences[name]
        bench, seed = self.benches[table.world], self.spec.conversations.seeds[0]
        for system in (table.a, table.b):
            bench.opened.system(system)
        self.tell(f"{name}: {table.a} or {table.b}? ...")
        judge = Judge(self.resources.llm(table.llm), table.judge)
        return prefer(table, bench.engine, bench.cases, judge, seed, self.tell)

    # -- parts of one protocol -----------------------------------------------------------------
    def _agent(self, name: str, protocol: Protocol, bench: Bench) -> Callable[[], Agent]:
        table = self.spec.agents[name]
        around = Surroundings(bench.engine, bench.tools, protocol.shown, self.resources.llm)
        return KINDS[table.kind].make(table.config, around)

    def _simulator(self, protocol: Protocol, bench: Bench) -> Simulator:
        table = self.spec.simulator(protocol)
        if table.llm is not None and isinstance(table.config, LLMSimulatorConfig):
            return LLMSimulator(self.resources.llm(table.llm), table.config, bench.facets(protocol.least).all)
        return RuleSimulator(table.config)

    def _answered(
        self, moments: Sequence[Moment], goals: Sequence[Goal], agent: str, protocol: Protocol, bench: Bench
    ) -> list[Talk]:
        """Return one turn for each moment of a dialogue."""
        if self.spec.agents[agent].kind == "logged":
            agents: list[Agent] = [GivenAgent("logged", m.logged or ()) for m in moments]
        else:
            make = self._agent(agent, protocol, bench)
            agents = [make() for _ in moments]
        return [
            answered(goal, one, Session(bench.engine, None, goal.user), moment.text, protocol.talk)
            for goal, one, moment in zip(goals, agents, moments, strict=True)
        ]

    def _figures(
        self, talks: Sequence[Talk], moments: Sequence[Moment], protocol: Protocol, bench: Bench
    ) -> list[dict[str, float]]:
        talk: TalkConfig = protocol.talk
        if protocol.kind == "multi-turn":
            return [talk_figures(t, talk) for t in talks]
        if protocol.kind == "target-free":
            return [taste_figures(t, talk, bench.facets(protocol.least)) for t in talks]
        whole = list_figures(talks, [sorted(t.goal.targets) for t in talks], protocol.shown)
        if protocol.kind == "dialogues":
            new = list_figures(talks, [m.new for m in moments], protocol.shown)
            whole = [w | {f"new {k}": v for k, v in n.items()} for w, n in zip(whole, new, strict=True)]
        return [w | cost_figures(t) for w, t in zip(whole, talks, strict=True)]

    def _asks(self, name: str, agent: str) -> bool:
        protocol = self.spec.protocols[name]
        speaks = protocol.kind != "dialogues" and self.spec.simulator(protocol).kind == "llm"
        return speaks or self.spec.agents[agent].llm is not None

    def _key(self, name: str, agent: str, bench: Bench, seed: int) -> str:
        """Return a hash of all that shapes a part's conversations."""
        protocol, table = self.spec.protocols[name], self.spec.agents[agent]
        simulator = self.spec.simulator(protocol)
        models = sorted({m for m in (table.llm, simulator.llm) if m is not None})
        return digest(
            {
                "code": fingerprint(_SHAPED_BY),
                "world": bench.key,
                "seed": seed,
                "first": self.spec.conversations.seeds[0],
                "protocol": protocol.model_dump(mode="json", exclude={"label", "agents", "users", "sample"}),
                "simulator": simulator.model_dump(mode="json"),
                "agent": table.model_dump(mode="json", exclude={"label", "control"}),
                "llm": {m: self.spec.llm[m].model_dump(mode="json") for m in models},
            }
        )


def _chunks(rows: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
