"""The specification of conversations: a TOML file of worlds, simulated users, agents and protocols."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import Field, model_validator

from llm4rec.agents.simulate.rule import RuleSimulatorConfig
from llm4rec.agents.simulate.spoken import LLMSimulatorConfig
from llm4rec.agents.simulate.talk import TalkConfig
from llm4rec.app.conversations.kinds import KINDS
from llm4rec.app.conversations.preferences import PreferenceTable
from llm4rec.core import Config, FilePath, SpecError, did_you_mean
from llm4rec.data.dialogues import LOGGED
from llm4rec.experiment.spec import validated
from llm4rec.llm import BudgetConfig, LLMConfig

ProtocolKind = Literal["multi-turn", "one-turn", "target-free", "dialogues"]
#: Protocol -> what orders its table and is tested.
PRIMARY: Mapping[ProtocolKind, str] = {
    "multi-turn": "success", "one-turn": "recall@10", "target-free": "satisfaction", "dialogues": "new recall@10",
}  # fmt: skip
_LIST = 50  # items of the lists that answer one request


class Conversations(Config):
    """``[conversations]``: what is measured."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Of the experiment; also of its default directory, ``runs/NAME``."""
    description: str = ""
    """One or two sentences for the report's head."""
    seeds: tuple[int, ...] = Field((1,), min_length=1)
    """Of the users' draws; every protocol with a simulator is held once for each."""
    batch: int = Field(16, ge=1)
    """Conversations held side by side; what a kill loses at most."""


class World(Config):
    """``[worlds.NAME]``: a run, whose systems and catalogue the agents' tools are over."""

    spec: FilePath | None = None
    """Specification of the run, which is made below this experiment's directory."""
    run: FilePath | None = None
    """Instead: the directory of a finished run."""
    system: str | None = None
    """The system that the tools ask by default; absent, the best of the run."""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.spec is None) == (self.run is None):
            raise ValueError("needs either 'spec' or 'run'")
        return self


class SimulatorTable(Config):
    """``[simulators.NAME]``: who speaks for the users."""

    kind: Literal["rule", "llm"] = "rule"
    """``rule`` speaks in templates; ``llm`` has a model write the words."""
    llm: str | None = None
    """Table ``[llm.NAME]`` of the model that writes."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters, defaults filled in."""

    @property
    def config(self) -> RuleSimulatorConfig:
        """The simulator's parameters."""
        return (LLMSimulatorConfig if self.kind == "llm" else RuleSimulatorConfig).model_validate(self.params)


class AgentTable(Config):
    """``[agents.NAME]``: one row of the table."""

    kind: str
    """Name of the kind (docs/conversations.md)."""
    label: str = ""
    """Name in tables."""
    control: bool = False
    """A control: it is there to show what it lacks."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters, defaults filled in."""

    @property
    def config(self) -> Config:
        """The agent's parameters."""
        return KINDS[self.kind].config.model_validate(self.params)

    @property
    def llm(self) -> str | None:
        """The table of the language model that the agent asks, or None."""
        value = self.params.get("llm")
        return value if isinstance(value, str) else None


class Protocol(Config):
    """``[protocols.NAME]``: who talks to the agents, about what, and how it is decided."""

    kind: ProtocolKind
    """``multi-turn``: until the wanted item is taken.  ``one-turn``: a list for one request.  ``target-free``: no one
    item is wanted, and the talk lasts as long as the patience.  ``dialogues``: requests from talks between people."""
    world: str
    """Table ``[worlds.NAME]``."""
    label: str = ""
    """Name in tables."""
    simulator: str = "rule"
    """Table ``[simulators.NAME]``; the rule simulator needs none."""
    persona: str = ""
    """Column of the user table that says who a user is, for simulators that read it; absent, it is told from the history."""
    dialogues: str | None = None
    """``dialogues``: name of the set."""
    agents: tuple[str, ...] = ()
    """Tables ``[agents.NAME]``; absent, all that can take part."""
    users: int = Field(300, ge=2)
    """Test users of the world's split (or moments of the dialogues), drawn by the first seed."""
    sample: int = Field(30, ge=2)
    """Of these, those with whom agents talk that ask a language model (all users, where the simulator asks one, too)."""
    turns: int = Field(8, ge=1)
    """The users' patience: requests, the first one included."""
    shown: int = Field(5, ge=1, le=100)
    """Items of a turn that the user looks at; of ``one-turn`` and ``dialogues`` the length of the lists (50)."""
    overlook: float = Field(0.0, ge=0, lt=1)
    """Chance that the user does not see a wanted item that is shown."""
    least: int = Field(5, ge=1)
    """Items that an attribute value must hold for, to be something that a user says."""

    @model_validator(mode="before")
    @classmethod
    def _of_one_request(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("kind") in ("one-turn", "dialogues"):
            return {"shown": _LIST, "turns": 1, **given}
        return given

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if (self.kind == "dialogues") != (self.dialogues is not None):
            raise ValueError("a set of 'dialogues' belongs to the kind 'dialogues', which needs one")
        if self.kind in ("one-turn", "dialogues") and self.turns != 1:
            raise ValueError(f"the kind {self.kind!r} has one turn")
        if self.kind in ("one-turn", "dialogues") and self.shown < 10:
            raise ValueError(f"the kind {self.kind!r} is told at 10 items: let 'shown' be 10 or more")
        return self

    @property
    def talk(self) -> TalkConfig:
        """The rules of one conversation."""
        return TalkConfig(
            turns=self.turns, shown=self.shown, overlook=self.overlook, stops=self.kind != "target-free",
            counted=self.kind in ("one-turn", "dialogues"),
        )  # fmt: skip

    @property
    def primary(self) -> str:
        """The figure that orders the table and is tested."""
        return PRIMARY[self.kind]


class ConversationSpec(Config):
    """A whole experiment."""

    conversations: Conversations
    worlds: dict[str, World]
    simulators: dict[str, SimulatorTable] = Field(default_factory=dict)
    agents: dict[str, AgentTable]
    protocols: dict[str, Protocol]
    preferences: dict[str, PreferenceTable] = Field(default_factory=dict)
    budget: BudgetConfig = BudgetConfig()
    llm: dict[str, LLMConfig] = Field(default_factory=dict)

    def simulator(self, protocol: Protocol) -> SimulatorTable:
        """Return who speaks for the users of a protocol."""
        return self.simulators.get(protocol.simulator) or SimulatorTable()

    def taking_part(self, name: str) -> list[str]:
        """Return the agents of a protocol, in order."""
        protocol = self.protocols[name]
        if protocol.agents:
            return list(protocol.agents)
        able = [a for a, table in self.agents.items() if protocol.kind in KINDS[table.kind].fits]
        return [a for a in able if self.agents[a].kind != "logged" or protocol.dialogues in LOGGED]

    def sampled(self, name: str, agent: str) -> bool:
        """Does an agent talk to the sample of a protocol's users alone?"""
        asks = self.simulator(self.protocols[name]).kind == "llm" and self.protocols[name].kind != "dialogues"
        return self.agents[agent].llm is not None and not asks

    def seeds(self, name: str) -> tuple[int, ...]:
        """Return the seeds of a protocol: the first alone where people wrote the requests."""
        every = self.conversations.seeds
        return every[:1] if self.protocols[name].kind == "dialogues" else every

    def dump(self) -> str:
        """Return the resolved specification as TOML."""
        tables = self.model_dump(mode="json", exclude_none=True)
        for kind in ("simulators", "agents"):
            tables[kind] = {n: {k: v for k, v in t.items() if k != "params"} | t["params"] for n, t in tables[kind].items()}
        return tomli_w.dumps(_without_none(tables))


def read_conversations(path: Path) -> ConversationSpec:
    """Read and validate a specification; ``SpecError`` names the file, the key and the mend."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SpecError("no such file", where=str(path), todo="check the path") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"is not TOML that can be read ({error})", where=str(path)) from None
    return parse_conversations(tables, where=str(path), folder=path.parent)


def parse_conversations(tables: Mapping[str, Any], *, where: str = "spec", folder: Path | None = None) -> ConversationSpec:
    """Validate a specification given as tables; paths in it are relative to ``folder``."""
    given = dict(tables)
    for kind in ("agents", "simulators"):
        own = given.get(kind, {})
        if not isinstance(own, dict) or not all(isinstance(t, dict) for t in own.values()):
            raise SpecError("must hold tables", where=f"{where}: {kind}")
        given[kind] = {name: _unfold(kind, table, f"{where}: {kind}.{name}", folder) for name, table in own.items()}
    spec: ConversationSpec = validated(ConversationSpec, given, where, folder)
    _check_names(spec, where)
    return spec


_OWN = {"agents": {"kind", "label", "control"}, "simulators": {"kind", "llm"}}


def _unfold(kind: str, table: dict[str, Any], where: str, folder: Path | None) -> dict[str, Any]:
    """Put the parameters of a flat table apart and check them."""
    own = {k: v for k, v in table.items() if k in _OWN[kind]}
    rest = {k: v for k, v in table.items() if k not in _OWN[kind]}
    config: Any
    if kind == "agents":
        name = own.setdefault("kind", "")
        if name not in KINDS:
            raise SpecError(f"unknown kind {name!r}", where=f"{where}.kind", todo=did_you_mean(str(name), KINDS))
        config = KINDS[name].config
        own.setdefault("control", KINDS[name].control)
    else:
        config = LLMSimulatorConfig if own.get("kind") == "llm" else RuleSimulatorConfig
    params = validated(config, rest, where, folder, extra=_OWN[kind])
    return {**own, "params": params.model_dump(mode="json")}


def _check_names(spec: ConversationSpec, where: str) -> None:
    """Check everything that is a reference from one table to another."""

    def known(name: str | None, tables: Iterable[str], what: str, at: str) -> None:
        if name is not None and name not in tables:
            raise SpecError(f"there is no {what} {name!r}", where=f"{where}: {at}", todo=did_you_mean(name, tables))

    for table in ("worlds", "agents", "protocols", "preferences"):
        for name in getattr(spec, table):
            if "/" in name or name.startswith("."):
                raise SpecError("must name a folder", where=f"{where}: {table}.{name}")
    for name, protocol in spec.protocols.items():
        at = f"protocols.{name}"
        known(protocol.world, spec.worlds, "world", f"{at}.world")
        known(protocol.simulator, ["rule", *spec.simulators], "simulator", f"{at}.simulator")
        for agent in protocol.agents:
            known(agent, spec.agents, "agent", f"{at}.agents")
            kind = spec.agents[agent].kind
            if protocol.kind not in KINDS[kind].fits:
                raise SpecError(f"{kind!r} takes no part in {protocol.kind!r}", where=f"{where}: {at}.agents")
    for name, asked in spec.preferences.items():
        known(asked.world, spec.worlds, "world", f"preferences.{name}.world")
        known(asked.llm, spec.llm, "table [llm]", f"preferences.{name}.llm")
    for name, simulator in spec.simulators.items():
        if (simulator.kind == "llm") != (simulator.llm is not None):
            raise SpecError("'llm' belongs to the kind 'llm', which needs it", where=f"{where}: simulators.{name}")
        known(simulator.llm, spec.llm, "table [llm]", f"simulators.{name}.llm")
    for name, agent_table in spec.agents.items():
        known(agent_table.llm, spec.llm, "table [llm]", f"agents.{name}.llm")


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, (list, tuple)) else value
