"""What SASRec, GRU4Rec and the two towers share: windows of histories, training on every position, scoring by inner product."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from llm4rec.core import Cases, DataError, Dataset, ModelError, Queries, Ragged, Resources, ScoringComponent, SpecError
from llm4rec.features.encoders import Encoder
from llm4rec.features.reduce import ItemInit, initial_embeddings
from llm4rec.metrics import evaluate
from llm4rec.nn.losses import LossConfig, next_item_loss
from llm4rec.nn.train import reduced_precision
from llm4rec.nn.train import train as train_network
from llm4rec.nn.windows import Span, Windows


class SequentialConfig(LossConfig):
    """Parameters of a network that reads a history and predicts what comes next."""

    width: int = Field(64, ge=2)
    """Dimensions of the item embeddings and of the states."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Share of activations dropped in embeddings and between layers."""
    length: int = Field(50, ge=1)
    """Most recent events that are looked at."""
    windows: Span = "all"
    """What is trained on of a history longer than ``length``: all of it, cut into windows, or its end
    alone, as in the papers."""
    learning_rate: float = Field(2e-3, gt=0)
    """Of AdamW."""
    item_rate: float = Field(1.0, gt=0, le=1)
    """Learning rate of the item embeddings, as a share of ``learning_rate``: below 1 they stay nearer to their start."""
    weight_decay: float = Field(0.0, ge=0)
    """Of AdamW, on all parameters."""
    average: float = Field(0.0, ge=0, lt=1)
    """Decay per step of a moving average of the weights; 0 keeps the weights themselves."""
    batch_size: int = Field(64, ge=1)
    """Windows in a training step; a history of at most ``length`` + 1 events is one window."""
    epochs: int = Field(200, ge=1)
    """At most so many."""
    every: int = Field(2, ge=1)
    """Epochs between two looks at the validation cases."""
    patience: int = Field(5, ge=1)
    """Looks without a better NDCG@10 before training stops."""
    deviation: float = Field(0.02, gt=0)
    """Standard deviation of the initial weights."""
    item_init: ItemInit | None = None
    """Start the item embeddings from text vectors; absent: from random ones."""


class NextItemNetwork(nn.Module):
    """Histories in, one vector for each position out; items are scored by inner product.

    Input and output embeddings are the same table; its last row is the pad.  A subclass calls ``start``
    once what it is to draw is built; layers built after that keep the first weights of their kind.
    """

    #: Does ``forward`` look at times?
    timed = False

    def __init__(self, n_items: int, width: int) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items + 1, width, padding_idx=n_items)

    def start(self, deviation: float) -> None:
        """Draw the first weights; biases and the pad are zero."""
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=deviation)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
        with torch.no_grad():
            self.items.weight[self.items.padding_idx] = 0

    def embed(self, history: Tensor) -> Tensor:
        """Map int64[...] items to float[..., d], what the network reads of them; zero for the pad."""
        embedded: Tensor = self.items(history)
        return embedded

    @abstractmethod
    def read(self, x: Tensor, real: Tensor, times: Tensor | None = None) -> Tensor:
        """Map float[b, t, d] embedded histories to float[b, t, d] states; ``real`` bool[b, t] is False for pads, on the left.

        ``times`` int64[b, t + 1], if known: when each event was, and after them the moment that is
        asked about; s.  Only a network that is ``timed`` is given any.
        """

    def forward(self, history: Tensor, times: Tensor | None = None) -> Tensor:
        """Map int64[b, t] items, padded on the left, to float[b, t, d] states."""
        return self.read(self.embed(history), history != self.items.padding_idx, times)

    def take_text(self, vectors: Tensor) -> None:
        """Start the item embeddings from float[n_items, d] text vectors."""
        self.items.weight[:-1] = vectors

    @property
    def vectors(self) -> Tensor:
        """float[n_items, d], what states are compared with."""
        return self.items.weight[:-1]


C = TypeVar("C", bound=SequentialConfig)


class SequentialScorer(ScoringComponent[C]):
    """A recommender whose network reads histories.

    It is trained to predict, at every position of every training history, the item that comes
    next.  A query without history is answered by training popularity, which is all that is known of it.
    With ``item_init`` the item embeddings start from a sentence encoder's vectors of the items'
    texts (Harte et al., *Leveraging Large Language Models for Sequential Recommendation*,
    RecSys 2023; arXiv 2402.01339) and are trained on.
    """

    deterministic = False

    def __init__(self, config: C | None = None, *, encoder: Encoder | None = None) -> None:
        super().__init__(config)
        self._encoder = encoder

    @classmethod
    def create(cls, config: C, resources: Resources) -> Self:
        """Take the encoder of ``item_init`` from the run's resources."""
        return cls(config, encoder=None if config.item_init is None else resources.encoder(config.item_init.encoder))

    @abstractmethod
    def network(self, n_items: int) -> NextItemNetwork:
        """Return a new network with its first weights."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Train on ``train``; ``valid``, if given, decides when to stop (by NDCG@10, seen masked)."""
        config = self.config
        torch.manual_seed(int(rng.integers(2**31)))
        network = self.network(train.n_items)
        if network.timed and train.clock != "utc":
            raise SpecError("the data have no real times", where="time_gaps", todo="leave it out")
        if config.item_init is not None:
            if self._encoder is None:
                raise ModelError(
                    "item_init needs an encoder",
                    where=type(self).__name__,
                    todo=f"build it with encoder=... or {type(self).__name__}.create",
                )
            vectors = initial_embeddings(train, config.item_init, self._encoder, config.width, rng)
            with torch.no_grad():
                network.take_text(torch.from_numpy(vectors))
        self.network_, self.popularity_ = network, train.item_counts.astype(np.float32)
        windows = Windows.of(train, config.length, config.windows, timed=network.timed)
        if not len(windows.events):
            what = "no user has two training events, so nothing comes next"
            raise DataError(what, where=train.name, todo="take a larger log, or a model of pairs")
        popularity = torch.from_numpy(self.popularity_)

        def batches(_: int) -> Iterator[NDArray[np.int64]]:
            order = rng.permutation(len(windows.events))
            return (order[start : start + config.batch_size] for start in range(0, len(order), config.batch_size))

        def loss(rows: NDArray[np.int64]) -> Tensor:
            groups, states, targets = list(windows.batch(rows)), [], []
            # Looked up together: each lookup has a dense gradient of the whole table.
            embedded = network.embed(torch.cat([history.flatten() for history, _, _ in groups]))  # [positions, d]
            parts = embedded.split([history.numel() for history, _, _ in groups])
            for x, (history, following, times) in zip(parts, groups, strict=True):
                real = history != train.n_items
                asked = real.flatten().nonzero()[:, 0]  # positions that have something to predict from
                read = network.read(x.view(*history.shape, -1), real, times)
                states.append(read.flatten(0, 1).index_select(0, asked))
                targets.append(following.flatten()[asked])
            return next_item_loss(torch.cat(states), network.vectors, torch.cat(targets), config, popularity)

        def validate() -> float:
            assert valid is not None
            lists = self.retrieve(valid.queries, 10, exclude=valid.seen)
            return float(evaluate(lists, valid.truth, ["ndcg@10"])["ndcg@10"].mean())

        items = network.items.weight
        others = [p for p in network.parameters() if p is not items]
        rates = [{"params": [items], "lr": config.learning_rate * config.item_rate}, {"params": others}]
        optimizer = torch.optim.AdamW(rates, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        with reduced_precision():
            self.training_ = train_network(
                network, optimizer, batches, loss, epochs=config.epochs, every=config.every, patience=config.patience,
                average=config.average, validate=None if valid is None else validate,
            )  # fmt: skip
        return self

    def item_vectors(self) -> NDArray[np.float32]:
        """Return float32[n_items, d], the items' embeddings."""
        vectors: NDArray[np.float32] = self.network_.vectors.detach().numpy()
        return vectors

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items]: the logits of the next item."""
        n_items, length = len(self.popularity_), self.config.length
        history = torch.from_numpy(queries.history.padded(length, pad=n_items).astype(np.int64))
        times = None
        if self.network_.timed and queries.history_times is not None:
            at = Ragged(queries.history.offsets, np.arange(len(queries.history.values), dtype=np.int32)).padded(length)
            held = np.append(queries.history_times, 0)[at]  # [n, t]; -1 takes the last
            times = torch.from_numpy(np.column_stack([held, queries.times]))
        with torch.inference_mode():
            states = self.network_(history, times)[:, -1]  # [n, d]
            scores: NDArray[np.float32] = (states @ self.network_.vectors.T).numpy()
        nothing = queries.history.lengths == 0
        scores[nothing] = self.popularity_
        return scores

    def state(self) -> dict[str, Any]:
        """Return the weights by name, with what else ``fit`` left."""
        weights = {f"network_.{k}": v.numpy() for k, v in self.network_.state_dict().items()}
        return weights | {"popularity_": self.popularity_, "training_": self.training_}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Rebuild the network and take over its weights."""
        self.popularity_, self.training_ = state["popularity_"], state["training_"]
        self.network_ = self.network(len(self.popularity_)).eval()
        weights = {k.removeprefix("network_."): torch.from_numpy(v) for k, v in state.items() if k.startswith("network_.")}
        self.network_.load_state_dict(weights)
