"""Made catalogues whose items lie in known clusters, and an encoder that gives known vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from llm4rec.core import Dataset, Vocabulary


@dataclass(frozen=True)
class Given:
    """An encoder of texts that are the numbers of rows."""

    vectors: np.ndarray

    @property
    def name(self) -> str:
        return "given"

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"name": "given"}

    @property
    def dimension(self) -> int:
        return int(self.vectors.shape[1])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        known = np.vstack([self.vectors, np.zeros((1, self.dimension))])
        return known[[int(text) if text else -1 for text in texts]].astype(np.float32)


def catalogue(n: int, walks: Sequence[Sequence[int]] = ()) -> Dataset:
    """Make a data set of n items titled 0, 1, ...; one walk a user, all users at the same times."""
    lengths = [len(w) for w in walks]
    events = pl.DataFrame(
        {
            "user": np.repeat(np.arange(len(walks)), lengths),
            "item": np.array([i for w in walks for i in w], dtype=np.int64),
            "time": np.array([t for m in lengths for t in range(m)], dtype=np.int64),
            "value": np.ones(sum(lengths)),
            "behavior": np.zeros(sum(lengths), np.int64),
        }
    )
    users, items = (Vocabulary([f"{kind}{i}" for i in range(m)]) for kind, m in (("u", len(walks)), ("i", n)))
    item_table = pl.DataFrame({"item": np.arange(n, dtype=np.int32), "title": [str(i) for i in range(n)]})
    return Dataset("made", users, items, events, item_table, pl.DataFrame({"user": np.arange(len(walks), dtype=np.int32)}))


def titled(titles: Sequence[str]) -> Dataset:
    """Make a catalogue of these titles that nobody has touched."""
    made = catalogue(len(titles))
    return replace(made, item_table=made.item_table.with_columns(title=pl.Series(titles, dtype=pl.String)))


def blocks(n_blocks: int, size: int, users: int, cold: int = 0, seed: int = 0) -> Dataset:
    """Make items in blocks (item i in block i % n_blocks); each user takes half of one block's items.

    The last ``cold`` items of each block stay untouched.
    """
    rng = np.random.default_rng(seed)
    warm = [np.arange(b, n_blocks * (size - cold), n_blocks) for b in range(n_blocks)]
    walks = [rng.permutation(warm[u % n_blocks])[: (size - cold) // 2].tolist() for u in range(users)]
    return catalogue(n_blocks * size, walks)


def grid(first: int, second: int, each: int, d: int = 16, noise: float = 0.02, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return float32[n, d] vectors near ``a_i + b_j`` with b much shorter than a, and int[n, 2], the i and j of each."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(d, d)))[0]
    a, b = directions[:first], 0.3 * directions[first : first + second]
    labels = np.array([(i, j) for i in range(first) for j in range(second) for _ in range(each)])
    labels = labels[rng.permutation(len(labels))]
    vectors = a[labels[:, 0]] + b[labels[:, 1]] + noise * rng.normal(size=(len(labels), d)) / d**0.5
    return vectors.astype(np.float32), labels


def purity(codes: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of rows whose label is the most frequent one of their code."""
    pairs, counts = np.unique(np.column_stack([codes, labels]), axis=0, return_counts=True)
    best = np.zeros(int(codes.max()) + 1)
    np.maximum.at(best, pairs[:, 0], counts)
    return float(best.sum() / len(codes))
