"""What the networks over item IDs that are trained here share: training with early stopping, and saving."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from llm4rec.core import Cases, Dataset, Queries
from llm4rec.generative.ids import ItemIDs
from llm4rec.generative.levels import Levels
from llm4rec.generative.step import StepModel
from llm4rec.generative.trie import Trie
from llm4rec.generative.writer import IDWriter, WriterConfig
from llm4rec.nn.train import reduced_precision
from llm4rec.nn.train import train as train_network


class GeneratorConfig(WriterConfig):
    """Parameters of a network that reads a history and writes the ID of the next item, token by token."""

    width: int = Field(64, ge=2)
    """Dimensions of the embeddings and of the states."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Share of activations dropped in embeddings and between layers."""
    length: int = Field(50, ge=1)
    """Most recent events that are looked at."""
    smoothing: float = Field(0.1, ge=0, lt=1)
    """Label smoothing, over the tokens that the IDs allow at a place."""
    learning_rate: float = Field(2e-3, gt=0)
    """Of AdamW."""
    weight_decay: float = Field(0.0, ge=0)
    """Of AdamW, on all parameters."""
    average: float = Field(0.0, ge=0, lt=1)
    """Decay per step of a moving average of the weights; 0 keeps the weights themselves."""
    batch_size: int = Field(64, ge=1)
    """Histories in a training step."""
    epochs: int = Field(200, ge=1)
    """At most so many."""
    every: int = Field(2, ge=1)
    """Epochs between two looks at the validation cases."""
    patience: int = Field(5, ge=1)
    """Looks without a better NDCG@10 before training stops."""
    deviation: float = Field(0.02, gt=0)
    """Standard deviation of the initial weights."""


C = TypeVar("C", bound=GeneratorConfig)

#: The batches of an epoch by its number, and the loss of a batch.
Training = tuple[Callable[[int], Iterable[Any]], Callable[[Any], Tensor]]


class Generator(IDWriter[C]):
    """A network, trained here, that gives each item's ID a probability, token by token.

    Probabilities are taken over the tokens that continue a prefix to some item's ID in training as in search.  A query
    without history is answered by training popularity, which is all that is known of it.
    """

    #: 4 MB for states of 64, about a core's own cache.
    prefixes: ClassVar[int] = 1 << 14

    # -- what a model brings ------------------------------------------------------------
    @abstractmethod
    def network(self, levels: Levels) -> nn.Module:
        """Return a new network with its first weights."""

    @abstractmethod
    def training(self, train: Dataset, rng: np.random.Generator) -> Training:
        """Return what an epoch trains on, and how a batch is judged."""

    @abstractmethod
    def steps(self, queries: Queries) -> StepModel:
        """Return what decodes the queries' next items."""

    # -- what they share ----------------------------------------------------------------
    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Train on ``train``; ``valid``, if given, decides when to stop (by NDCG@10, seen masked)."""
        config = self.config
        ids = config.ids.build(train, encoder=self._encoder, rng=rng)
        torch.manual_seed(int(rng.integers(2**31)))
        self._build(ids)
        self.popularity_ = train.item_counts.astype(np.float32)
        batches, loss = self.training(train, rng)
        validate = None if valid is None else lambda: self.validated(valid)
        parameters = list(self.network_.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        with reduced_precision():
            self.training_ = train_network(
                self.network_, optimizer, batches, loss, epochs=config.epochs, every=config.every,
                patience=config.patience, average=config.average, validate=validate,
            )  # fmt: skip
        return self

    @property
    def trie(self) -> Trie:
        """The items' IDs, cut where what follows is certain."""
        return self._trie

    def decoders(self, queries: Queries) -> Iterator[tuple[NDArray[np.int64], StepModel]]:
        """Yield the rows of queries with a history, and what decodes their next items."""
        if len(known := np.flatnonzero(queries.history.lengths)):
            yield known, self.steps(queries.take(known))

    # -- saving -------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return the IDs and the weights by name, with what else ``fit`` left."""
        ids = {f"ids_{name}_": value for name, value in self.ids_.state().items()}
        weights = {f"network_.{name}": value.numpy() for name, value in self.network_.state_dict().items()}
        return ids | weights | {"popularity_": self.popularity_, "training_": self.training_}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Rebuild the network over the same IDs and take over its weights."""
        self.popularity_, self.training_ = state["popularity_"], state["training_"]
        names = [name for name in state if name.startswith("ids_")]
        self._build(ItemIDs.from_state({name.removeprefix("ids_").removesuffix("_"): state[name] for name in names}))
        self.network_.eval()
        weights = {k.removeprefix("network_."): torch.from_numpy(v) for k, v in state.items() if k.startswith("network_.")}
        self.network_.load_state_dict(weights)

    def _build(self, ids: ItemIDs) -> None:
        """Take the IDs, and make a network over them."""
        self.ids_ = ids
        self._levels = Levels.of(ids)
        self._trie = Trie.of(self._levels.shortest)
        self.network_ = self.network(self._levels)
