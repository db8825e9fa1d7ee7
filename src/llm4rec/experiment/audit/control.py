"""The shuffled-label control: what has lost every link between past and answer must fall to chance.

One random renumbering of all items is applied to the training events, to the validation cases and to the
histories and seen items of the test cases; the true items, the users, the times and all that is told of
users and items stay as they are.  What a system learns then is as rich as before (popularity, taste and
order live on, under other names), but it speaks of other items than those that are asked for.  Whatever
it still knows of the truth comes from somewhere else: a profile, a column of a table, the test itself.

Chance is not assumed.  Two randomisation tests of the mean gain of the true items give it:

- *relabelled*: under the renumbering every further renumbering of the true items would have been as
  likely, so the gain is compared with those of relabelled truths.  This holds exactly for a system
  that knows items by their events alone, and it keeps how uneven lists and truths are.
- *exchanged*: the truths are dealt anew among the cases.  What stays above that is known of a case, not only
  of the items that tend to be true, as the year of a film tells whatever its events say.

A gain above both is a leak.  A gain above the first alone is one too, unless the system reads item texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import Cases, Lists, Ragged, Split
from llm4rec.core.columns import ITEM
from llm4rec.experiment.audit.bench import Bench
from llm4rec.experiment.audit.finding import Finding, Verdict
from llm4rec.experiment.audit.subject import Subject

#: Entries of the matrix of gains that is held; cases beyond are left out, by seed.
_ENTRIES = 40_000_000


def shuffled_labels(subject: Subject) -> Iterator[Finding]:
    """The mean discounted gain of the true items (NDCG where a case has one) of systems fitted on shuffled items."""
    bench, split = subject.bench, subject.split
    if bench is None:
        yield Finding("shuffled", "", "gain after shuffling", None, "not applicable", subject.unserved)
        return
    rng, n_items = subject.rng(), split.train.n_items
    shuffled = relabelled(split, rng.permutation(n_items))
    most = max(1, _ENTRIES // n_items)
    rows = np.sort(rng.permutation(len(split.test))[:most])
    cases = shuffled.test.take(rows)
    exclude = cases.exclude(subject.protocol.mask)
    draws = [(rng.permutation(n_items), rng.permutation(len(cases))) for _ in range(subject.config.permutations)]
    fitted = bench.fit(shuffled, bench.names)
    for name in bench.names:
        component = fitted[name]
        gain = _gains(component.retrieve(cases.queries, bench.k, exclude=exclude), n_items)
        at, truth = cases.truth.rows, cases.truth.values
        value = float(gain[at, truth].mean())
        renamed = np.array([gain[at, other[truth]].mean() for other, _ in draws])
        dealt = np.array([gain[deal[at], truth].mean() for _, deal in draws])
        p_renamed, p_dealt = (float((1 + (null >= value - 1e-9).sum()) / (1 + len(null))) for null in (renamed, dealt))
        chance, level = float(renamed.mean()), subject.config.level
        reads = _reads_items(bench, name)
        verdict: Verdict = "ok"
        line = f"falls to chance ({chance:.4f}, p = {p_renamed:.3f}): what it knows, it learnt from events"
        if p_renamed <= level and (p_dealt <= level or not reads):
            verdict = "leak"
            line = f"chance is {chance:.4f} (p = {p_renamed:.3f}): it knows the truth from elsewhere than events"
        elif p_renamed <= level:
            verdict = "warning"
            line = f"chance is {chance:.4f} (p = {p_renamed:.3f}), not case by case: a text or column marks what is often true"
        yield Finding(
            "shuffled", name, f"gain at {bench.k} after shuffling", value, verdict, line,
            {"chance": chance, "p_relabelled": p_renamed, "exchanged": float(dealt.mean()), "p_exchanged": p_dealt},
        )  # fmt: skip


def relabelled(split: Split, number: NDArray[np.integer]) -> Split:
    """Return the split with item ``i`` as ``number[i]`` everywhere but in the truth of the test."""
    events = split.train.events.with_columns(pl.Series(ITEM, number[split.train.events[ITEM].to_numpy()], pl.Int32))

    def moved(ragged: Ragged) -> Ragged:
        return Ragged(ragged.offsets, number[ragged.values].astype(np.int32))

    def asked(cases: Cases, truth: Ragged) -> Cases:
        queries = replace(cases.queries, history=moved(cases.queries.history))
        return replace(cases, queries=queries, truth=truth, seen=moved(cases.seen))

    return replace(
        split,
        train=split.train.with_events(events),
        valid=asked(split.valid, moved(split.valid.truth)),
        test=asked(split.test, split.test.truth),
        fingerprint=f"{split.fingerprint}-relabelled",
    )


def _gains(lists: Lists, n_items: int) -> NDArray[np.float32]:
    """Return float32[n, n_items]: ``1 / log2(rank + 1)`` of each item that a list holds, else 0."""
    gain = np.zeros((len(lists), n_items), dtype=np.float32)
    row, column = np.nonzero(lists.items >= 0)
    gain[row, lists.items[row, column]] = 1.0 / np.log2(column + 2)
    return gain


def _reads_items(bench: Bench, name: str) -> bool:
    """Does a system, or one that it retrieves with, read what the item table tells?"""
    system = bench.spec.systems[name]
    return any(p.references("encoder") or p.entry.family in _READERS for p in system.parts) or any(
        _reads_items(bench, r) for r in system.retrieve
    )


#: Families of the catalogue that read the item table without an encoder.
_READERS = frozenset({"text", "memory", "prompted"})
