"""TIGER: an encoder reads the IDs of the history, a decoder writes the ID of the next item."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from llm4rec.core import Choice, Dataset, Queries, Uniform, Whole
from llm4rec.generative.generator import Generator, GeneratorConfig, Training
from llm4rec.generative.levels import Levels
from llm4rec.nn.t5 import T5, Past


class TIGERConfig(GeneratorConfig):
    """Parameters of TIGER; the paper has width 128, 4 layers, 6 heads of 64, hidden 1024, 2000 users' tokens."""

    length: int = Field(20, ge=1)
    """Most recent events that are looked at."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Share of activations dropped in embeddings and between layers."""
    layers: int = Field(2, ge=1)
    """Of the encoder, and of the decoder."""
    heads: int = Field(4, ge=1)
    """Attention heads."""
    head_width: int = Field(16, ge=1)
    """Dimensions of a head."""
    hidden: int = Field(256, ge=1)
    """Width of the hidden layer of each block."""
    users: int = Field(0, ge=0)
    """Tokens that users share by the remainder of their number, put before the history; 0 leaves them out."""
    batch_size: int = Field(256, ge=1)
    """Targets in a training step."""
    targets: int = Field(0, ge=0)
    """Events of each history that an epoch predicts, drawn anew each time; 0 takes all."""


class _Network(nn.Module):
    """Token embeddings that both sides share; behind the tokens: the pad, the start, the users."""

    def __init__(self, levels: Levels, config: TIGERConfig) -> None:
        super().__init__()
        n = levels.n_tokens
        self.tokens = nn.Embedding(n + 2 + config.users, config.width, padding_idx=n)
        nn.init.normal_(self.tokens.weight, std=1.0)
        self.t5 = T5(config.width, config.layers, config.heads, config.head_width, config.hidden, config.dropout)
        with torch.no_grad():
            self.tokens.weight[n] = 0


class _Steps:
    """The decoding of some queries: what the encoder has read, shared by their beams, and what each beam has written."""

    def __init__(self, network: _Network, levels: Levels, read: Tensor) -> None:
        self._network, self._n_tokens = network, levels.n_tokens
        self._memory = network.t5.encode(network.tokens(read), read != levels.n_tokens)
        self._past = Past()
        self._n = len(read)

    def begin(self) -> Tensor:
        """Return float[n, 1, d], the states that predict the first token."""
        return self._written(torch.full((self._n, 1), self._n_tokens + 1))

    def advance(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Return float[n, b, d] for beams parents int64[n, b] extended by tokens int64[n, b]."""
        self._past = self._past.follow(parents)
        return self._written(tokens)

    def logits(self, states: Tensor, tokens: Tensor | None) -> Tensor:
        """Return float[m, w] of the tokens int64[w], by default of all, for states float[m, d]."""
        table = self._network.tokens.weight
        return _scaled(states) @ (table[: self._n_tokens] if tokens is None else table[tokens]).T

    def _written(self, tokens: Tensor) -> Tensor:
        states, self._past = self._network.t5.step(self._network.tokens(tokens), self._memory, self._past)
        return states


class TIGER(Generator[TIGERConfig]):
    """Transformer index for generative recommenders.

    The tokens of the last items' IDs, one after the other, are read by the encoder of a small T5; its decoder
    writes the tokens of the next item's ID.  Rajput et al., *Recommender Systems with Generative Retrieval*,
    NeurIPS 2023 (arXiv 2305.05065).  The paper's code is not public; the recipe here is the one that others could
    repeat (GRID: Ju et al., 2025, arXiv 2507.22224): every event of a history but the first is a target, with the
    items before it as input, no user token, a T5 trained from scratch with AdamW.

    Every target takes a pass of its own over its history, which makes an epoch many times the work of
    ``semantic-decoder``'s; ``targets`` bounds it.
    """

    space: ClassVar = {
        "dropout": Uniform(0.05, 0.4),
        "learning_rate": Uniform(5e-4, 5e-3, log=True),
        "batch_size": Choice((128, 256, 512)),
        "smoothing": Uniform(0.0, 0.2),
        "layers": Whole(1, 4),
    }

    def network(self, levels: Levels) -> _Network:
        """Return a new T5."""
        return _Network(levels, self.config)

    def training(self, train: Dataset, rng: np.random.Generator) -> Training:
        """Train on the events of every history, each with those before it."""
        config, network, levels = self.config, self.network_, self._levels
        items = train.histories.items
        events = torch.from_numpy(np.append(items.values, train.n_items).astype(np.int64))  # the last is the pad
        first = items.offsets[:-1]
        after = np.setdiff1d(np.arange(len(items.values)), first[items.lengths > 0])  # events with something before them
        owner = items.rows

        def batches(_: int) -> Iterator[NDArray[np.int64]]:
            chosen = rng.permutation(after)
            if config.targets:
                chosen = chosen[_nth(owner[chosen]) < config.targets]
            by_length = (chosen - first[owner[chosen]]).clip(max=config.length)  # like lengths together: less to pad
            starts = np.arange(0, len(chosen), config.batch_size)
            order = np.argsort(by_length, kind="stable")  # random among equals
            return (chosen[order[start : start + config.batch_size]] for start in rng.permutation(starts))

        def loss(targets: NDArray[np.int64]) -> Tensor:
            most = int((targets - first[owner[targets]]).clip(max=config.length).max())
            at = targets[:, None] - np.arange(most, 0, -1)  # [m, most]
            history = events[np.where(at >= first[owner[targets]][:, None], at, -1)]
            wanted = events[targets]
            read = self._read(history, owner[targets])
            memory = network.t5.encode(network.tokens(read), read != levels.n_tokens)
            start = wanted.new_full((len(wanted), 1), levels.n_tokens + 1)
            written = torch.cat([start, levels.codes[wanted, :-1]], 1)
            states = _scaled(network.t5.decode(network.tokens(written), memory))  # [m, depth, d]
            total = states.new_zeros(())
            for level in range(levels.depth):
                rows = levels.undecided(level, wanted)
                table = network.tokens.weight[levels.starts[level] : levels.starts[level + 1]]
                total = total + levels.loss(level, states[rows, level] @ table.T, wanted[rows], config.smoothing)
            return total / len(wanted)

        return batches, loss

    def steps(self, queries: Queries) -> _Steps:
        """Read the histories."""
        longest = min(self.config.length, int(queries.history.lengths.max(initial=1)))
        history = torch.from_numpy(queries.history.padded(longest, pad=len(self.popularity_)).astype(np.int64))
        return _Steps(self.network_, self._levels, self._read(history, queries.users))

    def _read(self, history: Tensor, users: NDArray[np.integer]) -> Tensor:
        """Return int64[n, t], what the encoder reads of histories int64[n, items]: pads, a user's token, the items' tokens.

        The user stands right before the first item, so that the distances which attention sees are
        those of the query alone, whatever the longest history beside it is.
        """
        tokens = self._levels.codes[history].flatten(1)
        if not self.config.users:
            return tokens
        n = self._levels.n_tokens
        known = torch.from_numpy(np.where(users < 0, n, n + 2 + users % self.config.users).astype(np.int64))
        whole = torch.cat([torch.full_like(known, n)[:, None], tokens], 1)
        return whole.scatter(1, (tokens != n).int().argmax(1, keepdim=True), known[:, None])


def _scaled(states: Tensor) -> Tensor:
    """Return states float[..., d] over the root of d, as T5 does where embeddings are read and written alike."""
    scaled: Tensor = states * states.shape[-1] ** -0.5
    return scaled


def _nth(groups: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return int64[n], how many entries of the same group stand before each."""
    order = np.argsort(groups, kind="stable")
    sizes = np.unique(groups, return_counts=True)[1]
    nth = np.empty(len(groups), dtype=np.int64)
    nth[order] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return nth
