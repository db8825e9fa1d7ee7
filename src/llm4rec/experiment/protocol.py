"""What every system is asked, by the rules that are the same for all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Cases, Mask, Ragged, Retriever, SpecError, Split, Training
from llm4rec.core.order import first_of_each
from llm4rec.experiment.sections import RANDOM
from llm4rec.experiment.spec import Spec

_LOG = logging.getLogger(__name__)

#: Random numbers held at once while candidates are drawn.
_CELLS = 8_000_000


def fit_cases(split: Split | Training, mask: Mask) -> Cases | None:
    """Return the validation cases as ``fit`` is given them; None where the split leaves none.

    What they call seen is what the protocol hides, so that early stopping and weights that are chosen look at
    lists like those that are measured: users may return to items, and then nothing is hidden.
    """
    return replace(split.valid, seen=split.valid.exclude(mask)) if len(split.valid) else None


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
            most = int(cases.truth.lengths.max(initial=0))
            if candidates.inject and most >= candidates.size:
                what = f"sets of {candidates.size} cannot hold a case's {most} true items and others"
                raise SpecError(what, where="protocol.candidates.size", todo='give more, or set split.targets = "next"')
            rng = np.random.default_rng(seed)
            proposed = []
            for source in candidates.sources:
                if source == RANDOM:
                    proposed.append(draw_unseen(cases, n_items, candidates.size, rng))
                else:
                    found = retriever(source).retrieve(cases.queries, candidates.size, exclude=exclude)
                    proposed.append(found.items)
            chosen = take_turns(proposed, candidates.size, cases.truth if candidates.inject else None, n_items)
            _tell_of_short_sets(chosen.lengths, candidates.size)
            cases = Cases(cases.queries, cases.truth, cases.seen, chosen, cases.values)
            exclude = complement(chosen, n_items)
        size = min(spec.experiment.sample, len(cases))
        sample = np.sort(np.random.default_rng(seed).choice(len(cases), size, replace=False))
        return cls(cases, exclude, sample)

    def rows(self, sampled: bool) -> NDArray[np.int64]:
        """Return the case numbers that a system is asked."""
        return self.sample if sampled else np.arange(len(self.cases))


def _tell_of_short_sets(lengths: NDArray[np.int64], size: int) -> None:
    """Log how many sets of candidates are smaller than they should be; if all are, the protocol is none of that name."""
    short = int((lengths < size).sum())
    if short and short == len(lengths):
        what = f"the sources propose at most {lengths.max()} candidates for a case, not {size}"
        raise SpecError(what, where="protocol.candidates.size", todo="give fewer, or more sources")
    if short:
        told = "%d of %d sets hold fewer than %d candidates, %.1f on average: nothing else is left to propose"
        _LOG.warning(told, short, len(lengths), size, lengths[lengths < size].mean())


def draw_unseen(cases: Cases, n_items: int, size: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return int32[n, size] items that a case's user has not seen and that are not its truth, drawn uniformly; -1 pads."""
    rows, batch = [], max(1, _CELLS // n_items)  # the draws are the same whatever it is
    for start in range(0, len(cases), batch):
        part = cases.take(np.arange(start, min(start + batch, len(cases))))
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
    case, turn = np.nonzero(turns >= 0)
    item = turns[case, turn].astype(np.int64)
    if truth is not None:
        case, item = np.concatenate([truth.rows, case]), np.concatenate([truth.values, item])
        turn = np.concatenate([np.full(len(truth.values), -1), turn])
    order = np.lexsort((item, turn, case))
    case, item = case[order], item[order]
    new = first_of_each(case * n_items + item)
    case, item = case[new], item[new]
    found = np.bincount(case, minlength=n)
    kept = np.arange(len(case)) - (np.cumsum(found) - found)[case] < size
    case, item = case[kept], item[kept]
    return Ragged.from_lengths(np.bincount(case, minlength=n), item[np.lexsort((item, case))])


def complement(candidates: Ragged, n_items: int) -> Ragged:
    """Return all items but the candidates: excluding them leaves every system the candidates to rank."""
    items, batch = [], max(1, _CELLS // n_items)  # a table of all cases and items would be many times what is returned
    for start in range(0, len(candidates), batch):
        part = candidates.take(np.arange(start, min(start + batch, len(candidates))))
        other = np.ones((len(part), n_items), dtype=np.bool_)
        other[part.rows, part.values] = False
        items.append(np.nonzero(other)[1].astype(np.int32))
    return Ragged.from_lengths(n_items - candidates.lengths, np.concatenate([np.empty(0, np.int32), *items]))
