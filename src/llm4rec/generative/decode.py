"""Constrained decoding: from a model that predicts tokens to lists that hold items of the catalogue and nothing else.

Every prefix that is looked at is a node of a trie, so every answer is an item; nodes are distinct, so
none comes twice; nodes without an item that the request may see are never entered.  The node is carried
from step to step: nothing is walked anew, and all requests and prefixes go in one batch.
"""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm4rec.core import Lists, Ragged
from llm4rec.generative.search import Search
from llm4rec.generative.step import CELLS, StepModel, shared_log_probabilities
from llm4rec.generative.trie import Mask, Trie
from llm4rec.generative.walk import Walk

Normalise = Literal["alphabet", "trie"]


def beam_search(
    model: StepModel,
    trie: Trie,
    k: int,
    *,
    beams: int = 20,
    exclude: Ragged | None = None,
    allowed: NDArray[np.bool_] | None = None,
    normalise: Normalise = "alphabet",
    groups: int = 1,
    diversity: float = 0.0,
) -> Lists:
    """Return the likeliest items that a beam search finds, with the log-probabilities of their IDs.

    A list has ``min(k, items that the request may see)`` items: where the prefixes kept would not lead to so
    many, more are kept at that step.  With at least as many beams as items the search is exact.  Among equally
    likely prefixes the one whose tokens are lower stays; items are in order of score, then of inside id.

    Args:
        model: over n requests; its alphabet is the trie's.
        trie: the catalogue.
        k: length of the lists.
        beams: unfinished prefixes that are kept at each step; whole IDs do not take their places.
        exclude: items that each request must not get, n rows.
        allowed: bool[n_items], or bool[n, n_items] for each request: a category, what is in stock.
        normalise: over what the probabilities of a next token sum to 1: ``"alphabet"``, all tokens, so that scores
            are what the model says without constraints; ``"trie"``, those that some item has after this prefix,
            whether the request may see it or not.
        groups: groups of diverse beam search; each gets its part of ``beams`` and of ``k``.
        diversity: what a prefix loses for each beam of an earlier group that takes the same token at the
            same step, in nats (Vijayakumar et al., "Diverse beam search", AAAI 2018, arXiv 1610.02424,
            Hamming diversity).  Scores are without it.

    Raises:
        ValueError: if a number is out of range, or ``exclude`` or ``allowed`` have the wrong shape.
        ModelError: if the model gives nan.
    """
    if k < 0 or beams < 1 or not 1 <= groups <= beams or diversity < 0:
        raise ValueError("needs k >= 0, beams >= groups >= 1, diversity >= 0")
    with torch.no_grad():
        return Search(
            model, trie, k, exclude=exclude, allowed=allowed, over=normalise, beams=beams, groups=groups, diversity=diversity
        ).run()


def sample(
    model: StepModel,
    trie: Trie,
    k: int,
    *,
    rng: np.random.Generator,
    temperature: float = 1.0,
    exclude: Ragged | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> Lists:
    """Return items drawn without replacement, in the order of the draws.

    The first item of a list has the distribution of drawing token by token among those that lead to an item
    which the request may see; each further one has it given that the earlier ones are gone.  Scores are the
    log-probabilities with Gumbel noise whose falling order these draws are (Kool et al., "Stochastic beams
    and where to find them", ICML 2019, arXiv 1903.06059).

    Args:
        model, trie, k, exclude, allowed: as in ``beam_search``.
        rng: of the draws.
        temperature: logits are divided by it; above 1 evens the chances out.
    """
    if k < 0 or not temperature > 0:
        raise ValueError("needs k >= 0 and a temperature above 0")
    with torch.no_grad():
        return Search(
            model, trie, k, exclude=exclude, allowed=allowed, over="free", beams=max(k, 1), temperature=temperature, noise=rng
        ).run()


def score_all(model: StepModel, trie: Trie, *, normalise: Normalise = "alphabet", width: int = 4096) -> NDArray[np.float32]:
    """Return float32[n, n_items]: the log-probability of every item's ID, -inf for items that the trie lacks.

    A prefix is computed once, however many items share it.  The trie is walked depth first in blocks of
    prefixes, so memory is bounded by ``width`` and the result; time grows with the number of prefixes
    (which for 50,000 items is what full ranking costs).

    Args:
        model: over n requests.
        trie: the catalogue.
        normalise: as in ``beam_search``.
        width: prefixes, of all requests together, that are advanced at once; one for each request at least.
    """
    with torch.no_grad():
        scores: NDArray[np.float32] = _scored(model, trie, normalise, width).cpu().numpy()
    return scores


def _scored(model: StepModel, trie: Trie, normalise: Normalise, width: int) -> Tensor:
    states = model.begin()
    n, device = len(states), states.device
    walk = Walk(trie, Mask.of(trie, n), device)
    out = torch.full((n, trie.n_items), -torch.inf, device=device)
    size = max(1, min(width // max(1, n), CELLS // max(1, trie.n_tokens)))
    # a snapshot of the model, the places of prefixes among its own, their tokens, nodes, and scores [n, b]
    zero = torch.zeros(1, dtype=torch.int64, device=device)
    waiting: list[tuple[StepModel, Tensor | None, Tensor, Tensor, Tensor, int]] = []
    if n and trie.depth:
        waiting.append((model, None, zero, zero, torch.zeros((n, 1), device=device), 1))
    while waiting:
        own, parents, tokens, nodes, scores, level = waiting.pop()
        if parents is not None:
            own = copy.copy(own)
            states = own.advance(parents.expand(n, -1), tokens.expand(n, -1))
        kids = walk.children(nodes[None], torch.ones((1, len(nodes)), dtype=torch.bool, device=device), level)
        longer = scores[:, kids.parent] + shared_log_probabilities(own, states, kids, trie.n_tokens, normalise)
        leaf = walk.leaf(kids.node)
        out[:, walk.items[walk.first[kids.node[leaf]].long()].long()] = longer[:, leaf]
        inner = (~leaf).nonzero()[:, 0]
        waiting.extend(
            (own, kids.parent[part], kids.token[part], kids.node[part], longer[:, part], level + 1)
            for part in (reversed(inner.split(size)) if len(inner) else ())
        )
    return out
