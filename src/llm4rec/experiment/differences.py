"""Which systems differ: paired tests of every two on the cases that both have, and who is worth the cost."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.metrics import Comparison, dominators, holm, paired_tests

#: Case numbers, and the value of each.
Column = tuple[NDArray[np.int64], NDArray[np.float64]]
Versus = dict[tuple[str, str], dict[str, float | int | None]]


def versus(
    columns: Mapping[str, Column],
    sampled: Mapping[str, bool],
    sample: NDArray[np.int64] | None,
    rng: np.random.Generator,
    *,
    within: NDArray[np.int64] | None = None,
) -> Versus:
    """Test every two systems, with Holm's correction over all pairs; both directions are in the answer.

    Two systems that ran on all cases are compared on all; as soon as one of them is sampled, on
    the sample, so that every comparison is paired.

    Args:
        columns: of each system.
        sampled: did a system run on the sample alone?
        sample: its case numbers; None where every system ran on all cases.
        within: case numbers of a slice, to which all is confined; pairs that share fewer than two
            of them are left out.
    """
    tests: dict[tuple[str, str], Comparison] = {}
    for names, numbers in (([n for n in columns if not sampled[n]], None), (list(columns), sample)):
        pairs = [p for p in combinations(names, 2) if p not in tests]
        if not pairs:
            continue
        if numbers is None:
            numbers = columns[pairs[0][0]][0]
        if within is not None:
            numbers = np.intersect1d(numbers, within, assume_unique=True)
        if len(numbers) < 2:
            continue
        table = {n: columns[n][1][np.searchsorted(columns[n][0], numbers)] for n in names}
        first, second = (np.stack([table[p[i]] for p in pairs], axis=1) for i in (0, 1))
        tests |= zip(pairs, paired_tests(first, second, rng=rng), strict=True)
    found: Versus = {}
    adjusted = holm([t.p for t in tests.values()])
    for ((a, b), test), p_holm in zip(tests.items(), adjusted, strict=True):
        shared = {"n": test.n, "p": test.p, "p_holm": float(p_holm), "deviation": test.deviation, "detectable": test.detectable}
        found[a, b] = {**shared, "difference": test.difference, "low": test.low, "high": test.high}
        found[b, a] = {**shared, "difference": -test.difference, "low": -test.high, "high": -test.low}
    return found


def below(rows: Mapping[str, Mapping[str, Any]], means: Mapping[str, float]) -> dict[str, list[str]]:
    """Return for each system those that are no worse in accuracy, time and money, and better in one of them.

    Money is what the queries of a system were worth; a system without a language model costs none by
    the call.  Controls are below others, and no other is below them.

    Args:
        rows: the systems' parts of the summary.
        means: of the metric, on cases that all of ``means`` share.
    """
    names = list(means)
    costs = [(rows[n]["ms_per_query"], usd_per_query(rows[n])) for n in names]
    found = dominators(list(means.values()), costs, [not rows[n]["control"] for n in names])
    return {name: [names[i] for i in over] for name, over in zip(names, found, strict=True)}


def usd_per_query(row: Mapping[str, Any]) -> float | None:
    """Return what a query of a system is worth in US$; None if it is not known."""
    if not row["uses_llm"] and not row["llm"]["calls"]:
        return 0.0
    usd = row["llm"]["usd"]
    return None if usd is None else float(usd / (row["cases"] * max(1, len(row["seeds"]))))
