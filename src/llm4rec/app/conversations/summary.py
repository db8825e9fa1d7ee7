"""From conversations to the tables and the summary: means, intervals, paired tests, cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

import llm4rec
from llm4rec.app.conversations.kinds import KINDS
from llm4rec.app.conversations.parts import part_path, read_part
from llm4rec.app.conversations.preferences import Preferred
from llm4rec.app.conversations.spec import ConversationSpec
from llm4rec.core import RunError
from llm4rec.core.columns import CASE, METRIC, SEED, USER, VALUE
from llm4rec.experiment.differences import versus
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.environment import machine, packages
from llm4rec.experiment.resources import RunResources
from llm4rec.metrics import bootstrap_intervals

PROTOCOL, AGENT, TURN = "protocol", "agent", "turn"
#: Figures that differ from one time to the next, or count what went wrong: told as means, without an interval.
COSTS = (
    "requests", "tool_calls", "tool_errors", "agent_failures", "tokens", "usd", "seconds", "leaks", "speech_failures",
    "speech_tokens",
)  # fmt: skip

Conversation = Mapping[str, Any]


def put_together(
    spec: ConversationSpec, directory: RunDirectory, facts: Mapping[str, Any], judged: Mapping[str, Preferred],
    resources: RunResources, began: float,
) -> None:  # fmt: skip
    """Write the tables as Parquet, ``summary.json``, ``preferences.json`` and ``environment.json``."""
    held = {
        (name, agent, seed): list(read_part(part_path(directory.path, name, agent, seed)))
        for name in spec.protocols
        for agent in spec.taking_part(name)
        for seed in spec.seeds(name)
    }
    results = _results(held)
    directory.write_table("results.parquet", results)
    directory.write_table("conversations.parquet", _conversations(held))
    directory.write_table("turns.parquet", _turns(held))
    verdicts = [p.verdicts.select(pl.lit(name).alias("preference"), pl.all()) for name, p in judged.items()]
    directory.write_json("preferences.json", {name: _preference(spec, name, p) for name, p in judged.items()})
    if verdicts:
        directory.write_table("verdicts.parquet", pl.concat(verdicts))
    models = {name: model.tally.to_json() for name, model in resources.models().items()}
    environment = {
        "llm4rec": llm4rec.__version__, "machine": machine(), "packages": packages(), "seconds": time.time() - began,
        "llms": {n: {"name": m.name, **dict(m.identity), "asked": models[n]} for n, m in resources.models().items()},
    }  # fmt: skip
    directory.write_json("environment.json", environment)
    summary = {name: _protocol(spec, name, held, results, facts[name]) for name in spec.protocols}
    directory.write_json("summary.json", summary)


def _preference(spec: ConversationSpec, name: str, judged: Preferred) -> dict[str, Any]:
    """Return one preference's part of ``preferences.json``."""
    table = spec.preferences[name]
    return {"label": table.label or name, **table.model_dump(mode="json", exclude={"label"}), "parts": judged.figures}


# -- tables ---------------------------------------------------------------------------------
def _results(held: Mapping[tuple[str, str, int], Sequence[Conversation]]) -> pl.DataFrame:
    rows = [
        (*key, talk["case"], metric, value)
        for key, talks in held.items()
        for talk in talks
        for metric, value in talk["figures"].items()
    ]
    schema = {PROTOCOL: pl.String, AGENT: pl.String, SEED: pl.Int64, CASE: pl.Int64, METRIC: pl.String, VALUE: pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _conversations(held: Mapping[tuple[str, str, int], Sequence[Conversation]]) -> pl.DataFrame:
    rows = [
        (*key, talk["case"], talk["user"], talk["targets"], talk["outcome"], len(talk["rounds"]))
        for key, talks in held.items()
        for talk in talks
    ]
    schema: dict[str, Any] = {
        PROTOCOL: pl.String, AGENT: pl.String, SEED: pl.Int64, CASE: pl.Int64, USER: pl.String,
        "targets": pl.List(pl.String), "outcome": pl.String, "rounds": pl.Int64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def _turns(held: Mapping[tuple[str, str, int], Sequence[Conversation]]) -> pl.DataFrame:
    schema: dict[str, Any] = {
        PROTOCOL: pl.String, AGENT: pl.String, SEED: pl.Int64, CASE: pl.Int64, TURN: pl.Int64, "act": pl.String,
        "text": pl.String, "noise": pl.String, "draft": pl.String, "leaked": pl.List(pl.String),
        "speech_failures": pl.List(pl.String), "answer": pl.String,
        "calls": pl.List(pl.Struct({"tool": pl.String, "arguments": pl.String, "error": pl.String})),
        "by": pl.String, "ended": pl.String, "failures": pl.List(pl.String), "shown": pl.List(pl.String),
        "rank": pl.Int64, "taken": pl.List(pl.String),
    }  # fmt: skip
    rows = [
        dict(zip((PROTOCOL, AGENT, SEED), key, strict=True)) | {CASE: talk["case"], TURN: at} | round_
        for key, talks in held.items()
        for talk in talks
        for at, round_ in enumerate(talk["rounds"], 1)
    ]
    return pl.DataFrame(rows, schema=schema)


# -- figures --------------------------------------------------------------------------------
def _protocol(
    spec: ConversationSpec, name: str, held: Mapping[tuple[str, str, int], Sequence[Conversation]], results: pl.DataFrame,
    facts: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Return one protocol's part of the summary."""
    protocol, seeds = spec.protocols[name], spec.seeds(name)
    agents = spec.taking_part(name)
    values = {a: _values(results, name, a) for a in agents}
    for agent, (numbers, _) in values.items():
        if not len(numbers):
            raise RunError(f"no conversation of {name}, {agent} is there", where="talks", todo="run it again")
    most = max(len(numbers) for numbers, _ in values.values())
    sampled = {a: len(numbers) < most for a, (numbers, _) in values.items()}
    sample = next((values[a][0] for a in agents if sampled[a]), None)
    rows: dict[str, Any] = {}
    for agent in agents:
        table = spec.agents[agent]
        numbers, figures = values[agent]
        talks = [talk for seed in seeds for talk in held[name, agent, seed]]
        rng = np.random.default_rng(seeds[0])
        on = None if sample is None else np.isin(numbers, sample)
        rows[agent] = {
            "label": table.label or KINDS[table.kind].label, "kind": table.kind, "control": table.control,
            "uses_llm": table.llm is not None, "cases": len(numbers), "sampled": sampled[agent],
            "metrics": _intervals(figures, rng),
            "sample": None if on is None else _intervals({m: v[on] for m, v in figures.items()}, rng),
            "costs": {m: _mean(figures[m]) for m in COSTS if m in figures},
            "outcomes": dict(sorted(Counter(t["outcome"] for t in talks).items())),
            "speech": _speech(talks), "failures": _failures(talks), "versus": {},
        }  # fmt: skip
    columns = {a: (numbers, figures[protocol.primary]) for a, (numbers, figures) in values.items()}
    for (a, b), test in versus(columns, sampled, sample, np.random.default_rng(seeds[0])).items():
        rows[a]["versus"][b] = {k: None if isinstance(v, float) and v != v else v for k, v in test.items()}
    simulator = spec.simulator(protocol)
    return {
        "label": protocol.label or name, "kind": protocol.kind, "primary": protocol.primary, "seeds": list(seeds),
        "turns": protocol.turns, "shown": protocol.shown, "overlook": protocol.overlook,
        "simulator": None if protocol.kind == "dialogues" else {"kind": simulator.kind, **simulator.params},
        "dialogues": protocol.dialogues, **facts, "agents": rows,
    }  # fmt: skip


def _values(results: pl.DataFrame, name: str, agent: str) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Return an agent's case numbers, rising, and its figures per case, averaged over seeds."""
    mine = results.filter((pl.col(PROTOCOL) == name) & (pl.col(AGENT) == agent))
    metrics = mine[METRIC].unique(maintain_order=True).to_list()
    mean = mine.group_by(CASE, METRIC).agg(pl.col(VALUE).mean())
    wide = mean.pivot(on=METRIC, index=CASE, values=VALUE).sort(CASE)
    return wide[CASE].to_numpy(), {m: wide[m].fill_null(float("nan")).to_numpy() for m in metrics}


def _intervals(figures: Mapping[str, NDArray[np.float64]], rng: np.random.Generator) -> dict[str, Any]:
    told = {m: v for m, v in figures.items() if m not in COSTS}
    found = bootstrap_intervals(np.stack(list(told.values()), axis=1), rng=rng)
    return {
        m: {"mean": _number(i.mean), "low": _number(i.low), "high": _number(i.high), "n": i.n}
        for m, i in zip(told, found, strict=True)
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    """Return the mean; None as soon as one value is unknown."""
    return _number(float(values.mean()))


def _number(value: float) -> float | None:
    return None if value != value else value


def _speech(talks: Sequence[Conversation]) -> dict[str, Any]:
    """Return what the users' side of the conversations was like, in numbers of utterances."""
    rounds = [r for talk in talks for r in talk["rounds"]]
    return {
        "utterances": len(rounds),
        "acts": dict(sorted(Counter(r["act"] for r in rounds).items())),
        "noise": dict(sorted(Counter(r["noise"] for r in rounds if r["noise"]).items())),
        "leaks": dict(sorted(Counter(kind for r in rounds for kind in r["leaked"]).items())),
        "failures": dict(sorted(Counter(kind for r in rounds for kind in r["speech_failures"]).items())),
    }


def _failures(talks: Sequence[Conversation]) -> dict[str, int]:
    """Count what went wrong with the agent: its own failures, and errors of tools."""
    counts = Counter(kind for talk in talks for r in talk["rounds"] for kind in r["failures"])
    counts.update(f"tool: {c['tool']}" for talk in talks for r in talk["rounds"] for c in r["calls"] if c["error"])
    return dict(sorted(counts.items()))
