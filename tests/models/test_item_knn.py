"""ItemKNN: the contract, and similarities computed by hand."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import Queries, Ragged
from llm4rec.models.item_knn import ItemKNN, ItemKNNConfig
from tests import worlds
from tests.contracts import ScoringContract


class TestItemKNN(ScoringContract):
    component = ItemKNN
    floor = ("ndcg@10", 0.063)


class TestOriginalItemKNN(ScoringContract):
    component = ItemKNN
    configs = {"half_life": 0.0}
    floor = ("ndcg@10", 0.063)
    floor_configs = {"half_life": 0.0}


def slow(config: ItemKNNConfig) -> np.ndarray:
    """Compute the similarities item by item."""
    x = worlds.checkerboard().split.train.matrix().toarray()
    n = x.shape[1]
    weights = np.zeros((n, n))
    for j in range(n):
        similar = []
        for i in range(n):
            shared, of_i, of_j = x[:, i] @ x[:, j], x[:, i].sum(), x[:, j].sum()
            whole = {
                "cosine": np.sqrt(of_i * of_j),
                "jaccard": of_i + of_j - shared,
                "conditional": of_i,
            }[config.similarity]
            if i != j and shared:
                similar.append((-shared / (whole + config.shrinkage), i))
        for negative, i in sorted(similar)[: config.neighbours]:
            weights[i, j] = -negative
    return weights


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["cosine", "jaccard", "conditional"]), st.sampled_from([1, 3, 50]), st.sampled_from([0.0, 7.5]))
def test_similarities_are_the_formula(similarity: str, neighbours: int, shrinkage: float) -> None:
    config = ItemKNNConfig.model_validate({"similarity": similarity, "neighbours": neighbours, "shrinkage": shrinkage})
    model = ItemKNN(config)
    model.block = 5  # several blocks, the last one short
    model.fit(worlds.checkerboard().split.train, valid=None, rng=np.random.default_rng(0))
    got, wanted = model.weights_.toarray(), slow(config)
    np.testing.assert_allclose(np.sort(got, axis=0), np.sort(wanted, axis=0), rtol=1e-5)
    if neighbours == 50:
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_older_events_count_less() -> None:
    train = worlds.checkerboard().split.train
    model = ItemKNN(ItemKNNConfig(half_life=1.0)).fit(train, valid=None, rng=np.random.default_rng(0))
    w = model.weights_.toarray()
    scores = model.score(Queries.of(Ragged.of([[3, 9, 3], [9, 3], [3, 9]])))
    np.testing.assert_allclose(scores[0], w[3] + w[9] / 2, rtol=1e-5)  # a repeated item counts once, at its newest
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)
    assert not np.allclose(scores[1], scores[2])


def test_bad_parameters_are_refused() -> None:
    for bad in ({"similarity": "euclid"}, {"neighbours": 0}, {"shrinkage": -1}, {"half_life": -1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ItemKNNConfig.model_validate(bad)
