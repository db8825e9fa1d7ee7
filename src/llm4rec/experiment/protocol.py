"""What every system is asked, by the rules that are the same for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Cases, Ragged, Retriever
from llm4rec.experiment.sections import RANDOM
from llm4rec.experiment.spec import Spec

#: Cases whose candidates are drawn at once; bounds memory at this many times n_items floats.
_BATCH = 512


@dataclass(frozen=True)
class Question:
    """The cases, what no list may show, and the sample of cases on which slow systems run.

    Attributes:
        cases: n test cases; validation cases while something is chosen.
        exclude: for each case, what no list may hold.
        sample: sorted case numbers.
    """

    cases: Cases
    exclude: Ragged
    sample: NDArray[np.int64]

    @classmethod
    def of(cls, spec: Spec, cases: Cases, n_items: int, retriever: Callable[[str], Retriever]) -> Question:
        """Apply the specification's protocol to cases over a catalogue of ``n_items``.

        Args:
            retriever: from a system's name to the fitted system, for the sources of candidates.
        """
        candidates, seed = spec.protocol.candidates, spec.experiment.seeds[0]
        exclude = cases.exclude(spec.protocol.mask)
        if spec.protocol.task != "ranking":
            cases = cases.single()
            exclude = Ragged.empty(len(cases))  # the item is given, so there is nothing to mask
        if candidates is not None:
            rng = np.random.default_rng(seed)
            proposed = []
            for source in candidates.sources:
                if source == RANDOM:
                    proposed.append(draw_unseen(cases, n_items, candidates.size, rng))
                else:
                    found = retriever(source).retrieve(cases.queries, candidates.size, exclude=exclude)
                    proposed.append(found.items)
            chosen = take_turns(proposed, candidates.size, cases.truth if candidates.inject else None, n_items)
            cases = Cases(cases.queries, cases.truth, cases.seen, chosen, cases.values)
            exclude = complement(chosen, n_items)
        size = min(spec.experiment.sample, len(cases))
        sample = np.sort(np.random.default_rng(seed).choice(len(cases), size, replace=False))
        return cls(cases, exclude, sample)

    def rows(self, sampled: bool) -> NDArray[np.int64]:
        """Return the case numbers that a system is asked."""
        return self.sample if sampled else np.arange(len(self.cases))


def draw_unseen(cases: Cases, n_items: int, size: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return int32[n, size] items that a case's user has not seen and that are not its truth, drawn uniformly; -1 pads."""
    rows = []
    for start in range(0, len(cases), _BATCH):
        part = cases.take(np.arange(start, min(start + _BATCH, len(cases))))
        keys = rng.random((len(part), n_items), dtype=np.float32)
        keys[part.seen.rows, part.seen.values] = np.inf
        keys[part.truth.rows, part.truth.values] = np.inf
        width = min(size, n_items)
        nearest = np.argpartition(keys, width - 1, axis=1)[:, :width]
        keys = np.take_along_axis(keys, nearest, 1)
        order = np.argsort(keys, axis=1)
        rows.append(np.where(np.isinf(np.take_along_axis(keys, order, 1)), -1, np.take_along_axis(nearest, order, 1)))
    return np.concatenate(rows).astype(np.int32)


def take_turns(proposed: Sequence[NDArray[np.int32]], size: int, truth: Ragged | None, n_items: int) -> Ragged:
    """Return at most ``size`` items a case: the truth, if given, then the sources' best in turn.

    Rows are in order of inside id, which tells nothing, so that no system can read from an item's
    place who proposed it, or which is the truth.

    Args:
        proposed: int32[n, k] of each source, best first; -1 pads.
        truth: put in first; None to leave the sets to the sources.
    """
    n = len(proposed[0])
    turns = np.stack(proposed, axis=2).reshape(n, -1)  # first choices of all sources, then second ones
    keys = np.full((n, n_items), np.inf, np.float32)
    rank = np.broadcast_to(np.arange(turns.shape[1], dtype=np.float32), turns.shape)
    rows, columns = np.nonzero(turns >= 0)
    np.minimum.at(keys, (rows, turns[rows, columns]), rank[rows, columns])
    if truth is not None:
        keys[truth.rows, truth.values] = -1.0
    best = np.argpartition(keys, min(size, n_items) - 1, axis=1)[:, :size]
    items = np.sort(np.where(np.isinf(np.take_along_axis(keys, best, 1)), -1, best), axis=1)
    return Ragged.from_lengths((items >= 0).sum(1), items[items >= 0])


def complement(candidates: Ragged, n_items: int) -> Ragged:
    """Return all items but the candidates: excluding them leaves every system the candidates to rank."""
    other = np.ones((len(candidates), n_items), dtype=bool)
    other[candidates.rows, candidates.values] = False
    return Ragged.from_lengths(other.sum(1), np.nonzero(other)[1])
