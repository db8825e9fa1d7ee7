"""BPR: the contract, and what it says about users and items it has not seen."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

import numpy as np
import pytest

from llm4rec.core import Queries, Ragged, SpecError
from llm4rec.models.bpr import BPR, BPRConfig
from tests import worlds
from tests.contracts import ScoringContract

SMALL = {"factors": 8, "learning_rate": 0.1, "iterations": 200}


class TestBPR(ScoringContract):
    component = BPR
    configs = SMALL
    floor = ("ndcg@10", 0.055)
    floor_seeds = (1, 2, 3)


class TestOriginalBPR(ScoringContract):
    component = BPR
    configs = {**SMALL, "half_life": 0.0}
    floor = ("ndcg@10", 0.055)
    floor_configs = {"half_life": 0.0}
    floor_seeds = (1, 2, 3)


def test_the_seed_fixes_every_factor() -> None:
    train = worlds.checkerboard().split.train
    one, again, other = (BPR(BPRConfig(**SMALL)).fit(train, valid=None, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.item_factors_, again.item_factors_)
    assert not np.allclose(one.item_factors_, other.item_factors_)


def test_items_without_events_stand_at_the_end() -> None:
    train = worlds.topics().split.train
    model = BPR(BPRConfig(**SMALL)).fit(train, valid=None, rng=np.random.default_rng(0))
    cold = train.item_counts == 0
    assert (model.item_factors_[cold] == 0).all()
    assert (model.item_biases_[cold] <= model.item_biases_[~cold].min()).all()


def test_without_a_history_the_most_popular_item_comes_first() -> None:
    train = worlds.popularity().split.train
    model = BPR(BPRConfig(**SMALL)).fit(train, valid=None, rng=np.random.default_rng(0))
    scores = model.score(Queries.of(Ragged.empty(1)))
    assert scores[0].argmax() == train.item_counts.argmax()


def test_training_that_diverges_is_one_line() -> None:
    with pytest.raises(SpecError, match="learning_rate: training diverged"):
        BPR(BPRConfig(learning_rate=1e30)).fit(worlds.topics().split.train, valid=None, rng=np.random.default_rng(0))
