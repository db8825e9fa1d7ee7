"""What the models over item IDs share: IDs, training with early stopping, exact scores and beam search."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from llm4rec.core import Cases, Config, Dataset, Lists, Queries, Ragged, Resources, ScoringComponent
from llm4rec.features.encoders import Encoder
from llm4rec.generative.decode import beam_search, score_all
from llm4rec.generative.ids import IdScheme, ItemIDs, RandomIDs
from llm4rec.generative.levels import Levels
from llm4rec.generative.step import StepModel
from llm4rec.generative.trie import Trie
from llm4rec.metrics import evaluate
from llm4rec.nn.train import reduced_precision
from llm4rec.nn.train import train as train_network

#: Prefixes whose states are held at once: 4 MB for states of 64, about a core's own cache.
_PREFIXES = 1 << 14


class GeneratorConfig(Config):
    """Parameters of a network that reads a history and writes the ID of the next item, token by token."""

    ids: IdScheme = Field(RandomIDs.model_validate({}), discriminator="scheme")
    """How items get their IDs."""
    search: Literal["exact", "beam"] = "exact"
    """``exact``: the probability of every item's ID, for a true full ranking.  ``beam``: the best IDs that a
    beam search finds, for large catalogues."""
    beams: int = Field(50, ge=1)
    """``beam``: prefixes kept at each step; at least as many as items are asked for."""
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


class Generator(ScoringComponent[C]):
    """A recommender whose network gives each item's ID a probability, token by token.

    The tokens that can follow a prefix are those that continue it to the ID of some item, and probabilities
    are taken over these alone, in training as in search: the items' probabilities sum to 1, and nothing but an
    item can be written.  A query without history is answered by training popularity, which is all that is
    known of it.
    """

    deterministic = False

    def __init__(self, config: C | None = None, *, encoder: Encoder | None = None) -> None:
        super().__init__(config)
        self._encoder = encoder

    @classmethod
    def create(cls, config: C, resources: Resources) -> Self:
        """Take the encoder of the IDs from the run's resources."""
        return cls(config, encoder=config.ids.open_encoder(resources))

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

        def validate() -> float:
            assert valid is not None
            lists = self.retrieve(valid.queries, 10, exclude=valid.seen)
            return float(evaluate(lists, valid.truth, ["ndcg@10"])["ndcg@10"].mean())

        parameters = list(self.network_.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)
        with reduced_precision():
            self.training_ = train_network(
                self.network_, optimizer, batches, loss, epochs=config.epochs, every=config.every,
                patience=config.patience, average=config.average, validate=None if valid is None else validate,
            )  # fmt: skip
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items]: the logarithm of the probability of each item's ID."""
        scores = np.tile(self._popular(), (len(queries), 1))
        if len(known := np.flatnonzero(queries.history.lengths)):
            with torch.inference_mode():
                scores[known] = score_all(self.steps(queries.take(known)), self._trie, normalise="trie", width=_PREFIXES)
        return scores

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        """Return the ``k`` best items of each query, none of them excluded: of all, or of those that the beams find."""
        if self.config.search == "exact":
            return super().retrieve(queries, k, exclude=exclude)
        lists = Lists.empty(len(queries), k)
        for rows, some in queries.take(known := np.flatnonzero(queries.history.lengths)).chunks(self.batch):
            at, beams = known[rows], max(k, self.config.beams)
            with torch.inference_mode():
                found = beam_search(self.steps(some), self._trie, k, beams=beams, exclude=exclude.take(at), normalise="trie")
            lists.items[at], lists.scores[at] = found.items, found.scores
        nothing = np.flatnonzero(queries.history.lengths == 0)
        popular = Lists.from_scores(np.tile(self._popular(), (len(nothing), 1)), k, exclude=exclude.take(nothing))
        lists.items[nothing], lists.scores[nothing] = popular.items, popular.scores
        return lists

    def _popular(self) -> NDArray[np.float32]:
        """Return float32[n_items], the logarithm of each item's share of the training events (one added to each)."""
        counts = self.popularity_ + 1
        return np.asarray(np.log(counts / counts.sum()), dtype=np.float32)

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
