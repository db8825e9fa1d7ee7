"""Collaborative-aware semantic IDs: text and interaction vectors joined before they are quantised."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Dataset
from llm4rec.features.values import Encoder, unit
from llm4rec.generative.ids.codebooks import QuantisedScheme
from llm4rec.generative.ids.cold import warm_like
from llm4rec.generative.ids.values import ItemIDs


class JointIDs(QuantisedScheme):
    """Residual k-means over ``[sqrt(1 - w) t_i, sqrt(w) v_i]``: t_i of the item's text, v_i of its events, both of unit length.

    So the likeness of two items is ``(1 - w)`` times that of their texts and ``w`` times that of their
    events.  v_i is the item's row of V in the truncated singular value decomposition ``U S V'`` of the
    training matrix, its entries divided by the roots of the user's and the item's number of events; times S.
    An item without events takes v of the item with events whose text is nearest.

    The simplest of the ways to let the quantiser see who took what; others align codes by a loss: Wang et al.,
    *LETTER*, CIKM 2024 (arXiv 2405.07314).
    """

    scheme: Literal["joint"] = "joint"
    weight: float = Field(0.5, ge=0, le=1)
    """w: share of the events in the likeness."""
    factors: int = Field(64, ge=1)
    """Dimensions of the interaction vectors."""

    def assign(self, train: Dataset, *, encoder: Encoder | None, rng: np.random.Generator) -> ItemIDs:
        """Join the vectors and cluster."""
        self.check_room(train)
        texts = self.vectors(train, encoder)
        events = interaction_vectors(train, self.factors, rng)[warm_like(train, texts)]
        return self.clustered(np.hstack([texts * (1 - self.weight) ** 0.5, events * self.weight**0.5]), rng)


def interaction_vectors(train: Dataset, factors: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return float32[n_items, factors], of unit length; zero for an item without events.

    Columns beyond what the matrix has are zero.
    """
    from scipy import sparse
    from scipy.sparse.linalg import svds

    matrix = train.matrix().astype(np.float64)
    users, items = (np.asarray(matrix.sum(axis=a)).ravel() for a in (1, 0))
    scaled = sparse.diags_array(_root(users)) @ matrix @ sparse.diags_array(_root(items))
    out = np.zeros((train.n_items, factors), np.float32)
    rank = min(factors, min(scaled.shape) - 1)
    if rank < 1 or not scaled.nnz:
        return out
    _, values, rows = svds(sparse.csr_matrix(scaled), k=rank, v0=rng.normal(size=min(scaled.shape)))
    out[:, :rank] = (values[:, None] * rows).T[:, ::-1]
    return unit(out)


def _root(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1.0 / np.sqrt(np.maximum(counts, 1.0)))
