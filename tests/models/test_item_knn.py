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


class TestLastItem(ScoringContract):
    """Item-to-item filtering from the last item alone."""

    component = ItemKNN
    configs = {"half_life": 0.05}
    floor = ("ndcg@10", 0.063)
    floor_configs = {"half_life": 0.05}


SIMILARITIES = ["cosine", "jaccard", "dice", "tversky", "conditional", "tf-idf", "bm25"]


def slow(config: ItemKNNConfig) -> np.ndarray:
    """Compute the similarities item by item."""
    x = worlds.topics().split.train.matrix().toarray().astype(np.float64)
    n, a, h = x.shape[1], config.asymmetry, config.shrinkage
    weight = np.log(n / x.sum(axis=1)) ** 2 if config.similarity in ("tf-idf", "bm25") else np.ones(len(x))
    count, both = weight @ x, (x.T * weight) @ x
    weights = np.zeros((n, n))
    for j in range(n):
        similar = []
        for i in range(n):
            shared, of_i, of_j = both[i, j], count[i], count[j]
            r_i, r_j = (2.2 / (1 + 1.2 * (0.25 + 0.75 * c / count.mean())) for c in (of_i, of_j))
            if i == j or not shared:
                continue
            value = {
                "cosine": shared / (of_i**a * of_j ** (1 - a) + h),
                "jaccard": shared / (of_i + of_j - shared + h),
                "dice": 2 * shared / (of_i + of_j + 2 * h),
                "tversky": shared / (shared + a * (of_i - shared) + (1 - a) * (of_j - shared) + h),
                "conditional": shared / (of_i + h),
                "tf-idf": shared / (of_i**a * of_j ** (1 - a) + h),
                "bm25": shared * r_i * r_j,
            }[config.similarity]
            similar.append((-value, i))
        for negative, i in sorted(similar)[: config.neighbours]:
            weights[i, j] = -negative
    return weights


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(SIMILARITIES), st.sampled_from([1, 3, 50]), st.sampled_from([0.0, 7.5]), st.sampled_from([0.0, 0.3, 0.5])
)
def test_similarities_are_the_formula(similarity: str, neighbours: int, shrinkage: float, asymmetry: float) -> None:
    params = {"similarity": similarity, "neighbours": neighbours, "shrinkage": shrinkage, "asymmetry": asymmetry}
    config = ItemKNNConfig.model_validate(params)
    model = ItemKNN(config)
    model.block = 5  # several blocks, the last one short
    model.fit(worlds.topics().split.train, valid=None, rng=np.random.default_rng(0))
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
    for bad in ({"similarity": "euclid"}, {"neighbours": 0}, {"shrinkage": -1}, {"asymmetry": 2}, {"half_life": -1}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            ItemKNNConfig.model_validate(bad)
