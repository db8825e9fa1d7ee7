"""What stands in for the events of an item that has none: those of the item with events whose text is nearest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Dataset, Ragged
from llm4rec.features.index import VectorIndex


def warm_like(train: Dataset, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return int64[n_items]: each item itself, or for one without training events the nearest one with events.

    Where nothing is known of an item's text, or no item has events, it is the item itself.

    Args:
        vectors: float32[n_items, d] of the items' texts, unit length; zero without text.
    """
    like = np.arange(train.n_items)
    told = vectors.any(axis=1)
    warm = np.flatnonzero((train.item_counts > 0) & told).astype(np.int32)
    cold = np.flatnonzero((train.item_counts == 0) & told)
    if len(warm) and len(cold):
        like[cold] = VectorIndex(vectors, warm).search(vectors[cold], 1, exclude=Ragged.empty(len(cold))).items[:, 0]
    return like
