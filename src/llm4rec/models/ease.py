"""EASE: linear item-to-item weights in closed form."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Config, Dataset, Queries, ScoringComponent, SpecError, Uniform
from llm4rec.models.history import history_matrix


class EASEConfig(Config):
    """Parameters of EASE."""

    l2: float = Field(400.0, gt=0)
    """Weight of the squared weights in the loss, in events."""
    half_life: float = Field(6.0, ge=0)
    """Events of the history after which an older one counts half; 0: all count alike."""


class EASE(ScoringComponent[EASEConfig]):
    """A linear autoencoder whose items may not explain themselves.

    It minimises ``|X - XB|^2 + l2 |B|^2`` subject to ``diag(B) = 0`` over the binary matrix X of
    users and items.  With ``P = (X'X + l2 I)^-1`` the answer is ``B = I - P / diag(P)`` (columns
    divided), and a user's scores are ``x B`` with the history as ``x``.

    Steck: Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019 (arXiv 1905.03375).
    The paper's ``x`` is binary; here its events are weighed by recency, and ``half_life=0`` with a
    smaller ``l2`` (100 on MovieLens-100K) is the original.
    """

    space: ClassVar = {"l2": Uniform(10.0, 5000.0, log=True), "half_life": Uniform(1.0, 30.0, log=True)}

    weights_: NDArray[np.float32]
    known_: NDArray[np.int64]
    n_items_: int

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Invert the items' Gram matrix, in float64: memory and time are m^2 and m^3 for m items with events.

        Raises ``SpecError`` if ``l2`` is too small for that.
        """
        self.n_items_ = train.n_items
        self.known_, gram = item_gram(train)
        gram[np.diag_indices_from(gram)] += self.config.l2
        self.weights_ = without_own(inverse(gram))  # [from, to]
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items]; 0 for an item without training events."""
        history = history_matrix(queries, self.n_items_, self.config.half_life)
        scores = np.zeros((len(queries), self.n_items_), dtype=np.float32)
        scores[:, self.known_] = history[:, self.known_] @ self.weights_
        return scores


# -- the closed form, for the models that share it -----------------------------------------
def item_gram(train: Dataset) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the m items with events, int64[m], and the number of users of each two of them, float64[m, m].

    An item without events has zero weights from and to all others, so a model need not invert it.
    """
    known = np.flatnonzero(train.item_counts)
    x = train.matrix()[:, known].astype(np.float64)  # [n_users, m]
    return known, (x.T @ x).toarray()


def inverse(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of a symmetric positive definite float64[m, m], whose memory is used up.

    Raises ``SpecError`` if it is singular, which a larger ``l2`` on its diagonal mends.
    """
    from scipy.linalg import lapack

    # By Cholesky factors, in place: a third of the time and memory of a general inverse.
    factor, failed = lapack.dpotrf(gram.T, lower=True, overwrite_a=True)
    if failed:
        raise SpecError("the matrix to be inverted is singular", where="l2", todo="give a larger l2")
    p, _ = lapack.dpotri(factor, lower=True, overwrite_c=True)  # its lower triangle, zeros above
    p += np.tril(p, -1).T
    return np.asarray(p.T)  # the same matrix, in the order of rows


def without_own(p: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return ``I - P / diag(P)`` (columns divided) as float32[m, m], with a diagonal of exact zeros; uses up ``p``."""
    p /= -np.diag(p).copy()
    np.fill_diagonal(p, 0.0)
    return p.astype(np.float32)
