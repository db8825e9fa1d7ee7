"""Accuracy of ranked lists against known answers, per case.

Notation: a list shows ``item_1 ... item_k`` (best first), ``T`` is the set of true items and
``rel_r`` is 1 if ``item_r`` is in ``T``, else 0.  Truth is a set: an item that stands in it twice
counts once.  A list with fewer than ``k`` items scores nothing at the empty places.

To add a metric, write one function from :class:`Hits` to float64[n] and enter it in ``ACCURACY``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Lists, Ragged
from llm4rec.metrics.names import parse_metric

Values = NDArray[np.float64]


#: Places compared with a true item at once; they and what is made of them stay in the processor's cache.
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Hits:
    """Where ``n`` lists, cut at ``k``, show true items: ``h`` places in all, as a rule far fewer than lists have.

    Attributes:
        case: int64[h], the list of each hit; never falls.
        rank: int64[h], its place in the list, from 1; rises within a case.
        wanted: int64[n], the number of distinct true items; at least 1.
        k: the cut-off.
    """

    case: NDArray[np.int64]
    rank: NDArray[np.int64]
    wanted: NDArray[np.int64]
    k: int

    @classmethod
    def of(cls, lists: Lists, truth: Ragged, k: int) -> Hits:
        """Find the true items among the first ``k`` of each list."""
        n, width = len(lists), min(lists.k, k)
        case, item = _distinct(truth)
        found = []
        step = max(1, _BLOCK // max(1, width))
        for start in range(0, len(case), step):
            rows = slice(start, start + step)
            # One true item a case, the usual way: the rows are those of the lists, and need no copy.
            shown = lists.items[rows, :width] if len(case) == n else lists.items[case[rows], :width]
            place = np.flatnonzero((shown == item[rows, None]).ravel())
            found.append(case[start + place // width] * width + place % width)
        at = np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)
        return cls(at // max(1, width), at % max(1, width) + 1, np.bincount(case, minlength=n), k)

    def cut(self, k: int) -> Hits:
        """Return the hits among the first ``k`` places."""
        kept = self.rank <= k
        return Hits(self.case[kept], self.rank[kept], self.wanted, k)

    def total(self, weights: NDArray[Any] | None = None) -> Values:
        """Return float64[n], the sum over each list's hits of weights [h], or their number."""
        n = len(self.wanted)
        return np.asarray(np.bincount(self.case, weights, minlength=n), dtype=np.float64)

    @cached_property
    def count(self) -> Values:
        """float64[n], the number of true items in each list."""
        return self.total()

    @cached_property
    def first(self) -> NDArray[np.bool_]:
        """bool[h]: is this the list's first hit?"""
        return np.asarray(np.diff(self.case, prepend=-1) > 0)


def recall(hits: Hits) -> Values:
    """Share of the true items that the list shows: ``sum_r rel_r / |T|``.

    Source: Manning, Raghavan, Schuetze, Introduction to Information Retrieval, 2008, ch. 8.  With
    one true item it equals ``hit``.  It is not divided by ``min(k, |T|)``.
    """
    return np.asarray(hits.count / hits.wanted)


def hit(hits: Hits) -> Values:
    """1 if the list shows a true item, else 0 (hit ratio).

    Source: Deshpande and Karypis, Item-based top-N recommendation algorithms, TOIS 2004.
    """
    return np.asarray(hits.count > 0, dtype=np.float64)


def precision(hits: Hits) -> Values:
    """Share of the ``k`` places that hold a true item: ``sum_r rel_r / k``, also for shorter lists.

    Source: Manning et al., 2008, ch. 8.
    """
    return np.asarray(hits.count / hits.k)


def mrr(hits: Hits) -> Values:
    """Reciprocal rank of the first true item, ``1 / min{r <= k: rel_r = 1}``, or 0 without one.

    Source: Voorhees, The TREC-8 question answering track report, 1999.
    """
    return hits.total(np.where(hits.first, 1.0 / hits.rank, 0.0))


def average_precision(hits: Hits) -> Values:
    """Average precision: ``1 / min(k, |T|) * sum_r rel_r * precision@r``; its mean is MAP.

    Source: Manning et al., 2008, ch. 8.  Divided by ``min(k, |T|)``, so that a perfect list
    reaches 1 at every k; some tools divide by ``|T|``, others by the number of hits.
    """
    place = np.arange(len(hits.case))
    so_far = place - np.maximum.accumulate(np.where(hits.first, place, 0)) + 1  # hits of the list up to this one
    return np.asarray(hits.total(so_far / hits.rank) / np.minimum(hits.wanted, hits.k))


def ndcg(hits: Hits) -> Values:
    """Gain discounted by rank over the best that is possible: ``DCG / IDCG``.

    ``DCG = sum_r rel_r / log2(r + 1)`` and ``IDCG = sum_{r <= min(k, |T|)} 1 / log2(r + 1)``, with
    ranks from 1.  Source: Jaervelin and Kekaelaeinen, Cumulated gain-based evaluation of IR
    techniques, TOIS 2002, with gains 0 and 1 and logarithm base 2.
    """
    discount = 1.0 / np.log2(np.arange(2, hits.k + 2))
    ideal = np.cumsum(discount)[np.minimum(hits.wanted, hits.k) - 1]
    return np.asarray(hits.total(discount[hits.rank - 1]) / ideal)


#: Every accuracy metric by its name in specs and tables; all of them lie in [0, 1].
ACCURACY: Final[Mapping[str, Callable[[Hits], Values]]] = MappingProxyType(
    {
        "recall": recall,
        "hit": hit,
        "ndcg": ndcg,
        "mrr": mrr,
        "map": average_precision,
        "precision": precision,
    }
)


def _distinct(truth: Ragged) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return int64[t], int32[t]: case and item of the distinct true items, by case, then item."""
    if len(truth) == len(truth.values):
        return np.arange(len(truth)), truth.values
    n_values = 1 + int(truth.values.max(initial=0))
    case, item = np.divmod(np.unique(truth.rows * n_values + truth.values), n_values)
    return case, item.astype(np.int32)


def evaluate(lists: Lists, truth: Ragged, metrics: Sequence[str]) -> dict[str, Values]:
    """Return each metric's value for each case.

    Args:
        lists: n ranked lists.  Cut-offs beyond ``lists.k`` are allowed: the places below the last
            column count as empty, so ask for lists at least as long as the largest cut-off.
        truth: the true items of each case; no row may be empty.
        metrics: names such as ``"ndcg@10"``; the table is ``ACCURACY``.

    Returns:
        float64[n] for each name, in the order asked.

    Raises:
        SpecError: for a name that is unknown or has no proper cut-off.
        ValueError: where lists and truth do not match, or a case has no truth.
    """
    wanted = {name: parse_metric(name, ACCURACY) for name in metrics}
    if len(lists) != len(truth):
        raise ValueError(f"{len(lists)} lists for {len(truth)} cases")
    if (truth.lengths == 0).any():
        raise ValueError("a case without truth")
    cutoffs = sorted({k for _, k in wanted.values()})
    hits = Hits.of(lists, truth, max(cutoffs, default=0))
    cut = {k: hits.cut(k) for k in cutoffs}
    return {name: ACCURACY[metric](cut[k]) for name, (metric, k) in wanted.items()}
