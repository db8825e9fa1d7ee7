"""Does a recommendation rest on the history items that its explanation cites?

The cited items are deleted from the history and the same system ranks again; the explained item then
falls further than after deleting as many random ones, or the explanation names items that the system
did not use.  True and faithful are two things: "because you watched X" is true whenever X was watched.

Deletion as a test of explanations: DeYoung et al., ERASER, ACL 2020, arXiv 1911.03429 (comprehensiveness).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Explanation, Lists, Queries, Ragged, Ranker, Retriever
from llm4rec.metrics import Comparison, paired_test

#: Ranks again: queries with shorter histories, and for each the row of the case that it came from.
System = Callable[[Queries, NDArray[np.int64]], Lists]


def by_retrieving(retriever: Retriever, exclude: Ragged, k: int = 1000) -> System:
    """Rank by retrieving ``k`` items.

    ``exclude`` is that of the original cases: an item deleted from the history stays hidden, so that it
    does not itself push the explained item down.
    """
    return lambda queries, rows: retriever.retrieve(queries, k, exclude=exclude.take(rows))


def by_ranking(ranker: Ranker, candidates: Lists) -> System:
    """Rank the candidates that each case had."""
    return lambda queries, rows: ranker.rank(queries, candidates.take(rows))


def without(queries: Queries, deleted: Sequence[NDArray[np.integer]]) -> Queries:
    """Return queries without the given items (every time that they occur in the history).

    Args:
        queries: n of them.
        deleted: n arrays of inside ids.
    """
    history = queries.history
    gone = np.concatenate([np.isin(history[row], items) for row, items in enumerate(deleted)] or [np.empty(0, bool)])
    keep = np.flatnonzero(~gone)
    lengths = np.bincount(history.rows[keep], minlength=len(history))
    return replace(
        queries,
        history=Ragged.from_lengths(lengths, history.values[keep]),
        history_times=None if queries.history_times is None else queries.history_times[keep],
        history_behaviors=None if queries.history_behaviors is None else queries.history_behaviors[keep],
        history_values=None if queries.history_values is None else queries.history_values[keep],
    )


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How far explained items fall without what their explanations cite.

    Per explanation, in the order given; nan where nothing is cited, as many others do not exist, or the
    system does not rank the item at all.

    Attributes:
        cited: float64[m], log2 of the rank without the cited items over the rank with them.
        random: float64[m], the same for as many random items, mean of the draws.
        score: float64[m], drop of the item's score without the cited items less that without random ones,
            in units of the system; nan also where the item left the list.
        case: int64[m], the row of the query.
    """

    cited: NDArray[np.float64]
    random: NDArray[np.float64]
    score: NDArray[np.float64]
    case: NDArray[np.int64]

    @property
    def gap(self) -> NDArray[np.float64]:
        """float64[m], ``cited - random``: 1 if deleting what is cited doubles the rank once more than chance."""
        return self.cited - self.random

    def compare(self, rng: np.random.Generator) -> Comparison:
        """Return the paired test of cited against random deletion; cases are the units, each the mean of its explanations."""
        cited, random = (_means(v, self.case) for v in (self.cited, self.random))
        return paired_test(cited, random, rng=rng)


def _means(values: NDArray[np.float64], case: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean of each case's values, nan where it has none."""
    held = ~np.isnan(values)
    n = int(case.max(initial=-1)) + 1
    totals = np.bincount(case[held], weights=values[held], minlength=n)
    counts = np.bincount(case[held], minlength=n)
    return np.asarray(np.divide(totals, counts, out=np.full(n, np.nan), where=counts > 0))


def fidelity(
    system: System,
    queries: Queries,
    explanations: Sequence[Sequence[Explanation]],
    *,
    window: int | None = None,
    draws: int = 10,
    batch: int = 512,
    rng: np.random.Generator,
) -> Fidelity:
    """Delete what explanations cite, rank again, and compare with deleting as many random history items.

    Cited are the items of "history" and "shared" claims.  Random ones are drawn without replacement from
    the items of the last ``window`` events that are not cited: give the window within which the explainer
    may cite, or a system that looks at recent events most makes any recent citation look faithful.

    Args:
        system: see :func:`by_retrieving` and :func:`by_ranking`.
        queries: n of them.
        explanations: n rows.
        window: of the random items; None for the whole history.
        draws: sets of random items for each explanation.
        batch: queries asked at once.

    An item that is not in a list counts as one place behind its end.
    """
    told = [(case, e) for case, several in enumerate(explanations) for e in several]
    case = np.array([c for c, _ in told], dtype=np.int64)
    asked: list[tuple[int, NDArray[np.integer]]] = []  # number of the explanation, what to delete
    for at, (row, explanation) in enumerate(told):
        history = queries.history[row]
        cites = {c.item for c in explanation.claims if c.kind in ("history", "shared") and c.item is not None}
        cited = np.array(sorted(cites & set(history.tolist())), dtype=np.int64)
        others = np.setdiff1d(history if window is None else history[-window:], cited)
        if not len(cited) or len(others) < len(cited):
            continue
        asked.append((at, np.empty(0, np.int64)))
        asked.append((at, cited))
        asked += [(at, rng.permutation(others)[: len(cited)]) for _ in range(draws)]
    ranks, scores = np.full((2, len(asked)), np.nan)
    for start in range(0, len(asked), batch):
        chunk = asked[start : start + batch]
        rows = case[[at for at, _ in chunk]]
        lists = system(without(queries.take(rows), [items for _, items in chunk]), rows)
        items = np.array([told[at][1].item for at, _ in chunk])
        hit = lists.items == items[:, None]
        place = hit.argmax(axis=1)
        in_list = hit.any(axis=1)
        ranks[start : start + batch] = np.where(in_list, place, lists.lengths) + 1
        scores[start : start + batch] = np.where(in_list, lists.scores[np.arange(len(chunk)), place], np.nan)
        # What was not ranked before cannot fall.
        whole = np.array([len(items) == 0 for _, items in chunk])
        ranks[start : start + batch][whole & ~in_list] = np.nan
    out = np.full((3, len(told)), np.nan)
    step = draws + 2
    ranks, scores = np.log2(ranks).reshape(-1, step), scores.reshape(-1, step)
    done = np.array([at for at, _ in asked[::step]], dtype=np.int64)
    if len(done):
        out[0, done] = ranks[:, 1] - ranks[:, 0]
        out[1, done] = ranks[:, 2:].mean(axis=1) - ranks[:, 0]
        out[2, done] = scores[:, 2:].mean(axis=1) - scores[:, 1]
    return Fidelity(out[0], out[1], out[2], case)
