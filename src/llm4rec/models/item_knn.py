"""ItemKNN: recommends the neighbours of the items in the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Config, Dataset, Lists, Queries, ScoringComponent
from llm4rec.models.history import history_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class ItemKNNConfig(Config):
    """Parameters of ItemKNN."""

    similarity: Literal["cosine", "jaccard", "conditional"] = "cosine"
    """How alike two items are, by the users they share (see :class:`ItemKNN`)."""
    neighbours: int = Field(200, ge=1)
    """Items that may speak for an item: those most similar to it."""
    shrinkage: float = Field(10.0, ge=0)
    """Added to the denominator, against similarities that rest on few users."""
    half_life: float = Field(4.0, ge=0)
    """Events of the history after which an older one counts half; 0: all count alike."""


class ItemKNN(ScoringComponent[ItemKNNConfig]):
    """Scores an item by its similarity to the items in the history.

    ``score(u, j) = sum over i in N(j) of w(u, i) * s(i, j)``, where ``N(j)`` are the most similar
    items of ``j`` and ``w`` weighs the events of the history by recency.  With ``c(i, j)`` users of
    both and ``c(i)`` users of one, ``s`` is ``c(i, j)`` over

    - cosine: ``sqrt(c(i) * c(j)) + shrinkage``
    - jaccard: ``c(i) + c(j) - c(i, j) + shrinkage``
    - conditional: ``c(i) + shrinkage``, the share of the users of ``i`` who also have ``j``

    Sarwar, Karypis, Konstan, Riedl: Item-based Collaborative Filtering Recommendation Algorithms,
    WWW 2001; conditional: Deshpande, Karypis: Item-based Top-N Recommendation Algorithms, TOIS 2004.
    The recency weights are no part of the papers; ``half_life=0`` is the original.
    """

    weights_: csr_matrix
    #: Items compared with all others at once; bounds memory at ``block`` x n_items x 4 bytes a copy.
    block = 1024

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Find the neighbours of each item."""
        from scipy import sparse

        users = train.matrix()  # [n_users, n_items]
        count = np.asarray(users.sum(axis=0), dtype=np.float32).ravel()
        of_item = users.T.tocsr()  # [n_items, n_users]
        blocks = []
        for start in range(0, train.n_items, self.block):
            j = np.arange(start, min(start + self.block, train.n_items))
            shared = (of_item[j] @ users).toarray()  # [b, n_items]
            similar = shared / np.maximum(self._denominator(shared, count[j][:, None], count), 1e-9)
            similar[np.arange(len(j)), j] = 0.0
            best = Lists.from_scores(np.where(similar > 0, similar, -np.inf), self.config.neighbours)
            held = best.items >= 0
            place = (best.items[held], j[np.nonzero(held)[0]])
            blocks.append(sparse.csr_matrix((best.scores[held], place), shape=(train.n_items, train.n_items)))
        self.weights_ = sparse.csr_matrix(sum(blocks[1:], blocks[0]), dtype=np.float32)  # [i, j]
        return self

    def _denominator(
        self, shared: NDArray[np.float32], count_j: NDArray[np.float32], count_i: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        match self.config.similarity:
            case "cosine":
                whole = np.sqrt(count_j * count_i)
            case "jaccard":
                whole = count_j + count_i - shared
            case "conditional":
                whole = np.broadcast_to(count_i, shared.shape)
        return np.asarray(whole + self.config.shrinkage, dtype=np.float32)

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items], the sum of similarities to the history."""
        history = history_matrix(queries, self.weights_.shape[0], self.config.half_life)
        return np.asarray((history @ self.weights_).toarray(), dtype=np.float32)
