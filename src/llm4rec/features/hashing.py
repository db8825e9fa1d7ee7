"""Feature hashing: a sentence encoder without a model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.features.values import unit


class HashEncoder:
    """Words and pairs of neighbouring words, each added with its sign to one of ``dimension`` buckets.

    Two texts are near each other if they share words; nothing is known of meaning.  It needs no
    download and is the same on every machine, so tests and examples use it; as a control it tells
    how much of a sentence encoder's figure is mere overlap of words.

    Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009.
    """

    def __init__(self, dimension: int = 512, *, prefix: str = "") -> None:
        self._dimension = dimension
        self._prefix = prefix

    @property
    def name(self) -> str:
        return f"hash-{self._dimension}"

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"backend": "hash", "version": 1, "dimension": self._dimension, "prefix": self._prefix}

    @property
    def dimension(self) -> int:
        return self._dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, dimension]: unit length, or all zero for a blank text."""
        vectors = np.zeros((len(texts), self._dimension), np.float64)
        table = pl.DataFrame(
            {"row": np.arange(len(texts)), "text": pl.Series([text.strip() for text in texts], dtype=pl.String)}
        )
        whole = (pl.lit(self._prefix) + pl.col("text")).str.to_lowercase()
        words = table.filter(pl.col("text") != "").select("row", word=whole.str.extract_all(r"[\p{L}\p{M}\p{N}]+"), text=whole)
        # A text of signs alone counts as one word, so that only blank texts are zero.
        signs = words.filter(pl.col("word").list.len() == 0).select("row", word="text")
        single = words.select("row", "word").explode("word").drop_nulls()
        neighbours = pl.col("row") == pl.col("row").shift(-1)
        pairs = single.select(
            "row", word=pl.when(neighbours).then(pl.col("word") + " " + pl.col("word").shift(-1))
        ).drop_nulls()
        counts = pl.concat([single, pairs, signs]).group_by("row", "word").len()
        distinct = counts["word"].unique().sort()
        buckets, signs_of = _hash(distinct.to_list(), self._dimension)
        at = distinct.search_sorted(counts["word"]).to_numpy() if len(distinct) else np.empty(0, np.int64)
        # Whole numbers: the sums do not depend on the order of the words.
        np.add.at(vectors, (counts["row"].to_numpy(), buckets[at]), signs_of[at] * counts["len"].to_numpy())
        lost = np.flatnonzero(~vectors.any(axis=1))  # blank, or words that cancel each other
        vectors[np.intersect1d(lost, counts["row"].to_numpy()), 0] = 1.0
        return unit(vectors)


def _hash(words: Sequence[str], buckets: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return each word's bucket int64[n] and sign float64[n]; the same on every machine."""
    digests = b"".join(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest() for word in words)
    hashes = np.frombuffer(digests, dtype="<u8")
    return (hashes >> np.uint64(1)).astype(np.int64) % buckets, np.where(hashes & np.uint64(1), 1.0, -1.0)
