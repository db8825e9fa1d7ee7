"""SLIM: the contract, and the conditions that mark the one best set of weights."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import SpecError
from llm4rec.models.slim import SLIM, SLIMConfig
from tests import worlds
from tests.contracts import ScoringContract

SMALL = {"l1": 0.5, "l2": 5.0}


class TestSLIM(ScoringContract):
    component = SLIM
    configs = SMALL
    floor = ("ndcg@10", 0.095)


class TestSignedSLIM(ScoringContract):
    component = SLIM
    configs = {**SMALL, "positive": False, "half_life": 0.0}


def fitted(**params: object) -> SLIM:
    model = SLIM(SLIMConfig.model_validate(params))
    return model.fit(worlds.topics().split.train, valid=None, rng=np.random.default_rng(0))


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([0.0, 0.3, 2.0]), st.sampled_from([0.5, 20.0]), st.booleans())
def test_no_weight_can_be_moved_for_the_better(l1: float, l2: float, positive: bool) -> None:
    """The conditions of Karush, Kuhn and Tucker, which hold at the minimum of this convex problem and nowhere else."""
    model = fitted(l1=l1, l2=l2, positive=positive, iterations=1000, tolerance=1e-6)
    x = worlds.topics().split.train.matrix().toarray().astype(np.float64)
    b = model.weights_.toarray().astype(np.float64)
    slope = x.T @ (x @ b - x) + l2 * b  # of the smooth part
    own = np.eye(len(b), dtype=bool)
    assert not b[own].any()
    np.testing.assert_allclose((slope + l1 * np.sign(b))[(b != 0) & ~own], 0.0, atol=2e-3)
    zero = (b == 0) & ~own
    assert (slope[zero] >= -l1 - 2e-3).all()
    if positive:
        assert (b >= 0).all()
    else:
        assert (slope[zero] <= l1 + 2e-3).all()


def test_a_larger_l1_leaves_fewer_weights_and_the_file_holds_no_others() -> None:
    few, more = fitted(l1=3.0, l2=5.0).weights_, fitted(l1=0.1, l2=5.0).weights_
    assert 0 < few.nnz < more.nnz < few.shape[0] ** 2 / 2
    assert (more.data != 0).all()


def test_rounds_end_at_the_tolerance_or_at_the_limit() -> None:
    assert fitted(**SMALL, tolerance=1e-2).solved_["change"] <= 1e-2
    short = fitted(**SMALL, iterations=2, tolerance=1e-6).solved_
    assert (short["rounds"], short["change"] > 1e-6) == (2, True)


def test_bad_parameters_are_refused() -> None:
    for bad in ({"l1": -1}, {"l2": 0}, {"iterations": 0}, {"tolerance": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            SLIMConfig.model_validate(bad)


@pytest.mark.parametrize("l2", [1e-12, 1e300])
def test_weights_that_are_nowhere_near_the_solution_are_no_answer(l2: float) -> None:
    """With a tiny ``l2`` every round's step is tiny too: after a hundred of them all weights are still 0."""
    with pytest.raises(SpecError, match="iterations: no solution is near after"):
        fitted(l1=3.0, l2=l2)


def test_weights_that_are_not_quite_there_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    assert fitted(**SMALL, iterations=4).solved_["change"] < 1
    assert "give more iterations" in caplog.text
    caplog.clear()
    fitted(**SMALL)
    assert not caplog.text
