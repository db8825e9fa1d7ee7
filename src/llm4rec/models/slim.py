"""SLIM: sparse linear item-to-item weights, all columns solved at once by ADMM."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Choice, Config, Dataset, Queries, ScoringComponent, SpecError, Uniform
from llm4rec.models.ease import inverse, item_gram
from llm4rec.models.history import history_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: ADMM takes 1.6 steps for each one: the usual over-relaxation, which saves about a third of the rounds.
_OVER = 1.6

_LOG = logging.getLogger(__name__)


class SLIMConfig(Config):
    """Parameters of SLIM."""

    l1: float = Field(3.0, ge=0)
    """Weight of the absolute weights in the loss, in events: the larger, the fewer weights are not zero."""
    l2: float = Field(200.0, gt=0)
    """Weight of half the squared weights in the loss, in events."""
    positive: bool = True
    """Allow no negative weights, as in the paper."""
    iterations: int = Field(100, ge=1)
    """At most so many rounds."""
    tolerance: float = Field(1e-3, gt=0)
    """Rounds end when no weight and no constraint is further from its end than this share of the largest weight."""
    half_life: float = Field(12.0, ge=0)
    """Events of the history after which an older one counts half; 0: all count alike."""


class SLIM(ScoringComponent[SLIMConfig]):
    """A linear autoencoder with few weights, none from an item to itself.

    It minimises ``1/2 |X - XB|^2 + l2 / 2 |B|^2 + l1 |B|_1`` subject to ``diag(B) = 0`` and (if
    ``positive``) ``B >= 0`` over the binary matrix X of users and items.  ADMM splits the smooth
    part (B) from the rest (C), with ``P = (X'X + (l2 + rho) I)^-1``:

    - ``B = P (X'X + rho (C - U) - diag(g))``, with g such that ``diag(B) = 0``, as in EASE
    - ``C = shrink(B + U, l1 / rho)``, and cut at 0
    - ``U = U + B - C``

    C is the answer.  One inverse and one product of item-by-item matrices a round solve all columns
    together, however many users there are.  ``rho`` is the geometric mean of the extreme eigenvalues of
    ``X'X + l2 I``, where ADMM's bound on quadratic problems is best (Ghadimi et al. 2015).

    Ning, Karypis: SLIM: Sparse Linear Methods for Top-N Recommender Systems, ICDM 2011; Steck,
    Dimakopoulou, Riabov, Jebara: ADMM SLIM: Sparse Recommendations for Many Users, WSDM 2020.  A
    query's events are weighed by recency; ``half_life=0`` is the papers'.
    """

    space: ClassVar = {
        "l1": Uniform(0.1, 50.0, log=True),
        "l2": Uniform(10.0, 2000.0, log=True),
        "positive": Choice((True, False)),
        "half_life": Uniform(1.0, 30.0, log=True),
    }

    weights_: csr_matrix
    #: Rounds that were needed, and the last round's change as a share of the largest weight.
    solved_: dict[str, float]

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Solve for all weights; memory and time a round are m^2 and m^3 for m items with events.

        Raises ``SpecError`` if the rounds end further from the solution than its largest weight.
        """
        from scipy import sparse

        known, gram = item_gram(train)
        found, self.solved_ = self._solve(gram)
        change, reached = self.solved_["change"], f"after {self.solved_['rounds']} rounds"
        if not change < 1:
            raise SpecError(f"no solution is near {reached}", where="iterations", todo="give more, or a larger l2")
        if change > self.config.tolerance:
            _LOG.warning("SLIM: %s a weight is still %.2g of the largest from its end: give more iterations", reached, change)
        weights = sparse.coo_matrix(found)
        self.weights_ = sparse.csr_matrix(
            (weights.data, (known[weights.row], known[weights.col])), shape=(train.n_items, train.n_items)
        )  # [from, to]
        return self

    def _solve(self, gram: NDArray[np.float64]) -> tuple[NDArray[np.float32], dict[str, float]]:
        """Return the weights float32[m, m], from row to column, and how they were reached; uses up ``gram``."""
        config, diagonal = self.config, np.diag_indices_from(gram)
        rho = _balance(gram, config.l2)
        gram[diagonal] += config.l2 + rho
        p = inverse(gram).astype(np.float32)  # [m, m]
        own = p[diagonal]
        # P X'X = I - (l2 + rho) P, so the part of B that no round changes needs no product.
        fixed = -(config.l2 + rho) * p
        fixed[diagonal] += 1.0
        c, u = np.zeros_like(p), np.zeros_like(p)
        rounds, change = 0, np.inf
        while rounds < config.iterations and change > config.tolerance:
            b: NDArray[np.float32] = p @ (c - u)
            b *= rho
            b += fixed
            b -= p * (b[diagonal] / own)
            b *= _OVER
            b -= (_OVER - 1.0) * c
            before, c = c, b + u
            u = c.copy()
            c = _shrunk(c, config.l1 / rho, config.positive)
            u -= c
            np.fill_diagonal(c, 0.0)
            np.fill_diagonal(u, 0.0)
            b -= c
            apart, moved = (float(np.abs(x).max(initial=0.0)) for x in (b, c - before))
            change = max(apart, moved) / max(float(np.abs(c).max(initial=0.0)), 1e-9)
            rounds += 1
        return c, {"rounds": rounds, "change": change}

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items]; 0 for an item without training events."""
        history = history_matrix(queries, self.weights_.shape[0], self.config.half_life)
        return np.asarray((history @ self.weights_).toarray(), dtype=np.float32)


def _balance(gram: NDArray[np.float64], l2: float) -> float:
    """Return the geometric mean of the largest eigenvalue (by 30 power steps) and the least (``l2``)."""
    vector = np.ones(len(gram))
    for _ in range(30):
        vector = gram @ vector
        vector /= max(float(np.linalg.norm(vector)), 1e-300)
    return float(np.sqrt((vector @ gram @ vector + l2) * l2))


def _shrunk(x: NDArray[np.float32], by: float, positive: bool) -> NDArray[np.float32]:
    """Return ``x`` moved towards 0 by ``by``, and not beyond; negative ones become 0 if ``positive``."""
    return np.maximum(x - by, 0.0) if positive else np.sign(x) * np.maximum(np.abs(x) - by, 0.0)
