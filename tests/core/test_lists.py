"""Lists: the tie rule, pads, exclusion, against a sort that anybody can read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import Lists, Note, Ragged

NAN, INF = float("nan"), float("inf")


def naively(scores: list[float], k: int, excluded: list[int]) -> list[int]:
    allowed = [i for i, s in enumerate(scores) if i not in excluded and s == s and s != -INF]
    return sorted(allowed, key=lambda i: (-scores[i], i))[:k]


# few distinct values make many ties; halves are exact in float32
SCORE = st.one_of(st.integers(-3, 3).map(lambda x: x / 2), st.sampled_from([NAN, INF, -INF, 0.0, -0.0]))


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, int, list[list[int]]]:
    n, n_items = draw(st.integers(0, 5)), draw(st.integers(1, 12))
    scores = [draw(st.lists(SCORE, min_size=n_items, max_size=n_items)) for _ in range(n)]
    excluded = [draw(st.lists(st.integers(0, n_items - 1), max_size=n_items + 2)) for _ in range(n)]
    return np.array(scores, dtype=np.float32).reshape(n, n_items), draw(st.integers(0, n_items + 3)), excluded


@given(scored())
@settings(max_examples=300, deadline=None)
def test_from_scores_is_a_sort(case: tuple[np.ndarray, int, list[list[int]]]) -> None:
    scores, k, excluded = case
    before = scores.copy()
    exclude = Ragged.of(excluded)
    lists = Lists.from_scores(scores, k, exclude=exclude)
    assert lists.items.shape == (len(scores), k)
    wanted = [naively(row.tolist(), k, out) for row, out in zip(scores, excluded, strict=True)]
    assert lists.to_ragged().tolist() == wanted
    lists.check(scores.shape[1], exclude=exclude)
    assert np.array_equal(scores, before, equal_nan=True), "the scores were written to"
    for row, items in enumerate(wanted):
        assert lists.scores[row, : len(items)].tolist() == scores[row, items].tolist()


@given(scored(), st.data())
@settings(max_examples=150, deadline=None)
def test_from_pools_is_the_same_sort(case: tuple[np.ndarray, int, list[list[int]]], data: st.DataObject) -> None:
    """Pools of all items, in any order and with pads anywhere, give what the scores give."""
    scores, k, _ = case
    n, n_items = scores.shape
    order = np.array([data.draw(st.permutations(range(-2, n_items))) for _ in range(n)], dtype=np.int64).reshape(n, n_items + 2)
    pools = np.where(order < 0, -1, order)
    values = np.where(order < 0, 99.0, np.take_along_axis(scores, np.maximum(order, 0), axis=1))
    got = Lists.from_pools(pools, values, k)
    wanted = Lists.from_scores(scores, k)
    assert np.array_equal(got.items, wanted.items)
    assert np.array_equal(got.scores, wanted.scores, equal_nan=True)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 2, 5, 40, 400]),  # distinct scores
    st.sampled_from([1, 3, 20, 290, 301]),
    st.sampled_from([0.0, 0.3, 0.97, 1.0]),  # shares of what cannot be shown
)
@settings(max_examples=200, deadline=None)
def test_guessed_thresholds_give_the_same_sort(seed: int, distinct: int, k: int, gone: float) -> None:
    """Thresholds guessed from a few scores, rows in several blocks: large ties, few or no items left, all agree."""
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, distinct, (5, 300)) ** rng.choice([1, 4])).astype(np.float32)
    scores[rng.random(scores.shape) < gone * rng.choice([0.0, 1.0])] = rng.choice([NAN, -INF])
    scores[rng.random(scores.shape) < 0.01] = INF
    excluded = [np.flatnonzero(rng.random(300) < gone * rng.choice([0.0, 1.0])).tolist() for _ in scores]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm4rec.core.lists._SAMPLE", 8)
        patch.setattr("llm4rec.core.lists._CELLS", 700)
        lists = Lists.from_scores(scores, k, exclude=Ragged.of(excluded))
    lists.check(300, exclude=Ragged.of(excluded))
    wanted = [naively(row.tolist(), k, out) for row, out in zip(scores, excluded, strict=True)]
    assert lists.to_ragged().tolist() == wanted


def test_ties_stand_in_order_of_inside_id() -> None:
    lists = Lists.from_scores(np.array([[1, 2, 2, 1, 2, 0]], dtype=np.float32), 4)
    assert lists.items.tolist() == [[1, 2, 4, 0]]
    assert Lists.from_scores(np.zeros((2, 500), np.float32), 3).items.tolist() == [[0, 1, 2]] * 2


def test_a_tie_at_the_border_takes_the_lowest_ids_of_each_row() -> None:
    scores = np.array([[0, 5, 0, 0], [5, 0, 0, 5], [1, 1, 1, 1]], dtype=np.float32)
    assert Lists.from_scores(scores, 2).items.tolist() == [[1, 0], [0, 3], [0, 1]]


def test_pads_are_minus_one_and_nan() -> None:
    lists = Lists.from_scores(np.array([[1, -INF, NAN]], dtype=np.float32), 3)
    assert lists.items.tolist() == [[0, -1, -1]]
    assert np.isnan(lists.scores[0, 1:]).all()
    assert lists.lengths.tolist() == [1]
    assert lists.to_ragged().tolist() == [[0]]


def test_accepts_any_float_type() -> None:
    for kind in (np.float16, np.float32, np.float64, np.int64):
        assert Lists.from_scores(np.array([[1, 3, 2]], dtype=kind), 2).items.tolist() == [[1, 2]]


def test_heads_and_rows() -> None:
    notes = (Note(failures=("unreadable",)), Note())
    lists = Lists(np.array([[3, 1], [2, -1]]), np.array([[2, 1], [5, NAN]]), notes)
    assert lists.head(1).items.tolist() == [[3], [2]]
    wide = lists.head(4)
    assert wide.items.tolist() == [[3, 1, -1, -1], [2, -1, -1, -1]]
    wide.check(4)
    assert wide.notes == notes
    turned = lists.take(np.array([1, 0, 1]))
    assert turned.items.tolist() == [[2, -1], [3, 1], [2, -1]]
    assert turned.notes == (notes[1], notes[0], notes[1])
    both = Lists.concatenate([lists, Lists.empty(1, 2)])
    assert both.items.tolist() == [[3, 1], [2, -1], [-1, -1]]
    assert both.notes == (*notes, Note())
    assert Lists.concatenate([Lists.empty(1, 2), Lists.empty(2, 2)]).notes is None


def test_is_immutable() -> None:
    lists = Lists.empty(1, 2)
    with pytest.raises(AttributeError):
        lists.items = lists.items  # type: ignore[misc]


@pytest.mark.parametrize(
    ("items", "scores", "says"),
    [
        ([[0, 9]], [[1, 0]], "outside of the vocabulary"),
        ([[0, -2]], [[1, NAN]], "outside of the vocabulary"),
        ([[-1, 0]], [[NAN, 1]], "on the right"),
        ([[0, 1]], [[1, NAN]], "nan exactly where"),
        ([[0, -1]], [[1, 0]], "nan exactly where"),
        ([[0, 1]], [[0, 1]], "scores rise"),
        ([[3, 1, 3]], [[2, 1, 0]], "twice"),
        ([[4, 1]], [[2, 1]], "excluded"),
    ],
)
def test_check_finds_broken_rules(items: list[list[int]], scores: list[list[float]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Lists(np.array(items), np.array(scores)).check(9, exclude=Ragged.of([[4]]))


def test_refuses_what_does_not_match() -> None:
    with pytest.raises(ValueError, match=r"one \[n, k\]"):
        Lists(np.zeros((2, 3)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="1 notes for 2 lists"):
        Lists(np.zeros((2, 1)), np.zeros((2, 1)), (Note(),))
    with pytest.raises(ValueError, match="3 rows of exclude for 2"):
        Lists.from_scores(np.zeros((2, 1)), 1, exclude=Ragged.empty(3))


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=(57, 300)), 1)
    exclude = Ragged.from_lengths(np.full(57, 20), rng.integers(0, 300, 57 * 20))
    monkeypatch.setattr("llm4rec.core.lists._CELLS", 1200)
    monkeypatch.setattr("llm4rec.core.lists._threads", lambda: 4)
    alone = Lists.from_scores(scores, 15, exclude=exclude)
    monkeypatch.setattr("llm4rec.core.lists._WORTH_A_THREAD", 1)
    together = Lists.from_scores(scores, 15, exclude=exclude)
    np.testing.assert_array_equal(together.items, alone.items)
    np.testing.assert_array_equal(together.scores, alone.scores)
