"""A judge's preference between the lists of two systems, with the controls that say what its word is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.agents.engine import Engine
from llm4rec.agents.simulate.preference import Judge, JudgeConfig, Judged, Pair, preference
from llm4rec.agents.users import Asker
from llm4rec.core import Cases
from llm4rec.core.columns import CASE
from llm4rec.metrics import bootstrap_interval, paired_test

_HISTORY = 10  # items of the end of a history that the judge is told

#: What is judged: the systems' lists; the same list twice; a list with the held-out item on top against one drawn at random.
PARTS = ("pairs", "identical", "known")


class PreferenceTable(JudgeConfig):
    """``[preferences.NAME]``: whose lists a language model prefers."""

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
    """Judge the lists of two systems, and the controls.

    Args:
        table: what is judged.
        engine: over the training part.
        cases: the test's.
        judge: who judges.
        seed: of the draw of users and of the lists at random.
        tell: called with a line for people.
    """
    rng = np.random.default_rng(seed)
    rows = [i for i in rng.permutation(len(cases)).tolist() if cases.queries.users[i] >= 0][: table.cases]
    pairs: dict[str, list[Pair]] = {part: [] for part in PARTS}
    same: list[bool] = []
    for row in rows:
        about = _names(engine, cases.queries.history[row][::-1][:_HISTORY])
        asker = Asker(None, tuple(cases.queries.history[row].tolist()))
        a, b = (engine.retrieve(name, engine.ask([asker]), table.k)[0].items for name in (table.a, table.b))
        truth = cases.truth[row][:1]
        best = np.concatenate([truth, a[a != truth[0]]])[: table.k]
        unseen = np.setdiff1d(np.arange(engine.catalogue.known), np.concatenate([cases.seen[row], truth, best]))
        drawn = rng.choice(unseen, size=min(len(best), len(unseen)), replace=False)
        same.append(bool(np.array_equal(a, b)))
        for part, (left, right) in zip(PARTS, ((a, b), (a, a), (best, drawn)), strict=True):
            pairs[part].append(Pair(about, _names(engine, left), _names(engine, right)))
    figures: dict[str, Any] = {"equal lists": sum(same)}
    tables = []
    for part, given in pairs.items():
        tell(f"judging {len(given)} pairs ({part}) ...")
        judged = judge.judge(given)
        figures[part] = _figures(judged, seed)
        tables.append(_verdicts(part, rows, judged))
    return Preferred(figures, pl.concat(tables))


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
