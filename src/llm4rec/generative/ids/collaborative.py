"""Collaborative IDs: the catalogue split again and again along the graph of items taken together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from llm4rec.core import Dataset, Ragged, Resources
from llm4rec.features.reduce import DEFAULT_TEMPLATE, item_vectors
from llm4rec.features.values import Encoder, unit
from llm4rec.generative.ids.codebooks import even, kmeans, place
from llm4rec.generative.ids.cold import warm_like
from llm4rec.generative.ids.scheme import Scheme, words
from llm4rec.generative.ids.values import ItemIDs

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Groups of at most so many items are solved as a small dense problem.
_SMALL = 256
#: Rounds of k-means of a split.
_ITERATIONS = 20


class CollaborativeIDs(Scheme):
    """Recursive spectral clustering of the co-occurrence graph; items often taken by the same users share a prefix.

    A group of more than ``branches`` items is split into that many clusters, whose number is the next token;
    a group that is small enough numbers its items.  IDs so have different lengths.  Two items are linked by
    ``A_ij = sum over users who took both of 1 / (items of the user in the group)``.  The split is k-means over
    the rows, scaled to unit length, of the first eigenvectors of ``D^-1/2 A D^-1/2`` (Ng, Jordan, Weiss,
    NIPS 2001).  With the users' matrix B, ``A = B' W B``, so these are singular vectors of
    ``W^1/2 B D^-1/2`` and A, which could have n_items^2 entries, is never made.

    An item without events stands where the item with events stands whose text is nearest; without
    an encoder, wherever there is room.

    Hua et al., *How to Index Item IDs for Recommendation Foundation Models*, SIGIR-AP 2023 (arXiv 2305.06569),
    there "collaborative indexing".  The limit on a cluster's size is no part of it.
    """

    scheme: Literal["collaborative"] = "collaborative"
    branches: int = Field(16, ge=2)
    """Clusters of a split, and most items of a last group: the codes of a level."""
    balance: float = Field(2.0, ge=1)
    """Most items of a cluster, in multiples of an even share; below ``branches``, so that splits end."""
    encoder: str | None = None
    """Name of the encoder that places items without events by their text: an ``[encoder.NAME]`` table."""
    template: str = DEFAULT_TEMPLATE
    """Item text, from columns of the item table, for the encoder."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.balance >= self.branches:
            raise ValueError("balance must be below branches")
        return self

    def open_encoder(self, resources: Resources) -> Encoder | None:
        """Return the encoder that ``encoder`` names, if any."""
        if self.encoder is None:
            return None
        opened: Encoder = resources.encoder(self.encoder)
        return opened

    def assign(self, train: Dataset, *, encoder: Encoder | None, rng: np.random.Generator) -> ItemIDs:
        """Split the catalogue; an ``encoder`` that is given is used, whether or not one is named."""
        matrix = train.matrix().tocsc()
        if encoder is not None:
            matrix = matrix[:, warm_like(train, item_vectors(train, encoder, self.template))]
        levels: list[NDArray[np.int64]] = []  # each int64[n_items], -1 behind an ID's end
        groups = [np.arange(train.n_items)]
        while groups:
            code = np.full(train.n_items, -1, dtype=np.int64)
            following = []
            for group in groups:
                if len(group) <= self.branches:
                    code[group] = np.arange(len(group))
                    continue
                code[group] = self._split(matrix[:, group], rng)
                following += [part for c in range(self.branches) if len(part := group[code[group] == c])]
            levels.append(code)
            groups = following
        codes = np.stack(levels, axis=1)  # [n_items, depth]
        tokens = codes + self.branches * np.arange(len(levels))
        sizes = [self.branches] * len(levels)
        return ItemIDs(Ragged.from_lengths((codes >= 0).sum(axis=1), tokens[codes >= 0]), sum(sizes), words(sizes))

    def _split(self, matrix: csr_matrix, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return int64[m], the cluster of each item of a group; ``matrix`` is [n_users, m]."""
        m = matrix.shape[1]
        vectors = spectral(matrix, self.branches, rng)
        book = kmeans(vectors, self.branches, iterations=_ITERATIONS, balance=self.balance, rng=rng)
        most = min(even(self.balance, m, self.branches), m - 1)  # every part is smaller than the whole
        return place(vectors, book, np.zeros(m, np.int64), room=m, most=most)[0]


def spectral(matrix: csr_matrix, k: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return float32[m, k], rows of unit length: the first eigenvectors of the items' normalised co-occurrence.

    ``matrix`` is [n_users, m].  An item that shares no user with another of the group is zero; so are columns
    beyond what the matrix has.
    """
    from scipy import sparse
    from scipy.sparse.linalg import svds

    taken = np.asarray(matrix.sum(axis=1)).ravel()
    shared = sparse.csr_matrix(matrix[taken > 1], dtype=np.float64)
    weighted = sparse.diags_array(taken[taken > 1] ** -0.5) @ shared
    degree = np.asarray(shared.sum(axis=0)).ravel()  # A 1 = B' W B 1, and W B 1 is 1
    scaled = sparse.csr_matrix(weighted @ sparse.diags_array(1 / np.sqrt(np.maximum(degree, 1e-12))))
    m = scaled.shape[1]
    out = np.zeros((m, k), np.float32)
    if m <= _SMALL:
        _, vectors = np.linalg.eigh((scaled.T @ scaled).toarray())
        found = vectors[:, ::-1][:, :k]
    else:
        rank = min(k, min(scaled.shape) - 1)
        if rank < 1:
            return out
        found = svds(scaled, k=rank, v0=rng.normal(size=min(scaled.shape)))[2].T[:, ::-1]
    out[:, : found.shape[1]] = np.where(degree[:, None] > 0, found, 0)
    return unit(out)
