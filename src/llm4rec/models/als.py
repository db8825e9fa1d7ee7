"""ALS: factors of users and items by alternating least squares."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.recommender_base import ModelFitError
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from llm4rec.core import Cases, Config, Dataset, Queries, Ragged, ScoringComponent, SpecError, Uniform, Whole
from llm4rec.models.history import history_matrix


class ALSConfig(Config):
    """Parameters of ALS."""

    factors: int = Field(64, ge=1)
    """Dimensions of the factors."""
    l2: float = Field(10.0, gt=0)
    """Weight of the squared factors in the loss."""
    alpha: float = Field(1.0, ge=1)
    """Confidence in an event, where the confidence in a missing one is 1."""
    iterations: int = Field(15, ge=1)
    """Rounds of solving for the users and then for the items."""
    half_life: float = Field(8.0, ge=0)
    """Events of the history after which an older one counts half; 0: all count alike."""


class ALS(ScoringComponent[ALSConfig]):
    """Factorises the binary matrix of users and items, missing entries included.

    It minimises ``sum over (u, i) of c(u, i) * (p(u, i) - x_u . y_i)^2 + l2 (|x|^2 + |y|^2)`` with
    preference ``p`` and confidence ``c`` of 1 and ``alpha`` for an event, 0 and 1 elsewhere.

    Only the item factors Y are kept.  A query's user factors are solved for from its history,
    ``x = (Y'Y + (alpha - 1) Y_h'Y_h + l2 I)^-1 alpha Y_h'w``, where ``Y_h`` are the rows of the
    history and ``w`` is their preference, which falls with age; so an unknown user, and an event
    after training, count like any other.

    Hu, Koren, Volinsky: Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008, with
    the solver of the library implicit.  The paper's ``w`` is 1: ``half_life=0``.
    """

    space: ClassVar = {
        "factors": Whole(16, 256, log=True),
        "l2": Uniform(0.1, 100.0, log=True),
        "alpha": Uniform(1.0, 40.0, log=True),
        "half_life": Uniform(1.0, 30.0, log=True),
    }
    deterministic = False
    item_factors_: NDArray[np.float32]

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Factorise the training matrix; the seed sets the first factors."""
        with threadpool_limits(1, "blas"):  # implicit has its own threads, and the two get in each other's way
            model = AlternatingLeastSquares(
                factors=self.config.factors,
                regularization=self.config.l2,
                alpha=self.config.alpha,
                iterations=self.config.iterations,
                random_state=int(rng.integers(2**31)),
            )
            try:
                model.fit(train.matrix(), show_progress=False)
            except ModelFitError:
                what = "training diverged: factors are no finite numbers"
                raise SpecError(what, where="alpha", todo="give a smaller one, or a larger l2") from None
        self.item_factors_ = np.asarray(model.item_factors, dtype=np.float32)  # [n_items, f]
        return self

    def item_vectors(self) -> NDArray[np.float32]:
        """Return float32[n_items, d], the items' factors."""
        return self.item_factors_

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items], the inner products of user and item factors."""
        return self.user_factors(queries) @ self.item_factors_.T

    def user_factors(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, f], solved for from the histories."""
        alpha, y = self.config.alpha, self.item_factors_.astype(np.float64)
        history = history_matrix(queries, len(y), self.config.half_life)
        whole = y.T @ y + self.config.l2 * np.eye(y.shape[1])  # [f, f]
        wanted = alpha * (history @ y)  # [n, f]
        if alpha == 1.0:  # one system for all
            return np.linalg.solve(whole, wanted.T).T.astype(np.float32)
        items = Ragged(history.indptr, history.indices)
        own = np.vstack([y, np.zeros(y.shape[1])])  # the last row is the pad's
        out = np.empty(wanted.shape, dtype=np.float32)
        longest = max(1, int(items.lengths.max(initial=0)))
        size = max(1, 4_000_000 // (longest * y.shape[1]))  # queries at once: 32 MB of rows of Y
        for start in range(0, len(queries), size):
            rows = np.arange(start, min(start + size, len(queries)))
            y_h = own[items.take(rows).padded(longest)]  # [b, longest, f]
            systems = whole + (alpha - 1.0) * (y_h.transpose(0, 2, 1) @ y_h)  # [b, f, f]
            out[rows] = np.linalg.solve(systems, wanted[rows][:, :, None])[:, :, 0]
        return out
