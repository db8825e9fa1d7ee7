"""Ranked lists, and the one way in which scores become one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from llm4rec.core.order import stable_order
from llm4rec.core.ragged import Ragged

#: Scores looked at at once: 4 MB, which stay in the processor's cache.
_CELLS = 1 << 20
#: Scores that are worth a thread of their own: some milliseconds.
_WORTH_A_THREAD = 1 << 22
#: Scores of a row from which its threshold is guessed.
_SAMPLE = 1 << 12

_NOTHING: Mapping[int, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question to a language model and what came back, as the report shows it."""

    prompt: str
    answer: str
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One listing of candidates as a ranker asked about it, kept for its diagnosis.

    Attributes:
        items: inside ids in the order in which they were shown.
        scores: what the answer gave each of them, in the same order; nan for those that it did not place.
    """

    items: tuple[int, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """What a stage has to say about one query's list beside the list itself.

    Attributes:
        failures: kinds of failure, one entry each time one happened (``"invalid_json"``, ...).
        dropped: inside item id -> reason why the stage removed it or could not place it.
        exchanges: prompts and raw answers.
        trials: the listings that were asked about.
    """

    failures: tuple[str, ...] = ()
    dropped: Mapping[int, str] = field(default_factory=lambda: _NOTHING)
    exchanges: tuple[Exchange, ...] = ()
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True, slots=True)
class Lists:
    """``n`` ranked lists of at most ``k`` items, best first.

    Attributes:
        items: int32[n, k]; -1 pads on the right.
        scores: float32[n, k]; nan where ``items`` is -1; never rises along a row.
        notes: one :class:`Note` for each row, from stages that have something to say, else None.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    notes: tuple[Note, ...] | None = None

    def __post_init__(self) -> None:
        items = np.ascontiguousarray(self.items, dtype=np.int32)
        scores = np.ascontiguousarray(self.scores, dtype=np.float32)
        if items.ndim != 2 or items.shape != scores.shape:
            raise ValueError(f"items {items.shape} and scores {scores.shape} must be one [n, k]")
        if self.notes is not None and len(self.notes) != len(items):
            raise ValueError(f"{len(self.notes)} notes for {len(items)} lists")
        object.__setattr__(self, "items", items)
        object.__setattr__(self, "scores", scores)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def k(self) -> int:
        """The width of the arrays: the largest number of items that a list can hold."""
        return int(self.items.shape[1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64[n], the number of items in each list."""
        return np.asarray((self.items >= 0).sum(axis=1), dtype=np.int64)

    @classmethod
    def from_scores(cls, scores: NDArray[np.floating], k: int, *, exclude: Ragged | None = None) -> Lists:
        """Return the ``k`` best items of score float[n, n_items] in each row.

        Items in ``exclude`` and items scored nan or -inf never appear; lists may be shorter
        than ``k``.  Equal scores stand in order of inside id.
        """
        scores = np.asarray(scores)
        n, n_items = scores.shape
        if exclude is not None and len(exclude) != n:
            raise ValueError(f"{len(exclude)} rows of exclude for {n} rows of scores")
        lists = cls.empty(n, k)
        width = min(k, n_items)
        size = max(1, _CELLS // max(1, n_items))

        def fill(starts: range) -> None:
            scratch = np.empty((min(size, n), n_items), dtype=np.float32)
            for start in starts:
                rows = slice(start, min(start + size, n))
                block = scratch[: rows.stop - start]
                np.copyto(block, scores[rows], casting="same_kind" if scores.dtype.kind == "f" else "unsafe")
                if exclude is not None:
                    first, last = exclude.offsets[start], exclude.offsets[rows.stop]
                    row = np.repeat(np.arange(len(block)), np.diff(exclude.offsets[start : rows.stop + 1]))
                    block[row, exclude.values[first:last]] = -np.inf
                _best(block, width, lists.items[rows], lists.scores[rows])

        starts = range(0, n if width else 0, size)
        threads = min(_threads(), n * n_items // _WORTH_A_THREAD, len(starts))
        if threads < 2:
            fill(starts)
        else:
            with ThreadPoolExecutor(threads) as pool:  # numpy lets go of the interpreter while it works
                list(pool.map(fill, (starts[i::threads] for i in range(threads))))
        return lists

    @classmethod
    def _ordered(cls, items: NDArray[np.int32], scores: NDArray[np.float32], k: int) -> Lists:
        """Sort candidate pools by falling score, then rising id; -inf and -1 become pads."""
        scores = np.where((items < 0) | np.isnan(scores), -np.inf, scores).astype(np.float32)
        by_id = np.argsort(items, axis=1, kind="stable")
        items, scores = np.take_along_axis(items, by_id, 1), np.take_along_axis(scores, by_id, 1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        items, scores = np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)
        gone = np.isneginf(scores)
        items, scores = np.where(gone, -1, items), np.where(gone, np.nan, scores)
        short = k - items.shape[1]
        if short > 0:
            items = np.pad(items, ((0, 0), (0, short)), constant_values=-1)
            scores = np.pad(scores, ((0, 0), (0, short)), constant_values=np.nan)
        return cls(items, scores)

    @classmethod
    def from_pools(cls, items: NDArray[np.integer], scores: NDArray[np.floating], k: int | None = None) -> Lists:
        """Return pools int[n, m] (-1 pads, no item twice in a row) with scores float[n, m] as lists.

        Sorted by falling score, then inside id; an item scored nan or -inf is left out.
        """
        pool = np.asarray(items, dtype=np.int32)
        return cls._ordered(pool, np.asarray(scores, dtype=np.float32), pool.shape[1] if k is None else k)

    @classmethod
    def empty(cls, n: int, k: int) -> Lists:
        """Return ``n`` lists without items."""
        return cls(np.full((n, k), -1, np.int32), np.full((n, k), np.nan, np.float32))

    @classmethod
    def concatenate(cls, parts: Sequence[Lists]) -> Lists:
        """Return the parts' rows one after the other; the parts share one ``k``."""
        notes: tuple[Note, ...] | None = None
        if any(p.notes is not None for p in parts):
            notes = tuple(note for p in parts for note in (p.notes or (Note(),) * len(p)))
        return cls(np.concatenate([p.items for p in parts]), np.concatenate([p.scores for p in parts]), notes)

    def head(self, k: int) -> Lists:
        """Return each list's first ``k`` items (pads where it has fewer)."""
        if k > self.k:
            pad = ((0, 0), (0, k - self.k))
            items = np.pad(self.items, pad, constant_values=-1)
            return replace(self, items=items, scores=np.pad(self.scores, pad, constant_values=np.nan))
        return replace(self, items=self.items[:, :k], scores=self.scores[:, :k])

    def take(self, rows: NDArray[np.integer]) -> Lists:
        """Return the given lists, in the given order."""
        rows = np.asarray(rows)
        notes = None if self.notes is None else tuple(self.notes[int(i)] for i in rows)
        return Lists(self.items[rows], self.scores[rows], notes)

    def to_ragged(self) -> Ragged:
        """Return the items without pads."""
        return Ragged.from_lengths(self.lengths, self.items[self.items >= 0])

    def check(self, n_items: int, *, exclude: Ragged | None = None) -> None:
        """Raise ``ValueError`` if a list breaks a rule of this class, repeats or shows an excluded item."""
        held = self.items >= 0
        if (self.items >= n_items).any() or (self.items < -1).any():
            raise ValueError("a list holds an item outside of the vocabulary")
        if (held[:, 1:] & ~held[:, :-1]).any():
            raise ValueError("pads must stand on the right")
        if (np.isnan(self.scores) == held).any():
            raise ValueError("a score must be nan exactly where there is no item")
        if (self.scores[:, 1:] > self.scores[:, :-1]).any():
            raise ValueError("scores rise along a list")
        ordered = np.sort(self.items, axis=1)
        if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
            raise ValueError("a list holds an item twice")
        if exclude is not None and (exclude.contains(self.items, n_items) & held).any():
            raise ValueError("a list holds an excluded item")


def _threads() -> int:
    """Return how many threads may work at once: the processors given to this process, at most ``OMP_NUM_THREADS``."""
    have = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(have, max(1, int(asked))) if asked.isdecimal() else have


def _best(scores: NDArray[np.float32], width: int, items: NDArray[np.int32], best: NDArray[np.float32]) -> None:
    """Write the ``width`` best of scores [b, n_items] into the first places of items and best [b, k].

    A threshold that a few more than ``width`` scores of a row reach is guessed from evenly spaced ones;
    what reaches it, found in one pass, is sorted.  All that equals the last place reaches it too, so ties
    are broken among all of them.
    """
    n_items = scores.shape[1]
    step = max(1, n_items // max(_SAMPLE, 8 * width))
    sample = np.nan_to_num(scores[:, ::step], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    expected = width / step  # so many of the sample are among the best
    place = width if step == 1 else int(expected + 4 * np.sqrt(expected) + 6)
    at = sample.shape[1] - min(place, sample.shape[1])
    threshold = np.partition(sample, at, axis=1)[:, at]
    reaches = scores >= threshold[:, None]
    found, count = _places(reaches)
    doubtful = np.flatnonzero((count < width) | (count > 4 * place * step) | np.isneginf(threshold))
    if len(doubtful):
        reaches[doubtful] = _reach(scores[doubtful], width, threshold[doubtful], count[doubtful], 4 * place * step)
        found, count = _places(reaches)
    row = np.repeat(np.arange(len(scores), dtype=np.int32), count)
    value = scores.ravel()[found] + np.float32(0)  # -0 becomes 0
    bits = value.view(np.int32)
    falling = ~(bits ^ ((bits >> 31) & 0x7FFFFFFF))  # a float's bits as an integer that falls as it rises
    order = stable_order(row, falling)  # equal scores stay in order of id
    rank = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
    order, rank = order[rank < width], rank[rank < width]
    row = row[order]
    items[row, rank] = found[order] - row * np.int64(n_items)
    best[row, rank] = value[order]


def _places(flags: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where bool[b, w] is true, in the flattened array, and intp[b], how often in each row.

    Counting by the places is faster than ``count_nonzero`` along an axis, which adds up whole integers.
    """
    found = np.flatnonzero(flags.ravel())
    return found, np.diff(np.searchsorted(found, np.arange(len(flags) + 1) * flags.shape[1]))


def _reach(
    scores: NDArray[np.float32], width: int, threshold: NDArray[np.float32], reached: NDArray[np.intp], many: int
) -> NDArray[np.bool_]:
    """Return bool[d, n_items]: the ``width`` best of rows whose guessed threshold too few or too many scores reach.

    Where less than ``width`` scores lie above the guess and the rest of the best are tied with it, the guess
    is right, and of the tie the lowest ids belong in.  Where up to ``many`` lie above it, they will do.
    The other rows get their true threshold.
    """
    threshold = threshold.copy()
    above = scores > threshold[:, None]
    _, count = _places(above)
    wrong = np.flatnonzero((count > many) | ((reached < width) & ~np.isneginf(threshold)))
    if len(wrong):
        known = np.nan_to_num(scores[wrong], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        at = known.shape[1] - width
        threshold[wrong] = np.partition(known, at, axis=1)[:, at]
        above[wrong] = known > threshold[wrong, None]
        _, count = _places(above)
    short = np.flatnonzero((count < width) & ~np.isneginf(threshold))
    room = (width - count)[short]
    span = 16 * width  # a large tie has enough items near the front
    while len(short):
        tied = scores[short, :span] == threshold[short, None]
        ties = np.count_nonzero(tied, axis=1)
        if span >= scores.shape[1] or (ties >= room).all():
            row, item = np.nonzero(tied)
            nth = np.arange(len(row)) - np.repeat(np.cumsum(ties) - ties, ties)
            first = nth < room[row]
            above[short[row[first]], item[first]] = True
            break
        span *= 8
    return np.asarray(above)
