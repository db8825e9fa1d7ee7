"""Which systems are worth their cost: the Pareto front of accuracy, latency and money."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def dominators(gain: Sequence[float], costs: Sequence[Sequence[float | None]], able: Sequence[bool]) -> list[list[int]]:
    """Return for each of n systems those that are surely no worse in anything and better in something, the best first.

    A system without any is on the front.  A cost that is not known is at least zero: who has it can
    be dominated by one that costs nothing there, and dominates nobody there.

    Args:
        gain: n means; more is better.
        costs: for each system its costs, in the same order for all; less is better, None if unknown.
        able: may the system dominate?  False for controls, which nobody would serve.
    """
    value = np.asarray(gain, dtype=np.float64)
    if not len(value):
        return []
    known = np.array([[np.nan if c is None else c for c in row] for row in costs], dtype=np.float64).reshape(len(value), -1)
    least, most = np.nan_to_num(known, nan=0.0), np.nan_to_num(known, nan=np.inf)
    no_worse: NDArray[np.bool_] = value[:, None] >= value[None, :]  # [i, j]: i against j
    better: NDArray[np.bool_] = value[:, None] > value[None, :]
    for column in range(known.shape[1]):
        no_worse &= most[:, None, column] <= least[None, :, column]
        better |= most[:, None, column] < least[None, :, column]
    over = no_worse & better & np.asarray(able, dtype=bool)[:, None]
    return [sorted(np.flatnonzero(over[:, j]).tolist(), key=lambda i: (-value[i], i)) for j in range(len(value))]
