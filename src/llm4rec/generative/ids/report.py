"""What a scheme of item IDs is like: how it uses its codes, and whether items that are alike share prefixes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Dataset, Lists, Ragged
from llm4rec.core.order import dense
from llm4rec.features.index import VectorIndex
from llm4rec.generative.ids.values import ItemIDs

#: Neighbours of an item that are looked at, and items whose neighbours are.
NEIGHBOURS, ASKED = 10, 5000
#: Scores held at once: 128 MiB.
_CELLS = 1 << 25


@dataclass(frozen=True, slots=True)
class Level:
    """One place in the IDs.

    Attributes:
        items: whose IDs reach so far.
        used: different tokens that stand there.
        entropy: of those tokens over the items, bits.
        prefixes: different prefixes that end there.
        largest: most items that share one of these prefixes.
        chance: share of pairs of items that share it, which is the share of the shuffled control.
        text: share of pairs of an item and a near one by text that share it; None without vectors.
        events: the same for an item and one that many of the same users took; None without events.
    """

    items: int
    used: int
    entropy: float
    prefixes: int
    largest: int
    chance: float
    text: float | None
    events: float | None

    @property
    def perplexity(self) -> float:
        """``2 ** entropy``: as many codes, used evenly, would tell as much."""
        return float(2**self.entropy)


@dataclass(frozen=True, slots=True)
class IDReport:
    """What ``inspect`` found.

    Attributes:
        n_items, n_tokens: of the IDs.
        used: tokens that stand in some ID.
        depth, mean_depth: tokens of the longest ID, and on average.
        collisions: items that had the ID of another before the scheme resolved it; None where it knows of none.
        levels: the places, first to last.
    """

    n_items: int
    n_tokens: int
    used: int
    depth: int
    mean_depth: float
    collisions: int | None
    levels: tuple[Level, ...]


def inspect(ids: ItemIDs, train: Dataset, vectors: NDArray[np.float32] | None = None, *, rng: np.random.Generator) -> IDReport:
    """Look at the IDs of a catalogue.

    Neighbours are the 10 nearest by inner product of text vectors, and by cosine of the items' users; of
    large catalogues 5,000 items are asked for theirs.

    Args:
        ids: of every item.
        train: the training part that they were built from.
        vectors: float32[n_items, d] of the items' texts, unit length; zero without text.
        rng: draws the items that are asked.
    """
    asked = rng.permutation(ids.n_items)[:ASKED]
    by_text = None if vectors is None else _text_neighbours(vectors, asked)
    by_events = _event_neighbours(train, asked)
    padded = ids.padded()
    prefix = np.zeros(ids.n_items, np.int64)
    levels = []
    for at in range(ids.depth):
        token = padded[:, at]
        # Behind its end an ID stays what it was: only its own item has it, so it is shared with nobody.
        prefix = dense(prefix * (ids.n_tokens + 1) + token + 1)[1].astype(np.int64)
        counts = np.bincount(token[token >= 0])
        shares = counts[counts > 0] / counts.sum()
        sizes = np.bincount(prefix)
        reached = np.unique(prefix[token >= 0])
        pairs = ids.n_items * (ids.n_items - 1)
        levels.append(
            Level(
                items=int(counts.sum()), used=len(shares), entropy=float(-(shares * np.log2(shares)).sum()) + 0.0,
                prefixes=len(reached), largest=int(sizes.max()),
                chance=float((sizes * (sizes - 1)).sum() / pairs) if pairs else 0.0,
                text=_shared(prefix, by_text), events=_shared(prefix, by_events),
            )
        )  # fmt: skip
    lengths = ids.codes.lengths
    return IDReport(
        ids.n_items, ids.n_tokens, len(np.unique(ids.codes.values)), ids.depth,
        float(lengths.mean()) if len(lengths) else 0.0, ids.collisions, tuple(levels),
    )  # fmt: skip


#: Items int[a] and, for each, int32[a, 10] neighbours (-1 pads).
_Neighbours = tuple[NDArray[np.int64], NDArray[np.int32]]


def _shared(prefix: NDArray[np.int64], neighbours: _Neighbours | None) -> float | None:
    """Return the share of neighbours with the prefix of the item whose they are."""
    if neighbours is None:
        return None
    items, near = neighbours
    held = near >= 0
    if not held.any():
        return None
    return float((prefix[near] == prefix[items][:, None])[held].mean())


def _text_neighbours(vectors: NDArray[np.float32], asked: NDArray[np.int64]) -> _Neighbours:
    """Return the items with text among those asked, and their nearest ones."""
    told = np.flatnonzero(vectors.any(axis=1)).astype(np.int32)
    items = asked[vectors[asked].any(axis=1)]
    itself = Ragged.from_lengths(np.ones(len(items), np.int64), items)
    return items, VectorIndex(vectors, told).search(vectors[items], NEIGHBOURS, exclude=itself).items


def _event_neighbours(train: Dataset, asked: NDArray[np.int64]) -> _Neighbours | None:
    """Return the items with events among those asked, and those that share most users with them, by cosine."""
    items = asked[train.item_counts[asked] > 0]
    if not len(items):
        return None
    matrix = train.matrix().tocsc()
    norms = np.sqrt(np.asarray(matrix.sum(axis=0)).ravel())
    parts = []
    step = max(1, _CELLS // train.n_items)
    for rows in (items[start : start + step] for start in range(0, len(items), step)):
        both = (matrix[:, rows].T @ matrix).toarray()  # [rows, n_items], users of both
        both /= np.maximum(norms, 1e-12)
        scores = np.where(both > 0, both, -np.inf).astype(np.float32)
        itself = Ragged.from_lengths(np.ones(len(rows), np.int64), rows)
        parts.append(Lists.from_scores(scores, NEIGHBOURS, exclude=itself).items)
    return items, np.concatenate(parts)
