"""IDs from events and from a trained quantiser: known clusters, cold items, dead codes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from llm4rec.generative.ids import RQVAE, CollaborativeIDs, JointIDs, RQKMeans
from llm4rec.generative.ids.collaborative import spectral
from llm4rec.generative.ids.joint import interaction_vectors
from llm4rec.generative.ids.rq_vae import Network
from tests.generative.ids.contract import SchemeContract
from tests.generative.ids.made import Given, blocks, catalogue, grid, purity

RNG = np.random.default_rng


# -- collaborative --------------------------------------------------------------------------
class TestCollaborative(SchemeContract):
    scheme = CollaborativeIDs
    configs: ClassVar[dict[str, Any]] = {"branches": 4, "template": "{title}"}


@pytest.mark.parametrize(("n_blocks", "size"), [(4, 30), (4, 200)])  # solved as a dense problem, and as a sparse one
def test_blocks_of_users_become_prefixes(n_blocks: int, size: int) -> None:
    train = blocks(n_blocks, size, users=400)
    ids = CollaborativeIDs(branches=4).build(train, encoder=None, rng=RNG(0))
    assert purity(ids.padded()[:, 0], np.arange(train.n_items) % n_blocks) == 1.0
    assert len(np.unique(ids.padded()[:, 0])) == n_blocks


def test_levels_have_tokens_of_their_own_and_groups_are_small() -> None:
    ids = CollaborativeIDs(branches=4).build(blocks(4, 30, users=400), encoder=None, rng=RNG(0))
    padded = ids.padded()
    assert ((padded // 4 == np.arange(ids.depth)) | (padded < 0)).all()
    assert ids.codes.lengths.min() >= 3
    assert ids.depth <= 7  # 120 items: 4 ** 4 would do if all splits were even, and a cluster holds twice that at most


def test_cold_items_stand_with_the_warm_ones_of_like_text() -> None:
    train = blocks(4, 20, users=200, cold=5)
    cold = np.flatnonzero(train.item_counts == 0)
    assert len(cold) == 20
    block = np.arange(train.n_items) % 4
    vectors = np.eye(4)[block] + 0.05 * RNG(0).normal(size=(train.n_items, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = CollaborativeIDs(branches=4, template="{title}").build(train, encoder=Given(vectors), rng=RNG(0))
    assert purity(ids.padded()[:, 0], block) == 1.0
    without = CollaborativeIDs(branches=4).build(train, encoder=None, rng=RNG(0)).padded()[:, 0]
    assert purity(without, block) < 1.0


def test_eigenvectors_are_those_of_the_whole_graph() -> None:
    """Against the dense normalised co-occurrence, made as the formula says."""
    train = blocks(3, 100, users=120)
    x = train.matrix().toarray().astype(np.float64)
    a = x.T @ np.diag(1 / x.sum(axis=1)) @ x
    d = a.sum(axis=1)
    values, vectors = np.linalg.eigh(a / np.sqrt(np.outer(d, d)))
    found = spectral(train.matrix().tocsc(), 6, RNG(0)).astype(np.float64)
    wanted = vectors[:, ::-1][:, :6]
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert values[-1] == pytest.approx(1.0)
    np.testing.assert_allclose(found @ found.T, wanted @ wanted.T, atol=1e-4)


def test_splits_must_end() -> None:
    with pytest.raises(ValidationError, match="balance must be below branches"):
        CollaborativeIDs(branches=2, balance=2.0)
    for n in (3, 4, 5, 17):
        assert CollaborativeIDs(branches=2, balance=1.9).build(catalogue(n), encoder=None, rng=RNG(0)).n_items == n


# -- joint ----------------------------------------------------------------------------------
class TestJoint(SchemeContract):
    scheme = JointIDs
    configs: ClassVar[dict[str, Any]] = {"levels": 3, "codebook": 8, "template": "{title}", "factors": 4}


def test_the_weight_moves_the_ids_from_text_to_events() -> None:
    train = blocks(4, 30, users=400, cold=2)
    block, n = np.arange(train.n_items) % 4, train.n_items
    topic = RNG(0).integers(4, size=n)  # of the texts: has nothing to do with the blocks
    vectors = np.eye(4)[topic]
    params = {"levels": 3, "codebook": 8, "template": "{title}"}

    def first(scheme: type[Any], **changes: Any) -> np.ndarray:
        ids = scheme.model_validate({**params, **changes}).build(train, encoder=Given(vectors), rng=RNG(0))
        return np.asarray(ids.padded()[:, 0])

    warm = train.item_counts > 0
    assert purity(first(JointIDs, weight=1.0)[warm], block[warm]) == 1.0
    assert purity(first(JointIDs, weight=1.0), topic) < 0.6
    assert purity(first(JointIDs, weight=0.0), topic) == purity(first(RQKMeans), topic) == 1.0


def test_interaction_vectors_are_like_where_users_are() -> None:
    train = blocks(4, 30, users=400, cold=2)
    vectors = interaction_vectors(train, 8, RNG(0))
    cold = train.item_counts == 0
    assert not vectors[cold].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[~cold], axis=1), 1.0, rtol=1e-5)
    likeness = vectors @ vectors.T
    same = (np.arange(120)[:, None] % 4) == (np.arange(120) % 4)
    both = ~cold[:, None] & ~cold
    assert likeness[same & both].min() > likeness[~same & both].max()


# -- RQ-VAE ---------------------------------------------------------------------------------
SMALL: dict[str, Any] = {"levels": 2, "codebook": 8, "template": "{title}", "hidden": (32,), "latent": 8, "steps": 60}


class TestRQVAE(SchemeContract):
    scheme = RQVAE
    configs: ClassVar[dict[str, Any]] = {**SMALL, "steps": 10, "levels": 3}


def test_the_first_codebook_finds_the_large_clusters() -> None:
    vectors, labels = grid(8, 4, 8)
    scheme = RQVAE.model_validate({**SMALL, "levels": 3, "steps": 300})
    ids = scheme.build(catalogue(len(vectors)), encoder=Given(vectors), rng=RNG(0))
    assert purity(ids.padded()[:, 0], labels[:, 0]) > 0.95


def test_gradients_pass_straight_through_and_stop_where_they_should() -> None:
    config = RQVAE.model_validate(SMALL)
    torch.manual_seed(0)
    network = Network(16, config)
    with torch.no_grad():
        network.books.normal_()
    z = torch.randn(5, 8, requires_grad=True)
    quantised, loss = network.quantise(z)
    through = z + (quantised - z).detach()
    assert torch.allclose(through, quantised)
    (gradient,) = torch.autograd.grad(through.sum(), z, retain_graph=True)
    assert torch.equal(gradient, torch.ones_like(z))
    # By the formula, level by level: the commitment draws z, the other term the codebooks.
    residual, for_z = z.detach(), torch.zeros_like(z)
    for book in network.books.detach():
        row = book[((residual[:, None] - book) ** 2).sum(-1).argmin(1)]
        for_z += config.commitment * 2 * (residual - row) / residual.numel()
        residual = residual - row
    (gradient,) = torch.autograd.grad(loss, z)
    assert torch.allclose(gradient, for_z, atol=1e-6)


def test_dead_codes_start_anew_at_items() -> None:
    network = Network(16, RQVAE.model_validate(SMALL))
    x = torch.randn(200, 16)
    z = network.latents(x)
    with torch.no_grad():
        network.books[0].fill_(100.0)  # one of these takes all, the others are dead
        network.books[0][0] = z.mean(0)
    network.revive(x, RNG(0))
    book = network.books[0].detach()
    assert torch.equal(book[0], z.mean(0))
    assert (torch.cdist(book[1:], z).min(1).values < 1e-4).all()
