"""Accuracy of ranked lists against known answers, per case.

Notation: a list shows ``item_1 ... item_k`` (best first), ``T`` is the set of true items and
``rel_r`` is 1 if ``item_r`` is in ``T``, else 0.  Truth is a set: an item that stands in it twice
counts once.  A list with fewer than ``k`` items scores nothing at the empty places.

To add a metric, write one function from :class:`Hits` to float64[n] and enter it in ``ACCURACY``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Lists, Ragged
from llm4rec.metrics.names import parse_metric

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Hits:
    """Where ``n`` lists, cut at ``k``, show true items.

    Attributes:
        shown: bool[n, w], w <= k: is the item at this rank true?
        wanted: int64[n], the number of distinct true items; at least 1.
        k: the cut-off.
    """

    shown: NDArray[np.bool_]
    wanted: NDArray[np.int64]
    k: int

    @property
    def count(self) -> NDArray[np.int64]:
        """int64[n], the number of true items in each list."""
        return np.asarray(np.count_nonzero(self.shown, axis=1))


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
    return np.asarray(hits.shown.any(axis=1), dtype=np.float64)


def precision(hits: Hits) -> Values:
    """Share of the ``k`` places that hold a true item: ``sum_r rel_r / k``, also for shorter lists.

    Source: Manning et al., 2008, ch. 8.
    """
    return np.asarray(hits.count / hits.k)


def mrr(hits: Hits) -> Values:
    """Reciprocal rank of the first true item, ``1 / min{r <= k: rel_r = 1}``, or 0 without one.

    Source: Voorhees, The TREC-8 question answering track report, 1999.
    """
    first = hits.shown.argmax(axis=1) + 1
    return np.asarray(np.where(hits.shown.any(axis=1), 1.0 / first, 0.0))


def average_precision(hits: Hits) -> Values:
    """Average precision: ``1 / min(k, |T|) * sum_r rel_r * precision@r``; its mean is MAP.

    Source: Manning et al., 2008, ch. 8.  Divided by ``min(k, |T|)``, so that a perfect list
    reaches 1 at every k; some tools divide by ``|T|``, others by the number of hits.
    """
    ranks = np.arange(1, hits.shown.shape[1] + 1)
    at_hits = np.where(hits.shown, np.cumsum(hits.shown, axis=1) / ranks, 0.0)
    return np.asarray(at_hits.sum(axis=1) / np.minimum(hits.wanted, hits.k))


def ndcg(hits: Hits) -> Values:
    """Gain discounted by rank over the best that is possible: ``DCG / IDCG``.

    ``DCG = sum_r rel_r / log2(r + 1)`` and ``IDCG = sum_{r <= min(k, |T|)} 1 / log2(r + 1)``, with
    ranks from 1.  Source: Jaervelin and Kekaelaeinen, Cumulated gain-based evaluation of IR
    techniques, TOIS 2002, with gains 0 and 1 and logarithm base 2.
    """
    discount = 1.0 / np.log2(np.arange(2, hits.k + 2))
    ideal = np.cumsum(discount)[np.minimum(hits.wanted, hits.k) - 1]
    return np.asarray(hits.shown @ discount[: hits.shown.shape[1]] / ideal)


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


def _distinct(truth: Ragged, n_values: int) -> NDArray[np.int64]:
    """Return int64[n], the number of distinct values in each row."""
    if len(truth) == len(truth.values):
        return np.ones(len(truth), dtype=np.int64)
    keys = np.unique(truth.rows * n_values + truth.values)
    return np.bincount(keys // n_values, minlength=len(truth))


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
    width = min(lists.k, max((k for _, k in wanted.values()), default=0))
    items = lists.items[:, :width]
    n_values = 1 + max(int(items.max(initial=0)), int(truth.values.max(initial=0)))
    shown = truth.contains(items, n_values) & (items >= 0)
    sizes = _distinct(truth, n_values)
    return {name: ACCURACY[metric](Hits(shown[:, :k], sizes, k)) for name, (metric, k) in wanted.items()}
