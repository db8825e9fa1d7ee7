"""SASRec: self-attention over a user's history, trained on all positions at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from llm4rec.core import Cases, Config, Dataset, ModelError, Queries, Ragged, Resources, ScoringComponent
from llm4rec.features.encoders import Encoder
from llm4rec.features.reduce import ItemInit, initial_embeddings
from llm4rec.metrics import evaluate
from llm4rec.nn.blocks import CausalBlock, causal_visibility
from llm4rec.nn.train import reduced_precision
from llm4rec.nn.train import train as train_network

_ROUND, _NO_TARGET = 512, -100


class SASRecConfig(Config):
    """Parameters of SASRec."""

    width: int = Field(64, ge=2)
    """Dimensions of the item embeddings and of the blocks."""
    blocks: int = Field(1, ge=1)
    """Transformer blocks."""
    heads: int = Field(1, ge=1)
    """Attention heads; a divisor of ``width``."""
    dropout: float = Field(0.2, ge=0, lt=1)
    """Share of activations dropped in embeddings and after each half of a block."""
    length: int = Field(50, ge=1)
    """Most recent events that are looked at."""
    windows: Literal["all", "last"] = "all"
    """What is trained on of a history longer than ``length``: all of it, cut into windows, or its end
    alone, as in the paper."""
    learning_rate: float = Field(2e-3, gt=0)
    """Of AdamW."""
    item_rate: float = Field(1.0, gt=0, le=1)
    """Learning rate of the item embeddings, as a share of ``learning_rate``: below 1 they stay nearer to their start."""
    weight_decay: float = Field(0.0, ge=0)
    """Of AdamW, on all parameters."""
    smoothing: float = Field(0.1, ge=0, lt=1)
    """Label smoothing."""
    average: float = Field(0.0, ge=0, lt=1)
    """Decay per step of a moving average of the weights; 0 keeps the weights themselves."""
    batch_size: int = Field(64, ge=1)
    """Users in a training step."""
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

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of {self.heads} heads")
        return self


class _Network(nn.Module):
    """Histories in, one vector for each position out; items are scored by inner product."""

    def __init__(self, n_items: int, config: SASRecConfig) -> None:
        super().__init__()
        d = config.width
        self.dropout = config.dropout
        self.items = nn.Embedding(n_items + 1, d, padding_idx=n_items)  # the last row is the pad
        self.positions = nn.Parameter(torch.empty(config.length, d))  # counted from the end: the last row is "now"
        self.blocks = nn.ModuleList(CausalBlock(d, config.heads, config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(d)
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=config.deviation)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
        with torch.no_grad():
            self.items.weight[n_items] = 0

    def forward(self, history: Tensor) -> Tensor:
        """Map int64[b, t] items, padded on the left, to float[b, t, d]."""
        real = history != self.items.padding_idx
        x = F.dropout(self.items(history) + self.positions[-history.shape[1] :], self.dropout, self.training)
        visible = causal_visibility(real)
        for block in self.blocks:
            x = block(x, visible)
        return self.norm(x)

    def logits(self, states: Tensor) -> Tensor:
        """Map float[..., d] to float[..., n_items]: input and output embeddings are the same."""
        return states @ self.items.weight[:-1].T


class SASRec(ScoringComponent[SASRecConfig]):
    """Self-attentive sequential recommendation.

    The state after reading ``i_1 .. i_t`` predicts ``i_{t+1}`` by a softmax over the whole
    catalogue, at every position of a history in one pass.  Kang & McAuley, *Self-Attentive
    Sequential Recommendation*, ICDM 2018; the full softmax in place of one sampled negative
    after Klenitskiy & Vasilev, *Turning Dross Into Gold Loss*, RecSys 2023.

    With ``item_init`` the item embeddings start from a sentence encoder's vectors of the items'
    texts (Harte et al., *Leveraging Large Language Models for Sequential Recommendation*,
    RecSys 2023; arXiv 2402.01339) and are trained on.  A query without history is answered by
    training popularity, which is all that is known of it.
    """

    deterministic = False

    def __init__(self, config: SASRecConfig | None = None, *, encoder: Encoder | None = None) -> None:
        super().__init__(config)
        self._encoder = encoder

    @classmethod
    def create(cls, config: SASRecConfig, resources: Resources) -> Self:
        """Take the encoder of ``item_init`` from the run's resources."""
        return cls(config, encoder=None if config.item_init is None else resources.encoder(config.item_init.encoder))

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Train on ``train``; ``valid``, if given, decides when to stop (by NDCG@10, seen masked)."""
        config = self.config
        torch.manual_seed(int(rng.integers(2**31)))
        network = _Network(train.n_items, config)
        if config.item_init is not None:
            if self._encoder is None:
                raise ModelError(
                    "item_init needs an encoder", where="SASRec", todo="build it with encoder=... or SASRec.create"
                )
            vectors = initial_embeddings(train, config.item_init, self._encoder, config.width, rng)
            with torch.no_grad():
                network.items.weight[:-1] = torch.from_numpy(vectors)
        self.network_, self.popularity_ = network, train.item_counts.astype(np.float32)
        histories = train.histories.items if config.windows == "all" else train.histories.items.last(config.length + 1)
        windows = torch.from_numpy(cut(histories, config.length + 1, train.n_items))

        def batches(_: int) -> Iterator[Tensor]:
            order = torch.from_numpy(rng.permutation(len(windows)))
            return (windows[rows] for rows in order.split(config.batch_size))

        def loss(batch: Tensor) -> Tensor:
            history, following = batch[:, :-1], batch[:, 1:]  # [b, t] each
            asked = (history != train.n_items).flatten().nonzero()[:, 0]  # positions that have something to predict from
            # Their number differs from batch to batch.  Filled up to a round one, with targets that
            # count for nothing, it takes few values, and the matrix kernels are prepared only for these.
            spare = -len(asked) % _ROUND
            states = network(history).flatten(0, 1)[F.pad(asked, (0, spare))]  # [m, d]
            targets = F.pad(following.flatten()[asked], (0, spare), value=_NO_TARGET)  # [m]
            logits = network.logits(states)  # [m, n_items]
            return F.cross_entropy(logits, targets, ignore_index=_NO_TARGET, label_smoothing=config.smoothing)

        def validate() -> float:
            assert valid is not None
            lists = self.retrieve(valid.queries, 10, exclude=valid.seen)
            return float(evaluate(lists, valid.truth, ["ndcg@10"])["ndcg@10"].mean())

        items = network.items.weight
        others = [p for p in network.parameters() if p is not items]
        groups = [{"params": [items], "lr": config.learning_rate * config.item_rate}, {"params": others}]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        with reduced_precision():
            self.training_ = train_network(
                network, optimizer, batches, loss, epochs=config.epochs, every=config.every, patience=config.patience,
                average=config.average, validate=None if valid is None else validate,
            )  # fmt: skip
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items]: the logits of the next item."""
        n_items = len(self.popularity_)
        history = torch.from_numpy(queries.history.padded(self.config.length, pad=n_items).astype(np.int64))
        with torch.inference_mode():
            states = self.network_(history)[:, -1]  # [n, d]
            scores: NDArray[np.float32] = self.network_.logits(states).numpy()
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
        self.network_ = _Network(len(self.popularity_), self.config).eval()
        weights = {k.removeprefix("network_."): torch.from_numpy(v) for k, v in state.items() if k.startswith("network_.")}
        self.network_.load_state_dict(weights)


def cut(sequences: Ragged, width: int, pad: int) -> NDArray[np.int64]:
    """Cut sequences into windows int64[w, width], padded on the left, that predict each event once.

    Windows are laid from the end of a sequence and share one event with the window before, so
    that every event but a sequence's first is the target of exactly one position.
    """
    step = width - 1
    counts = np.maximum(-(-(sequences.lengths - 1) // step), 0)  # windows of each sequence
    rows = np.repeat(np.arange(len(sequences)), counts)
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)  # 0 is the last window
    stop = sequences.offsets[rows + 1] - nth * step
    at = stop[:, None] - np.arange(width, 0, -1)  # [w, width]
    inside = at >= sequences.offsets[rows][:, None]
    return np.where(inside, sequences.values[np.maximum(at, 0)], pad).astype(np.int64)
