"""ItemKNN: recommends the neighbours of the items in the history."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Choice, Config, Dataset, Lists, Queries, ScoringComponent, Uniform, Whole
from llm4rec.models.history import history_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


#: BM25's saturation and length normalisation, as is usual.
_K1, _B = 1.2, 0.75


class ItemKNNConfig(Config):
    """Parameters of ItemKNN."""

    similarity: Literal["cosine", "jaccard", "dice", "tversky", "conditional", "tf-idf", "bm25"] = "cosine"
    """How alike two items are, by the users they share (see :class:`ItemKNN`)."""
    asymmetry: float = Field(0.5, ge=0, le=1)
    """``cosine``, ``tversky`` and ``tf-idf``: how much the popularity of the item in the history counts against a
    pair, rather than that of the item scored; 0.5: both alike."""
    neighbours: int = Field(200, ge=1)
    """Items that may speak for an item: those most similar to it."""
    shrinkage: float = Field(10.0, ge=0)
    """Added to the denominator, against similarities that rest on few users."""
    half_life: float = Field(4.0, ge=0)
    """Events of the history after which an older one counts half; 0: all count alike, 0.05: the last one alone."""


class ItemKNN(ScoringComponent[ItemKNNConfig]):
    """Scores an item by its similarity to the items in the history.

    ``score(u, j) = sum over i in N(j) of w(u, i) * s(i, j)``, where ``N(j)`` are the most similar
    items of ``j`` and ``w`` weighs the events of the history by recency.  With ``c(i, j)`` users of
    both, ``c(i)`` users of one, ``a`` the asymmetry and ``h`` the shrinkage, ``s`` is

    - cosine: ``c(i, j) / (c(i)^a c(j)^(1 - a) + h)``
    - jaccard: ``c(i, j) / (c(i) + c(j) - c(i, j) + h)``
    - tversky: ``c(i, j) / (a c(i) + (1 - a) c(j) + h)``
    - dice: tversky with ``a`` of 1/2; conditional: with 1, the share of the users of ``i`` who also have ``j``
    - tf-idf: cosine with each user counted ``idf(u)^2`` times, ``idf(u) = ln(n_items / c(u))`` by the c(u) items of the user
    - bm25: ``c(i, j) r(i) r(j)`` with users so counted and ``r(i) = 2.2 / (1 + 1.2 (.25 + .75 c(i) / mean c))``, h unused

    A ``half_life`` of 0.05 is item-to-item filtering from the last item alone: the event before it
    weighs ``2 ** -20``, which only settles ties.

    Sarwar, Karypis, Konstan, Riedl: Item-based Collaborative Filtering Recommendation Algorithms,
    WWW 2001; conditional: Deshpande, Karypis: Item-based Top-N Recommendation Algorithms, TOIS 2004;
    asymmetric cosine: Aiolli: Efficient Top-N Recommendation for Very Large Scale Binary Rated Datasets,
    RecSys 2013; the last two as in information retrieval, with users for words.  The recency weights
    are no part of the papers; ``half_life=0`` is the original.
    """

    space: ClassVar = {
        "similarity": Choice(("cosine", "jaccard", "tversky", "tf-idf", "bm25")),
        "asymmetry": Uniform(0.0, 1.0),
        "neighbours": Whole(20, 1000, log=True),
        "shrinkage": Uniform(0.1, 300.0, log=True),
        "half_life": Uniform(0.5, 30.0, log=True),
    }

    weights_: csr_matrix
    #: Items compared with all others at once; bounds memory at ``block`` x n_items x 4 bytes a copy.
    block = 1024

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Find the neighbours of each item."""
        from scipy import sparse

        users = train.matrix()  # [n_users, n_items]
        weighted = sparse.diags_array(self._user_weights(users)) @ users
        count = np.asarray(weighted.sum(axis=0), dtype=np.float32).ravel()  # [n_items]
        of_item = sparse.csr_matrix(weighted.T)  # [n_items, n_users]
        blocks = []
        for start in range(0, train.n_items, self.block):
            j = np.arange(start, min(start + self.block, train.n_items))
            shared = (of_item[j] @ users).toarray()  # [b, n_items]
            similar = self._similarity(shared, count[j][:, None], count)
            similar[np.arange(len(j)), j] = 0.0
            best = Lists.from_scores(np.where(similar > 0, similar, -np.inf), self.config.neighbours)
            held = best.items >= 0
            place = (best.items[held], j[np.nonzero(held)[0]])
            blocks.append(sparse.csr_matrix((best.scores[held], place), shape=(train.n_items, train.n_items)))
        self.weights_ = sparse.csr_matrix(sum(blocks[1:], blocks[0]), dtype=np.float32)  # [i, j]
        return self

    def _user_weights(self, users: csr_matrix) -> NDArray[np.float32]:
        """Return float32[n_users], how often each user counts: those of few items the more."""
        if self.config.similarity not in ("tf-idf", "bm25"):
            return np.ones(users.shape[0], dtype=np.float32)
        return np.asarray(np.log(users.shape[1] / np.maximum(np.diff(users.indptr), 1)) ** 2, dtype=np.float32)

    def _similarity(
        self, shared: NDArray[np.float32], count_j: NDArray[np.float32], count_i: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return float32[b, n_items], the similarity of b items j to all items i."""
        a = self.config.asymmetry
        match self.config.similarity:
            case "cosine" | "tf-idf":
                whole = count_i**a * count_j ** (1 - a)
            case "jaccard":
                whole = count_j + count_i - shared
            case "tversky":
                whole = a * count_i + (1 - a) * count_j
            case "dice":
                whole = (count_i + count_j) / 2
            case "conditional":
                whole = np.broadcast_to(count_i, shared.shape)
            case "bm25":
                mean = float(count_i.mean()) or 1.0
                saturated_i, saturated_j = ((_K1 + 1) / (1 + _K1 * (1 - _B + _B * c / mean)) for c in (count_i, count_j))
                return np.asarray(shared * saturated_i * saturated_j, dtype=np.float32)
        return np.asarray(shared / np.maximum(whole + self.config.shrinkage, 1e-9), dtype=np.float32)

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items], the sum of similarities to the history."""
        history = history_matrix(queries, self.weights_.shape[0], self.config.half_life)
        return np.asarray((history @ self.weights_).toarray(), dtype=np.float32)
