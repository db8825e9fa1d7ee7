"""Markov: the contract, the successor in a walk, and probabilities by hand."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import Queries, Ragged
from llm4rec.models.markov import Markov, MarkovConfig, transitions
from tests import worlds
from tests.contracts import ScoringContract


class TestMarkov(ScoringContract):
    component = Markov
    world = worlds.cycle()
    floor = ("ndcg@10", 0.105)


class TestFirstOrderMarkov(ScoringContract):
    component = Markov
    configs = {"window": 1, "half_life": 0.05}
    world = worlds.cycle()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), max_size=7), max_size=5), st.integers(1, 9))
def test_transitions_are_counted_by_distance(histories: list[list[int]], window: int) -> None:
    wanted = np.zeros((5, 5))
    for history in histories:
        for at, item in enumerate(history):
            for distance, later in enumerate(history[at + 1 : at + 1 + window], start=1):
                wanted[item, later] += 1 / distance
    np.testing.assert_allclose(transitions(Ragged.of(histories), 5, window).toarray(), wanted, rtol=1e-6)


def fitted(**params: float) -> Markov:
    model = Markov(MarkovConfig.model_validate(params))
    return model.fit(worlds.cycle().split.train, valid=None, rng=np.random.default_rng(0))


def test_scores_are_the_formula_and_of_one_item_a_distribution() -> None:
    model = fitted(window=3, smoothing=2.0, half_life=1.0)
    n, counts = model.transitions_.toarray(), worlds.cycle().split.train.item_counts
    p = (n + 2.0 * counts / counts.sum()) / (n.sum(axis=1, keepdims=True) + 2.0)
    scores = model.score(Queries.of(Ragged.of([[3], [5, 3], [3, 5, 3]])))
    np.testing.assert_allclose(scores[0], p[3], rtol=1e-5)
    np.testing.assert_allclose(scores[0].sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(scores[1], p[3] + p[5] / 2, rtol=1e-5)
    np.testing.assert_allclose(scores[2], scores[1], rtol=1e-5)  # a repeated item counts once, at its newest


def test_a_tiny_half_life_is_the_last_item_alone() -> None:
    model = fitted(half_life=0.05)
    scores = model.score(Queries.of(Ragged.of([[3], [1, 2, 3], [1, 3, 2]])))
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4)
    assert not np.allclose(scores[0], scores[2])


def test_what_is_not_known_backs_off_to_popularity() -> None:
    split = worlds.topics().split
    model = Markov().fit(split.train, valid=None, rng=np.random.default_rng(0))
    cold = int(np.flatnonzero(split.train.item_counts == 0)[0])
    scores = model.score(Queries.of(Ragged.of([[], [cold]])))
    for row in scores:
        np.testing.assert_allclose(row, split.train.item_counts / split.train.item_counts.sum(), rtol=1e-5)


def test_bad_parameters_are_refused() -> None:
    for bad in ({"window": 0}, {"smoothing": 0}, {"half_life": -1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            MarkovConfig.model_validate(bad)
