"""Fusion: the formulas item by item, and what must hold for any lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import Lists
from llm4rec.pipeline import fuse
from tests.pipeline.parts import some_lists


def slow_fuse(
    lists: list[Lists], method: str, weights: list[float], rrf_k: float, normalise: str
) -> list[list[tuple[int, float]]]:
    """Fuse with dictionaries, row by row and item by item."""
    out = []
    for row in range(len(lists[0])):
        total: dict[int, float] = {}
        held = [{int(i): float(s) for i, s in zip(part.items[row], part.scores[row], strict=True) if i >= 0} for part in lists]
        for one, weight in zip(held, weights, strict=True):
            if method == "rrf":
                for rank, item in enumerate(one, 1):
                    total[item] = total.get(item, 0.0) + weight / (rrf_k + rank)
                continue
            values = list(one.values())
            if not values:
                continue
            low, high, mean, deviation = min(values), max(values), np.mean(values), np.std(values)
            scaled, lowest = one, low
            if normalise == "minmax":
                scaled = {i: (s - low) / (high - low) if high > low else 1.0 for i, s in one.items()}
                lowest = 0.0
            elif normalise == "zscore":
                scaled = {i: (s - mean) / deviation if deviation > 0 else 0.0 for i, s in one.items()}
                lowest = min(scaled.values())
            for item in {i for h in held for i in h}:
                total[item] = total.get(item, 0.0) + weight * scaled.get(item, lowest)
        out.append(sorted(total.items(), key=lambda pair: (-np.float32(pair[1]), pair[0])))
    return out


methods = st.sampled_from([("rrf", "none"), ("weighted", "minmax"), ("weighted", "zscore"), ("weighted", "none")])


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(0, 3), st.integers(1, 3), methods, st.sampled_from([1.0, 60.0]))
def test_fusion_is_the_formula(data: Any, n: int, parts: int, how: tuple[Any, Any], rrf_k: float) -> None:
    lists = [data.draw(some_lists(n=n)) for _ in range(parts)]
    weights = [data.draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])) for _ in range(parts)]
    fused = fuse(lists, how[0], weights, rrf_k=rrf_k, normalise=how[1])
    fused.check(12)
    for row, wanted in enumerate(slow_fuse(lists, how[0], weights, rrf_k, how[1])):
        got = [(int(i), float(s)) for i, s in zip(fused.items[row], fused.scores[row], strict=True) if i >= 0]
        assert {i for i, _ in got} == {i for i, _ in wanted}
        np.testing.assert_allclose([s for _, s in got], [s for _, s in wanted], rtol=1e-5, atol=1e-5)
        for (item, score), (other, _) in zip(got, wanted, strict=True):  # places differ by rounding alone
            assert item == other or np.isclose(score, dict(wanted)[item], rtol=1e-5, atol=1e-5)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 8), methods)
def test_a_cut_is_the_start_of_the_whole(data: Any, k: int, how: tuple[Any, Any]) -> None:
    lists = [data.draw(some_lists(n=3)) for _ in range(2)]
    whole, cut = fuse(lists, how[0], normalise=how[1]), fuse(lists, how[0], k=k, normalise=how[1])
    assert cut.k == k
    assert np.array_equal(cut.items, whole.head(k).items)


@settings(max_examples=100, deadline=None)
@given(some_lists(), st.sampled_from(["minmax", "zscore", "none"]))
def test_fusing_one_list_keeps_its_order(lists: Lists, normalise: Any) -> None:
    assert np.array_equal(fuse([lists], "weighted", k=lists.k, normalise=normalise).items, lists.items)


def test_ranks_alone_count_in_reciprocal_rank_fusion() -> None:
    one = Lists(np.array([[4, 2, 7]]), np.array([[9.0, 8.0, 7.0]]))
    two = Lists(np.array([[2, 5, -1]]), np.array([[0.1, 0.0, np.nan]]))
    fused = fuse([one, two])
    assert fused.items[0].tolist() == [2, 4, 5, 7]
    np.testing.assert_allclose(fused.scores[0], [1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63], rtol=1e-6)


def test_an_item_that_a_list_lacks_gets_its_lowest_score() -> None:
    one = Lists(np.array([[0, 1]]), np.array([[10.0, 6.0]]))
    two = Lists(np.array([[2, 1]]), np.array([[3.0, 2.0]]))
    fused = fuse([one, two], "weighted", [1.0, 2.0], normalise="none")
    assert dict(zip(fused.items[0].tolist(), fused.scores[0].tolist(), strict=True)) == {0: 14.0, 1: 10.0, 2: 12.0}


def test_equal_results_stand_in_order_of_id() -> None:
    one, two = (Lists(np.array([[i]]), np.array([[1.0]])) for i in (9, 3))
    assert fuse([one, two]).items[0].tolist() == [3, 9]


def test_no_rows_no_columns_and_empty_lists() -> None:
    assert fuse([Lists.empty(0, 3), Lists.empty(0, 2)], k=4).items.shape == (0, 4)
    assert fuse([Lists.empty(2, 0), Lists.empty(2, 0)], "weighted", k=4).lengths.tolist() == [0, 0]
    assert fuse([Lists.empty(2, 3), Lists.empty(2, 3)], "weighted", normalise="zscore").lengths.tolist() == [0, 0]


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [1.0, float("nan")], [1.0, 1.0, 1.0]])
def test_wrong_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="fusion needs a weight of at least 0 for each of 2 lists"):
        fuse([Lists.empty(1, 2), Lists.empty(1, 2)], weights=weights)


def test_lists_of_different_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="same number of rows"):
        fuse([Lists.empty(1, 2), Lists.empty(2, 2)])
    with pytest.raises(ValueError, match="at least one"):
        fuse([])
