"""BPR: factors that put what a user has taken above what the user has not."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.recommender_base import ModelFitError
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from llm4rec.core import Cases, Config, Dataset, Queries, ScoringComponent, SpecError, Uniform, Whole
from llm4rec.models.history import history_matrix


class BPRConfig(Config):
    """Parameters of BPR."""

    factors: int = Field(32, ge=1)
    """Dimensions of the factors."""
    learning_rate: float = Field(0.01, gt=0)
    """Step of the gradient descent."""
    l2: float = Field(0.01, ge=0)
    """Weight of the squared factors in the loss."""
    iterations: int = Field(120, ge=1)
    """Passes of as many random pairs as there are training events."""
    ridge: float = Field(1.0, gt=0)
    """Weight of the squared entries of the map from histories to user factors."""
    half_life: float = Field(6.0, ge=0)
    """Events of the history after which an older one counts half; 0: all count alike."""


class BPR(ScoringComponent[BPRConfig]):
    """Learns to rank pairs: an item the user has taken above one the user has not.

    It minimises ``-sum over (u, i, j) of ln sigmoid(x_u . y_i + b_i - x_u . y_j - b_j)`` plus
    ``l2`` times the squared factors, by stochastic gradient descent over random triples.

    A query's user factors come from its history: ``x = [mean of the history's y, 1] W``, where the
    mean is weighed by recency and W is the ridge regression of the learnt factors of the training
    users on their means.  So an unknown user, and an event after training, count like any other;
    on MovieLens-100K the regression also ranks better than the learnt factors themselves.

    Rendle, Freudenthaler, Gantner, Schmidt-Thieme: BPR: Bayesian Personalized Ranking from
    Implicit Feedback, UAI 2009 (arXiv 1205.2618), with the trainer of the library implicit.
    """

    space: ClassVar = {
        "factors": Whole(16, 256, log=True),
        "learning_rate": Uniform(0.002, 0.1, log=True),
        "l2": Uniform(0.001, 0.1, log=True),
        "iterations": Whole(30, 400, log=True),
        "ridge": Uniform(0.1, 100.0, log=True),
        "half_life": Uniform(1.0, 30.0, log=True),
    }
    deterministic = False
    item_factors_: NDArray[np.float32]
    item_biases_: NDArray[np.float32]
    from_history_: NDArray[np.float32]

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Train on one thread, so that a seed gives the same factors each time."""
        with threadpool_limits(1, "blas"):
            model = BayesianPersonalizedRanking(
                factors=self.config.factors,
                learning_rate=self.config.learning_rate,
                regularization=self.config.l2,
                iterations=self.config.iterations,
                num_threads=1,
                random_state=int(rng.integers(2**31)),
            )
            try:
                model.fit(train.matrix(), show_progress=False)
            except ModelFitError:
                what = "training diverged: factors are no finite numbers"
                raise SpecError(what, where="learning_rate", todo="give a smaller one, or a smaller l2") from None
        # implicit keeps the bias as the last item factor, against a last user factor of 1.
        self.item_factors_ = np.ascontiguousarray(model.item_factors[:, :-1], dtype=np.float32)  # [n_items, f]
        biases = np.asarray(model.item_factors[:, -1], dtype=np.float32)
        known = train.item_counts > 0
        # No gradient has reached an item without events: it stands where the least popular one does.
        self.item_factors_[~known] = 0.0
        self.item_biases_ = np.where(known, biases, biases[known].min(initial=0.0))
        history = train.histories.items
        active = np.flatnonzero(history.lengths)
        profiles = self._profiles(Queries.of(history.take(active)), half_life=0.0)  # [users, f + 1]
        gram = profiles.T @ profiles + self.config.ridge * np.eye(profiles.shape[1])
        learnt = np.asarray(model.user_factors[active, :-1], dtype=np.float64)  # [users, f]
        self.from_history_ = np.linalg.solve(gram, profiles.T @ learnt).astype(np.float32)  # [f + 1, f]
        return self

    def _profiles(self, queries: Queries, half_life: float) -> NDArray[np.float64]:
        """Return float64[n, f + 1]: the mean factors of each history, and 1."""
        history = history_matrix(queries, len(self.item_factors_), half_life)
        weight = np.asarray(history.sum(axis=1), dtype=np.float64)  # [n, 1]
        mean = (history @ self.item_factors_) / np.where(weight > 0, weight, 1.0)
        return np.hstack([mean, np.ones_like(weight)])

    def item_vectors(self) -> NDArray[np.float32]:
        """Return float32[n_items, d], the items' factors."""
        return self.item_factors_

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items], the inner products and the items' biases."""
        users = (self._profiles(queries, self.config.half_life) @ self.from_history_).astype(np.float32)  # [n, f]
        return np.asarray(users @ self.item_factors_.T + self.item_biases_, dtype=np.float32)
