"""Item IDs as a network needs them: at each level an alphabet of its own, and the tokens that can follow a prefix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from llm4rec.core import Ragged
from llm4rec.generative.ids import ItemIDs


@dataclass(frozen=True)
class Levels:
    """IDs whose token at level l is one of those in use there.

    Schemes may leave codes out or use a token at several levels; a network wants one embedding for each token
    in use at each level, and those of a level side by side.

    Attributes:
        ids: the same IDs over the new tokens: those of level l are ``starts[l] .. starts[l + 1] - 1``.
        starts: int64[depth + 1].
    """

    ids: ItemIDs
    starts: tuple[int, ...]

    @classmethod
    def of(cls, ids: ItemIDs) -> Levels:
        """Give the tokens of each level new numbers."""
        padded = ids.padded()
        renumbered, starts = np.full(padded.shape, -1, dtype=np.int32), [0]
        for level, column in enumerate(padded.T):
            used, place = np.unique(column[column >= 0], return_inverse=True)
            renumbered[column >= 0, level] = place + starts[-1]
            starts.append(starts[-1] + len(used))
        flat = renumbered[renumbered >= 0]
        return cls(ItemIDs(Ragged.from_lengths(ids.codes.lengths, flat), starts[-1]), tuple(starts))

    @property
    def n_tokens(self) -> int:
        return self.ids.n_tokens

    @property
    def depth(self) -> int:
        """Tokens of the longest ID."""
        return len(self.starts) - 1

    @cached_property
    def codes(self) -> Tensor:
        """int64[n_items + 1, depth]; ``n_tokens`` pads, and fills the last row, which stands for no item."""
        padded = self.ids.padded().astype(np.int64)
        rows = np.concatenate([padded, np.full((1, self.depth), -1)])
        return torch.from_numpy(np.where(rows < 0, self.n_tokens, rows))

    @cached_property
    def shortest(self) -> ItemIDs:
        """The same IDs, each cut behind the token after which it is the only one."""
        return shortest(self.ids)

    @cached_property
    def _prefixes(self) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
        """Return for each level int64[n_items], the number of each item's prefix before it; bool[prefixes,
        tokens of the level], what can follow; and float[prefixes], how many can."""
        padded = self.ids.padded()
        prefix, found = np.zeros(len(padded), np.int64), []
        for level, start in enumerate(self.starts[:-1]):
            width = self.starts[level + 1] - start
            held = np.flatnonzero(padded[:, level] >= 0)  # the others have ended
            follows = np.zeros((int(prefix.max(initial=0)) + 1, width), dtype=np.bool_)
            follows[prefix[held], padded[held, level] - start] = True
            counts = follows.sum(1, dtype=np.float32)
            found.append((torch.from_numpy(prefix), torch.from_numpy(follows), torch.from_numpy(counts)))
            key = prefix * (width + 1) + np.where(padded[:, level] < 0, width, padded[:, level] - start)
            prefix = np.unique(key, return_inverse=True)[1].astype(np.int64)
        return tuple(found)

    def undecided(self, level: int, items: Tensor) -> Tensor:
        """Return int64[u], which of the items int64[m] have a token at this level that their prefix leaves open."""
        return self._undecided[level][items].nonzero()[:, 0]

    @cached_property
    def _undecided(self) -> tuple[Tensor, ...]:
        """Return for each level bool[n_items], whether an item has a token there that its prefix leaves open."""
        held = self.codes[:-1] < self.n_tokens
        return tuple(held[:, level] & (counts > 1)[prefix] for level, (prefix, _, counts) in enumerate(self._prefixes))

    def loss(self, level: int, logits: Tensor, items: Tensor, smoothing: float) -> Tensor:
        """Return the sum over items of the cross-entropy of their tokens at a level.

        Args:
            logits: float[u, w], of the w tokens of the level.  What cannot follow an item's prefix takes no part.
            items: int64[u], with a token at this level.
            smoothing: share of the target's weight that is spread evenly over the tokens that can follow.
        """
        prefix, follows, counts = self._prefixes[level]
        at = prefix[items]
        open_ = follows[at]  # [u, w]
        targets = (self.codes[items, level] - self.starts[level])[:, None]
        losses = logits.masked_fill(~open_, float("-inf")).logsumexp(1) - (1 - smoothing) * logits.gather(1, targets)[:, 0]
        if smoothing:
            losses = losses - smoothing * (logits * open_).sum(1) / counts[at]
        return losses.sum()


def shortest(ids: ItemIDs) -> ItemIDs:
    """Return the IDs, each cut behind the token after which it is the only one.

    What follows is certain, where probabilities are over the tokens that can follow: the cut IDs have the
    probabilities of the whole ones.
    """
    padded, lengths = ids.padded(), ids.codes.lengths
    prefix, alone = np.zeros(len(padded), np.int64), np.zeros(len(padded), dtype=np.bool_)
    for level in range(ids.depth):
        prefix = np.unique(prefix * (ids.n_tokens + 1) + padded[:, level], return_inverse=True)[1].astype(np.int64)
        lengths = np.where(~alone & (np.bincount(prefix)[prefix] == 1), level + 1, lengths)
        alone |= np.bincount(prefix)[prefix] == 1
    kept = np.arange(ids.depth) < lengths[:, None]
    return ItemIDs(Ragged.from_lengths(lengths, padded[kept]), ids.n_tokens)
