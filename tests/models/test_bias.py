"""The bias model: the contract, and the closed form against the least squares that it solves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize

from llm4rec.core import Queries, Ragged, SpecError
from llm4rec.data import DataConfig, as_clicks, load
from llm4rec.models.bias import Bias, BiasConfig
from tests import rated
from tests.contracts import PredictorContract

NOBODY = np.random.default_rng(0)


class TestBias(PredictorContract):
    component = Bias
    expected = 1.05  # the tastes are noise to it: sqrt(.5^2 + .8^2) is .94
    expected_auc = 0.68
    floor = 0.99
    floor_auc = 0.795


@pytest.mark.parametrize("logistic", [False, True])
def test_the_sweeps_reach_the_least_loss(logistic: bool) -> None:
    split = rated.tastes(n_users=12, n_items=10, each=8).split
    split = as_clicks(split, 3.0) if logistic else split
    train, c = split.train, BiasConfig(user_l2=2.0, item_l2=3.0, sweeps=200)
    users, items, y = (train.events[name].to_numpy() for name in ("user", "item", "value"))
    model = Bias(c).fit(train, valid=None, rng=NOBODY)

    def loss(b: np.ndarray) -> float:
        b_user, b_item = b[: train.n_users], b[train.n_users :]
        score = model.mean_ + b_user[users] + b_item[items]
        fit, half = (np.logaddexp(0, score).sum() - (y * score).sum(), 8) if logistic else (((y - score) ** 2).sum(), 1)
        return float(fit + c.user_l2 / half * (b_user**2).sum() + c.item_l2 / half * (b_item**2).sum())

    best = minimize(loss, np.zeros(train.n_users + train.n_items), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(model.item_biases_, best.x[train.n_users :], atol=1e-4)


def test_a_user_s_bias_comes_from_the_history_the_newest_weighing_most() -> None:
    model = Bias(BiasConfig(half_life=1.0, user_l2=0.5)).fit(rated.tastes().split.train, valid=None, rng=NOBODY)
    base = model.mean_ + model.item_biases_
    values = np.array([base[0] + 1.0, base[1] - 1.0], np.float32)  # the newest rating was low
    queries = Queries(np.array([-1]), Ragged.of([[0, 1]]), np.zeros(1), history_values=values)
    wanted = base[7] + (0.5 * 1.0 - 1.0) / (1.5 + 0.5)
    assert model.predict(queries, np.array([7], np.int32))[0] == pytest.approx(wanted, abs=1e-5)


def test_items_without_events_stand_at_the_mean() -> None:
    train = rated.tastes().split.train
    model = Bias().fit(train, valid=None, rng=NOBODY)
    cold = np.flatnonzero(train.item_counts == 0).astype(np.int32)
    assert model.predict(Queries.of(Ragged.empty(len(cold))), cold) == pytest.approx(train.events["value"].mean())


@pytest.mark.assets
def test_the_published_error_on_random_splits(asset: Callable[[str], Path]) -> None:
    """RMSE of biases on five random folds of MovieLens-100K is about .94 in the literature (LibRec, Surprise)."""
    asset("ml-100k")
    dataset = load(DataConfig(set="ml-100k"))
    fold = np.random.default_rng(0).integers(5, size=len(dataset.events))
    found = []
    for held in range(5):
        train = dataset.with_events(dataset.events.filter(pl.Series(fold != held)))
        asked = dataset.events.filter(pl.Series(fold == held))
        users, known = asked["user"].to_numpy(), train.histories
        at = known.items.positions(users)
        queries = Queries(users, known.items.take(users), asked["time"].to_numpy(), history_values=known.values[at])
        model = Bias(BiasConfig(half_life=0)).fit(train, valid=None, rng=NOBODY)
        found.append(np.sqrt(np.mean((model.predict(queries, asked["item"].to_numpy()) - asked["value"].to_numpy()) ** 2)))
    assert 0.935 <= np.mean(found) <= 0.95


def test_the_logistic_loss_is_for_chances_alone() -> None:
    with pytest.raises(SpecError, match=r"loss: the logistic loss is for values from 0 to 1, not from"):
        Bias(BiasConfig(loss="logistic")).fit(rated.tastes().split.train, valid=None, rng=NOBODY)
