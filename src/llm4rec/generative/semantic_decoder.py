"""A decoder over semantic IDs: attention over items, and each next item written token by token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from llm4rec.core import Cases, Choice, Dataset, ModelError, Queries, Resources, Uniform, Whole
from llm4rec.features.encoders import Encoder
from llm4rec.features.reduce import ItemInit, initial_embeddings
from llm4rec.generative.generator import Generator, GeneratorConfig, Training
from llm4rec.generative.levels import Levels
from llm4rec.generative.step import StepModel
from llm4rec.nn.blocks import CausalBlock, Dropout, causal_bias
from llm4rec.nn.windows import Span, Windows


class SemanticDecoderConfig(GeneratorConfig):
    """Parameters of the decoder."""

    blocks: int = Field(1, ge=1)
    """Transformer blocks over the history."""
    heads: int = Field(1, ge=1)
    """Attention heads; a divisor of ``width``."""
    windows: Span = "all"
    """What is trained on of a history longer than ``length``: all of it, cut into windows, or its end alone."""
    item_init: ItemInit | None = None
    """Read an item also by a vector of its own, begun from its text's; absent: by the tokens of its ID alone."""

    @property
    def text_encoder(self) -> str | None:
        """The name of the encoder of the items' texts, if there is to be one."""
        return None if self.item_init is None else self.item_init.encoder

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of {self.heads} heads")
        return self


class SemanticNetwork(nn.Module):
    """Reads items as sums of their tokens' embeddings, the last of which is the pad, and of vectors of their own, if wanted."""

    def __init__(self, levels: Levels, config: SemanticDecoderConfig) -> None:
        super().__init__()
        d, n = config.width, levels.n_tokens
        self.levels = levels
        self.tokens = nn.Embedding(n + 1, d, padding_idx=n)
        pad = len(levels.ids)
        self.items = None if config.item_init is None else nn.Embedding(pad + 1, d, padding_idx=pad)
        self.positions = nn.Parameter(torch.empty(config.length, d))  # counted from the end: the last row is "now"
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(CausalBlock(d, config.heads, config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(d)
        self.asks = nn.Linear(d, levels.depth * d)  # what each level asks of the state
        self.written = nn.Embedding(n, 2 * d)  # what a token, once written, does to the questions after it
        self.norm_token = nn.LayerNorm(d)
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=config.deviation)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
        with torch.no_grad():
            for embedding in (self.tokens, self.items) if self.items is not None else (self.tokens,):
                embedding.weight[embedding.padding_idx] = 0

    def embed(self, items: Tensor) -> Tensor:
        """Map int64[...] items to float[..., d], what the network reads of them; zero for the pad."""
        codes, table = self.levels.codes[items], self.tokens.weight
        summed = F.embedding_bag(codes.flatten(0, -2), table, mode="sum", padding_idx=self.tokens.padding_idx)
        summed = summed.view(*items.shape, -1)
        return summed if self.items is None else summed + self.items(items)

    def read(self, history: Tensor) -> Tensor:
        """Map int64[b, t] items, padded on the left, to float[b, t, d] states."""
        x = self.dropout(self.embed(history) + self.positions[-history.shape[1] :])
        bias = causal_bias(history < len(self.levels.ids))  # [b, 1, t, t]
        for block in self.blocks:
            x = block(x, bias)
        states: Tensor = self.norm(x)
        return states

    def question(self, level: int, states: Tensor) -> Tensor:
        """Map float[..., d] states to float[..., d], what the level asks before it knows the prefix."""
        d = states.shape[-1]
        rows = slice(level * d, (level + 1) * d)
        return F.linear(states, self.asks.weight[rows], self.asks.bias[rows])

    def after(self, question: Tensor, prefix: Tensor) -> Tensor:
        """Map questions float[..., d] and the sum of what the prefix's tokens do, float[..., 2 d], to float[..., d]."""
        scale, shift = prefix.chunk(2, -1)
        return self.norm_token(question * (1 + scale) + shift)


class _Steps:
    """The decoding of some queries: their states, and for each beam what its prefix does to the questions."""

    def __init__(self, network: SemanticNetwork, states: Tensor) -> None:
        self._network, self._states = network, states  # states [n, d]
        self._level = 0
        self._prefix = states.new_zeros(len(states), 1, 2 * states.shape[1])  # [n, b, 2 d]

    def begin(self) -> Tensor:
        """Return float[n, 1, d], the states that predict the first token."""
        return self._asked()

    def advance(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Return float[n, b, d] for beams parents int64[n, b] extended by tokens int64[n, b]."""
        self._level += 1
        kept = self._prefix.gather(1, parents[:, :, None].expand(-1, -1, self._prefix.shape[2]))
        self._prefix = kept + self._network.written(tokens)
        return self._asked()

    def logits(self, states: Tensor, tokens: Tensor | None) -> Tensor:
        """Return float[m, w] of the tokens int64[w], by default of all, for states float[m, d]."""
        table = self._network.tokens.weight
        return states @ (table[: self._network.levels.n_tokens] if tokens is None else table[tokens]).T

    def _asked(self) -> Tensor:
        level = min(self._level, self._network.levels.depth - 1)
        return self._network.after(self._network.question(level, self._states)[:, None], self._prefix)


class SemanticDecoder(Generator[SemanticDecoderConfig]):
    """A decoder-only generative recommender that attends over items and writes tokens.

    An item is read as the sum of the embeddings of its ID's tokens, so that attention goes over the items of a
    history, not over their tokens: four times fewer places, sixteen times fewer pairs.  The state h_t after item t
    predicts the tokens c_1 .. c_L of item t + 1 one after the other, at every t in one pass:

        z_l = LN(A_l h_t * (1 + sum of u(c_j), j < l) + sum of v(c_j), j < l),   p(c | c_1 .. c_{l-1}) ~ exp <z_l, e(c)>

    with e the embeddings that are read, and the probability taken over the tokens that continue the prefix to
    some item's ID.  What a prefix does (u and v) does not depend on the query, so a step is a product of
    elements, and all items are scored exactly at little more than the price of an inner product each.

    The scheme of IDs and their generation are those of Rajput et al., *Recommender Systems with Generative
    Retrieval*, NeurIPS 2023 (arXiv 2305.05065); reading the history item by item and training on all places at
    once are SASRec's (Kang & McAuley 2018) and RPG's (Hou et al., *Generating Long Semantic IDs in Parallel*,
    KDD 2025, arXiv 2506.05781), which predicts the tokens independently of each other.

    With ``item_init`` an item is read also by a vector of its own, begun from its text's (as SASRec's are: Harte et al.,
    RecSys 2023, arXiv 2402.01339): what is written is an ID, what has been seen is known more exactly than IDs tell.
    """

    space: ClassVar = {
        "dropout": Uniform(0.1, 0.6),
        "learning_rate": Uniform(5e-4, 5e-3, log=True),
        "batch_size": Choice((64, 128, 256)),
        "smoothing": Uniform(0.0, 0.2),
        "weight_decay": Choice((0.0, 0.01, 0.1)),
        "blocks": Whole(1, 2),
        "heads": Choice((1, 2)),
    }

    def __init__(
        self,
        config: SemanticDecoderConfig | None = None,
        *,
        encoder: Encoder | None = None,
        text_encoder: Encoder | None = None,
    ) -> None:
        super().__init__(config, encoder=encoder)
        self._text_encoder = text_encoder
        self._vectors: NDArray[np.float32] | None = None  # float32[n_items, d], what the items' own vectors begin from

    @classmethod
    def create(cls, config: SemanticDecoderConfig, resources: Resources) -> Self:
        """Take the encoders of the IDs and of the text from the run's resources."""
        text = config.text_encoder
        return cls(
            config,
            encoder=config.ids.open_encoder(resources),
            text_encoder=None if text is None else resources.encoder(text),
        )

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Encode the items' texts, if they are wanted, and train; ``valid`` decides when to stop."""
        if self.config.item_init is not None:
            self._vectors = self.encoded(train, self.config.item_init, rng)
        return super().fit(train, valid=valid, rng=rng)

    def encoded(self, train: Dataset, how: ItemInit, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return float32[n_items, width], the vectors of the items' texts; raises ``ModelError`` without an encoder."""
        if self._text_encoder is None:
            name = type(self).__name__
            raise ModelError("needs an encoder", where=name, todo=f"build it with text_encoder=... or {name}.create")
        return initial_embeddings(train, how, self._text_encoder, self.config.width, rng)

    def network(self, levels: Levels) -> SemanticNetwork:
        """Return a new decoder."""
        network = SemanticNetwork(levels, self.config)
        if network.items is not None and self._vectors is not None:
            with torch.no_grad():
                network.items.weight[:-1] = torch.from_numpy(self._vectors)
        return network

    def training(self, train: Dataset, rng: np.random.Generator) -> Training:
        """Train on every place of every history."""
        config = self.config
        windows = Windows.of(train, config.length, config.windows)

        def batches(_: int) -> Iterator[NDArray[np.int64]]:
            order = rng.permutation(len(windows.events))
            return (order[start : start + config.batch_size] for start in range(0, len(order), config.batch_size))

        def loss(rows: NDArray[np.int64]) -> Tensor:
            states, items = [], []
            for history, following, _ in windows.batch(rows):
                asked = (history < train.n_items).flatten().nonzero()[:, 0]  # places that have something to predict from
                states.append(self.network_.read(history).flatten(0, 1).index_select(0, asked))
                items.append(following.flatten()[asked])
            return self.loss(torch.cat(states), torch.cat(items))

        return batches, loss

    def loss(self, states: Tensor, items: Tensor) -> Tensor:
        """Return the mean loss of states float[m, d] that are followed by items int64[m]."""
        network, levels = self.network_, self.network_.levels
        written = F.pad(network.written.weight, (0, 0, 0, 1))  # the pad does nothing
        prefix = states.new_zeros(len(states), written.shape[1])
        total = states.new_zeros(())
        for level in range(levels.depth):
            at = levels.undecided(level, items)
            z = network.after(network.question(level, states[at]), prefix[at])
            table = network.tokens.weight[levels.starts[level] : levels.starts[level + 1]]
            total = total + levels.loss(level, z @ table.T, items[at], self.config.smoothing)
            prefix = prefix + written[levels.codes[items, level]]
        return total / len(items)

    def states(self, queries: Queries) -> Tensor:
        """Return float[n, d], what is known after each history."""
        history = torch.from_numpy(queries.history.padded(self.config.length, pad=len(self.popularity_)).astype(np.int64))
        states: Tensor = self.network_.read(history)[:, -1]
        return states

    def steps(self, queries: Queries) -> StepModel:
        """Read the histories."""
        return _Steps(self.network_, self.states(queries))
