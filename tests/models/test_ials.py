"""iALS: the contract, and factors that solve the paper's equations."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm4rec.core import Queries, Ragged
from llm4rec.data import DataConfig, SplitConfig, load, make_split
from llm4rec.models import ials
from llm4rec.models.ials import IALS, IALSConfig
from llm4rec.models.popular import Popular
from tests import worlds
from tests.contracts import ScoringContract
from tests.contracts.evaluation import mean_metric

SMALL: dict[str, Any] = {"factors": 8, "unobserved": 2.0, "l2": 0.01}


class TestIALS(ScoringContract):
    component = IALS
    configs = SMALL
    floor = ("ndcg@10", 0.09)


class TestOriginalIALS(ScoringContract):
    component = IALS
    configs = {**SMALL, "half_life": 0.0}


def fitted(**params: Any) -> IALS:
    model = IALS(IALSConfig.model_validate({**SMALL, **params}))
    return model.fit(worlds.checkerboard().split.train, valid=None, rng=np.random.default_rng(0))


def missing(config: IALSConfig) -> float:
    """Return the docstring's a."""
    m = worlds.checkerboard().split.train.matrix().toarray()
    return float(config.unobserved * m.mean())


def loss(x: np.ndarray, y: np.ndarray, config: IALSConfig) -> float:
    """Compute the docstring's sum."""
    m = worlds.checkerboard().split.train.matrix().toarray()
    scores, a = x @ y.T, missing(config)
    user = (m.sum(1) + a * m.shape[1]) ** config.frequency
    item = (m.sum(0) + a * m.shape[0]) ** config.frequency
    fit = (m * (scores - 1) ** 2).sum() + a * (scores**2).sum()
    return float(fit + config.l2 * ((user[:, None] * x**2).sum() + (item[:, None] * y**2).sum()))


@pytest.mark.parametrize("frequency", [0.0, 1.0])
def test_factors_are_where_the_loss_cannot_fall(frequency: float) -> None:
    """The item factors are the least for the last user factors, which are themselves solved for; the slope tells."""
    model = fitted(frequency=frequency, iterations=400, half_life=0.0)
    y = model.item_factors_.astype(np.float64)
    histories = worlds.checkerboard().split.train.histories.items
    x = model.user_factors(Queries.of(histories)).astype(np.float64)
    here, step = loss(x, y, model.config), 1e-2
    rng = np.random.default_rng(1)
    for _ in range(20):
        dx, dy = rng.normal(size=x.shape), rng.normal(size=y.shape)
        assert loss(x + step * dx, y, model.config) > here
        assert loss(x, y + step * dy, model.config) > here


def test_user_factors_solve_the_normal_equations_with_recency() -> None:
    model = fitted(half_life=3.0, frequency=0.5)
    y, config, queries = model.item_factors_.astype(np.float64), model.config, worlds.checkerboard().split.test.queries
    got = model.user_factors(queries)
    a = missing(config)
    for row in (0, 5, 40):
        items = queries.history[row]
        ridge = config.l2 * (len(items) + a * len(y)) ** 0.5
        left = y[items].T @ y[items] + a * y.T @ y + ridge * np.eye(8)
        right = y[items].T @ 2.0 ** (-np.arange(len(items))[::-1] / 3.0)
        np.testing.assert_allclose(got[row], np.linalg.solve(left, right), rtol=1e-3, atol=1e-5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted().item_factors_
    monkeypatch.setattr(ials, "_BLOCK", 500)
    np.testing.assert_allclose(fitted().item_factors_, whole, rtol=1e-3, atol=1e-5)


def test_no_history_scores_zero_and_an_item_without_events_too() -> None:
    train = worlds.topics().split.train
    model = IALS(IALSConfig.model_validate(SMALL)).fit(train, valid=None, rng=np.random.default_rng(0))
    assert not model.score(Queries.of(Ragged.empty(2))).any()
    cold = train.item_counts == 0
    assert not model.score(worlds.topics().split.test.queries)[:, cold].any()


def test_bad_parameters_are_refused() -> None:
    for bad in ({"factors": 0}, {"unobserved": 0}, {"l2": 0}, {"frequency": -1}, {"iterations": 0}, {"deviation": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            IALSConfig.model_validate(bad)


def test_what_suits_films_suits_a_large_sparse_catalogue(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing entry that weighs there what it weighs among 1,349 films presses all factors to nothing."""
    monkeypatch.setenv("LLM4REC_SHARED", str(shared_data))
    split = make_split(load(DataConfig(set="amazon14-beauty")), SplitConfig(kind="leave-one-out"))
    config = IALSConfig(factors=16, iterations=4)
    model = IALS(config).fit(split.train, valid=None, rng=np.random.default_rng(0))
    popular = Popular().fit(split.train, valid=None, rng=np.random.default_rng(0))
    few = split.valid.take(np.arange(0, len(split.valid), 10))
    assert mean_metric(model, few, "ndcg@10") > 3 * mean_metric(popular, few, "ndcg@10")
