"""LightGCN: the contract, its formula, its gradient, and text as its start."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy import sparse

from llm4rec.core import ModelError, Queries, Ragged, Resources
from llm4rec.features import Encoder, HashEncoder
from llm4rec.models.lightgcn import LightGCN, LightGCNConfig, _Smoothing, layered, normalised
from tests import worlds
from tests.contracts import ScoringContract

SMALL = {"width": 16, "batch_size": 256, "epochs": 30}


class TestLightGCN(ScoringContract):
    component = LightGCN
    configs = SMALL
    uses_valid = True


class TestPaperLightGCN(ScoringContract):
    component = LightGCN
    configs = {**SMALL, "loss": "bpr", "negatives": 1, "share_negatives": False, "half_life": 0}
    uses_valid = True


class Hashed:
    """Resources whose every encoder hashes words."""

    def llm(self, name: str) -> Any:
        raise AssertionError("LightGCN asked for an LLM")

    def encoder(self, name: str) -> Encoder:
        return HashEncoder(256)


class TestTextLightGCN(ScoringContract):
    component = LightGCN
    configs = {**SMALL, "item_init": {"encoder": "hash", "template": "{title}"}}
    uses_valid = True

    def resources(self) -> Resources:
        return Hashed()


def _graph(seed: int = 0) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    matrix = (rng.random((6, 9)) < 0.4).astype(np.float32)
    matrix[:, 8] = 0  # an item that nobody took
    return sparse.csr_matrix(matrix)


def test_layers_are_powers_of_the_normalised_adjacency() -> None:
    matrix = _graph().toarray().astype(np.float64)
    adjacency = np.block([[np.zeros((6, 6)), matrix], [matrix.T, np.zeros((9, 9))]])
    root = 1 / np.sqrt(np.maximum(adjacency.sum(1), 1))
    adjacency = root[:, None] * adjacency * root
    rng = np.random.default_rng(1)
    users, items = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=(9, 4)).astype(np.float32)
    of_users, of_items = layered(users, items, normalised(_graph()), 3)
    wanted = np.concatenate([users, items]).astype(np.float64)
    for u, i in zip(of_users, of_items, strict=True):
        np.testing.assert_allclose(np.concatenate([u, i]), wanted, atol=1e-5)
        wanted = adjacency @ wanted


def test_smoothing_passes_its_gradient_back() -> None:
    graph = normalised(_graph()).astype(np.float64)
    torch.manual_seed(0)
    users, items = (torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (6, 9))
    assert torch.autograd.gradcheck(lambda u, i: _Smoothing.apply(u, i, graph, 3), (users, items))


@pytest.mark.parametrize("repeats", [False, True])
def test_a_trained_user_with_the_training_history_gets_the_scores_of_the_paper(repeats: bool) -> None:
    """The graph knows who took what, not how often: an event that is told twice is one edge."""
    train = worlds.checkerboard().split.train
    if repeats:
        train = train.with_events(pl.concat([train.events, train.events.head(len(train.events) // 3)]))
    config = LightGCNConfig(**SMALL | {"epochs": 3, "half_life": 0.0, "layers": 3})
    model = LightGCN(config).fit(train, valid=None, rng=np.random.default_rng(0))
    users, graph = model.users_ * (config.layers + 1), normalised(train.matrix())
    # Layer 0 of the items, from the mean of their layers: the smoothing is linear.
    whole = model.score(Queries.of(train.histories.items, users=np.arange(train.n_users)))
    first = np.linalg.lstsq(
        sum(np.linalg.matrix_power((graph.T @ graph).toarray().astype(np.float64), k) for k in range(2)),
        4 * model.items_ - _odd(users, graph),
        rcond=None,
    )[0].astype(np.float32)
    of_users, of_items = layered(users, first, graph, 3)
    np.testing.assert_allclose(whole, (sum(of_users) / 4) @ (sum(of_items) / 4).T, rtol=1e-3, atol=1e-4)


def _odd(users: np.ndarray, graph: sparse.csr_matrix) -> np.ndarray:
    """Return what the users' layer 0 gives to layers 1 and 3 of the items."""
    once = graph.T @ users
    return np.asarray(once + graph.T @ (graph @ once))


def test_an_unknown_user_is_the_history_and_a_known_one_adds_the_own_embedding() -> None:
    split = worlds.checkerboard().split
    model = LightGCN(LightGCNConfig(**SMALL | {"epochs": 3})).fit(split.train, valid=None, rng=np.random.default_rng(0))
    known = split.test.queries
    unknown = Queries.of(known.history)
    np.testing.assert_allclose(
        model.score(known) - model.score(unknown), model.users_[known.users] @ model.items_.T, rtol=1e-3, atol=1e-4
    )
    np.testing.assert_array_equal(model.score(Queries.of(Ragged.empty(1)))[0], split.train.item_counts)


def test_a_user_without_training_events_is_the_history_alone() -> None:
    split = worlds.checkerboard().split
    left = split.train.with_events(split.train.events.filter(pl.col("user") != 3))
    model = LightGCN(LightGCNConfig(**SMALL | {"epochs": 2})).fit(left, valid=None, rng=np.random.default_rng(0))
    history = split.test.queries.history.take(np.zeros(3, np.int64))
    stranger, nobody, known = model.score(Queries.of(history, users=np.array([3, -1, 5])))
    np.testing.assert_array_equal(stranger, nobody)
    assert not np.allclose(known, nobody)


def test_text_initialisation_needs_its_encoder() -> None:
    config = LightGCNConfig(**SMALL | {"item_init": {"encoder": "x", "template": "{title}"}})
    with pytest.raises(ModelError, match="needs an encoder"):
        LightGCN(config).fit(worlds.checkerboard().split.train, valid=None, rng=np.random.default_rng(0))
