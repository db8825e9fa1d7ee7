"""What every system is asked, by the rules that are the same for all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Cases, Ragged, Split
from llm4rec.experiment.spec import Spec

#: Cases whose candidates are drawn at once; bounds memory at this many times n_items floats.
_BATCH = 512


@dataclass(frozen=True)
class Question:
    """The cases, what no list may show, and the sample of cases on which slow systems run.

    Attributes:
        cases: n test cases.
        exclude: for each case, what no list may hold.
        sample: sorted case numbers.
    """

    cases: Cases
    exclude: Ragged
    sample: NDArray[np.int64]

    @classmethod
    def of(cls, spec: Spec, split: Split) -> Question:
        """Apply the specification's protocol to the split's test cases."""
        cases, candidates, seed = split.test, spec.protocol.candidates, spec.experiment.seeds[0]
        exclude = cases.exclude(spec.protocol.mask)
        if candidates is not None:
            chosen = draw_candidates(cases, split.train.n_items, candidates.size, np.random.default_rng(seed))
            cases = Cases(cases.queries, cases.truth, cases.seen, chosen)
            exclude = complement(chosen, split.train.n_items)
        size = min(spec.experiment.sample, len(cases))
        sample = np.sort(np.random.default_rng(seed).choice(len(cases), size, replace=False))
        return cls(cases, exclude, sample)

    def rows(self, sampled: bool) -> NDArray[np.int64]:
        """Return the case numbers that a system is asked."""
        return self.sample if sampled else np.arange(len(self.cases))


def draw_candidates(cases: Cases, n_items: int, size: int, rng: np.random.Generator) -> Ragged:
    """Return ``size`` items a case: the truth, and others drawn at random from those the user has not seen.

    Rows are in order of inside id, which tells nothing, so that no system can read the truth
    from its place.
    """
    rows = []
    for start in range(0, len(cases), _BATCH):
        part = cases.take(np.arange(start, min(start + _BATCH, len(cases))))
        keys = rng.random((len(part), n_items), dtype=np.float32)
        keys[part.seen.rows, part.seen.values] = np.inf
        keys[part.truth.rows, part.truth.values] = -1.0
        nearest = np.argpartition(keys, min(size, n_items) - 1, axis=1)[:, :size]
        rows.append(np.where(np.isinf(np.take_along_axis(keys, nearest, 1)), -1, nearest))
    items = np.sort(np.concatenate(rows), axis=1)
    return Ragged.from_lengths((items >= 0).sum(1), items[items >= 0])


def complement(candidates: Ragged, n_items: int) -> Ragged:
    """Return all items but the candidates: excluding them leaves every system the candidates to rank."""
    other = np.ones((len(candidates), n_items), dtype=bool)
    other[candidates.rows, candidates.values] = False
    return Ragged.from_lengths(other.sum(1), np.nonzero(other)[1])
