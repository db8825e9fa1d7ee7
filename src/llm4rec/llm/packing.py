"""What is computed once: continuations of one prompt in one sequence, and the blocks that prompts share.

``prompt + continuation + continuation + ...``: positions restart after the prompt, and each token
of a continuation sees the prompt and its own continuation up to itself.  A continuation's last
token predicts nothing that is asked, so it is left out.

A prompt is computed in blocks of a fixed number of tokens and a rest.  The keys and values of a
block depend on the tokens up to its end alone, and it is always computed in the same shape, so
prompts that begin alike can take over each other's blocks and get the same figures bit for bit
(Kwon et al., "Efficient memory management for large language model serving with PagedAttention",
SOSP 2023, arXiv 2309.06180, share blocks between requests).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

X = TypeVar("X")
_CUTS = 4  # runs for each core, where prompts share nothing


@dataclass(frozen=True, slots=True)
class Pack:
    """Continuations that are computed in one forward pass; c tokens in all.

    Attributes:
        rows: int64[r], which continuations these are.
        tokens: int64[c], all but the last token of each, one after the other.
        targets: int64[c], the token that follows each of them.
        heads: int64[r], the first token of each.
        owner: int64[c], place in ``rows`` of the continuation that a token belongs to.
        step: int64[c], a token's place in its continuation.
    """

    rows: NDArray[np.int64]
    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    heads: NDArray[np.int64]
    owner: NDArray[np.int64]
    step: NDArray[np.int64]

    @classmethod
    def of(cls, continuations: Sequence[Sequence[int]], rows: Sequence[int]) -> Pack:
        """Pack the given rows; none of them is empty."""
        chosen = [continuations[i] for i in rows]
        lengths = np.array([len(c) - 1 for c in chosen], dtype=np.int64)
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        return cls(
            rows=np.array(rows, dtype=np.int64),
            tokens=np.array([t for c in chosen for t in c[:-1]], dtype=np.int64),
            targets=np.array([t for c in chosen for t in c[1:]], dtype=np.int64),
            heads=np.array([c[0] for c in chosen], dtype=np.int64),
            owner=np.repeat(np.arange(len(chosen)), lengths),
            step=np.arange(int(lengths.sum())) - starts,
        )

    def positions(self, n: int, own: int) -> NDArray[np.int64]:
        """Return int64[own + c], positions in a pass over ``own`` of the prompt's ``n`` tokens and the pack."""
        return np.concatenate([np.arange(n - own, n), n + self.step])

    def sees(self, n: int, own: int, window: int | None = None) -> NDArray[np.bool_]:
        """Return bool[own + c, n + c]: which of prompt and pack each token of the pass may see.

        ``window``: of a model whose tokens see only so many positions, their own included.
        """
        c = len(self.tokens)
        sees = np.zeros((own + c, n + c), dtype=bool)
        sees[:own, :n] = np.tri(own, n, n - own, dtype=bool)
        sees[own:, :n] = True
        sees[own:, n:] = (self.owner[:, None] == self.owner[None]) & (self.step[:, None] >= self.step[None])
        if window is not None:
            sees &= self.positions(n, own)[:, None] - self.positions(n, n)[None] < window
        return sees


def packs(continuations: Sequence[Sequence[int]], room: int) -> list[Pack]:
    """Return continuations (none empty) in packs of at most ``room`` tokens, or of one continuation."""
    rows: list[list[int]] = [[]]
    left = room
    for i, continuation in enumerate(continuations):
        length = len(continuation) - 1
        if rows[-1] and length > left:
            rows.append([])
            left = room
        rows[-1].append(i)
        left -= length
    return [Pack.of(continuations, part) for part in rows if part]


def whole(prompt: Sequence[int], block: int) -> int:
    """Return how many of a prompt's tokens lie in whole blocks; at least one token is always left over."""
    return max(0, len(prompt) - 1) // block * block


def shared(one: Sequence[int], other: Sequence[int], block: int) -> int:
    """Return how many tokens two prompts have in common at their beginning, in blocks that are whole in both."""
    n = min(whole(one, block), whole(other, block))
    return next((at for at in range(0, n, block) if one[at : at + block] != other[at : at + block]), n)


def runs(prompts: Sequence[Sequence[int]], weights: Sequence[int], cores: int, block: int) -> list[list[int]]:
    """Return the places of prompts in runs: within a run, one after the other shares as much as can be.

    Prompts stand in order of their tokens, so those that begin alike are neighbours.  A group that
    shares blocks stays together unless it is more than a core's part of all work; between groups
    there are more cuts, so that the cores end at about the same time.

    Args:
        prompts: tokens of each, as lists or tuples alike.
        weights: tokens that each prompt takes in all.
        cores: runs that are worked on side by side.
        block: tokens in a block.
    """
    order = sorted(range(len(prompts)), key=lambda i: tuple(prompts[i]))
    part = sum(weights) / max(1, cores)
    found: list[list[int]] = []
    load = np.inf
    for before, i in zip([None, *order], order, strict=False):
        apart = before is None or not shared(prompts[before], prompts[i], block)
        if load >= (part / _CUTS if apart else part):
            found.append([])
            load = 0.0
        found[-1].append(i)
        load += weights[i]
    return found


def in_order(parts: Sequence[Sequence[int]], found: Sequence[Sequence[X]]) -> list[X]:
    """Return what was found for each of the places 0 .. n - 1, which the parts divide among them."""
    at = {place: one for part, some in zip(parts, found, strict=True) for place, one in zip(part, some, strict=True)}
    return [at[place] for place in range(len(at))]
