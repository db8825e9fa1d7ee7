"""Made catalogues and models for tests of decoding, and what decoding should find, computed the slow way."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from llm4rec.core import Lists, Ragged
from llm4rec.features import Encoder, HashEncoder

N_TOKENS = 5

#: Examples enough for the fast suite; ``max_examples=1000`` for a longer search.
properties = settings(max_examples=30, deadline=None)


@st.composite
def catalogues(draw: st.DrawFn, most: int = 30) -> Ragged:
    """IDs of 1 to 4 tokens, none of which begins another, in any order; one item at least."""
    row = st.lists(st.integers(0, N_TOKENS - 1), min_size=1, max_size=4).map(tuple)
    rows = draw(st.lists(row, min_size=1, max_size=most, unique=True))
    kept: list[tuple[int, ...]] = []
    for one in rows:
        if not any(one[: len(other)] == other or other[: len(one)] == one for other in kept):
            kept.append(one)
    return Ragged.of(kept)


class Recurrent:
    """A ``StepModel`` whose logits depend on the request and on every token of the prefix."""

    def __init__(self, n: int, seed: int = 0, n_tokens: int = N_TOKENS, sharpness: float = 2.0) -> None:
        made = torch.Generator().manual_seed(seed)
        draw = lambda *shape: torch.randn(*shape, generator=made, dtype=torch.float64)  # noqa: E731
        self.start, self.embedding, self.turn, self.out = draw(n, 1, 8), draw(n_tokens, 8), draw(8, 8), draw(n_tokens, 8)
        self.out = self.out * sharpness
        self.state = self.start
        self.advanced = 0

    def begin(self) -> Tensor:
        self.state = self.start
        return self.state

    def advance(self, parents: Tensor, tokens: Tensor) -> Tensor:
        assert parents.shape == tokens.shape
        rows = torch.arange(len(parents))[:, None]
        self.state = torch.tanh(self.state[rows, parents] @ self.turn + self.embedding[tokens])
        self.advanced += tokens.numel()
        return self.state

    def logits(self, states: Tensor, tokens: Tensor | None) -> Tensor:
        return states @ (self.out if tokens is None else self.out[tokens]).T


def slowly(model: Recurrent, codes: Ragged, normalise: str = "alphabet") -> NDArray[np.float64]:
    """Return float[n, n_items]: each ID's log-probability, one token after the other."""
    after: dict[tuple[int, ...], set[int]] = {}
    for row in codes.tolist():
        for at, token in enumerate(row):
            after.setdefault(tuple(row[:at]), set()).add(token)
    out = np.zeros((len(model.start), len(codes)))
    for item, row in enumerate(codes.tolist()):
        states = model.begin()
        for at, token in enumerate(row):
            logits = model.logits(states[:, 0], None)
            over = sorted(after[tuple(row[:at])]) if normalise == "trie" else list(range(logits.shape[1]))
            out[:, item] += (logits[:, token] - torch.logsumexp(logits[:, over], 1)).numpy()
            zeros = torch.zeros((len(out), 1), dtype=torch.int64)
            states = model.advance(zeros, zeros + token)
    return out


def hidden(scores: NDArray[np.float64], exclude: Ragged | None, allowed: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Return the scores, -inf for what a request may not see."""
    out = scores.copy()
    if allowed is not None:
        out[~np.broadcast_to(allowed, out.shape)] = -np.inf
    if exclude is not None:
        out[exclude.rows, exclude.values] = -np.inf
    return out


def check(lists: Lists, scores: NDArray[np.float64], k: int) -> None:
    """Assert what holds for every list of k out of items with these scores: catalogue items, none twice, none hidden."""
    lists.check(scores.shape[1])
    real = lists.items >= 0
    own = np.take_along_axis(scores, np.maximum(lists.items, 0), axis=1)
    assert np.isfinite(own[real]).all()
    assert np.array_equal(real.sum(axis=1), np.minimum(np.isfinite(scores).sum(axis=1), k))


class Hashed:
    """Resources whose every encoder hashes words."""

    def llm(self, name: str) -> Any:
        raise AssertionError("a generator asked for an LLM")

    def encoder(self, name: str) -> Encoder:
        return HashEncoder(256)
