"""What decoding asks of a model, and the probabilities of a trie's tokens by it."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from llm4rec.core import ModelError
from llm4rec.generative.walk import Children, Walk

#: Logits, and candidates of a step, that are held at once, at most (those of one request or state aside).
CELLS = 1 << 22

#: Over what the probabilities of a next token sum to 1: all tokens; the tokens that some item has after this
#: prefix; those of items that the request may see.
Over = Literal["alphabet", "trie", "free"]


class StepModel(Protocol):
    """What a model gives to decoding: states of prefixes, token by token, for a batch of n requests.

    Caches are the model's own.  It binds new tensors and never writes into those it made before, so that
    ``copy.copy(model)`` is a snapshot that goes on by itself.
    """

    def begin(self) -> Tensor:
        """Return float[n, 1, d], the state that predicts each request's first token."""

    def advance(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Return float[n, b, d]: prefix ``parents[i, j]`` of request i, as of the last call, and one token more.

        Args:
            parents: int64[n, b], into the prefixes of the last call.
            tokens: int64[n, b].
        """

    def logits(self, states: Tensor, tokens: Tensor | None) -> Tensor:
        """Return float[m, n_tokens] of states float[m, d], or float[m, w] of the given tokens int64[w] alone."""


def log_probabilities(model: StepModel, states: Tensor, kids: Children, walk: Walk, over: Over, temperature: float) -> Tensor:
    """Return float32[c], the log-probability of each child after its parent, whose state is one of float[m, d]."""
    m = len(states)
    tokens, column, width = None, kids.token, walk.trie.n_tokens
    if over != "alphabet":
        tokens, column = _used(kids.token, width)
        width = len(tokens)
    size = max(1, CELLS // max(1, width))
    bounds = torch.searchsorted(kids.parent, torch.arange(0, m + size, size, device=kids.parent.device)).tolist()
    out = torch.empty(len(kids.parent), device=states.device)
    for i, at in enumerate(range(0, m, size)):
        low, high = bounds[i], bounds[i + 1]
        if low == high:
            continue
        block = model.logits(states[at : at + size], tokens).float() / temperature  # [rows, width]
        row = kids.parent[low:high] - at
        value = block.reshape(-1).index_select(0, row * width + column[low:high])
        out[low:high] = value - torch.logsumexp(block, 1).index_select(0, row) if over == "alphabet" else value
    if over != "alphabet":
        counted = out if over == "trie" else torch.where(kids.free, out, -torch.inf)
        out = out - _logsumexp_by(counted[None], kids.parent, m)[0][kids.parent]
    if bool(torch.isnan(out).any()):
        raise ModelError("gave nan for the probability of a token", where=type(model).__name__)
    return out


def _used(tokens: Tensor, n_tokens: int) -> tuple[Tensor, Tensor]:
    """Return the distinct tokens, rising, and the place of each among them, without a sort."""
    there = torch.zeros(n_tokens, dtype=torch.bool, device=tokens.device)
    there[tokens] = True
    return there.nonzero()[:, 0], (torch.cumsum(there, 0) - 1)[tokens]


def _logsumexp_by(values: Tensor, parent: Tensor, m: int) -> Tensor:
    """Return float[q, m], the logarithm of the sum of exponentials of float[q, c] over each parent int64[c]."""
    q = len(values)
    top = torch.full((q, m), -torch.inf, device=values.device).scatter_reduce(1, parent.expand(q, -1), values, "amax")
    top = torch.where(torch.isfinite(top), top, 0.0)
    total = torch.zeros((q, m), device=values.device).index_add_(1, parent, torch.exp(values - top[:, parent]))
    return top + torch.log(total)


def shared_log_probabilities(model: StepModel, states: Tensor, kids: Children, n_tokens: int, over: Over) -> Tensor:
    """Return float32[n, c], log-probabilities of the same children in every request, from states float[n, b, d]."""
    n, b, _ = states.shape
    tokens, column = (None, kids.token) if over == "alphabet" else _used(kids.token, n_tokens)
    out = torch.empty((n, len(kids.token)), device=states.device)
    size = max(1, CELLS // max(1, b * (n_tokens if tokens is None else len(tokens))))
    for at in range(0, n, size):
        block = states[at : at + size]
        logits = model.logits(block.flatten(0, 1), tokens).float().unflatten(0, (len(block), b))  # [q, b, w]
        value = logits[:, kids.parent, column]
        total = torch.logsumexp(logits, 2) if over == "alphabet" else _logsumexp_by(value, kids.parent, b)
        out[at : at + size] = value - total[:, kids.parent]
    if bool(torch.isnan(out).any()):
        raise ModelError("gave nan for the probability of a token", where=type(model).__name__)
    return out
