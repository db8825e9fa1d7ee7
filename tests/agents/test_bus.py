"""Candidates: each item once, in falling order, and a reason for each that left."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.agents.bus import Candidates
from llm4rec.core import Vocabulary

LISTS = st.lists(st.tuples(st.integers(0, 30), st.floats(-5, 5, width=32)), unique_by=lambda p: p[0], max_size=12).map(
    lambda pairs: sorted(pairs, key=lambda p: -p[1])
)


def made(pairs: list[tuple[int, float]], stage: str = "a") -> Candidates:
    return Candidates.of(np.array([i for i, _ in pairs], np.int32), np.array([s for _, s in pairs], np.float32), stage)


@given(LISTS, LISTS)
def test_joined_keeps_all_items_the_first_ones_first(one: list[tuple[int, float]], other: list[tuple[int, float]]) -> None:
    a, b = made(one), made(other, "b")
    both = a.joined(b)  # its own checks hold: once each, falling
    assert both.items.tolist()[: len(a)] == a.items.tolist()
    assert set(both.items.tolist()) == {i for i, _ in one} | {i for i, _ in other}
    for item, sources in zip(both.items.tolist(), both.sources, strict=True):
        assert sources == ("a",) * (item in a.items) + ("b",) * (item in b.items)


@given(LISTS, st.sets(st.integers(0, 30)))
def test_every_item_is_held_or_dropped_with_a_reason(pairs: list[tuple[int, float]], liked: set[int]) -> None:
    before = made(pairs)
    after = before.kept(np.isin(before.items, list(liked)), "2 filter", "not liked").head(3, "3 cut")
    assert sorted([*after.items.tolist(), *(d.item for d in after.dropped)]) == sorted(i for i, _ in pairs)
    assert {d.stage for d in after.dropped} <= {"2 filter", "3 cut"}


def test_a_ranker_adds_nothing_and_what_it_leaves_out_is_told() -> None:
    before = made([(4, 3.0), (7, 2.0), (9, 1.0)])
    after = before.ranked(np.array([9, 4], np.int32), np.array([0.5, 0.1], np.float32), "2 rank", {7: "unreadable"})
    assert after.items.tolist() == [9, 4]
    assert after.sources == (("a", "2 rank"), ("a", "2 rank"))
    assert [(d.item, d.reason) for d in after.dropped] == [(7, "unreadable")]
    with pytest.raises(ValueError, match="not given"):
        before.ranked(np.array([5], np.int32), np.array([1.0], np.float32), "2 rank", {})


@pytest.mark.parametrize(
    ("items", "scores"), [([1, 1], [2, 1]), ([-1], [1]), ([1, 2], [1, 2]), ([1], [float("nan")]), ([1, 2], [1])]
)
def test_what_is_no_list_of_candidates_is_refused(items: list[int], scores: list[float]) -> None:
    with pytest.raises(ValueError):
        Candidates.of(np.array(items, np.int32), np.array(scores, np.float32), "a")


def test_as_json_it_speaks_outside_ids() -> None:
    told = made([(1, 2.0), (0, 1.0)]).head(1, "2 cut").as_dict(Vocabulary(["x", "y"]))
    assert told["items"] == [{"item": "y", "score": 2.0, "sources": ["a"]}]
    assert told["dropped"] == [{"item": "x", "stage": "2 cut", "reason": "below rank 1"}]
