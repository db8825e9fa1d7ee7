"""EDLAE: the contract, and the closed form against training with dropout."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

import numpy as np

from llm4rec.models.ease import EASE, EASEConfig
from llm4rec.models.edlae import EDLAE, EDLAEConfig
from tests import worlds
from tests.contracts import ScoringContract


class TestEDLAE(ScoringContract):
    component = EDLAE
    configs = {"l2": 10.0}
    floor = ("ndcg@10", 0.095)


class TestOriginalEDLAE(ScoringContract):
    component = EDLAE
    configs = {"l2": 10.0, "half_life": 0.0}
    floor = ("ndcg@10", 0.073)
    floor_configs = {"l2": 100.0, "dropout": 0.2, "half_life": 0.0}


def fitted(**params: float) -> EDLAE:
    model = EDLAE(EDLAEConfig.model_validate(params))
    return model.fit(worlds.checkerboard().split.train, valid=None, rng=np.random.default_rng(0))


def test_without_dropout_it_is_ease() -> None:
    train = worlds.checkerboard().split.train
    ease = EASE(EASEConfig(l2=3.0)).fit(train, valid=None, rng=np.random.default_rng(0))
    np.testing.assert_allclose(fitted(dropout=0.0, l2=3.0).weights_, ease.weights_, atol=1e-7)


def test_weights_are_those_of_a_regression_on_histories_with_events_dropped() -> None:
    """Column j is the ridge regression of item j on the other items, of which a share is dropped at random."""
    x = worlds.checkerboard().split.train.matrix().toarray().astype(np.float64)  # [96, 32]
    dropout, l2, copies = 0.4, 2.0, 4000
    rng = np.random.default_rng(0)
    left, right = np.zeros((32, 32)), np.zeros((32, 32))
    for _ in range(copies):
        kept = x * (rng.random(x.shape) >= dropout) / (1 - dropout)  # scaled up, so that its mean is x
        left += kept.T @ kept / copies
        right += kept.T @ x / copies
    model = fitted(dropout=dropout, l2=l2)
    for j in (0, 7, 20):
        others = np.delete(np.arange(32), j)
        wanted = np.linalg.solve(left[np.ix_(others, others)] + l2 * np.eye(31), right[others, j])
        np.testing.assert_allclose(model.weights_[others, j], wanted, atol=0.01)
    assert not np.diag(model.weights_).any()


def test_items_without_events_score_zero() -> None:
    split = worlds.topics().split
    model = EDLAE().fit(split.train, valid=None, rng=np.random.default_rng(0))
    cold = np.flatnonzero(split.train.item_counts == 0)
    assert len(cold)
    assert (model.score(split.test.queries)[:, cold] == 0.0).all()
