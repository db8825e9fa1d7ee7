"""LightGCN: embeddings of users and items, smoothed over the graph of who took what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from torch import Tensor, nn

from llm4rec.core import Cases, Choice, Dataset, ModelError, Queries, Resources, ScoringComponent, Uniform, Whole
from llm4rec.features.encoders import Encoder
from llm4rec.features.reduce import ItemInit, initial_embeddings
from llm4rec.metrics import evaluate
from llm4rec.models.history import history_matrix
from llm4rec.nn.losses import LossConfig, next_item_loss
from llm4rec.nn.train import reduced_precision
from llm4rec.nn.train import train as train_network


class LightGCNConfig(LossConfig):
    """Parameters of LightGCN; the paper's own loss is ``bpr`` with one negative that is not shared."""

    width: int = Field(64, ge=2)
    """Dimensions of the embeddings."""
    layers: int = Field(2, ge=1)
    """Steps over the graph: from items to users, or back."""
    half_life: float = Field(6.0, ge=0)
    """Events of the history after which an older one counts half when a query is answered; 0: all count alike."""
    learning_rate: float = Field(1e-2, gt=0)
    """Of AdamW."""
    item_rate: float = Field(1.0, gt=0, le=1)
    """Learning rate of the item embeddings, as a share of ``learning_rate``: below 1 they stay nearer to their start."""
    l2: float = Field(1e-2, ge=0)
    """Weight of the squared embeddings, before the graph, of a batch's users and items, over the batch."""
    batch_size: int = Field(4096, ge=1)
    """Events in a training step; each step goes over the whole graph."""
    epochs: int = Field(200, ge=1)
    """At most so many."""
    every: int = Field(2, ge=1)
    """Epochs between two looks at the validation cases."""
    patience: int = Field(5, ge=1)
    """Looks without a better NDCG@10 before training stops."""
    deviation: float = Field(0.1, gt=0)
    """Standard deviation of the initial embeddings."""
    item_init: ItemInit | None = None
    """Start the item embeddings from text vectors; absent: from random ones."""


class _Embeddings(nn.Module):
    """The embeddings before the graph."""

    def __init__(self, n_users: int, n_items: int, config: LightGCNConfig) -> None:
        super().__init__()
        self.users = nn.Parameter(torch.empty(n_users, config.width).normal_(std=config.deviation))
        self.items = nn.Parameter(torch.empty(n_items, config.width).normal_(std=config.deviation))


class _Smoothing(torch.autograd.Function):
    """Mean over the layers of users [n_users, d] and items [n_items, d] that go over the graph.

    The map is linear and symmetric, so its backward pass is itself.
    """

    @staticmethod
    def forward(ctx: Any, users: Tensor, items: Tensor, graph: sparse.csr_matrix, layers: int) -> tuple[Tensor, Tensor]:
        ctx.graph, ctx.layers = graph, layers
        of_users, of_items = layered(users.detach().numpy(), items.detach().numpy(), graph, layers)
        return torch.from_numpy(np.mean(of_users, axis=0)), torch.from_numpy(np.mean(of_items, axis=0))

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor, None, None]:
        of_users, of_items = layered(users.numpy(), items.numpy(), ctx.graph, ctx.layers)
        return torch.from_numpy(np.mean(of_users, axis=0)), torch.from_numpy(np.mean(of_items, axis=0)), None, None


def layered(
    users: NDArray[np.float32], items: NDArray[np.float32], graph: sparse.csr_matrix, layers: int
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Return the embeddings of users and of items after 0, 1, ... ``layers`` steps over ``graph`` [n_users, n_items]."""
    of_users, of_items, back = [users], [items], graph.T
    for _ in range(layers):
        users, items = graph @ items, back @ users
        of_users.append(users)
        of_items.append(items)
    return of_users, of_items


class LightGCN(ScoringComponent[LightGCNConfig]):
    """Linear graph convolution over users and items.

    With ``A_ui = 1 / sqrt(|N_u| |N_i|)`` for each event, layer k + 1 of users is ``A`` times layer k of
    items and the other way round; a user's and an item's vector is the mean of its layers 0 to L,
    their inner product the score.  He et al., *LightGCN: Simplifying and Powering Graph Convolution
    Network for Recommendation*, SIGIR 2020.  The softmax losses in place of BPR after Wu et al.,
    *On the Effectiveness of Sampled Softmax Loss for Item Recommendation*, TOIS 2024.

    A query is answered from its history, like those of every model here: layers 1 to L of a user are
    made of the items of the history, so an unknown user, and an event after training, count like any
    other; a user who was trained on adds the own layer 0.  With ``half_life=0`` a trained
    user with the training history gets the paper's scores.  A query without history is answered by
    training popularity.

    With ``item_init`` layer 0 of the items starts from text vectors.
    """

    deterministic = False
    space: ClassVar = {
        "loss": Choice(("softmax", "bpr")),
        "layers": Whole(1, 3),
        "half_life": Uniform(1.0, 30.0, log=True),
        "learning_rate": Uniform(1e-3, 3e-2, log=True),
        "item_rate": Uniform(0.1, 1.0, log=True),
        "l2": Uniform(1e-5, 0.1, log=True),
        "smoothing": Uniform(0.0, 0.2),
        "batch_size": Choice((2048, 4096, 8192)),
    }

    users_: NDArray[np.float32]
    items_: NDArray[np.float32]
    spread_: NDArray[np.float32]
    popularity_: NDArray[np.float32]
    training_: list[dict[str, float]]

    def __init__(self, config: LightGCNConfig | None = None, *, encoder: Encoder | None = None) -> None:
        super().__init__(config)
        self._encoder = encoder

    @classmethod
    def create(cls, config: LightGCNConfig, resources: Resources) -> Self:
        """Take the encoder of ``item_init`` from the run's resources."""
        return cls(config, encoder=None if config.item_init is None else resources.encoder(config.item_init.encoder))

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Train on ``train``; ``valid``, if given, decides when to stop (by NDCG@10, seen masked)."""
        config = self.config
        torch.manual_seed(int(rng.integers(2**31)))
        network = _Embeddings(train.n_users, train.n_items, config)
        if config.item_init is not None:
            if self._encoder is None:
                raise ModelError(
                    "item_init needs an encoder", where="LightGCN", todo="build it with encoder=... or LightGCN.create"
                )
            vectors = initial_embeddings(train, config.item_init, self._encoder, config.width, rng)
            with torch.no_grad():
                network.items.copy_(torch.from_numpy(vectors))
        graph = normalised(train.matrix())
        users, items = (torch.from_numpy(side.astype(np.int64)) for side in graph.nonzero())  # of each pair
        self.popularity_ = train.item_counts.astype(np.float32)
        popularity = torch.from_numpy(self.popularity_)

        def batches(_: int) -> Iterator[Tensor]:
            return iter(torch.from_numpy(rng.permutation(len(users))).split(config.batch_size))

        def loss(pairs: Tensor) -> Tensor:
            u, i = users[pairs], items[pairs]
            of_users, of_items = _Smoothing.apply(network.users, network.items, graph, config.layers)
            states = nn.functional.embedding(u, of_users)
            value = next_item_loss(states, of_items, i, config, popularity)
            if not config.l2:
                return value
            first = [nn.functional.embedding(at, table) for at, table in ((u, network.users), (i, network.items))]
            return value + config.l2 * sum(x.square().sum() for x in first) / (2 * len(pairs))

        def validate() -> float:
            assert valid is not None
            self._keep(network, graph)
            lists = self.retrieve(valid.queries, 10, exclude=valid.seen)
            return float(evaluate(lists, valid.truth, ["ndcg@10"])["ndcg@10"].mean())

        groups = [{"params": [network.items], "lr": config.learning_rate * config.item_rate}, {"params": [network.users]}]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=0.0, fused=True)
        with reduced_precision():
            self.training_ = train_network(
                network, optimizer, batches, loss, epochs=config.epochs, every=config.every, patience=config.patience,
                validate=None if valid is None else validate,
            )  # fmt: skip
        self._keep(network, graph)
        return self

    def _keep(self, network: _Embeddings, graph: sparse.csr_matrix) -> None:
        """Make what queries are answered from: item vectors, what each item gives a user, users' layer 0."""
        share = 1 / (self.config.layers + 1)
        users, items = network.users.detach().numpy(), network.items.detach().numpy()
        _, of_items = layered(users, items, graph, self.config.layers)
        degree = np.maximum(np.bincount(graph.indices, minlength=len(items)), 1).astype(np.float32)[:, None]  # users of each
        self.items_ = np.mean(of_items, axis=0)  # [n_items, d]
        # Layer k of a user is the sum over the history of layer k - 1 of its items, over both degrees' roots.
        self.spread_ = np.sum(of_items[:-1], axis=0) * np.float32(share) / np.sqrt(degree)  # [n_items, d]
        told = np.diff(graph.indptr)[:, None] > 0  # those of others are what they were drawn as
        self.users_ = np.where(told, users * np.float32(share), np.float32(0))  # [n_users, d]

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items], the inner products of user and item vectors."""
        n_items = len(self.items_)
        history = history_matrix(queries, n_items, self.config.half_life)  # [n, n_items]
        counts, weights = np.diff(history.indptr), np.asarray(history.sum(axis=1)).ravel()
        # Old events give way to new ones, but the history as a whole keeps the weight of its length.
        scale = np.sqrt(np.maximum(counts, 1)) / np.maximum(weights, np.finfo(np.float32).tiny)
        user = (history @ self.spread_) * scale[:, None].astype(np.float32)  # [n, d]
        known = queries.users >= 0
        user[known] += self.users_[queries.users[known]]
        scores: NDArray[np.float32] = user @ self.items_.T
        scores[counts == 0] = self.popularity_
        return scores


def normalised(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return ``A_ui = R_ui / sqrt(|N_u| |N_i|)`` of a binary matrix R, float32 CSR of the same shape."""
    of_user, of_item = (np.asarray(matrix.sum(axis=axis)).ravel() for axis in (1, 0))
    left, right = (sparse.diags_array(1 / np.sqrt(np.maximum(degree, 1))) for degree in (of_user, of_item))
    return sparse.csr_matrix(left @ matrix @ right, dtype=np.float32)
