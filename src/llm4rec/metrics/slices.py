"""Parts of the cases for which figures are worth seeing apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Cases, Dataset, Ragged

#: Share of the touched items, from the most popular down, that makes up the head.
HEAD_SHARE = 0.2


def _any(flags: NDArray[np.bool_], truth: Ragged) -> NDArray[np.bool_]:
    """Return bool[n]: does one of the row's items carry the flag?"""
    return np.bincount(truth.rows, weights=flags[truth.values], minlength=len(truth)) > 0


def slice_cases(cases: Cases, train: Dataset) -> dict[str, NDArray[np.bool_]]:
    """Return bool[n] by the slice's name.

    By the truth, each case is in exactly one of:

    - ``cold``: a true item has no event in training;
    - ``tail``: none is cold, but one is outside of the head;
    - ``head``: all true items are in the head, which is the 20 % of the items with training
      events that have the most of them (items as popular as the last of these are in it too).

    By the history, against the median length over the cases: ``short_history`` (below) and
    ``long_history`` (above); cases at the median are in neither.
    """
    counts = train.item_counts
    touched = np.sort(counts[counts > 0])[::-1]
    last_of_head = touched[int(np.ceil(HEAD_SHARE * len(touched))) - 1] if len(touched) else 1
    cold = _any(counts == 0, cases.truth)
    tail = ~cold & _any(counts < last_of_head, cases.truth)
    lengths = cases.queries.history.lengths
    median = np.median(lengths) if len(lengths) else 0.0
    return {
        "head": ~cold & ~tail,
        "tail": tail,
        "cold": cold,
        "short_history": lengths < median,
        "long_history": lengths > median,
    }
