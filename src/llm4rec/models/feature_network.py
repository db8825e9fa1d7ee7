"""What FM, DeepFM and DCN share: the fields that they read, their training, and how they answer.

A question is a user, an item and the user's history before it.  Every training event is one, asked at
its own time: its history is what the user had rated until then, so neither the answer nor a later event is in it.
A value in the history is told as what it is above its item's mean, and that mean is of all of training: it knows
later events of others, and the answer too where the user has rated the same item before.  No held-out event is in it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field as Parameter
from torch import Tensor, nn

from llm4rec.core import Cases, Choice, Component, Config, Dataset, Queries, Ragged, Uniform
from llm4rec.core.columns import ITEM, VALUE
from llm4rec.features.fields import Field, fields
from llm4rec.models.bias import Loss, is_logistic
from llm4rec.nn.train import train as train_network

#: Deviation of the embeddings' first values.
_DEVIATION = 0.02
#: Events that an item's and a history's mean value are drawn to the overall mean by.
_SHRINK = 5.0
#: Questions answered at once.
_BATCH = 8192


class FeatureConfig(Config):
    """Parameters of every model over fields."""

    loss: Loss = "auto"
    """``squared`` for ratings, ``logistic`` for clicks; ``auto`` takes ``logistic`` if every training value is 0 or 1."""
    width: int = Parameter(16, ge=1)
    """Dimensions of the embeddings."""
    length: int = Parameter(50, ge=1)
    """Events of the history that are read, the latest."""
    dropout: float = Parameter(0.2, ge=0, lt=1)
    """Share of the embeddings' entries, and of hidden units, that are dropped in training."""
    unknown: float = Parameter(0.02, ge=0, lt=1)
    """Share of training questions whose user is hidden, and whose item is: so the rows of unknown ones are learnt."""
    learning_rate: float = Parameter(2e-3, gt=0)
    """Of AdamW."""
    weight_decay: float = Parameter(0.3, ge=0)
    """Of AdamW: weights shrink by ``learning_rate`` times this a step."""
    batch_size: int = Parameter(1024, ge=1)
    """Questions in a step."""
    epochs: int = Parameter(60, ge=1)
    """At most so many passes over the training events; all of them without validation cases."""
    patience: int = Parameter(3, ge=1)
    """Epochs without a better validation loss before training stops."""


class Batch(NamedTuple):
    """Questions as the network reads them.

    Attributes:
        users, items: int64[b], -1 for unknown.
        history: int64[b, t], -1 pads.
        residuals: float32[b, t], each event's value less what its item mostly gets; 0 at pads.
    """

    users: Tensor
    items: Tensor
    history: Tensor
    residuals: Tensor


class FieldNetwork(nn.Module):
    """Embeds the fields; subclasses say what is made of them.

    The fields are those of the tables and two of the history: the mean of its items' embeddings, and
    the mean of the same weighed by the residuals (what was liked less what was not).  A last,
    numeric one is the history's mean residual times a vector: how high this user rates.
    """

    def __init__(self, given: Sequence[Field], width: int, dropout: float) -> None:
        super().__init__()
        self.sides = [field.side for field in given]
        self.names = [field.name for field in given]
        for at, field in enumerate(given):
            self.register_buffer(f"codes{at}", torch.from_numpy(field.codes))
        # One column more than the embedding: the linear weight of each value.
        self.tables = nn.ModuleList(nn.EmbeddingBag(f.size + 1, width + 1, mode="mean", padding_idx=f.size) for f in given)
        own = next(f for f in given if f.name == ITEM)
        self.own = self.names.index(ITEM)
        self.past, self.liked = (nn.Embedding(own.size + 1, width + 1, padding_idx=own.size) for _ in range(2))
        self.level = nn.Parameter(torch.zeros(width + 1))
        self.constant = nn.Parameter(torch.zeros(()))
        self.drop = nn.Dropout(dropout)
        self.n_fields, self.width = len(given) + 3, width
        with torch.no_grad():
            for table in (*self.tables, self.past, self.liked):
                table.weight.normal_(0, _DEVIATION)
                table.weight[:, -1] = 0
                table.weight[-1] = 0
            self.level[-1] = 1.0  # a user who has rated half a point higher is expected to go on so
            self.level[:-1].normal_(0, _DEVIATION)

    def embedded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the fields' embeddings float[b, f, d], and the sum of their linear weights float[b]."""
        of = {"user": batch.users, "item": batch.items}
        found = [
            table(self.get_buffer(f"codes{at}")[of[side]])
            for at, (side, table) in enumerate(zip(self.sides, self.tables, strict=True))
        ]
        pad = self.past.padding_idx
        real = batch.history >= 0  # [b, t]
        codes = torch.where(real, self.get_buffer(f"codes{self.own}")[batch.history, 0], pad)
        n = real.sum(1, keepdim=True)
        found.append(F.embedding_bag(codes, self.past.weight, mode="mean", padding_idx=pad))
        summed = F.embedding_bag(codes, self.liked.weight, per_sample_weights=batch.residuals, mode="sum", padding_idx=pad)
        found.append(summed / (n + 1.0).sqrt())
        found.append(batch.residuals.sum(1, keepdim=True) / (n + _SHRINK) * self.level)
        whole = torch.stack(found, dim=1)  # [b, f, d + 1]
        return self.drop(whole[:, :, :-1]), whole[:, :, -1].sum(1) + self.constant

    def forward(self, batch: Batch) -> Tensor:
        """Return float[b]: the value less the mean of training, or the logit of a click."""
        raise NotImplementedError


C = TypeVar("C", bound=FeatureConfig)


class FeaturePredictor(Component[C]):
    """A predictor whose network reads fields; trained by AdamW, stopped by the loss on validation cases."""

    deterministic = False
    space: ClassVar = {
        "width": Choice((8, 16, 32)),
        "dropout": Uniform(0.0, 0.5),
        "learning_rate": Uniform(5e-4, 5e-3, log=True),
        "weight_decay": Uniform(0.01, 3.0, log=True),
    }

    limits_: list[float]
    logistic_: bool
    item_means_: NDArray[np.float32]

    @abstractmethod
    def network(self, given: Sequence[Field]) -> FieldNetwork:
        """Return a new network over the fields."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Train on every training event, with the history until then."""
        config, histories = self.config, train.histories
        torch.manual_seed(int(rng.integers(2**31)))
        values = train.events[VALUE].to_numpy().astype(np.float64)
        self.logistic_, mean = is_logistic(config.loss, values), float(values.mean())
        self.limits_ = [float(values.min()), float(values.max()), mean]
        total = np.bincount(train.events[ITEM].to_numpy(), values, minlength=train.n_items)
        self.item_means_ = ((total + _SHRINK * mean) / (train.item_counts + _SHRINK)).astype(np.float32)
        network = self.network_ = self.network(fields(train))
        if self.logistic_ and 0 < mean < 1:
            nn.init.constant_(network.constant, float(np.log(mean / (1 - mean))))
        items, users = histories.items.values, histories.items.rows
        residuals = np.append(histories.values - self.item_means_[items], 0).astype(np.float32)
        held, padded = histories.values, np.append(items, -1).astype(np.int64)
        start = histories.items.offsets[users]
        learnt = torch.from_numpy((held if self.logistic_ else held - mean).astype(np.float32))

        def batches(_: int) -> Iterator[NDArray[np.int64]]:
            order = rng.permutation(len(items))
            return (order[at : at + config.batch_size] for at in range(0, len(order), config.batch_size))

        def loss(rows: NDArray[np.int64]) -> Tensor:
            at = rows[:, None] + np.arange(-config.length, 0)
            at = np.where(at >= start[rows][:, None], at, -1)  # [b, t], the user's events before this one
            user, item = (np.where(rng.random(len(rows)) < config.unknown, -1, ids[rows]) for ids in (users, items))
            parts = (user.astype(np.int64), item.astype(np.int64), padded[at], residuals[at])
            scores = network(Batch(*map(torch.from_numpy, parts)))
            wanted = learnt[rows]
            return F.binary_cross_entropy_with_logits(scores, wanted) if self.logistic_ else F.mse_loss(scores, wanted)

        asked = None if valid is None or valid.values is None else valid.single()

        def validate() -> float:
            assert asked is not None
            answer = torch.from_numpy(self.predict(asked.queries, asked.truth.values))
            wanted = torch.from_numpy(np.asarray(asked.values))
            return -float(F.binary_cross_entropy(answer, wanted) if self.logistic_ else F.mse_loss(answer, wanted))

        optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.training_ = train_network(
            network, optimizer, batches, loss, epochs=config.epochs, patience=config.patience,
            validate=None if asked is None else validate,
        )  # fmt: skip
        return self

    def predict(self, queries: Queries, items: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return float32[n], within the range of the training values."""
        low, high, mean = self.limits_
        out = np.empty(len(queries), dtype=np.float32)
        for rows, part in queries.chunks(_BATCH):
            with torch.inference_mode():
                scores = self.network_(self._batch(part, items[rows])).numpy()
            out[rows] = 1 / (1 + np.exp(-scores.astype(np.float64))) if self.logistic_ else scores + mean
        return np.clip(out, low, high)

    def _batch(self, queries: Queries, items: NDArray[np.int32]) -> Batch:
        history, values = queries.history, queries.history_values
        at = Ragged(history.offsets, np.arange(len(history.values), dtype=np.int32)).padded(self.config.length)
        known = np.append(history.values, -1).astype(np.int64)
        told = np.zeros(len(history.values)) if values is None else values - self.item_means_[history.values]
        parts = (queries.users.astype(np.int64), items.astype(np.int64), known[at], np.append(told, 0).astype(np.float32)[at])
        return Batch(*map(torch.from_numpy, parts))

    def state(self) -> dict[str, Any]:
        """Return the weights and the fields' codes by name, with what else ``fit`` left."""
        weights = {f"network_.{k}": v.numpy() for k, v in self.network_.state_dict().items()}
        own = {k: getattr(self, k) for k in ("limits_", "logistic_", "item_means_", "training_")}
        shape = [
            [n, s, t.num_embeddings - 1]
            for n, s, t in zip(self.network_.names, self.network_.sides, self.network_.tables, strict=True)
        ]
        return weights | own | {"fields_": shape}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Rebuild the network and take over its weights."""
        for name in ("limits_", "logistic_", "item_means_", "training_"):
            setattr(self, name, state[name])
        given = [Field(n, s, state[f"network_.codes{i}"], size) for i, (n, s, size) in enumerate(state["fields_"])]
        self.network_ = self.network(given).eval()
        weights = {k.removeprefix("network_."): torch.from_numpy(v) for k, v in state.items() if k.startswith("network_.")}
        self.network_.load_state_dict(weights)


def interactions(embedded: Tensor) -> Tensor:
    """Return float[b], the sum of the inner products of every two of float[b, f, d], in f d steps (Rendle 2010, lemma 3.1)."""
    summed = embedded.sum(1)
    return 0.5 * (summed.square() - embedded.square().sum(1)).sum(1)


def hidden_layers(inputs: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Return layers of rectified units, each with dropout."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers)
