"""One list made of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Lists

Method = Literal["rrf", "weighted"]
Normalise = Literal["minmax", "zscore", "none"]


def fuse(
    lists: Sequence[Lists],
    method: Method = "rrf",
    weights: Sequence[float] | None = None,
    k: int | None = None,
    *,
    rrf_k: float = 60.0,
    normalise: Normalise = "minmax",
) -> Lists:
    """Return the best ``k`` items (default: all) of the union of each row's lists.

    - ``rrf``, reciprocal rank fusion: ``sum over the lists l that hold i of w_l / (rrf_k + rank_l(i))``
      with ranks from 1.  A list that lacks an item gives it nothing.
    - ``weighted``: ``sum over all lists l of w_l * s_l(i)``, with the scores of each row of each list
      brought to one scale by ``normalise``: ``minmax`` to [0, 1] (all 1 where they are equal),
      ``zscore`` to mean 0 and deviation 1 (all 0 where they are equal).  A list that lacks an item
      gives it the lowest score that it gives any, with ``minmax`` always 0, also where all of its own
      items have 1 because they are equal or there is one; an empty list takes no part in that row.

    Equal results stand in order of inside id.  Notes stay with the lists that they came with.

    Cormack, Clarke, Buettcher: Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank
    Learning Methods, SIGIR 2009.

    Args:
        lists: at least one, all with the same number of rows.
        weights: one for each of ``lists``, none negative; all 1 unless given.

    Raises:
        ValueError: if the arguments contradict each other.
    """
    shares = np.ones(len(lists)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not lists or len({len(part) for part in lists}) != 1:
        raise ValueError("fusion needs at least one set of lists, all with the same number of rows")
    if shares.shape != (len(lists),) or not (shares >= 0).all() or not np.isfinite(shares).all():
        raise ValueError(f"fusion needs a weight of at least 0 for each of {len(lists)} lists, not {weights}")
    n = len(lists[0])
    base = np.zeros(n)  # what a row's items have in common
    points = []
    for part, share in zip(lists, shares, strict=True):
        if method == "rrf":
            points.append(np.broadcast_to(share / (rrf_k + 1.0 + np.arange(part.k)), part.items.shape))
        else:
            scores, lowest = _scaled(part, normalise)
            points.append(share * (scores - lowest[:, None]))
            base += share * lowest
    items = np.concatenate([part.items for part in lists], axis=1)  # [n, sum of widths]
    held = items >= 0
    row = np.nonzero(held)[0]
    span = int(items.max(initial=0)) + 1
    keys, member = np.unique(row * span + items[held], return_inverse=True)  # one key for each row and item
    total = np.bincount(member, weights=np.concatenate(points, axis=1)[held], minlength=len(keys))
    of = keys // span
    lengths = np.bincount(of, minlength=n)
    pool = np.full((n, int(lengths.max(initial=0))), -1, dtype=np.int32)
    fused = np.full(pool.shape, np.nan)
    column = np.arange(len(keys)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    pool[of, column] = keys % span
    fused[of, column] = total + base[of]
    return Lists.from_pools(pool, fused, k)


def _scaled(lists: Lists, normalise: Normalise) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return scores float64[n, k] on one scale, and the lowest of each row float64[n] (0 if empty)."""
    held = lists.items >= 0
    scores = np.where(held, lists.scores, 0.0).astype(np.float64)
    count = np.maximum(held.sum(axis=1, keepdims=True), 1)
    low = np.where(held, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    low = np.where(np.isfinite(low), low, 0.0)
    if normalise == "minmax":
        width = np.where(held, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf) - low
        flat = ~(width > 0)
        scaled = np.where(flat, 1.0, (scores - low) / np.where(flat, 1.0, width))
        return scaled, np.zeros(len(lists))
    if normalise == "zscore":
        mean = scores.sum(axis=1, keepdims=True) / count
        deviation = np.sqrt((np.where(held, scores - mean, 0.0) ** 2).sum(axis=1, keepdims=True) / count)
        deviation = np.where(deviation > 0, deviation, np.inf)
        return (scores - mean) / deviation, ((low - mean) / deviation)[:, 0]
    return scores, low[:, 0]
