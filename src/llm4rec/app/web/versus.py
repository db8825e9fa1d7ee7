"""Chosen systems side by side: every metric with its paired difference, wins and losses, slices, cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.app.web.board import Board, Run
from llm4rec.app.web.drawing import Scale
from llm4rec.core import RunError, did_you_mean
from llm4rec.core.columns import CASE, METRIC, SYSTEM, VALUE
from llm4rec.experiment.compare import comparable
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.report_findings import ALPHA
from llm4rec.metrics import bootstrap_intervals, holm, paired_tests

_SEED = 0


def beside(board: Board, keys: Sequence[str]) -> dict[str, Any]:
    """Return what the comparison shows; raises ``LLM4RecError`` for systems that are not there, or cannot be compared.

    Args:
        board: whose runs.
        keys: ``SYSTEM`` of the served run, or ``RUN/SYSTEM``; the first is what the others are tested against.
    """
    chosen = [_find(board, key) for key in keys]
    runs = list({run.path: run for run, _ in chosen}.values())
    comparable([RunDirectory(run.path) for run in runs])
    values = [_values(run, system["name"]) for run, system in chosen]
    metrics = [m for m in board.run.metrics if all(m in found for _, found in values)]
    shared = values[0][0]
    for cases, _ in values[1:]:
        shared = np.intersect1d(shared, cases)
    if len(shared) < 2:
        raise RunError("these systems share fewer than two cases", todo="choose others")
    tables = [np.stack([found[m][np.searchsorted(cases, shared)] for m in metrics], axis=1) for cases, found in values]
    several = len(runs) > 1
    columns = []
    for (run, system), table in zip(chosen, tables, strict=True):
        intervals = bootstrap_intervals(table, rng=np.random.default_rng(_SEED))
        columns.append(
            {**system, "run": run.name, "paint": run.paint(system), "figures": dict(zip(metrics, intervals, strict=True))}
        )
    tests = [paired_tests(table, tables[0], rng=np.random.default_rng(_SEED)) for table in tables[1:]]
    corrected = holm([t.p for row in tests for t in row]).reshape(len(tests), len(metrics))
    for column, row, ps in zip(columns[1:], tests, corrected, strict=True):
        column["tests"] = {
            m: {"test": t, "p": float(p), "verdict": "same" if p >= ALPHA else "up" if t.difference > 0 else "down"}
            for m, t, p in zip(metrics, row, ps, strict=True)
        }
    primary = metrics.index(board.run.primary)
    first = tables[0][:, primary]
    for column, table in zip(columns[1:], tables[1:], strict=True):
        column["wins"] = [int(n) for n in ((table[:, primary] > first).sum(), (table[:, primary] == first).sum())]
        column["wins"].append(len(shared) - sum(column["wins"]))
    scale = Scale.of(v for c in columns for v in (c["figures"][board.run.primary].low, c["figures"][board.run.primary].high))
    return {
        "columns": columns, "metrics": metrics, "primary": board.run.primary, "n": len(shared), "several": several,
        "scale": scale, "slices": _slices(columns, board.run.primary),
        "beyond": list(dict.fromkeys(b for c in columns for b in c["beyond"])),
        "own": [c["name"] for c, (run, _) in zip(columns, chosen, strict=True) if run is board.run],
    }  # fmt: skip


def _find(board: Board, key: str) -> tuple[Run, dict[str, Any]]:
    runs = {board.run.name: board.run, **board.others}
    name, slash, system = key.partition("/")
    if slash and name in runs:
        return runs[name], runs[name].system(system)
    if slash:
        raise RunError(f"there is no run {name!r}", todo=did_you_mean(name, runs))
    return board.run, board.run.system(key)


def _values(run: Run, system: str) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Return a system's case numbers and each metric's values, averaged over seeds."""
    table = RunDirectory(run.path).read_table("results.parquet").filter(pl.col(SYSTEM) == system)
    wide = table.group_by(CASE, METRIC).agg(pl.col(VALUE).mean()).pivot(on=METRIC, index=CASE, values=VALUE).sort(CASE)
    return wide[CASE].to_numpy(), {m: wide[m].to_numpy() for m in wide.columns if m != CASE}


def _slices(columns: Sequence[dict[str, Any]], primary: str) -> list[tuple[str, list[dict[str, Any] | None], Scale]]:
    names = list(dict.fromkeys(s for c in columns for s in c["slices"]))
    rows = [(name, [(c["slices"].get(name) or {"metrics": {}})["metrics"].get(primary) for c in columns]) for name in names]
    scale = Scale.of(v for _, figures in rows for f in figures if f for v in (f["low"], f["high"]))
    return [(name, figures, scale) for name, figures in rows]
