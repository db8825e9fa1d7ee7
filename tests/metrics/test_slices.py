"""Slices: the rule on a catalogue that can be counted by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from llm4rec.core import Cases, Dataset, Queries, Ragged, Vocabulary
from llm4rec.metrics import slice_cases
from tests import worlds


def dataset(counts: list[int]) -> Dataset:
    items = np.repeat(np.arange(len(counts)), counts)
    events = pl.DataFrame(
        {"user": np.zeros(len(items), int), "item": items, "time": items, "value": items * 1.0, "behavior": items * 0}
    )
    ids = Vocabulary([str(i) for i in range(len(counts))])
    table = pl.DataFrame({"item": np.arange(len(counts))})
    return Dataset("counted", Vocabulary(["u"]), ids, events, table, pl.DataFrame({"user": [0]}))


def cases(truth: list[list[int]], histories: list[int] | None = None) -> Cases:
    history = Ragged.of([range(n) for n in histories or [1] * len(truth)])
    return Cases(Queries.of(history), Ragged.of(truth), history)


def test_by_the_truth() -> None:
    # ten touched items, so the two most popular are the head; item 10 has no events
    train = dataset([9, 8, 3, 3, 3, 2, 2, 1, 1, 1, 0])
    got = slice_cases(cases([[0], [1], [2], [9], [10], [0, 1], [0, 2], [0, 10]]), train)
    assert got["head"].tolist() == [True, True, False, False, False, True, False, False]
    assert got["tail"].tolist() == [False, False, True, True, False, False, True, False]
    assert got["cold"].tolist() == [False, False, False, False, True, False, False, True]


def test_ties_at_the_border_are_in_the_head() -> None:
    got = slice_cases(cases([[0], [1], [2], [3]]), dataset([5, 4, 4, 3, 1]))
    assert got["head"].tolist() == [True, False, False, False]  # 20 % of five items is one
    got = slice_cases(cases([[0], [1], [2], [3]]), dataset([4, 4, 4, 3, 1]))
    assert got["head"].tolist() == [True, True, True, False]


def test_by_the_history() -> None:
    got = slice_cases(cases([[0]] * 5, [1, 2, 3, 3, 9]), dataset([9] * 9))
    assert got["short_history"].tolist() == [True, True, False, False, False]
    assert got["long_history"].tolist() == [False, False, False, False, True]


@pytest.mark.parametrize("world", worlds.WORLDS, ids=lambda f: f.__name__)
def test_each_case_is_in_one_slice_by_truth(world: worlds.World) -> None:
    split = world().split  # type: ignore[operator]
    got = slice_cases(split.test, split.train)
    assert (got["head"].astype(int) + got["tail"] + got["cold"] == 1).all()
    assert not (got["short_history"] & got["long_history"]).any()


def test_worlds_where_the_slice_is_known() -> None:
    topics, popular = worlds.topics().split, worlds.popularity().split
    assert slice_cases(topics.test, topics.train)["cold"].all()
    assert slice_cases(popular.test, popular.train)["head"].all()


def test_nothing_in_training_and_no_cases() -> None:
    empty = dataset([0, 0])
    assert slice_cases(cases([[0]]), empty)["cold"].all()
    assert all(len(v) == 0 for v in slice_cases(cases([]), empty).values())
