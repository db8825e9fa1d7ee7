"""Accuracy metrics: known answers, agreement with a slow implementation, laws."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import Lists, Ragged, SpecError
from llm4rec.metrics import ACCURACY, check_invariants, evaluate, parse_metric

CUTOFFS = (1, 2, 3, 5, 10, 50)
NAMES = [f"{m}@{k}" for m in ACCURACY for k in CUTOFFS]


def lists_of(rows: list[list[int]], k: int) -> Lists:
    items = np.full((len(rows), k), -1, np.int32)
    for i, row in enumerate(rows):
        items[i, : len(row)] = row
    return Lists(items, np.where(items < 0, np.nan, -np.arange(k, dtype=np.float32)))


def slowly(row: list[int], truth: list[int], name: str) -> float:
    """One metric of one list, written from the definitions with sets and loops."""
    metric, at = name.split("@")
    k, true = int(at), set(truth)
    shown = row[:k]
    found = [item in true for item in shown]
    if metric == "recall":
        return len(set(shown) & true) / len(true)
    if metric == "hit":
        return float(bool(set(shown) & true))
    if metric == "precision":
        return sum(found) / k
    if metric == "mrr":
        return next((1 / rank for rank, f in enumerate(found, 1) if f), 0.0)
    if metric == "map":
        return sum(sum(found[:rank]) / rank for rank, f in enumerate(found, 1) if f) / min(k, len(true))
    best = sum(1 / math.log(rank + 1, 2) for rank in range(1, min(k, len(true)) + 1))
    return sum(1 / math.log(rank + 1, 2) for rank, f in enumerate(found, 1) if f) / best


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]], int]:
    n_items = draw(st.integers(1, 30))
    n = draw(st.integers(0, 8))
    width = draw(st.integers(1, 14))
    item = st.integers(0, n_items - 1)
    rows = [draw(st.lists(item, max_size=width, unique=True)) for _ in range(n)]
    truth = [draw(st.lists(item, min_size=1, max_size=12)) for _ in range(n)]  # with repetitions
    return rows, truth, width


@given(cases())
@settings(max_examples=150, deadline=None)
def test_agrees_with_the_slow_implementation(case: tuple[list[list[int]], list[list[int]], int]) -> None:
    rows, truth, width = case
    got = evaluate(lists_of(rows, width), Ragged.of(truth), NAMES)
    assert list(got) == NAMES
    for name in NAMES:
        wanted = [slowly(row, true, name) for row, true in zip(rows, truth, strict=True)]
        assert got[name].dtype == np.float64
        np.testing.assert_allclose(got[name], wanted, atol=1e-9, rtol=0, err_msg=name)


@given(cases())
@settings(max_examples=100, deadline=None)
def test_obeys_the_laws(case: tuple[list[list[int]], list[list[int]], int]) -> None:
    rows, truth, width = case
    results = evaluate(lists_of(rows, width), Ragged.of(truth), NAMES)
    check_invariants(results)
    for metric in ("hit", "recall", "mrr"):
        for small, large in pairwise(CUTOFFS):
            assert (results[f"{metric}@{small}"] <= results[f"{metric}@{large}"]).all()


def test_known_answers() -> None:
    got = evaluate(lists_of([[7, 3, 9, 1]], 4), Ragged.of([[3, 1, 5]]), ["ndcg@4", "map@4", "mrr@4", "precision@4", "recall@4"])
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert got["ndcg@4"][0] == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert got["map@4"][0] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert got["mrr@4"][0] == 0.5
    assert got["precision@4"][0] == 0.5
    assert got["recall@4"][0] == pytest.approx(2 / 3)


@pytest.mark.parametrize("n_true", [1, 3, 20])
def test_a_perfect_list_reaches_one(n_true: int) -> None:
    truth = list(range(n_true))
    got = evaluate(lists_of([truth], n_true), Ragged.of([truth]), [f"{m}@10" for m in ACCURACY])
    assert got["ndcg@10"] == got["map@10"] == got["mrr@10"] == got["hit@10"] == 1
    assert got["recall@10"] == min(10, n_true) / n_true
    assert got["precision@10"] == min(10, n_true) / 10


def test_pads_never_match() -> None:
    """A pad is -1; it must not be found in a truth row, whatever lies beside it in memory."""
    got = evaluate(lists_of([[], []], 3), Ragged.of([[0], [29]]), ["hit@3"])
    assert got["hit@3"].tolist() == [0, 0]


def test_one_case_does_not_see_the_others() -> None:
    got = evaluate(lists_of([[1], [2]], 1), Ragged.of([[2], [1]]), ["hit@1"])
    assert got["hit@1"].tolist() == [0, 0]


def test_cut_offs_beyond_the_list_count_as_empty_places() -> None:
    got = evaluate(lists_of([[4, 5]], 2), Ragged.of([[5]]), ["precision@2", "precision@100", "recall@100"])
    assert got["precision@2"] == 0.5
    assert got["precision@100"] == 0.01
    assert got["recall@100"] == 1


def test_no_cases_and_no_metrics() -> None:
    assert evaluate(Lists.empty(0, 5), Ragged.empty(0), ["ndcg@5"])["ndcg@5"].shape == (0,)
    assert evaluate(lists_of([[1]], 1), Ragged.of([[1]]), []) == {}


def test_refuses_what_does_not_match() -> None:
    with pytest.raises(ValueError, match="2 lists for 1 cases"):
        evaluate(Lists.empty(2, 5), Ragged.of([[1]]), ["hit@1"])
    with pytest.raises(ValueError, match="without truth"):
        evaluate(Lists.empty(2, 5), Ragged.of([[1], []]), ["hit@1"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ndgc@10", "did you mean 'ndcg'?"),
        ("NDCG@10", "did you mean 'ndcg'?"),
        ("ndcg", "has no cut-off"),
        ("ndcg@", "not a whole number from 1"),
        ("ndcg@0", "not a whole number from 1"),
        ("ndcg@010", "not a whole number from 1"),
        ("ndcg@-5", "not a whole number from 1"),
        ("ndcg@5.0", "not a whole number from 1"),
        ("ndcg@ten", "write for example 'ndcg@10'"),
        ("ndcg@٣", "not a whole number from 1"),
        ("", "unknown metric"),
        ("@10", "unknown metric"),
    ],
)
def test_bad_names_get_one_line(name: str, says: str) -> None:
    with pytest.raises(SpecError) as error:
        evaluate(Lists.empty(1, 5), Ragged.of([[1]]), [name])
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.where == "metrics"


def test_parses_names() -> None:
    assert parse_metric("ndcg@10", ACCURACY) == ("ndcg", 10)
    assert parse_metric("hit@1", ["hit"]) == ("hit", 1)


@pytest.mark.parametrize(
    ("results", "law"),
    [
        ({"hit@5": [1.0, 1.0], "hit@10": [1.0, 0.0]}, "hit@5 <= hit@10 is broken for 1 cases, the first is case 1"),
        ({"recall@5": [0.5], "recall@10": [0.25]}, "recall@5 <= recall@10"),
        ({"precision@5": [0.4], "precision@10": [0.1]}, "precision@5 <= precision@10"),
        ({"ndcg@10": [1.5]}, "0 <= ndcg@10 <= 1"),
        ({"ndcg@10": [float("nan")]}, "0 <= ndcg@10 <= 1"),
        ({"map@10": [-0.1]}, "0 <= map@10 <= 1"),
        ({"hit@5": [0.0], "mrr@5": [0.2]}, "mrr@5 > 0 exactly where hit@5 is"),
        ({"hit@5": [1.0], "ndcg@5": [0.0]}, "ndcg@5 > 0 exactly where hit@5 is"),
    ],
)
def test_broken_laws_are_named(results: dict[str, list[float]], law: str) -> None:
    with pytest.raises(ValueError) as error:
        check_invariants({name: np.array(values) for name, values in results.items()})
    assert law in str(error.value)


def test_laws_leave_other_measures_alone() -> None:
    check_invariants({"novelty@10": np.array([12.0]), "precision@5": np.array([0.2]), "precision@10": np.array([0.1])})
