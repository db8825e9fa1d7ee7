"""Popular: one list for all, and counts that decay without looking ahead."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import DataError, Dataset, Queries, Ragged, Split
from llm4rec.models.popular import Popular, PopularConfig
from tests import worlds
from tests.contracts import ScoringContract
from tests.contracts.evaluation import mean_metric
from tests.worlds import World

_DAY = 86_400


class TestPopular(ScoringContract):
    component = Popular
    world = worlds.popularity()
    floor = ("recall@10", 0.080)


def asked_a_day_later(world: World) -> World:
    """Return the world with later queries: its popular item is taken at the very moment of the original ones."""
    test = world.split.test
    return replace(
        world, split=replace(world.split, test=replace(test, queries=replace(test.queries, times=test.queries.times + _DAY)))
    )


class TestDecayedPopular(ScoringContract):
    component = Popular
    configs = {"half_life_days": 30.0}
    world = asked_a_day_later(worlds.popularity())
    floor = ("recall@10", 0.080)
    floor_configs = {"half_life_days": 30.0}


def _train(events: list[tuple[int, int]]) -> Dataset:
    """Return events (item, day) of one user as a training part."""
    base = worlds.popularity().split.train
    table = pl.DataFrame(
        {
            "user": [0] * len(events),
            "item": [item for item, _ in events],
            "time": [day * _DAY for _, day in events],
            "value": [1.0] * len(events),
            "behavior": [0] * len(events),
        },
        schema=base.events.schema,
    )
    return base.with_events(table)


def fitted(events: list[tuple[int, int]], half_life_days: float) -> Popular:
    """Fit on events (item, day) of one user."""
    model = Popular(PopularConfig(half_life_days=half_life_days))
    return model.fit(_train(events), valid=None, rng=np.random.default_rng(0))


def ask(model: Popular, days: list[int]) -> Any:
    return model.score(Queries.of(Ragged.empty(len(days)), times=np.array(days) * _DAY))


def test_an_event_counts_half_after_the_half_life() -> None:
    scores = ask(fitted([(0, 10), (1, 20), (1, 20)], 5.0), [20, 25, 30])
    np.testing.assert_allclose(scores[:, 0], [0.25, 0.125, 0.0625])
    np.testing.assert_allclose(scores[:, 1], [0.0, 1.0, 0.5])  # strictly before the query


def test_a_query_without_time_is_asked_at_the_end() -> None:
    scores = ask(fitted([(0, 10), (1, 20)], 5.0), [0])
    np.testing.assert_allclose(scores[0, :2], [0.25, 1.0], rtol=1e-4)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 400)), max_size=30),
    st.lists(st.integers(1, 500), min_size=1, max_size=8),
    st.sampled_from([0.5, 7.0, 100.0]),
)
def test_decayed_counts_are_the_formula(events: list[tuple[int, int]], days: list[int], half_life: float) -> None:
    scores = ask(fitted(events, half_life), days)
    for row, day in enumerate(days):
        wanted = np.zeros(4)
        for item, at in events:
            if at < day:
                wanted[item] += 2.0 ** (-(day - at) / half_life)
        np.testing.assert_allclose(scores[row, :4], wanted, rtol=1e-5, atol=1e-30)


def test_decay_needs_real_times() -> None:
    train = replace(worlds.popularity().split.train, clock="order")
    with pytest.raises(DataError, match=r"popularity cannot decay without the time of events; leave out half_life_days"):
        Popular(PopularConfig(half_life_days=1.0)).fit(train, valid=None, rng=np.random.default_rng(0))
    Popular().fit(train, valid=None, rng=np.random.default_rng(0))


@pytest.mark.assets
def test_one_number_under_every_seed_on_the_whole_catalogue(ml100k_whole_split: Split) -> None:
    split = ml100k_whole_split
    figures = {
        mean_metric(Popular().fit(split.train, valid=split.valid, rng=np.random.default_rng(seed)), split.test, "recall@10")
        for seed in range(3)
    }
    assert len(figures) == 1
    assert round(figures.pop(), 4) == 0.0838  # 79 of 943 cases


def test_of_two_equally_popular_items_the_one_last_taken_later_comes_first() -> None:
    plain = Popular().fit(_train([(2, 1), (3, 5), (2, 9), (3, 8), (1, 3)]), valid=None, rng=np.random.default_rng(0))
    assert plain.score(Queries.of(Ragged.empty(1)))[0, :4].argsort().tolist() == [0, 1, 3, 2]
