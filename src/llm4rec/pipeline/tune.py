"""How much a ranker shall count: chosen on validation cases, together with what it leaves to be chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Lists, Queries


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
