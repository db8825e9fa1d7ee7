"""Do judges agree, and more than by chance?  Each rates the same cases with one of a few labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def agreement(a: Sequence[str], b: Sequence[str]) -> float:
    """Return the share of cases with equal labels; nan without cases."""
    _same_length(a, b)
    return float(np.mean([x == y for x, y in zip(a, b, strict=True)])) if len(a) else float("nan")


def cohen_kappa(a: Sequence[str], b: Sequence[str]) -> float:
    """Return Cohen's kappa of two judges over n cases: ``(p_o - p_e) / (1 - p_e)``.

    ``p_o`` is the share of equal labels, ``p_e`` what would be equal if each judge drew from its own labels at random.
    nan without cases, and where both always gave one and the same label (then nothing can be said).
    Source: Cohen, A coefficient of agreement for nominal scales, Educational and Psychological Measurement 20, 1960.
    """
    _same_length(a, b)
    labels = sorted({*a, *b})
    if not labels:
        return float("nan")
    shares = [np.array([list(judge).count(label) for label in labels]) / len(judge) for judge in (a, b)]
    expected = float(shares[0] @ shares[1])
    return float("nan") if expected == 1 else (agreement(a, b) - expected) / (1 - expected)


def fleiss_kappa(counts: NDArray[np.integer]) -> float:
    """Return Fleiss' kappa of int[n, labels]: how many of the m judges (the same m for all) gave a case each label.

    ``(P - P_e) / (1 - P_e)`` with ``P`` the mean share of agreeing pairs of judges within a case and ``P_e`` the sum of
    squares of the labels' shares.  nan with fewer than two judges, without cases, or where only one label was given.
    Source: Fleiss, Measuring nominal scale agreement among many raters, Psychological Bulletin 76, 1971.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim != 2:
        raise ValueError(f"counts must be [cases, labels], not of shape {counts.shape}")
    judges = counts.sum(axis=1)
    if len(counts) and (judges != judges[0]).any():
        raise ValueError("every case needs the same number of judges")
    if not len(counts) or judges[0] < 2:
        return float("nan")
    m = judges[0]
    within = ((counts**2).sum(axis=1) - m) / (m * (m - 1))
    expected = float(((counts.sum(axis=0) / counts.sum()) ** 2).sum())
    return float("nan") if expected == 1 else (float(within.mean()) - expected) / (1 - expected)


def _same_length(a: Sequence[str], b: Sequence[str]) -> None:
    if len(a) != len(b):
        raise ValueError(f"{len(a)} labels of one judge and {len(b)} of the other")
