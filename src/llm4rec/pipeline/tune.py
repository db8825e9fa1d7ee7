"""How much each retriever and ranker shall count: chosen on validation cases, with what a ranker leaves to be chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Lists, Queries

#: Shares that are tried.
GRID = tuple(round(0.1 * step, 1) for step in range(11))


@runtime_checkable
class Tunable(Protocol):
    """A ranker with a setting that is best chosen on the candidates that it will be given."""

    @property
    def unsettled(self) -> bool:
        """Is there something to choose?"""

    def variants(self, queries: Queries, candidates: Lists) -> Mapping[float, Lists]:
        """Return what ``rank`` would give under each setting."""

    def settle(self, setting: float) -> None:
        """Take one of the settings."""


def cautious_choice(values: NDArray[np.float64], weights: NDArray[np.float64], errors: float) -> int:
    """Return which of m choices to take, judged by a metric on the same n cases.

    The one-standard-error rule (Breiman et al., Classification and Regression Trees, 1984, 3.4.3) on
    paired differences: of all choices whose mean is less than ``errors`` standard errors of the
    difference behind the best one, those of the smallest weight, and of these the one with the best
    mean (the first of equals).  What is not clearly better than less of it is left away: on a few
    hundred cases the best of a grid is best by chance as often as not.

    Args:
        values: float64[m, n].
        weights: float64[m].
        errors: 0 takes the best mean, and the smallest weight among equals.
    """
    means = values.mean(axis=1)
    behind = values[int(means.argmax())] - values
    slack = errors * behind.std(axis=1) / np.sqrt(max(1, values.shape[1]))
    near = np.flatnonzero(behind.mean(axis=1) <= slack + 1e-12)
    return int(near[np.lexsort((near, -means[near], weights[near]))[0]])


def balanced(
    gain: Callable[[Sequence[float]], NDArray[np.float64]], n: int, errors: float
) -> tuple[list[float], list[tuple[tuple[float, ...], float]]]:
    """Return n weights that sum to 1 and all that was tried, with its mean gain.

    From equal weights on, each system in turn is given the share of the grid that gains most, the others keeping their
    proportions, until a round changes nothing.  Equal weights stay unless the end is more than ``errors``
    standard errors of the paired difference better than they are (see :func:`cautious_choice`).

    Args:
        gain: float64[cases] of some weights.
    """
    tried: dict[tuple[float, ...], NDArray[np.float64]] = {}

    def mean(weights: tuple[float, ...]) -> float:
        if weights not in tried:
            tried[weights] = gain(weights)
        return float(tried[weights].mean())

    equal = best = (round(1 / n, 4),) * n
    at = mean(equal)
    while True:
        before = at
        for i in range(n):
            others = tuple(0.0 if j == i else w for j, w in enumerate(best))
            for share in GRID[:-1] if any(others) else ():
                scale = (1 - share) / sum(others)
                weights = tuple(share if j == i else round(w * scale, 4) for j, w in enumerate(others))
                if mean(weights) > at:
                    best, at = weights, mean(weights)
        if at == before:
            break
    kept = (equal, best)[cautious_choice(np.stack([tried[equal], tried[best]]), np.array([0.0, 1.0]), errors)]
    return list(kept), [(weights, float(values.mean())) for weights, values in tried.items()]
