"""EASE: the contract, and the closed form against what it solves."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from llm4rec.core import SpecError
from llm4rec.models.ease import EASE, EASEConfig
from tests import worlds
from tests.contracts import ScoringContract


class TestEASE(ScoringContract):
    component = EASE
    configs = {"l2": 10.0}
    floor = ("ndcg@10", 0.073)


class TestOriginalEASE(ScoringContract):
    component = EASE
    configs = {"l2": 10.0, "half_life": 0.0}
    floor = ("ndcg@10", 0.073)
    floor_configs = {"l2": 100.0, "half_life": 0.0}


def test_weights_solve_the_constrained_least_squares() -> None:
    """Column j is the ridge regression of item j on all others."""
    train = worlds.checkerboard().split.train
    model = EASE(EASEConfig(l2=3.0)).fit(train, valid=None, rng=np.random.default_rng(0))
    x = train.matrix().toarray().astype(np.float64)
    for j in (0, 7, 20):
        others = np.delete(np.arange(x.shape[1]), j)
        a = x[:, others]
        wanted = np.linalg.solve(a.T @ a + 3.0 * np.eye(len(others)), a.T @ x[:, j])
        np.testing.assert_allclose(model.weights_[others, j], wanted, atol=1e-6)
        assert model.weights_[j, j] == 0.0


def test_items_without_events_score_zero() -> None:
    split = worlds.topics().split
    model = EASE().fit(split.train, valid=None, rng=np.random.default_rng(0))
    cold = np.flatnonzero(split.train.item_counts == 0)
    assert len(cold)
    assert (model.score(split.test.queries)[:, cold] == 0.0).all()
    assert model.weights_.shape[0] == split.train.n_items - len(cold)


def test_an_l2_that_cannot_be_is_refused_in_one_line() -> None:
    train = worlds.checkerboard().split.train
    twice = train.with_events(train.events.with_columns(item=train.events["item"] // 2 * 2))  # half of the items twins
    alike = twice.with_events(pl.concat([twice.events, twice.events.with_columns(item=twice.events["item"] + 1)]))
    with pytest.raises(SpecError, match="l2: the matrix to be inverted is singular; give a larger l2"):
        EASE(EASEConfig(l2=1e-300)).fit(alike, valid=None, rng=np.random.default_rng(0))
