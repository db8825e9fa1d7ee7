"""Measures beyond accuracy: known answers and agreement with loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from llm4rec.core import Lists, Ragged, SpecError
from llm4rec.metrics import BEYOND, ItemContext, evaluate_beyond
from tests import worlds
from tests.metrics.test_accuracy import lists_of

COUNTS = np.array([8, 4, 4, 0])


def measure(name: str, rows: list[list[int]], *, counts: np.ndarray = COUNTS, **kwargs: object) -> object:
    vectors = kwargs.pop("vectors", None)
    lists = lists_of(rows, max(map(len, rows)))
    return evaluate_beyond(lists, [name], ItemContext(counts, vectors), **kwargs)[name]  # type: ignore[arg-type]


def test_coverage() -> None:
    assert measure("coverage@2", [[0, 1], [0, 2], [0, 1]]) == 0.75
    assert measure("coverage@1", [[0, 1], [0, 2], [0, 1]]) == 0.25
    assert measure("coverage@1", [[]]) == 0


def test_gini() -> None:
    assert measure("gini@4", [[0, 1, 2, 3]]) == 0
    assert measure("gini@1", [[0], [0]]) == pytest.approx(1 - 1 / 4)
    assert measure("gini@1", [[0], [1]]) == pytest.approx(0.5)
    assert math.isnan(measure("gini@1", [[]]))  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_gini_is_the_mean_difference(items: list[int]) -> None:
    """The textbook definition: mean absolute difference between two items over twice the mean."""
    x = np.bincount(items, minlength=10)
    wanted = np.abs(x[:, None] - x[None, :]).mean() / (2 * x.mean())
    assert measure("gini@1", [[i] for i in items], counts=np.zeros(10, int)) == pytest.approx(wanted)


def test_entropy() -> None:
    assert measure("entropy@4", [[0, 1, 2, 3]]) == pytest.approx(2)
    assert measure("entropy@1", [[1], [1]]) == 0
    assert math.isnan(measure("entropy@1", [[]]))  # type: ignore[arg-type]


def test_novelty_is_self_information() -> None:
    got = measure("novelty@2", [[0, 3], [1], []])
    information = -np.log2((COUNTS + 1) / (16 + 4))
    np.testing.assert_allclose(got, [(information[0] + information[3]) / 2, information[1], np.nan])
    assert information[3] > information[1] > information[0]


def test_popularity_percentile() -> None:
    got = measure("popularity@1", [[0], [1], [2], [3]])
    np.testing.assert_allclose(got, [0.875, 0.5, 0.5, 0.125])  # ties share the middle
    assert measure("popularity@4", [[0, 1, 2, 3]]) == pytest.approx(0.5)  # the whole catalogue


def test_arp_and_lift() -> None:
    np.testing.assert_allclose(measure("arp@2", [[0, 3], [1, 2]]), [4, 4])
    history = Ragged.of([[1, 2], [0], [], [3], [1]])
    got = measure("lift@1", [[0], [1], [0], [0], []], history=history)
    np.testing.assert_allclose(got, [1.0, -0.5, np.nan, np.nan, np.nan])


def ild_slowly(row: list[int], vectors: np.ndarray) -> float:
    values = []
    for i in row:
        for j in row:
            if i != j:
                a, b = vectors[i], vectors[j]
                norm = np.linalg.norm(a) * np.linalg.norm(b)
                values.append(1 - (float(a @ b) / norm if norm else 0.0))
    return float(np.mean(values)) if values else float("nan")


@pytest.mark.parametrize("form", ["dense", "csr", "csr with explicit zeros"])
def test_diversity_is_the_mean_over_pairs(form: str) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20, 6)).astype(np.float32)
    vectors[vectors < 0] = 0
    vectors[3] = 0
    given_vectors: object = vectors
    if form != "dense":
        given_vectors = sparse.csr_matrix(vectors)
        if form != "csr":
            given_vectors = sparse.csr_matrix(np.where(vectors == 0, 1, vectors))
            given_vectors.data[np.isclose(given_vectors.data, 1)] = 0  # type: ignore[attr-defined]
    rows = [rng.permutation(20)[: rng.integers(0, 9)].tolist() for _ in range(12)] + [[3, 4], [5, 3, 6], [7]]
    got = evaluate_beyond(lists_of(rows, 9), ["diversity@9", "diversity@3"], ItemContext(np.ones(20, int), given_vectors))  # type: ignore[arg-type]
    for k in (3, 9):
        np.testing.assert_allclose(got[f"diversity@{k}"], [ild_slowly(r[:k], vectors) for r in rows], atol=1e-5)


def test_diversity_known_answers() -> None:
    vectors = np.array([[2, 0], [5, 0], [0, 1], [-1, 0]], dtype=np.float32)
    got = measure("diversity@2", [[0, 1], [0, 2], [0, 3], [0]], vectors=vectors)
    np.testing.assert_allclose(got, [0, 1, 2, np.nan], atol=1e-6)


def test_says_what_is_missing() -> None:
    with pytest.raises(SpecError, match="needs item vectors"):
        measure("diversity@2", [[0, 1]])
    with pytest.raises(SpecError, match="needs the users' histories"):
        measure("lift@2", [[0, 1]])
    with pytest.raises(SpecError, match="did you mean 'coverage'"):
        measure("covrage@2", [[0, 1]])
    with pytest.raises(ValueError, match="vectors for 4 items"):
        ItemContext(COUNTS, np.zeros((3, 2), np.float32))
    with pytest.raises(ValueError, match="histories"):
        measure("lift@2", [[0, 1]], history=Ragged.empty(7))


def test_every_measure_on_no_lists() -> None:
    context = ItemContext(COUNTS, np.eye(4, dtype=np.float32))
    got = evaluate_beyond(Lists.empty(0, 5), [f"{m}@5" for m in BEYOND], context, history=Ragged.empty(0))
    assert {m for m in BEYOND if isinstance(got[f"{m}@5"], float)} == {"coverage", "gini", "entropy"}


def test_context_reads_the_training_part_alone() -> None:
    split = worlds.topics().split
    context = ItemContext.of(split.train)
    assert (context.counts == split.train.item_counts).all()
    assert (context.counts[split.test.truth.values] == 0).all()  # cold in training
    assert np.isfinite(context.information).all()
    assert np.exp2(-context.information).sum() == pytest.approx(1)
