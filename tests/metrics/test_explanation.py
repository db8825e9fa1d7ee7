"""Figures of explanations against counts by hand, and against the libraries' own examples."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.metrics.explanation import (
    feature_coverage,
    feature_diversity,
    feature_matching,
    ratio_interval,
    text_overlap,
    unique_sentence_ratio,
)


def test_a_ratio_pools_counts() -> None:
    parts, wholes = np.array([1, 0, 3, 0]), np.array([2, 4, 3, 0])
    interval = ratio_interval(parts, wholes, rng=np.random.default_rng(0))
    assert interval.mean == 4 / 9
    assert interval.n == 3  # the last case has nothing to count
    assert 0 <= interval.low < interval.mean < interval.high <= 1


def test_cases_are_drawn_not_counts() -> None:
    """Ten cases whose counts agree within are as uncertain as ten counts, however large they are."""
    parts = np.tile([0, 100], 5)
    few = ratio_interval(parts / 100, np.ones(10), rng=np.random.default_rng(0))
    many = ratio_interval(parts, np.full(10, 100), rng=np.random.default_rng(0))
    assert (few.low, few.high) == (many.low, many.high)
    assert few.high - few.low > 0.4


def test_a_ratio_of_nothing_is_unknown() -> None:
    interval = ratio_interval(np.zeros(3), np.zeros(3), rng=np.random.default_rng(0))
    assert np.isnan([interval.mean, interval.low, interval.high]).all()
    assert interval.n == 0
    with pytest.raises(ValueError, match="equally long"):
        ratio_interval(np.zeros(3), np.zeros(4), rng=np.random.default_rng(0))


def test_unique_sentences() -> None:
    assert unique_sentence_ratio(["a b", "a  b", "b a", "c"]) == 3 / 4
    assert np.isnan(unique_sentence_ratio([]))


@given(st.lists(st.frozensets(st.integers(0, 5)), min_size=2, max_size=12))
def test_feature_diversity_is_the_mean_over_pairs(features: list[frozenset[int]]) -> None:
    assert feature_diversity(features) == pytest.approx(np.mean([len(a & b) for a, b in combinations(features, 2)]))


def test_feature_diversity_needs_a_pair() -> None:
    assert np.isnan(feature_diversity([{1}]))


def test_feature_coverage_and_matching() -> None:
    features = [{"a", "b"}, {"b"}, set()]
    assert feature_coverage(features, 4) == 0.5
    assert np.isnan(feature_coverage(features, 0))
    np.testing.assert_array_equal(feature_matching(features, [{"a"}, {"a"}, set()]), [1, 0, np.nan])


def test_text_overlap() -> None:
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    same = text_overlap(["the cat sat on the mat today"], ["the cat sat on the mat today"])
    assert same == pytest.approx({"bleu": 100, "rouge1": 100, "rouge2": 100, "rougeL": 100})
    half = text_overlap(["the cat slept"], ["the cat sat"])
    assert half["rouge1"] == pytest.approx(100 * 2 / 3)
    assert half["rouge2"] == pytest.approx(50)
    with pytest.raises(ValueError, match="1 sentences for 2"):
        text_overlap(["a"], ["a", "b"])


def test_overlap_does_not_see_what_is_true() -> None:
    """One wrong word turns the statement round and leaves nearly all of the overlap."""
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    said = "Because you watched Alien, this is another Horror movie that you may enjoy tonight."
    assert text_overlap([said.replace("Alien", "Bambi")], [said])["rougeL"] > 90
