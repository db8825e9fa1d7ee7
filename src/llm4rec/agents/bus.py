"""The candidate bus: the items that one tool hands to the next, with where they came from and why others left.

Tools speak of items by id alone.  What an agent writes in prose never adds an item, moves one or takes
one out: only what a tool returns does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Vocabulary


@dataclass(frozen=True, slots=True)
class Drop:
    """An item that left, and why.

    Attributes:
        item: inside id.
        stage: the tool call that took it out.
        reason: in words, for people.
    """

    item: int
    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """The items under consideration, best first.

    Attributes:
        items: int32[m] inside ids, each once.
        scores: float32[m] of the stage that scored them last; they never rise.
        sources: for each item the tool calls that proposed or scored it, in order.
        dropped: items that were here and left, in order of leaving; one that came back stands in ``items`` too.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    sources: tuple[tuple[str, ...], ...]
    dropped: tuple[Drop, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", np.ascontiguousarray(self.items, dtype=np.int32))
        object.__setattr__(self, "scores", np.ascontiguousarray(self.scores, dtype=np.float32))
        m = len(self.items)
        if self.items.shape != (m,) or self.scores.shape != (m,) or len(self.sources) != m:
            raise ValueError(f"items {self.items.shape}, scores {self.scores.shape} and {len(self.sources)} sources")
        if (self.items < 0).any() or len(np.unique(self.items)) != m:
            raise ValueError("candidates are items of the catalogue, each once")
        if np.isnan(self.scores).any() or (self.scores[1:] > self.scores[:-1]).any():
            raise ValueError("scores are numbers that never rise")

    def __len__(self) -> int:
        return len(self.items)

    @classmethod
    def of(cls, items: Sequence[int] | NDArray[np.int32], scores: Sequence[float] | NDArray[np.float32], stage: str) -> Self:
        """Return what one tool call found, best first."""
        return cls(np.asarray(items), np.asarray(scores), ((stage,),) * len(items))

    def joined(self, other: Candidates) -> Candidates:
        """Return these candidates and, behind them, what ``other`` has besides.

        Scores of different tools have no common scale: those behind are lowered by a constant so that
        they end up below the last one here, and keep their distances.
        """
        fresh = ~np.isin(other.items, self.items)
        again = {int(i): s for i, s in zip(other.items, other.sources, strict=True)}
        scores = other.scores[fresh]
        if len(scores) and len(self):
            last = self.scores[-1]
            scores = np.minimum(scores - max(0.0, float(scores[0]) - float(last)), last)
        added = tuple(s for s, new in zip(other.sources, fresh, strict=True) if new)
        sources = tuple(s + again.get(int(i), ()) for i, s in zip(self.items, self.sources, strict=True))
        items = np.concatenate([self.items, other.items[fresh]])
        return Candidates(items, np.concatenate([self.scores, scores]), sources + added, self.dropped + other.dropped)

    def kept(self, keep: NDArray[np.bool_], stage: str, reason: str | Callable[[int], str]) -> Candidates:
        """Return the candidates where ``keep`` bool[m] holds; the others are told as dropped by ``stage``."""
        told = reason if callable(reason) else lambda _: reason
        gone = tuple(Drop(int(i), stage, told(int(i))) for i in self.items[~keep])
        sources = tuple(s for s, k in zip(self.sources, keep, strict=True) if k)
        return Candidates(self.items[keep], self.scores[keep], sources, self.dropped + gone)

    def ranked(
        self, items: NDArray[np.int32], scores: NDArray[np.float32], stage: str, dropped: Mapping[int, str]
    ) -> Candidates:
        """Return the candidates in the order of a ranker; what it left out is dropped with its reason.

        Args:
            items, scores: what the ranker returned, each item one of these candidates.
            stage: the tool call.
            dropped: reasons by inside id.
        """
        sources = dict(zip(self.items.tolist(), self.sources, strict=True))
        if strangers := set(items.tolist()) - set(sources):
            raise ValueError(f"a ranker returned items that it was not given: {sorted(strangers)[:3]}")
        left = self.kept(np.isin(self.items, items), stage, lambda i: dropped.get(i, "left out by the ranker"))
        return Candidates(items, scores, tuple((*sources[i], stage) for i in items.tolist()), left.dropped)

    def head(self, k: int, stage: str) -> Candidates:
        """Return the first ``k``; the others are told as dropped."""
        return self.kept(np.arange(len(self)) < k, stage, f"below rank {k}")

    def cleared(self) -> Candidates:
        """Return the candidates without the record of what left."""
        return replace(self, dropped=())

    def as_dict(self, items: Vocabulary) -> dict[str, Any]:
        """Return JSON values, with outside ids."""
        held = zip(items.decode(self.items), self.scores.tolist(), self.sources, strict=True)
        return {
            "items": [{"item": i, "score": s, "sources": list(source)} for i, s, source in held],
            "dropped": [{"item": items.ids[d.item], "stage": d.stage, "reason": d.reason} for d in self.dropped],
        }
