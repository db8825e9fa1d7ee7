"""ALS: the contract, and user factors that solve the paper's equation."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

import numpy as np
import pytest

from llm4rec.core import SpecError
from llm4rec.models.als import ALS, ALSConfig
from tests import worlds
from tests.contracts import ScoringContract

SMALL = {"factors": 8, "l2": 0.1}


class TestALS(ScoringContract):
    component = ALS
    configs = SMALL
    floor = ("ndcg@10", 0.069)
    floor_seeds = (1, 2, 3)


class TestOriginalALS(ScoringContract):
    component = ALS
    configs = {**SMALL, "alpha": 5.0, "half_life": 0.0}
    floor = ("ndcg@10", 0.069)
    floor_configs = {"half_life": 0.0}
    floor_seeds = (1, 2, 3)


@pytest.mark.parametrize("alpha", [1.0, 7.0])
def test_user_factors_solve_the_normal_equations(alpha: float) -> None:
    split = worlds.checkerboard().split
    model = ALS(ALSConfig(factors=8, l2=0.5, alpha=alpha, half_life=3.0))
    model.fit(split.train, valid=None, rng=np.random.default_rng(0))
    y = model.item_factors_.astype(np.float64)
    queries = split.test.queries
    got = model.user_factors(queries)
    for row in (0, 5, 40):
        items = queries.history[row]
        confidence, preference = np.ones(len(y)), np.zeros(len(y))
        confidence[items] = alpha
        preference[items] = 2.0 ** (-np.arange(len(items))[::-1] / 3.0)
        left = y.T @ (confidence[:, None] * y) + 0.5 * np.eye(8)
        np.testing.assert_allclose(got[row], np.linalg.solve(left, y.T @ (confidence * preference)), rtol=1e-3, atol=1e-5)


def test_fold_in_of_a_training_history_is_the_library_s_own() -> None:
    """The same equation as ``recalculate_user`` of implicit, which solves user by user."""
    from implicit.cpu.als import AlternatingLeastSquares

    split = worlds.checkerboard().split
    model = ALS(ALSConfig(factors=8, l2=0.5, alpha=4.0, half_life=0.0))
    model.fit(split.train, valid=None, rng=np.random.default_rng(0))
    library = AlternatingLeastSquares(factors=8, regularization=0.5, alpha=4.0)
    library.item_factors = model.item_factors_
    users = np.arange(20)
    from llm4rec.core import Queries

    got = model.user_factors(Queries.of(split.train.histories.items.take(users)))
    wanted = library.recalculate_user(users, split.train.matrix()[users])
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-4)


def test_other_seeds_give_other_factors_and_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    train = worlds.checkerboard().split.train
    one, two = (ALS(ALSConfig(**SMALL)).fit(train, valid=None, rng=np.random.default_rng(s)) for s in (1, 2))
    assert not np.allclose(one.item_factors_, two.item_factors_)
    assert not [w for w in recwarn if "BLAS" in str(w.message)]


def test_training_that_diverges_is_one_line() -> None:
    with pytest.raises(SpecError, match="alpha: training diverged"):
        ALS(ALSConfig(alpha=1e30)).fit(worlds.topics().split.train, valid=None, rng=np.random.default_rng(0))
