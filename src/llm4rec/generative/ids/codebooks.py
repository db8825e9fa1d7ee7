"""Residual quantisation: codebooks by k-means (FAISS), and codes under limits on how many items may share them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Dataset, SpecError
from llm4rec.core.order import dense, stable_order
from llm4rec.generative.ids.scheme import TextScheme, leveled
from llm4rec.generative.ids.values import ItemIDs

#: Distances computed at once in search of the nearest code: 64 MiB in float32.
_CELLS = 1 << 24
#: Starts of k-means, at most, and the distances of a round up to which there is more than one.
_STARTS, _SMALL = 8, 1 << 22
#: Rounds of balanced k-means after the plain one.
_BALANCING = 5

#: (level, float32[n, d] what the levels before left over) -> float32[k, d], the level's codebook.
Books = Callable[[int, NDArray[np.float32]], NDArray[np.float32]]


class QuantisedScheme(TextScheme):
    """A scheme whose codes are the nearest rows of codebooks, each level quantising what the one before left over."""

    levels: int = Field(3, ge=1)
    """Codebooks, and so tokens of an ID (one more where ``collisions`` adds it)."""
    codebook: int = Field(256, ge=2)
    """Codes of a level."""
    collisions: Literal["reassign", "token"] = "reassign"
    """Items whose codes agree on all levels: ``reassign`` gives the farther ones the nearest code that is free
    (at the last level; where a prefix has more items than codes, at the level before); ``token`` appends a number
    to all IDs, as in TIGER, if any two agree."""
    iterations: int = Field(25, ge=1)
    """Rounds of k-means for a codebook."""
    balance: float | None = Field(None, ge=1)
    """Most items that a code of a level may hold, in multiples of an even share; None: no limit.  With
    ``reassign`` the last level is as even as uniqueness makes it."""

    def clustered(self, vectors: NDArray[np.float32], rng: np.random.Generator) -> ItemIDs:
        """Return the IDs of float32[n_items, d], each codebook the means of what is left over."""

        def book(_: int, residual: NDArray[np.float32]) -> NDArray[np.float32]:
            return kmeans(residual, self.codebook, iterations=self.iterations, balance=self.balance, rng=rng)

        return self.quantised(vectors, book)

    def quantised(self, vectors: NDArray[np.float32], books: Books) -> ItemIDs:
        """Return the IDs of float32[n_items, d] by the given codebooks, collisions resolved."""
        unique, sizes = self.collisions == "reassign", [self.codebook] * self.levels
        codes, collisions = quantise(vectors, sizes, books, unique=unique, balance=self.balance)
        if not unique:
            nth = occurrence(codes)
            collisions = int((nth > 0).sum())
            if collisions:
                codes, sizes = np.column_stack([codes, nth]), [*sizes, int(nth.max()) + 1]
        return leveled(codes, sizes, collisions=collisions)

    def check_room(self, train: Dataset) -> None:
        """Raise ``SpecError`` if the codes cannot name all items."""
        room = self.codebook**self.levels
        if self.collisions == "reassign" and room < train.n_items:
            raise SpecError(
                f"{self.codebook} codes at {self.levels} levels name {room} items, not {train.n_items}",
                where="ids.codebook", todo="raise it, or set ids.collisions = 'token'",
            )  # fmt: skip


def kmeans(
    vectors: NDArray[np.float32], k: int, *, iterations: int, balance: float | None, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return float32[k, d], the means of k clusters of float32[n, d]: Lloyd's algorithm from k-means++.

    Small problems are solved from several starts, of which the best counts.

    Of fewer vectors than k, the means are the vectors themselves, repeated.  With ``balance`` some rounds
    follow in which no cluster may hold more than so many even shares.
    """
    n, d = vectors.shape
    if n <= k:
        return np.resize(vectors, (k, d))
    seed = int(rng.integers(2**31))
    starts = min(_STARTS, max(1, _SMALL // (n * k)))
    library: Any = faiss  # its stubs lack the ways to start
    trained = library.Kmeans(
        d, k, niter=iterations, nredo=starts, seed=seed, min_points_per_centroid=1,
        init_method=library.ClusteringInitMethod_KMEANS_PLUS_PLUS,
    )  # fmt: skip
    trained.train(np.ascontiguousarray(vectors))
    book: NDArray[np.float32] = trained.centroids.reshape(k, d)
    for _ in range(_BALANCING if balance is not None else 0):
        code, _ = place(vectors, book, np.zeros(n, np.int64), room=n, most=even(balance, n, k))
        sums = np.zeros((k, d))
        np.add.at(sums, code, vectors)
        counts = np.bincount(code, minlength=k)
        book = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], book).astype(np.float32)
    return book


def even(balance: float | None, n: int, k: int) -> int:
    """Return how many of n items one of k codes may hold."""
    return n if balance is None else math.ceil(balance * n / k)


def quantise(
    vectors: NDArray[np.float32], sizes: Sequence[int], books: Books, *, unique: bool, balance: float | None
) -> tuple[NDArray[np.int64], int]:
    """Return int64[n, levels], the codes of float32[n, d], and how many vectors ``unique`` moved from their nearest code.

    At each level a vector takes the nearest row of the codebook, which is then subtracted from it.  With
    ``unique`` no two vectors share all codes: below a prefix there is room for as many items as the levels
    that follow can tell apart, and an item that finds a code full takes the nearest that is not.

    Args:
        sizes: codes of each level; with ``unique`` their product is at least n.
        books: gives the codebook of each level.
        balance: most items of a code, in even shares, at every level (but for the last with ``unique``).
    """
    n, levels = len(vectors), len(sizes)
    codes, moved = np.empty((n, levels), dtype=np.int64), 0
    residual, prefix = np.array(vectors, dtype=np.float32), np.zeros(n, np.int64)
    for level, k in enumerate(sizes):
        book = books(level, residual)
        room = math.prod(sizes[level + 1 :]) if unique else n
        most = n if unique and level == levels - 1 else even(balance, n, k)
        codes[:, level], full = place(residual, book, prefix, room=room, most=most)
        moved += full
        residual -= book[codes[:, level]]
        prefix = dense(prefix * k + codes[:, level])[1].astype(np.int64)
    return codes, moved


def place(
    vectors: NDArray[np.float32], book: NDArray[np.float32], prefix: NDArray[np.int64], *, room: int, most: int
) -> tuple[NDArray[np.int64], int]:
    """Return int64[n], the nearest code that is not full, for each vector, and for how many ``room`` closed the nearest.

    A code is full for a prefix with ``room`` vectors of that prefix, and for all with ``most`` vectors.  In
    rounds, each vector that has no code asks for its nearest open one, and of those that ask for one code the
    nearest get it (of equally near ones the first).  A vector that ``most`` leaves nothing to is let past it.
    Holds the distances of the vectors that do not get their nearest code.

    Args:
        vectors: float32[n, d].
        book: float32[k, d].
        prefix: int64[n], what the vectors' codes of the levels before agree on.
        room, most: with at most ``room * k`` vectors of any prefix, so that there is a place for all.
    """
    k = len(book)
    code, near = _nearest(vectors, book)
    taken = _first(prefix * k + code, near, np.full(len(code), room))
    moved = int((~taken).sum())
    taken[taken] = _first(code[taken], near[taken], np.full(int(taken.sum()), most))
    waiting = np.flatnonzero(~taken)
    if not len(waiting):
        return code, moved
    contended, group = dense(prefix[waiting])  # only prefixes in which somebody waits
    held = np.flatnonzero(taken & np.isin(prefix, contended))
    load = np.zeros((len(contended), k), dtype=np.int64)  # of a code under a prefix
    np.add.at(load, (np.searchsorted(contended, prefix[held]), code[held]), 1)
    total = np.bincount(code[taken], minlength=k)  # of a code
    far = _distances(vectors[waiting], book)  # [waiting, k]
    while len(waiting):
        open_ = load[group] < room  # [waiting, k]
        preferred = open_ & (total < most)
        past = np.asarray(~preferred.any(axis=1))
        asked = np.where(np.where(past[:, None], open_, preferred), far, np.inf)
        choice = asked.argmin(axis=1)
        distance = asked[np.arange(len(choice)), choice]
        gets = _first(group.astype(np.int64) * k + choice, distance, room - load[group, choice])
        within = _first(choice[gets], distance[gets], most - total[choice[gets]])
        gets[gets] = within | past[gets]
        code[waiting[gets]] = choice[gets]
        np.add.at(load, (group[gets], choice[gets]), 1)
        np.add.at(total, choice[gets], 1)
        waiting, group, far = waiting[~gets], group[~gets], far[~gets]
    return code, moved


def occurrence(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return int64[n]: how many earlier rows equal this one."""
    _, row = np.unique(codes, axis=0, return_inverse=True)
    return _rank(row.reshape(-1).astype(np.int64))


def _first(slot: NDArray[np.int64], distance: NDArray[np.floating], free: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return bool[m]: is a row among the ``free`` nearest of those with the same slot?"""
    order = np.lexsort((distance, slot))
    first = np.empty(len(slot), dtype=bool)
    first[order] = _rank(slot[order]) < free[order]
    return first


def _rank(key: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return int64[m]: how many earlier rows have the same key."""
    order = stable_order(key)
    ordered = key[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    rank = np.empty(len(key), dtype=np.int64)
    rank[order] = np.arange(len(key)) - np.repeat(starts, np.diff(np.append(starts, len(key))))
    return rank


def _nearest(vectors: NDArray[np.float32], book: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return each vector's nearest code int64[n] and its squared distance float32[n]."""
    code, near = np.empty(len(vectors), np.int64), np.empty(len(vectors), np.float32)
    step = max(1, _CELLS // len(book))
    for rows in (slice(start, start + step) for start in range(0, len(vectors), step)):
        far = _distances(vectors[rows], book)
        code[rows] = far.argmin(axis=1)
        near[rows] = far.min(axis=1)
    return code, near


def _distances(vectors: NDArray[np.float32], book: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32[n, k], squared distances."""
    far = vectors @ (-2 * book.T)
    far += (vectors**2).sum(axis=1, keepdims=True)
    far += (book**2).sum(axis=1)
    return np.asarray(far, dtype=np.float32)
