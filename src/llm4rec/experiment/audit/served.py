"""What the systems recommended in the test: read from a run, or asked of fitted systems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import Lists, RunError, Split
from llm4rec.core.columns import CASE, METRIC, SEED, STAGE, SYSTEM, VALUE
from llm4rec.experiment.audit.bench import Bench
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.spec import Spec
from llm4rec.experiment.summary import stored_lists
from llm4rec.metrics import evaluate


@dataclass(frozen=True, slots=True)
class Served:
    """One system's answers.

    Attributes:
        numbers: int64[n], sorted numbers of the test cases that it was asked.
        lists: n lists; of a run those of the first seed.
        values: float64[n] by metric; of a run what it wrote down, averaged over seeds.
        first: the same for the first seed alone, as the lists are.
    """

    numbers: NDArray[np.int64]
    lists: Lists
    values: Mapping[str, NDArray[np.float64]]
    first: Mapping[str, NDArray[np.float64]]


def bench_serves(bench: Bench) -> dict[str, Served]:
    """Return what each system of the bench recommends."""
    fitted, out = bench.fitted(), {}
    question = bench.question(bench.split, fitted)
    for name, component in fitted.items():
        lists = bench.lists(component, question.cases, question.exclude)
        values = evaluate(lists, question.cases.truth, bench.spec.experiment.names)
        out[name] = Served(np.arange(len(question.cases)), lists, values, values)
    return out


def run_served(run: RunDirectory, spec: Spec, split: Split) -> dict[str, Served]:
    """Return what each system of a finished run recommended; raises ``RunError`` where its tables are broken."""
    results, lists = run.read_table("results.parquet"), run.read_table("lists.parquet")
    summary, out = run.read_json("summary.json"), {}
    for table in (results, lists):
        if len(table) and (int(table[CASE].min()) < 0 or int(table[CASE].max()) >= len(split.test)):  # type: ignore[arg-type]
            what = f"tells of other cases than the {len(split.test)} of its split"
            raise RunError(what, where=str(run.path), todo="run it again")
    for name in spec.systems:
        mine = results.filter(pl.col(SYSTEM) == name)
        if not len(mine):
            continue
        first = int(mine[SEED].min())  # type: ignore[arg-type]
        mean = _wide(mine)
        numbers = mean[CASE].to_numpy()
        try:
            stage = str(summary[name]["stages"][-1]["stage"])
        except (KeyError, IndexError, TypeError):
            raise RunError(f"summary.json tells nothing of {name}", where=str(run.path), todo="run it again") from None
        rows = lists.filter((pl.col(SYSTEM) == name) & (pl.col(SEED) == first) & (pl.col(STAGE) == stage))
        rows = rows.filter(pl.col(CASE).is_in(numbers))  # a list without figures is told of by nobody
        out[name] = Served(
            numbers,
            stored_lists(rows, stage, numbers, split.train.items, spec.experiment.depth),
            {m: mean[m].to_numpy() for m in mean.columns if m != CASE},
            {m: v.to_numpy() for m, v in _wide(mine.filter(pl.col(SEED) == first)).to_dict().items() if m != CASE},
        )
    return out


def _wide(results: pl.DataFrame) -> pl.DataFrame:
    """Return one row for each case, one column for each metric: the mean over seeds."""
    mean = results.group_by(CASE, METRIC).agg(pl.col(VALUE).mean())
    return mean.pivot(on=METRIC, index=CASE, values=VALUE).sort(CASE)
