"""How a ranker's order of the first items joins the list that it was given."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Lists, Note

Omitted = Literal["last", "drop"]

#: The failure that is counted for each candidate that a ranker was given and did not rank.
UNRANKED = "unranked_candidate"
_LOWEST = float(np.finfo(np.float32).min)


def rerank(incoming: Lists, ranked: Lists, *, depth: int, weight: float = 1.0, omitted: Omitted = "last") -> Lists:
    """Return the incoming lists with their first ``depth`` items in the ranker's order.

    A row of the result holds, from the top,

    1. the items that the ranker ranked.  With ``weight`` 1 they stand in its order and keep its
       scores; below 1 they are sorted by ``(1 - weight) * z(incoming score) + weight * z(ranker's
       score)``, both z-scored over these items of the row, and equal ones keep their order;
    2. the items it was given and did not rank, in their incoming order (left out if ``omitted`` is
       ``"drop"``).  Each is told in the note's ``dropped`` and counted as ``unranked_candidate``;
    3. the items below ``depth``, in their incoming order.

    Scores go on below the lowest of the first group, in steps of that group's mean gap (1 if it has
    none), so that they never rise.  A row of which nothing was ranked keeps its incoming scores, and
    with ``weight`` 0 every row is as it came, unless ``omitted`` is ``"drop"``: then the ranker is a filter.

    Args:
        incoming: what stood before the ranker.
        ranked: what the ranker made of ``incoming.head(depth)``.

    Raises:
        ValueError: if the ranker returned an item that it was not given, or one twice.
    """
    at, width = np.arange(incoming.k), incoming.k
    held = incoming.items >= 0
    place = _place(np.where(at < depth, incoming.items, -1), ranked.items)  # [n, width]
    known = place >= 0
    if (known.sum(axis=1) != ranked.lengths).any():
        raise ValueError("a ranker returned an item that it was not given, or one twice")
    unranked = held & (at < depth) & ~known
    if weight == 0 and omitted == "last":
        return replace(incoming, notes=_notes(incoming, ranked, unranked))
    own = np.take_along_axis(ranked.scores, np.maximum(place, 0), axis=1) if ranked.k else np.zeros(place.shape)
    own = np.where(known, own, 0.0).astype(np.float64)
    if weight < 1.0:
        own = (1.0 - weight) * _zscores(incoming.scores, known) + weight * _zscores(own, known)
    key = -own if weight < 1.0 else place
    group = np.select([known, unranked, held], [0, 1 if omitted == "last" else 3, 2], 3)
    order = np.lexsort((np.where(known, key, 0), group), axis=1)  # stable: equal keys keep their order
    group = np.take_along_axis(group, order, axis=1)
    items = np.where(group < 3, np.take_along_axis(incoming.items, order, axis=1), -1)
    scores = np.take_along_axis(own, order, axis=1)
    first = known.sum(axis=1, keepdims=True)  # [n, 1], length of group 0
    lowest = np.take_along_axis(scores, np.maximum(first - 1, 0), axis=1) if width else scores
    top = scores[:, :1]
    step = (top - lowest) / np.maximum(first - 1, 1)
    below = np.maximum(lowest - np.where(step > 0, step, 1.0) * (at - first + 1), _LOWEST)
    scores = np.where(group == 0, scores, below)
    scores = np.where(first > 0, scores, np.take_along_axis(incoming.scores, order, axis=1))
    return Lists(items, np.where(items < 0, np.nan, scores).astype(np.float32), _notes(incoming, ranked, unranked))


def _place(items: NDArray[np.int32], ranked: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return int64[n, w]: the column of each item in the same row of ``ranked``, -1 if it is not there."""
    n, width = ranked.shape
    if not width or not n:
        return np.full(items.shape, -1, dtype=np.int64)
    span = int(max(items.max(initial=0), ranked.max())) + 2  # the last slot takes the pads of ranked
    rows = np.arange(n)[:, None] * span
    keys = (rows + np.where(ranked < 0, span - 1, ranked)).ravel()
    order = np.argsort(keys, kind="stable")
    asked = (rows + np.maximum(items, 0)).ravel()
    found = order[np.minimum(np.searchsorted(keys, asked, sorter=order), len(keys) - 1)]
    there = (keys[found] == asked) & (items.ravel() >= 0)
    return np.where(there, found % width, -1).reshape(items.shape)


def _zscores(scores: NDArray[np.floating], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return float64[n, w]: scores of the chosen, with mean 0 and deviation 1 in each row; else 0."""
    count = np.maximum(chosen.sum(axis=1, keepdims=True), 1)
    values = np.where(chosen, scores, 0.0).astype(np.float64)
    centred = np.where(chosen, values - values.sum(axis=1, keepdims=True) / count, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
    return np.asarray(centred / np.where(deviation > 0, deviation, 1.0), dtype=np.float64)


def _notes(incoming: Lists, ranked: Lists, unranked: NDArray[np.bool_]) -> tuple[Note, ...] | None:
    """Return the ranker's notes with every unranked item told and counted."""
    rows = np.flatnonzero(unranked.any(axis=1))
    if not len(rows):
        return ranked.notes
    notes = list(ranked.notes or (Note(),) * len(incoming))
    for row in rows.tolist():
        missing = incoming.items[row][unranked[row]].tolist()
        said = notes[row]
        reasons = dict(said.dropped) | {i: said.dropped.get(i, "left out by the ranker") for i in missing}
        notes[row] = replace(said, failures=said.failures + (UNRANKED,) * len(missing), dropped=reasons)
    return tuple(notes)
