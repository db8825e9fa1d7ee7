"""The IDs of a catalogue as a trie in flat arrays: which tokens may follow, and which items lie below."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Ragged
from llm4rec.core.order import stable_order
from llm4rec.generative.ids.values import ItemIDs

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Trie:
    """All IDs of a catalogue, or of a part of it, as a tree of tokens.

    Node 0 is the root.  Nodes are numbered level by level, within a level in order of their prefixes, so
    that the children of a node stand side by side, their tokens rising.  Items are ranked depth first, so
    that those below a node have ranks side by side: how many of them a request may see is a difference of
    two counts.  No ID begins another; therefore items are at the leaves, and a leaf is a node without children.

    Attributes:
        tokens: int32[n_nodes], the token that leads to each node; -1 for the root.
        children: int32[n_nodes + 1]; the children of node v are the nodes ``children[v]:children[v + 1]``.
        first, last: int32[n_nodes]; the items below node v have the ranks ``first[v]:last[v]``.
        items: int32[n_leaves], the item of each rank.
        ranks: int32[n_items], the rank of each item; -1 for those that the trie lacks.
        levels: where the nodes of each level begin, and behind them ``n_nodes``.
        n_tokens: size of the alphabet.
    """

    tokens: Ints
    children: Ints
    first: Ints
    last: Ints
    items: Ints
    ranks: Ints
    levels: tuple[int, ...]
    n_tokens: int

    # -- making -------------------------------------------------------------------------
    @classmethod
    def of(cls, ids: ItemIDs, vocabulary: NDArray[np.integer] | None = None, size: int | None = None) -> Self:
        """Return the trie of all items.

        Args:
            ids: of all items.
            vocabulary: int[ids.n_tokens], which token of a model's alphabet each token of the IDs is; without
                it the model's alphabet is that of the IDs.
            size: of the model's alphabet, if it has its own.
        """
        if vocabulary is None:
            return cls.build(ids.codes, ids.n_tokens if size is None else size)
        known = np.asarray(vocabulary)
        if len(known) != ids.n_tokens:
            raise ValueError(f"{len(known)} entries of a vocabulary for {ids.n_tokens} tokens of IDs")
        size = int(known.max(initial=-1)) + 1 if size is None else size
        return cls.build(Ragged(ids.codes.offsets, known[ids.codes.values].astype(np.int32)), size)

    @classmethod
    def build(cls, codes: Ragged, n_tokens: int, items: NDArray[np.integer] | None = None, n_items: int | None = None) -> Self:
        """Return the trie of IDs, one a row.

        Args:
            codes: tokens in ``[0, n_tokens)``, m rows, none empty.
            n_tokens: size of the alphabet.
            items: int32[m], the item of each row; without it row i is item i.
            n_items: size of the catalogue; without it one more than the largest item.

        Raises:
            ValueError: if a row is empty, a token lies outside, an item stands twice, or an ID is or begins another.
        """
        given: Ints = np.arange(len(codes), dtype=np.int32) if items is None else np.asarray(items, dtype=np.int32)
        n_items = int(given.max(initial=-1)) + 1 if n_items is None else n_items
        padded = _padded(codes, n_tokens)
        if len(given) != len(padded) or (len(given) and not 0 <= int(given.min()) <= int(given.max()) < n_items):
            raise ValueError(f"there must be an item in [0, {n_items}) for each of {len(padded)} IDs")
        order = stable_order(*padded.T) if padded.size else np.empty(0, np.int64)
        return cls._assembled(padded[order], given[order], n_tokens, n_items)

    @classmethod
    def _assembled(cls, codes: Ints, items: Ints, n_tokens: int, n_items: int) -> Self:
        """Return the trie of sorted IDs int32[n, depth], padded with -1, in one pass a level."""
        n, depth = codes.shape
        tokens, first, last = [np.array([-1])], [np.array([0])], [np.array([n])]
        children, levels = [], [0, 1]
        starts = np.zeros(n, dtype=bool)  # begins a prefix, of the level's length, here?
        starts[:1] = True
        for level in range(depth):
            column = codes[:, level]
            starts[1:] |= column[1:] != column[:-1]
            here = np.flatnonzero(starts & (column >= 0)).astype(np.int32)
            if not len(here):
                break
            bounds = np.append(np.flatnonzero(starts), n).astype(np.int32)
            children.append(levels[-1] + np.searchsorted(here, first[-1].astype(np.int32)))
            tokens.append(column[here])
            first.append(here)
            last.append(bounds[np.searchsorted(bounds, here, side="right")])
            levels.append(levels[-1] + len(here))
        children.append(np.full(len(first[-1]) + 1, levels[-1]))
        token, child, low, high = (np.concatenate(a).astype(np.int32) for a in (tokens, children, first, last))
        leaves = int((child[1:] == child[:-1])[1:].sum())
        if leaves != n:
            begins = ((codes[:-1] == codes[1:]) | (codes[:-1] < 0)).all(axis=1)
            at = int(np.argmax(begins))
            raise ValueError(f"the IDs of items {items[at]} and {items[at + 1]} are the same, or one begins the other")
        ranks = np.full(n_items, -1, dtype=np.int32)
        ranks[items] = np.arange(n, dtype=np.int32)
        if (ranks[items] != np.arange(n)).any():
            raise ValueError("an item stands twice")
        return cls(token, child, low, high, np.ascontiguousarray(items), ranks, tuple(levels), n_tokens)

    # -- reading ------------------------------------------------------------------------
    @property
    def n_items(self) -> int:
        """Size of the catalogue: items are numbers below it."""
        return len(self.ranks)

    @property
    def n_leaves(self) -> int:
        """How many items the trie holds."""
        return len(self.items)

    @property
    def n_nodes(self) -> int:
        return len(self.tokens)

    @property
    def depth(self) -> int:
        """Tokens of the longest ID."""
        return len(self.levels) - 2

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = (getattr(self, f.name) for f in fields(self))
        return sum(a.nbytes for a in arrays if isinstance(a, np.ndarray))

    def leaves(self) -> NDArray[np.bool_]:
        """Return bool[n_nodes]: is this node an item?"""
        found = self.children[1:] == self.children[:-1]
        found[0] = False
        return np.asarray(found)

    def codes(self) -> Ints:
        """Return int32[n_leaves, depth], the ID of each rank; -1 behind its last token."""
        out = np.full((self.n_leaves, self.depth), -1, dtype=np.int32)
        for level in range(self.depth):
            nodes = slice(self.levels[level + 1], self.levels[level + 2])
            count = self.last[nodes] - self.first[nodes]
            rank = np.arange(int(count.sum())) + np.repeat(self.first[nodes] - (np.cumsum(count) - count), count)
            out[rank, level] = np.repeat(self.tokens[nodes], count)
        return out

    def step(self, nodes: NDArray[np.integer], tokens: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return int64[m], the child of each node by a token; -1 where there is none, or ``nodes`` is -1."""
        known = np.maximum(nodes, 0)
        at = self._place(known, tokens)
        hit = (at < self.children[known + 1]) & (self.tokens[np.minimum(at, self.n_nodes - 1)] == tokens)
        return np.asarray(np.where(hit & (np.asarray(nodes) >= 0), at, -1), dtype=np.int64)

    def find(self, codes: NDArray[np.integer]) -> Ints:
        """Return int32[m], the item whose ID each row int[m, t] begins with; -1 for none.

        An ID cannot begin another, so what follows a whole one (an end, pads) does not matter.
        """
        node = np.zeros(len(codes), dtype=np.int64)
        leaf = self.leaves()
        for token in np.asarray(codes)[:, : self.depth].T:
            node = np.where((node >= 0) & leaf[node], node, self.step(node, token))
        held = (node >= 0) & leaf[node]
        out = np.full(len(codes), -1, dtype=np.int32)
        out[held] = self.items[self.first[node[held]]]
        return out

    def _place(self, nodes: NDArray[np.integer], tokens: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return int64[m], the first child of each node whose token is not below ``tokens``, by bisection."""
        low, high = self.children[nodes].astype(np.int64), self.children[np.asarray(nodes) + 1].astype(np.int64)
        while (unsure := low < high).any():
            middle = (low + high) // 2
            below = unsure & (self.tokens[np.where(unsure, middle, 0)] < tokens)
            low, high = np.where(below, middle + 1, low), np.where(unsure & ~below, middle, high)
        return np.asarray(low, dtype=np.int64)

    # -- deriving -----------------------------------------------------------------------
    def insert(self, items: NDArray[np.integer], codes: Ragged) -> Self:
        """Return the trie with more items: theirs are merged into the sorted IDs, without sorting these again.

        Args:
            items: int32[m], none of which the trie holds; the catalogue grows if they lie beyond it.
            codes: the ID of each.

        Raises:
            ValueError: as ``build`` does, or if the trie holds an item already.
        """
        items = np.asarray(items, dtype=np.int32)
        n_items = max(self.n_items, int(items.max(initial=-1)) + 1)
        added = _padded(codes, self.n_tokens)
        if len(items) != len(added) or (items < 0).any():
            raise ValueError(f"there must be an item for each of {len(added)} IDs")
        if (held := self.ranks[items[items < self.n_items]] >= 0).any():
            raise ValueError(f"the trie holds {int(held.sum())} of these items already")
        if not len(items):
            return self
        order = stable_order(*added.T)
        added, items = added[order], items[order]
        node, place, lost = np.zeros(len(added), np.int64), np.zeros(len(added), np.int64), np.zeros(len(added), bool)
        for token in added.T:  # down to where each leaves the known prefixes
            at = self._place(node, token)
            end = self.children[node + 1]
            sooner = at < end
            beside = np.where(sooner, self.first[np.minimum(at, self.n_nodes - 1)], self.last[node])
            place = np.where(lost, place, beside)
            lost |= ~sooner | (self.tokens[np.minimum(at, self.n_nodes - 1)] != token)
            node = np.where(lost, node, at)
        depth = max(self.depth, added.shape[1])
        own, added = (np.pad(c, ((0, 0), (0, depth - c.shape[1])), constant_values=-1) for c in (self.codes(), added))
        merged = np.insert(own, place, added, axis=0)
        return self._assembled(merged, np.insert(self.items, place, items), self.n_tokens, n_items)

    def delete(self, items: NDArray[np.integer]) -> Self:
        """Return the trie without some items; the catalogue keeps its size.

        Raises:
            ValueError: if the trie does not hold them all.
        """
        asked = np.asarray(items)
        if len(asked) and (int(asked.min()) < 0 or int(asked.max()) >= self.n_items or (self.ranks[asked] < 0).any()):
            raise ValueError("the trie does not hold all items to be deleted")
        keep = np.ones(self.n_items, dtype=bool)
        keep[asked] = False
        return self.only(keep)

    def only(self, allowed: NDArray[np.bool_]) -> Self:
        """Return the trie of the items that bool[n_items] allows: a category, what is in stock."""
        kept = np.asarray(allowed, dtype=bool)[self.items]
        return self._assembled(self.codes()[kept], self.items[kept], self.n_tokens, self.n_items)


def _padded(codes: Ragged, n_tokens: int) -> Ints:
    if not codes.lengths.all():
        raise ValueError(f"row {int(np.argmin(codes.lengths))} of the IDs is empty")
    if len(codes.values) and not 0 <= int(codes.values.min()) <= int(codes.values.max()) < n_tokens:
        raise ValueError(f"tokens must lie in [0, {n_tokens})")
    return codes.padded(int(codes.lengths.max(initial=0)), align="left")


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """Which items each of ``n`` requests may see, as counts over the nodes of a trie.

    Attributes:
        below: int32[1 or n, n_leaves + 1], how many allowed items stand before each rank; None if all are allowed.
        taken: int64[m], rising: ``request * (n_leaves + 1) + rank`` of each allowed item that the request excludes.
        closed: for each level from 1 the nodes all of whose allowed items are excluded, in order of (request, node):
            int64[3, c] of requests, parents and nodes.
    """

    below: Ints | None
    taken: NDArray[np.int64]
    closed: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, trie: Trie, n: int, exclude: Ragged | None = None, allowed: NDArray[np.bool_] | None = None) -> Self:
        """Return the mask of ``n`` requests.

        Args:
            trie: of the catalogue.
            n: number of requests.
            exclude: items that each request must not get, n rows; what the trie lacks does not matter.
            allowed: bool[n_items], or bool[n, n_items] for each request; None allows all.
        """
        below: Ints | None = None
        width = trie.n_leaves + 1
        if allowed is not None:
            allowed = np.atleast_2d(np.asarray(allowed, dtype=bool))
            if allowed.shape not in {(1, trie.n_items), (n, trie.n_items)}:
                raise ValueError(f"allowed is {allowed.shape}, not [{trie.n_items}] or [{n}, {trie.n_items}]")
            below = np.zeros((len(allowed), width), dtype=np.int32)
            np.cumsum(allowed[:, trie.items], axis=1, out=below[:, 1:])
        if exclude is None:
            return cls(below, np.empty(0, np.int64), ())
        if len(exclude) != n:
            raise ValueError(f"{len(exclude)} rows of exclude for {n} requests")
        request, rank = exclude.rows, trie.ranks[exclude.values].astype(np.int64)
        known = rank >= 0
        if allowed is not None:
            known &= allowed[request if len(allowed) > 1 else 0, exclude.values]
        taken = np.unique((request * width + rank)[known])
        return cls(below, taken, tuple(cls._closed(trie, taken, below)))

    @staticmethod
    def _closed(trie: Trie, taken: NDArray[np.int64], below: Ints | None) -> list[NDArray[np.int64]]:
        request, rank = np.divmod(taken, trie.n_leaves + 1)
        rank32 = rank.astype(np.int32)  # of the arrays' own type, or numpy copies them
        out = []
        for level in range(1, trie.depth + 1):
            above, start, stop = trie.levels[level - 1 : level + 2]
            node = start + np.searchsorted(trie.first[start:stop], rank32, side="right") - 1
            held = (node >= start) & (rank < trie.last[node])
            r, node = request[held], node[held]
            new = np.ones(len(r), dtype=bool)
            new[1:] = (node[1:] != node[:-1]) | (r[1:] != r[:-1])
            count = np.diff(np.append(np.flatnonzero(new), len(r)))
            r, node = r[new], node[new]
            if below is None:
                there = trie.last[node] - trie.first[node]
            else:
                row = r if len(below) > 1 else 0
                there = below[row, trie.last[node]] - below[row, trie.first[node]]
            full = count == there
            r, node = r[full], node[full]
            parent = above + np.searchsorted(trie.children[above:start], node.astype(np.int32), side="right") - 1
            out.append(np.stack([r, parent, node]).astype(np.int64))
        return out
