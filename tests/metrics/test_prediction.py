"""RMSE, MAE, AUC, log loss and GAUC against their definitions, written out slowly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llm4rec.metrics.prediction import (
    PREDICTION,
    auc,
    compare_predictions,
    errors,
    gauc,
    one_class,
    prediction_intervals,
    user_auc,
)


def slow_auc(scores: Any, labels: Any) -> float:
    pairs = [(p > q) + 0.5 * (p == q) for p, a in zip(scores, labels, strict=True) if a
             for q, b in zip(scores, labels, strict=True) if not b]  # fmt: skip
    return float(np.mean(pairs)) if pairs else math.nan


@st.composite
def answers(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """Scores with many ties, labels, users."""
    n = draw(st.integers(1, 40))
    scores = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 6))) / 6.0
    labels = draw(hnp.arrays(np.bool_, n))
    users = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 4)))
    return scores, labels, users


@given(answers())
def test_auc_is_the_share_of_pairs_in_order(case: Any) -> None:
    scores, labels, users = case
    np.testing.assert_allclose(auc(scores, labels), slow_auc(scores, labels), equal_nan=True)
    each = user_auc(scores, labels, users, 6)
    wanted = [slow_auc(scores[users == u], labels[users == u]) for u in range(6)]
    np.testing.assert_allclose(each, wanted, equal_nan=True)


@given(answers())
def test_gauc_weighs_users_by_their_questions_and_leaves_out_those_of_one_class(case: Any) -> None:
    scores, labels, users = case
    found, left_out = [], 0
    for u in np.unique(users):
        mine = users == u
        each = slow_auc(scores[mine], labels[mine])
        if math.isnan(each):
            left_out += 1
        else:
            found.append((each, mine.sum()))
    wanted = sum(a * n for a, n in found) / sum(n for _, n in found) if found else math.nan
    np.testing.assert_allclose(gauc(scores, labels, users), wanted, equal_nan=True)
    assert one_class(labels, users) == left_out


@given(answers())
def test_metrics_agree_with_their_definitions(case: Any) -> None:
    p, labels, users = case
    y = labels.astype(np.float64)
    found = prediction_intervals(PREDICTION, p[None], y, labels, users, clicks=True, rng=np.random.default_rng(0), resamples=20)
    q = np.clip(p, 1e-7, 1 - 1e-7)
    wanted = {
        "rmse": math.sqrt(np.mean((p - y) ** 2)), "mae": np.mean(np.abs(p - y)), "auc": slow_auc(p, labels),
        "logloss": -np.mean(y * np.log(q) + (1 - y) * np.log(1 - q)), "gauc": gauc(p, labels, users),
    }  # fmt: skip
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name].mean, value, rtol=1e-9, equal_nan=True, err_msg=name)


def test_agrees_with_scikit_learn() -> None:
    reference = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    p, labels = rng.random(3000).round(2), rng.random(3000) < 0.4
    assert auc(p, labels) == pytest.approx(reference.roc_auc_score(labels, p))
    inside = np.clip(p, 0.01, 0.99)
    loss = errors(inside, labels.astype(float), clicks=True)["log_loss"].mean()
    assert loss == pytest.approx(reference.log_loss(labels, inside))


def test_a_certain_wrong_answer_costs_much_but_not_everything() -> None:
    loss = errors(np.array([0.0, 1.0, 1.0]), np.array([1.0, 0.0, 1.0]), clicks=True)["log_loss"]
    np.testing.assert_allclose(loss, [-math.log(1e-7), -math.log(1e-7), 0.0], atol=1e-6)


@pytest.mark.parametrize("wrong", [[0.5, np.nan], [0.5, np.inf], [0.5, 1.5], [-0.1, 0.5], [0.5]])
def test_refuses_what_is_no_probability(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match=r"not finite|beyond 0 and 1"):
        errors(np.array(wrong), np.array([0.0, 1.0]), clicks=True)


def made(seed: int, noise: float = 1.0, users: int = 60, each: int = 25) -> tuple[Any, Any, Any]:
    """Ratings with errors that a user's questions share."""
    rng = np.random.default_rng(seed)
    at = np.repeat(np.arange(users), each)
    y = rng.normal(3.5, 1.0, users * each)
    return y + noise * (rng.normal(size=users)[at] + 0.2 * rng.normal(size=len(at))), y, at


def test_intervals_hold_the_truth_as_often_as_they_say_when_users_share_their_errors() -> None:
    """True MSE is 1.04; intervals over cases, in place of users, would hold it half of the time."""
    hits = 0
    for seed in range(60):
        p, y, users = made(seed)
        i = prediction_intervals(
            ["rmse"], p[None], y, None, users, clicks=False, rng=np.random.default_rng(seed), resamples=400
        )["rmse"]
        hits += i.low <= math.sqrt(1.04) <= i.high
        assert i.low <= i.mean <= i.high
        assert i.n == len(y)
    assert 50 <= hits <= 60


def test_seeds_are_measured_apart_and_averaged() -> None:
    p, y, users = made(0)
    q, _, _ = made(1)
    rng = np.random.default_rng
    both = prediction_intervals(["rmse"], np.stack([p, q]), y, None, users, clicks=False, rng=rng(0), resamples=10)["rmse"]
    single = [np.sqrt(np.mean((x - y) ** 2)) for x in (p, q)]
    assert both.mean == pytest.approx(np.mean(single))


@pytest.mark.parametrize("metric", ["rmse", "mae", "gauc"])
def test_a_better_system_is_told_apart_and_the_same_one_is_not(metric: str) -> None:
    good, y, users = made(0, noise=0.5)
    bad = y + 3 * (good - y) + np.random.default_rng(3).normal(size=len(y))
    labels, rng = y >= 4, np.random.default_rng(0)
    told = compare_predictions(metric, good[None], bad[None], y, labels, users, clicks=False, rng=rng)
    assert told.p < 0.01
    assert (told.difference > 0) == (metric == "gauc")
    same = compare_predictions(metric, good[None], good[None], y, labels, users, clicks=False, rng=rng)
    assert same.p == 1.0
    wanted = {
        "rmse": np.mean((good - y) ** 2) - np.mean((bad - y) ** 2),
        "mae": np.mean(np.abs(good - y)) - np.mean(np.abs(bad - y)),
        "gauc": gauc(good, labels, users) - gauc(bad, labels, users),
    }
    assert told.difference == pytest.approx(wanted[metric])
