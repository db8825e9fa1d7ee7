"""A judge's preference between two systems' lists or explanations, with the controls that say what its word is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from llm4rec.agents.engine import Engine
from llm4rec.agents.simulate.preference import Judge, JudgeConfig, Judged, Pair, preference
from llm4rec.agents.users import Asker
from llm4rec.core import Cases, SpecError
from llm4rec.core.columns import CASE
from llm4rec.metrics import bootstrap_interval, paired_test

#: What each part sets against each other: lines of both sides.
Sides = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
_HISTORY = 10  # items of the end of a history that the judge is told

#: What is judged: the two systems; one of them against itself; and what is known to be better against what is not: a list with
#: the held-out item on top against one drawn at random, an explanation made for the user against one made for another.
PARTS = ("pairs", "identical", "known")
_SILENT = "(nothing is said)"


class PreferenceTable(JudgeConfig):
    """``[preferences.NAME]``: whose lists, or explanations, a language model prefers."""

    of: Literal["lists", "explanations"] = "lists"
    """``lists``: what each system recommends.  ``explanations``: why the held-out item suits the user, as each says it."""

    world: str
    """Table ``[worlds.NAME]``."""
    a: str
    """A system of the world's run."""
    b: str
    """Another one."""
    llm: str
    """Table ``[llm.NAME]`` of the judge."""
    label: str = ""
    """Name in tables."""
    cases: int = Field(30, ge=2)
    """Test users, drawn by the first seed."""
    k: int = Field(5, ge=1, le=50)
    """Length of the lists."""

    @model_validator(mode="before")
    @classmethod
    def _said_in_words(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("of") == "explanations":
            return {"kind": "explanations of one recommendation"} | given
        return given

    @property
    def judge(self) -> JudgeConfig:
        """The judge's own parameters."""
        return JudgeConfig.model_validate(self.model_dump(include=set(JudgeConfig.model_fields)))


@dataclass(frozen=True, slots=True)
class Preferred:
    """What came of one table: the figures of each part, and the verdicts."""

    figures: dict[str, Any]
    verdicts: pl.DataFrame


def prefer(
    table: PreferenceTable, engine: Engine, cases: Cases, judge: Judge, seed: int, tell: Callable[[str], None]
) -> Preferred:
    """Judge the lists, or the explanations, of two systems, and the controls.

    Args:
        table: what is judged.
        engine: over the training part.
        cases: the test's.
        judge: who judges.
        seed: of the draw of users and of the lists at random.
        tell: called with a line for people.

    Raises:
        SpecError: if explanations are asked of two systems that have none of their own.
    """
    rng = np.random.default_rng(seed)
    rows = [i for i in rng.permutation(len(cases)).tolist() if cases.queries.users[i] >= 0][: table.cases]
    if table.of == "explanations" and not any(engine.system(name).explains for name in (table.a, table.b)):
        todo = "give one of them an explainer"
        raise SpecError(f"neither {table.a!r} nor {table.b!r} explains", where="preferences", todo=todo)
    make, pairs, same = _lists if table.of == "lists" else _explanations, {part: list[Pair]() for part in PARTS}, 0
    for row in rows:
        about = _names(engine, cases.queries.history[row][::-1][:_HISTORY])
        made = make(table, engine, cases, row, rng)
        same += made[0][0] == made[0][1]
        for part, (left, right) in zip(PARTS, made, strict=True):
            pairs[part].append(Pair(about, left, right))
    figures: dict[str, Any] = {"equal": same}
    tables = []
    for part, given in pairs.items():
        tell(f"judging {len(given)} pairs ({part}) ...")
        judged = judge.judge(given)
        figures[part] = _figures(judged, seed)
        tables.append(_verdicts(part, rows, judged))
    return Preferred(figures, pl.concat(tables))


def _asker(cases: Cases, row: int) -> Asker:
    return Asker(None, tuple(cases.queries.history[row].tolist()))


def _lists(table: PreferenceTable, engine: Engine, cases: Cases, row: int, rng: np.random.Generator) -> Sides:
    """Return the lists of both systems, one of them twice, and one with the held-out item on top beside one drawn at random."""
    a, b = (engine.retrieve(name, engine.ask([_asker(cases, row)]), table.k)[0].items for name in (table.a, table.b))
    truth = cases.truth[row][:1]
    best = np.concatenate([truth, a[a != truth[0]]])[: table.k]
    unseen = np.setdiff1d(np.arange(engine.catalogue.known), np.concatenate([cases.seen[row], truth, best]))
    drawn = rng.choice(unseen, size=min(len(best), len(unseen)), replace=False)
    left, right, top, any_ = (_names(engine, items) for items in (a, b, best, drawn))
    return (left, right), (left, left), (top, any_)


def _explanations(table: PreferenceTable, engine: Engine, cases: Cases, row: int, rng: np.random.Generator) -> Sides:
    """Return why the held-out item suits the user, by both systems, by one twice, and by one that speaks to somebody else."""
    item, name = cases.truth[row][:1], engine.catalogue.names[int(cases.truth[row][0])]
    other = (row + 1 + int(rng.integers(len(cases) - 1))) % len(cases)

    def said(system: str, to: int) -> tuple[str, ...]:
        ((sentence, _),) = engine.explain(system, engine.ask([_asker(cases, to)]), item)
        return (f"{name}: {sentence or _SILENT}",)

    a, b = said(table.a, row), said(table.b, row)
    return (a, b), (a, a), (a, said(table.a, other))


def _figures(judged: Sequence[Judged], seed: int) -> dict[str, Any]:
    """Return a part's figures, with the interval of the share and its test against one half."""
    found = preference(judged)
    out = found.to_json() | {"n": int((~np.isnan(found.values)).sum()), "low": None, "high": None, "p": None}
    if out["n"] < 2:
        return out
    interval = bootstrap_interval(found.values, rng=np.random.default_rng(seed))
    test = paired_test(found.values, np.full(len(found.values), 0.5), rng=np.random.default_rng(seed))
    return out | {"low": interval.low, "high": interval.high, "p": test.p}


def _verdicts(part: str, rows: Sequence[int], judged: Sequence[Judged]) -> pl.DataFrame:
    schema: dict[str, Any] = {
        "part": pl.String, CASE: pl.Int64, "a_first": pl.List(pl.String), "b_first": pl.List(pl.String),
        "verdict": pl.String, "failures": pl.List(pl.String),
    }  # fmt: skip
    told = [
        (part, row, list(j.a_first), list(j.b_first), j.verdict, list(j.failures)) for row, j in zip(rows, judged, strict=True)
    ]
    return pl.DataFrame(told, schema=schema, orient="row")


def _names(engine: Engine, items: NDArray[np.integer]) -> tuple[str, ...]:
    return tuple(engine.catalogue.names[i] for i in items.tolist())
