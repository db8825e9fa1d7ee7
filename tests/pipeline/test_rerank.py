"""How a ranker's answer joins the list: against a slow implementation, and what must never happen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import Lists, Note
from llm4rec.pipeline import rerank
from tests.pipeline.parts import some_lists


@st.composite
def a_rank_stage(draw: Any) -> tuple[Lists, Lists, int]:
    """Draw incoming lists, a depth, and a ranker's answer: some of the first items in a random order."""
    incoming = draw(some_lists(width=draw(st.integers(0, 7))))
    depth = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    block = incoming.head(depth)
    keep = rng.random(block.items.shape) < draw(st.sampled_from([0.0, 0.6, 1.0]))
    scores = rng.integers(-2, 3, block.items.shape).astype(np.float32)
    return incoming, Lists.from_pools(np.where(keep, block.items, -1), np.where(keep, scores, np.nan)), depth


def z(values: list[float]) -> list[float]:
    if not values:
        return []
    array = np.array(values, dtype=np.float64)
    deviation = array.std()
    return list((array - array.mean()) / (deviation if deviation > 0 else 1.0))


def slow_order(incoming: Lists, ranked: Lists, depth: int, weight: float, omitted: str) -> list[list[int]]:
    out = []
    for row in range(len(incoming)):
        items = [int(i) for i in incoming.items[row] if i >= 0]
        order = [int(i) for i in ranked.items[row] if i >= 0]
        if weight == 0 and omitted == "last":
            out.append(items)
            continue
        block, tail = items[:depth], items[depth:]
        if weight < 1:
            members = [i for i in block if i in order]
            before = z([float(incoming.scores[row, items.index(i)]) for i in members])
            after = z([float(ranked.scores[row, order.index(i)]) for i in members])
            mixed = {i: (1 - weight) * b + weight * a for i, b, a in zip(members, before, after, strict=True)}
            order = sorted(members, key=lambda i: -round(mixed[i], 9))
        rest = [i for i in block if i not in order] if omitted == "last" else []
        out.append(order + rest + tail)
    return out


@settings(max_examples=300, deadline=None)
@given(a_rank_stage(), st.sampled_from([0.0, 0.35, 1.0]), st.sampled_from(["last", "drop"]))
def test_order_is_ranked_then_unranked_then_below_depth(stage: tuple[Lists, Lists, int], weight: float, omitted: Any) -> None:
    incoming, ranked, depth = stage
    result = rerank(incoming, ranked, depth=depth, weight=weight, omitted=omitted)
    result.check(12)
    assert result.k == incoming.k
    for row, wanted in enumerate(slow_order(incoming, ranked, depth, weight, omitted)):
        got = [int(i) for i in result.items[row] if i >= 0]
        if weight in (0.0, 1.0):
            assert got == wanted
        else:  # mixed scores that are equal up to rounding may change places
            assert sorted(got) == sorted(wanted)
            assert got[len([i for i in ranked.items[row] if i >= 0]) :] == wanted[ranked.lengths[row] :]


@settings(max_examples=100, deadline=None)
@given(a_rank_stage(), st.sampled_from(["last", "drop"]))
def test_every_unranked_candidate_is_told_and_counted(stage: tuple[Lists, Lists, int], omitted: Any) -> None:
    incoming, ranked, depth = stage
    result = rerank(incoming, ranked, depth=depth, omitted=omitted)
    for row in range(len(incoming)):
        given_ = [int(i) for i in incoming.items[row, :depth] if i >= 0]
        missing = set(given_) - set(ranked.items[row].tolist())
        note = Note() if result.notes is None else result.notes[row]
        assert note.failures.count("unranked_candidate") == len(missing)
        assert set(note.dropped) == missing


@settings(max_examples=100, deadline=None)
@given(some_lists(), st.integers(1, 9), st.sampled_from([0.0, 0.5, 1.0]))
def test_a_ranker_that_changes_nothing_changes_nothing(lists: Lists, depth: int, weight: float) -> None:
    result = rerank(lists, lists.head(depth), depth=depth, weight=weight)
    assert np.array_equal(result.items, lists.items)
    assert result.notes is None


def test_the_ranker_s_scores_stay_and_the_rest_goes_on_in_steps_of_its_mean_gap() -> None:
    incoming = Lists(np.array([[1, 2, 3, 4, 5, -1]]), np.array([[9.0, 8.0, 7.0, 6.0, 5.0, np.nan]]))
    ranked = Lists(np.array([[3, 1, -1]]), np.array([[10.0, 6.0, np.nan]]))
    result = rerank(incoming, ranked, depth=3)
    assert result.items[0].tolist() == [3, 1, 2, 4, 5, -1]
    np.testing.assert_allclose(result.scores[0], [10.0, 6.0, 2.0, -2.0, -6.0, np.nan])


def test_a_row_of_which_nothing_was_ranked_keeps_order_and_scores_and_says_so() -> None:
    incoming = Lists(np.array([[1, 2, 3]]), np.array([[9.0, 8.0, 7.0]]))
    result = rerank(incoming, Lists.empty(1, 2), depth=2)
    assert np.array_equal(result.items, incoming.items)
    assert np.array_equal(result.scores, incoming.scores)
    assert result.notes is not None
    assert result.notes[0].failures == ("unranked_candidate",) * 2
    dropped = rerank(incoming, Lists.empty(1, 2), depth=2, omitted="drop")
    assert dropped.items[0].tolist() == [3, -1, -1]
    assert dropped.scores[0, 0] == 7.0


def test_what_the_ranker_says_is_kept() -> None:
    incoming = Lists(np.array([[1, 2, 3]]), np.array([[9.0, 8.0, 7.0]]))
    ranked = Lists(np.array([[2, -1]]), np.array([[1.0, np.nan]]), (Note(failures=("shy",), dropped={1: "not read"}),))
    note = rerank(incoming, ranked, depth=2).notes[0]  # type: ignore[index]
    assert note.failures == ("shy", "unranked_candidate")
    assert note.dropped == {1: "not read"}


@pytest.mark.parametrize("items", [[[4, 1]], [[3, 1]]])
def test_an_item_that_was_not_given_is_refused(items: list[list[int]]) -> None:
    incoming = Lists(np.array([[1, 2, 3]]), np.array([[9.0, 8.0, 7.0]]))
    with pytest.raises(ValueError, match="an item that it was not given"):
        rerank(incoming, Lists(np.array(items), np.array([[2.0, 1.0]])), depth=2)


def test_an_item_given_back_twice_is_refused() -> None:
    incoming = Lists(np.array([[1, 2, 3]]), np.array([[9.0, 8.0, 7.0]]))
    with pytest.raises(ValueError, match="one twice"):
        rerank(incoming, Lists(np.array([[1, 1]]), np.array([[2.0, 1.0]])), depth=2)


def test_the_lowest_scores_there_are_do_not_overflow() -> None:
    lowest = np.finfo(np.float32).min
    incoming = Lists(np.array([[1, 2, 3, 4]]), np.array([[9.0, 8.0, 7.0, 6.0]]))
    for weight in (0.5, 1.0):
        result = rerank(incoming, Lists(np.array([[2, 1]]), np.array([[1.0, lowest]])), depth=2, weight=weight)
        result.check(5)
        assert np.isfinite(result.scores).all()
