"""A contextual bandit over arms: LinUCB and Thompson sampling.

- LinUCB with disjoint linear models (Li et al., *A Contextual-Bandit Approach to Personalized News Article
  Recommendation*, WWW 2010, algorithm 1): the arm with the largest ``x' theta + alpha sqrt(x' A^-1 x)``.
- Thompson sampling (Agrawal and Goyal, *Thompson Sampling for Contextual Bandits with Linear Payoffs*, ICML 2013): the arm
  with the largest ``x' theta~``, where ``theta~`` is drawn from ``N(theta, alpha^2 A^-1)``.

``A = ridge I + sum x x'`` and ``theta = A^-1 sum r x`` over the requests for which the arm was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.pipeline.contexts import FEATURES, Context
from llm4rec.pipeline.controller import Choice, Chooser, ChooserConfig


class BanditConfig(ChooserConfig):
    """Parameters of :class:`Bandit`."""

    method: Literal["linucb", "thompson"] = "linucb"
    """How arms are tried while it learns."""
    alpha: float = Field(0.5, ge=0)
    """How much uncertainty draws (``linucb``: standard deviations of the bound; ``thompson``: of the draw)."""
    ridge: float = Field(1.0, gt=0)
    """Weight of the prior that no feature matters, in requests."""


class Bandit(Chooser[BanditConfig]):
    """Chooses the arm with the largest expected reward, linear in the context, learnt from chosen arms alone."""

    deterministic = False

    def begin(self, arms: Sequence[str], features: int) -> None:
        """See :class:`Chooser`."""
        self.arms_ = list(arms)
        self.precision_ = np.tile(self.config.ridge * np.eye(features), (len(arms), 1, 1))
        self.moments_ = np.zeros((len(arms), features))

    @property
    def theta(self) -> NDArray[np.float64]:
        """float64[arms, features], the expected weights."""
        return np.linalg.solve(self.precision_, self.moments_[..., None])[..., 0].astype(np.float64)

    def explore(self, context: Context, rng: np.random.Generator) -> NDArray[np.int64]:
        """See :class:`Chooser`; arms that are alike are taken at random."""
        x = context.features
        if self.config.method == "linucb":
            variance = np.einsum("nd,ade,ne->na", x, np.linalg.inv(self.precision_), x)
            scores = x @ self.theta.T + self.config.alpha * np.sqrt(np.maximum(variance, 0))
        else:
            roots = np.linalg.cholesky(np.linalg.inv(self.precision_))
            drawn = rng.standard_normal((len(x), *self.moments_.shape))
            theta = self.theta + self.config.alpha * np.einsum("ade,nae->nad", roots, drawn)
            scores = np.einsum("nd,nad->na", x, theta)
        best: NDArray[np.int64] = np.argmax(scores + 1e-9 * rng.random(scores.shape), axis=1)
        return best

    def learn(self, context: Context, arms: NDArray[np.int64], rewards: NDArray[np.float64]) -> None:
        """See :class:`Chooser`."""
        for arm in np.unique(arms):
            x, r = context.features[arms == arm], rewards[arms == arm]
            self.precision_[arm] += x.T @ x
            self.moments_[arm] += x.T @ r

    def choose(self, context: Context) -> Choice:
        """See :class:`Chooser`; of arms that are expected to do alike the first."""
        return Choice(np.argmax(context.features @ self.theta.T, axis=1))

    def facts(self) -> dict[str, Any]:
        """Return the expected weight of each feature for each arm."""
        names = ("constant", *FEATURES)
        rows = zip(self.arms_, self.theta.tolist(), strict=True)
        return {"theta": {arm: dict(zip(names, row, strict=True)) for arm, row in rows}}
