"""Many continuations of one prompt as one sequence: which tokens, at which positions, seeing what.

``prompt + continuation + continuation + ...``: positions restart after the prompt, and each token
of a continuation sees the prompt and its own continuation up to itself.  A continuation's last
token predicts nothing that is asked, so it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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

    def sees(self, n: int, own: int) -> NDArray[np.bool_]:
        """Return bool[own + c, n + c]: which of prompt and pack each token of the pass may see."""
        c = len(self.tokens)
        sees = np.zeros((own + c, n + c), dtype=bool)
        sees[:own, :n] = np.tri(own, n, n - own, dtype=bool)
        sees[own:, :n] = True
        sees[own:, n:] = (self.owner[:, None] == self.owner[None]) & (self.step[:, None] >= self.step[None])
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
