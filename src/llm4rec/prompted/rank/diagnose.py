"""What is wrong with a ranker, seen from its listings: pure functions over notes and lists.

Cases are the units of every interval, since the listings of one case resemble each other.
Scores of a :class:`Trial` are those that the answer gave, before any prior was subtracted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Lists, Note, Queries, Ragged, Ranker
from llm4rec.metrics import Comparison, Interval, bootstrap_interval, bootstrap_intervals, evaluate, paired_test

#: Rows whose pairs of candidates are compared at once.
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class PositionBias:
    """How a candidate's slot in the listing changes its fate; slot 0 is the first one shown.

    Attributes:
        slots: length of the listings that were compared (the most frequent one).
        trials, left_out: listings that were compared, and those of another length or without a usable answer.
        first: share of the listings in which a slot's candidate was placed first; 1 / slots without bias.
        rank: mean normalised place of a slot's candidate, 0 the first and 1 the last; 0.5 without bias.
        hit: share of the listings with the true item in a slot in which it was placed first; None without truth.
        slope: rise of ``rank`` from the first slot to the last by least squares, one value a case; above 0
            the ranker favours what stands early.
    """

    slots: int
    trials: int
    left_out: int
    first: tuple[Interval, ...]
    rank: tuple[Interval, ...]
    hit: tuple[Interval, ...] | None
    slope: Interval

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return dict(json_values(asdict(self)))


def position_bias(notes: Sequence[Note], truth: Ragged | None = None, *, rng: np.random.Generator) -> PositionBias:
    """Return the position-bias curve of listings.

    Equal scores share their places, and a first place among them.  Candidates that an answer did
    not place share the places behind the others.  Source of the measure: LLMRank (arXiv
    2305.08845), figure 4; here for every candidate, not the true one alone.

    Args:
        notes: of n cases; each case's trials in any number.  Only for scorings that list candidates
            (choice, generate, pairs): a slot means nothing where each is asked by itself.
        truth: true items of the same cases.
    """
    lengths = Counter(len(trial.items) for note in notes for trial in note.trials if np.isfinite(trial.scores).any())
    total = sum(len(note.trials) for note in notes)
    width = max(lengths, key=lambda n: (lengths[n], n), default=0)
    if width < 2:
        nothing = Interval(float("nan"), float("nan"), float("nan"), 0)
        return PositionBias(width, 0, total, (), (), None, nothing)
    case, scores, items = [], [], []
    for at, note in enumerate(notes):
        for trial in note.trials:
            if len(trial.items) == width and np.isfinite(trial.scores).any():
                case.append(at)
                scores.append(trial.scores)
                items.append(trial.items)
    rows, shown = np.array(case), np.array(items)
    place = _places(np.array(scores, dtype=np.float64))  # [trials, width], 0 is best, ties shared
    top = place == place.min(axis=1, keepdims=True)
    won = top / top.sum(axis=1, keepdims=True)
    rank = place / (width - 1)
    everything = np.ones_like(won)
    first = _by_case(won, everything, rows, len(notes))
    ranks = _by_case(rank, everything, rows, len(notes))
    slot = np.arange(width) - (width - 1) / 2
    slope = (ranks @ slot) * (width - 1) / (slot @ slot)
    hit = None
    if truth is not None:
        true = truth.take(rows).contains(shown, int(max(shown.max(), truth.values.max(initial=0))) + 1)
        hit = tuple(bootstrap_intervals(_by_case(won, true, rows, len(notes)), rng=rng))
    return PositionBias(
        width,
        len(rows),
        total - len(rows),
        tuple(bootstrap_intervals(first, rng=rng)),
        tuple(bootstrap_intervals(ranks, rng=rng)),
        hit,
        bootstrap_interval(slope, rng=rng),
    )


def _places(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64[n, k]: how many stand before each, 0 for the best; ties share the mean of theirs, nan comes last."""
    filled = np.where(np.isfinite(scores), scores, -np.inf)
    above = (filled[:, None, :] > filled[:, :, None]).sum(axis=2)  # [n, k, k] -> [n, k]
    equal = (filled[:, None, :] == filled[:, :, None]).sum(axis=2)
    return np.asarray(above + (equal - 1) / 2, dtype=np.float64)


def _by_case(values: NDArray[np.float64], counted: NDArray[Any], rows: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Return float64[n, k]: mean over each case's trials of the values that count, nan where there are none."""
    total, count = np.zeros((n, values.shape[1])), np.zeros((n, values.shape[1]))
    np.add.at(total, rows, values * counted)
    np.add.at(count, rows, counted)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


@dataclass(frozen=True, slots=True)
class PopularityBias:
    """Does the ranker favour what is popular more than users do?

    Attributes:
        ranker: mean over cases of Spearman's correlation of its scores with training popularity.
        truth: the same of the truth (1 for a true item, 0 for another), over the cases that have one among
            their candidates.
        excess: paired difference of the two on those cases.
    """

    ranker: Interval
    truth: Interval
    excess: Comparison

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return dict(json_values(asdict(self)))


def popularity_bias(lists: Lists, counts: NDArray[np.integer], truth: Ragged, *, rng: np.random.Generator) -> PopularityBias:
    """Return how a ranker's scores and the truth go with the training popularity of the candidates.

    Args:
        lists: as the ranker gave them, n of them.
        counts: int[n_items], training events of each item.
        truth: true items of the n cases.
    """
    held = lists.items >= 0
    popularity = np.where(held, counts[np.maximum(lists.items, 0)], np.nan)
    relevant = np.where(held, truth.contains(lists.items, len(counts)), np.nan)
    own = _spearman(np.where(held, lists.scores, np.nan), popularity)
    true = _spearman(relevant, popularity)
    return PopularityBias(bootstrap_interval(own, rng=rng), bootstrap_interval(true, rng=rng), paired_test(own, true, rng=rng))


def _spearman(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return float64[n]: rank correlation of each row of two [n, k] (nan pads alike), nan where one is constant."""
    out = np.full(len(a), np.nan)
    for start in range(0, len(a), _CHUNK):
        rows = slice(start, start + _CHUNK)
        held = np.isfinite(a[rows]) & np.isfinite(b[rows])
        n = np.maximum(held.sum(axis=1, keepdims=True), 1)
        ranks = []
        for values in (a[rows], b[rows]):
            place = np.where(held, _places(np.where(held, values, np.nan)), 0.0)
            ranks.append(np.where(held, place - place.sum(axis=1, keepdims=True) / n, 0.0))
        x, y = ranks
        scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
        np.divide((x * y).sum(axis=1), scale, out=out[rows], where=scale > 0)
    return out


def answer_failures(notes: Sequence[Note]) -> dict[str, Any]:
    """Return how often what went wrong, as JSON values.

    ``listings`` that were asked, ``unusable`` ones (no candidate got a score), ``incomplete`` ones
    (some did not), ``unranked`` cases (no usable listing), and ``kinds``: each kind of failure with
    its count (``duplicate``, ``omitted``, ``out_of_range``, ``unreadable``, ...).
    """
    placed = [np.isfinite(trial.scores) for note in notes for trial in note.trials]
    kinds = Counter(kind for note in notes for kind in note.failures if kind != "unranked")
    return {
        "cases": len(notes),
        "listings": len(placed),
        "unusable": sum(not held.any() for held in placed),
        "incomplete": sum(bool(held.any() and not held.all()) for held in placed),
        "unranked": sum("unranked" in note.failures for note in notes),
        "kinds": dict(sorted(kinds.items())),
    }


def agreement(notes: Sequence[Note], *, rng: np.random.Generator) -> Interval:
    """Return the mean Kendall correlation (tau-b) between listings of the same candidates, over cases.

    1: the order of listing changes nothing; 0: the answers have no more in common than chance; a
    ranker that follows slots alone is near 0, and at -1 where an order and its reverse are asked.
    Cases without two usable listings of the same candidates have no value.
    """
    values = np.full(len(notes), np.nan)
    for at, note in enumerate(notes):
        same: dict[tuple[int, ...], list[NDArray[np.float64]]] = {}
        for trial in note.trials:
            order = np.argsort(trial.items)
            scores = np.array(trial.scores, dtype=np.float64)[order]
            if np.isfinite(scores).any():
                same.setdefault(tuple(sorted(trial.items)), []).append(scores)
        taus = [_taus(*_pairs(np.stack(rows))) for rows in same.values() if len(rows) > 1]
        known = np.concatenate(taus) if taus else np.empty(0)
        known = known[np.isfinite(known)]
        values[at] = known.mean() if len(known) else np.nan
    return bootstrap_interval(values, rng=rng)


def _pairs(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return all pairs of rows; what an answer did not place stands last, tied."""
    filled = np.where(np.isfinite(rows), rows, np.where(np.isfinite(rows), rows, np.inf).min(axis=1, keepdims=True) - 1.0)
    first, second = np.triu_indices(len(rows), 1)
    return filled[first], filled[second]


def _taus(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return float64[n]: Kendall's tau-b of each row of two [n, k] (nan pads alike), nan where one is constant."""
    out = np.full(len(a), np.nan)
    for start in range(0, len(a), _CHUNK):
        rows = slice(start, start + _CHUNK)
        x, y = (np.nan_to_num(np.sign(part[rows, :, None] - part[rows, None, :])) for part in (a, b))
        scale = np.sqrt((x**2).sum(axis=(1, 2)) * (y**2).sum(axis=(1, 2)))
        np.divide((x * y).sum(axis=(1, 2)), scale, out=out[rows], where=scale > 0)
    return out


@dataclass(frozen=True, slots=True)
class Control:
    """What a false history does to a ranker.

    Attributes:
        gain: the metric with the true history less that with the false one, paired over cases.
        tau: Kendall correlation between the two orders; 1 where the history changes nothing.
    """

    gain: Comparison
    tau: Interval


@dataclass(frozen=True, slots=True)
class HistorySensitivity:
    """Does a ranker use the history, and its order?

    Attributes:
        metric: name of what was compared.
        true: its mean with the true history.
        shuffled: the same items in random order; a gain near 0 says that order is not used.
        fake: another user's history; a gain near 0 says that the history is not used.
    """

    metric: str
    true: Interval
    shuffled: Control
    fake: Control

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return dict(json_values(asdict(self)))


def history_sensitivity(
    ranker: Ranker,
    queries: Queries,
    candidates: Lists,
    truth: Ragged,
    *,
    rng: np.random.Generator,
    metric: str = "ndcg@10",
    last: int | None = None,
) -> HistorySensitivity:
    """Rank with the true history, with the same items shuffled, and with another user's.

    Three times the cost of ranking (less what is in the store).  Users keep their requests and
    profiles: what those tell of the user stays true in the controls.

    Args:
        last: shuffle among so many latest items alone, those that the ranker shows; all if None.
    """
    true = ranker.rank(queries, candidates)
    own = evaluate(true, truth, [metric])[metric]

    def control(false: Queries) -> Control:
        lists = ranker.rank(false, candidates)
        gain = paired_test(own, evaluate(lists, truth, [metric])[metric], rng=rng)
        return Control(gain, bootstrap_interval(_taus(*_aligned(true, lists)), rng=rng))

    return HistorySensitivity(
        metric,
        bootstrap_interval(own, rng=rng),
        control(shuffled_history(queries, rng, last)),
        control(fake_history(queries, rng)),
    )


def shuffled_history(queries: Queries, rng: np.random.Generator, last: int | None = None) -> Queries:
    """Return the queries with the latest items (all, or so many) of each history in random order; times stay in theirs."""
    order = np.arange(len(queries.history.values))
    for begin, end in zip(queries.history.offsets[:-1], queries.history.offsets[1:], strict=True):
        start = begin if last is None else max(begin, end - last)
        order[start:end] = rng.permutation(order[start:end])
    behaviors, values = queries.history_behaviors, queries.history_values
    return replace(
        queries,
        history=Ragged(queries.history.offsets, queries.history.values[order]),
        history_behaviors=None if behaviors is None else behaviors[order],
        history_values=None if values is None else values[order],
    )


def fake_history(queries: Queries, rng: np.random.Generator) -> Queries:
    """Return the queries, each with the history of the next one in a random circle: never with its own.

    Raises ``ValueError`` for fewer than two queries.
    """
    if len(queries) < 2:
        raise ValueError("the history of another user needs two queries")
    circle = rng.permutation(len(queries))
    other = np.empty(len(queries), dtype=np.int64)
    other[circle] = np.roll(circle, 1)
    given = queries.take(other)
    return replace(
        queries,
        history=given.history,
        history_times=given.history_times,
        history_behaviors=given.history_behaviors,
        history_values=given.history_values,
    )


def _aligned(a: Lists, b: Lists) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the places of the same candidates in two sets of lists, higher for earlier, nan where one lacks them."""
    place = []
    for lists in (a, b):
        by_id = np.argsort(np.where(lists.items < 0, np.iinfo(np.int32).max, lists.items), axis=1, kind="stable")
        place.append((np.take_along_axis(lists.items, by_id, 1), -by_id.astype(np.float64)))
    (items, first), (others, second) = place
    known = (items == others) & (items >= 0)
    return np.where(known, first, np.nan), np.where(known, second, np.nan)


def json_values(value: Any) -> Any:
    """Return nested values with nan as None, as JSON wants it."""
    if isinstance(value, dict):
        return {key: json_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
