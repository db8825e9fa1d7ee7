"""From one log to a training part and two sets of cases.

All kinds share one rule for what a case is.  A kind only says which events train and which are
truth; then, for each user with truth,

- the query stands just before the user's first truth event, and has its time;
- the history is every event of the user before the query, in time order, whatever part it is in;
- ``seen`` is the history and the hidden events (see ``Log``) before the query.

Time order means: by time, then by the order of the source.  No event of a user that comes after
one of the user's queries is ever in training.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from llm4rec.core import Cases, Config, DataError, Dataset, Queries, Ragged, SpecError, Split, Training
from llm4rec.core.columns import BEHAVIOR, ITEM, TIME, USER, VALUE
from llm4rec.core.order import first_of_each, stable_order
from llm4rec.data.log import BEFORE, Log

Kind = Literal["leave-one-out", "ratio", "global-time", "user-disjoint", "item-cold"]
Bools = NDArray[np.bool_]
_LARGER = "take a larger log, or other rules for the split"


class SplitConfig(Config):
    """The ``[split]`` table of an experiment."""

    kind: Kind = "leave-one-out"
    """``leave-one-out``: each user's last event is test, the last but one validation.
    ``ratio``: each user's last events, by share.  ``global-time``: the same moment for all users.
    ``user-disjoint``: some users have no training events.  ``item-cold``: some items have none."""
    valid: float = Field(default=0.1, gt=0, lt=1)
    """Share for validation: of each user's events (``ratio``), of all events by time
    (``global-time``), of users (``user-disjoint``), of items (``item-cold``)."""
    test: float = Field(default=0.1, gt=0, lt=1)
    """Share for test, likewise."""
    valid_from: int | datetime | None = None
    """``global-time``: first moment of validation (ISO date or UTC s); overrides ``valid``."""
    test_from: int | datetime | None = None
    """``global-time``: first moment of the test; overrides ``test``."""
    holdout: float = Field(default=0.2, gt=0, lt=1)
    """``user-disjoint``: share of a user's events, the last ones, that is truth (at least one)."""
    targets: Literal["all", "next"] = "all"
    """Where a case could have several truth items: all of them, or only the first."""
    min_events: int = Field(default=3, ge=2)
    """``leave-one-out``, ``ratio``: a user with fewer events only trains.
    ``user-disjoint``: such a user is never drawn for validation or test."""
    min_history: int = Field(default=1, ge=0)
    """A query with fewer events in its history makes no case; 0 admits users nobody knows."""
    max_history: int | None = Field(default=None, ge=1)
    """Events kept in a query's history, the newest; ``seen`` and training stay whole."""
    validation: Literal["held", "trained"] = "held"
    """``leave-one-out``, ``ratio``: with ``trained`` the validation events are training events, as in some published
    tables, and there are no validation cases: what stops early by them trains to the end."""
    repeats: Literal["drop", "keep"] = "drop"
    """A truth event of an item that the user is known to have touched before: with ``drop`` it
    is no truth (masking what is seen would hide it from every system), with ``keep`` it is."""
    seed: int = Field(default=0, ge=0)
    """Draws users (``user-disjoint``) or items (``item-cold``)."""

    @model_validator(mode="after")
    def _leaves_training(self) -> SplitConfig:
        if self.valid + self.test >= 1:
            raise ValueError("valid and test together leave nothing for training")
        if self.validation == "trained" and self.kind not in ("leave-one-out", "ratio"):
            raise ValueError(f"validation = 'trained' is for leave-one-out and ratio, not for {self.kind}")
        return self


@dataclass(frozen=True)
class _Ordered:
    """A log's events by user, then time, then source order: arrays of m."""

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time: NDArray[np.int64]
    behavior: NDArray[np.int8]
    value: NDArray[np.float32]
    row: NDArray[np.int64]
    n_users: int

    @classmethod
    def of(cls, log: Dataset) -> _Ordered:
        user, item, time, behavior, value = (log.events[c].to_numpy() for c in (USER, ITEM, TIME, BEHAVIOR, VALUE))
        row = stable_order(user, time)  # equal times keep the order of the source
        return cls(user[row], item[row], time[row], behavior[row], value[row], row, log.n_users)

    def __len__(self) -> int:
        return len(self.user)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """int64[n_users], each user's number of events."""
        return np.bincount(self.user, minlength=self.n_users)

    @cached_property
    def start(self) -> NDArray[np.int64]:
        """int64[n_users], the place of each user's first event."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def from_end(self) -> NDArray[np.int64]:
        """int64[m], the number of the user's events after this one."""
        return np.repeat(self.start + self.lengths - 1, self.lengths) - np.arange(len(self))


@dataclass(frozen=True)
class _Plan:
    """Which events (in order) train, and which are truth of validation and of test."""

    train: Bools
    valid: Bools
    test: Bools
    counts: dict[str, Any]

    @classmethod
    def of(cls, dataset: Dataset, events: _Ordered, config: SplitConfig) -> _Plan:
        """Plan as the kind says, and let what is for validation train if that is wanted."""
        plan: _Plan = _PLANS[config.kind](dataset, events, config)
        if config.validation == "held":
            return plan
        return replace(plan, train=plan.train | plan.valid, valid=np.zeros_like(plan.valid))


def make_split(dataset: Dataset, config: SplitConfig | None = None) -> Split:
    """Split a data set; ``Split.rules`` says how, with counts.

    Raises:
        SpecError: the kind does not fit the data (``global-time`` without real times), or the
            moments are not in order.
        DataError: no test case, or nothing to train on, is left.
    """
    config = config or SplitConfig()
    events = _Ordered.of(dataset)
    plan = _Plan.of(dataset, events, config)
    known = _known_before(dataset, events)
    trains = np.zeros(len(events), dtype=bool)
    trains[events.row] = plan.train
    train = dataset.with_events(dataset.events.filter(trains))
    valid, valid_counts = _cases(dataset, events, plan.valid, known, config)
    test, test_counts = _cases(dataset, events, plan.test, known, config)
    if not len(train.events) or not len(test):
        left = "training event" if not len(train.events) else "test case"
        raise DataError(f"the {config.kind} split leaves no {left} ({dataset!r})", todo=_LARGER)
    rules = {
        "split": config.model_dump(mode="json"),
        "order": "by time; equal times keep the order of the source",
        "clock": dataset.clock,
        "data": dict(dataset.rules) if isinstance(dataset, Log) else {},
        "train": {"events": len(train.events), "users": int(np.count_nonzero(np.bincount(train.events[USER].to_numpy())))},
        "valid": valid_counts,
        "test": test_counts,
        **plan.counts,
    }
    return Split(train, valid, test, rules, _fingerprint(train, valid, test))


def make_training(dataset: Dataset, config: SplitConfig | None = None) -> Training:
    """Return the same training part and validation cases as ``make_split``; test cases are never built.

    Raises:
        SpecError: as ``make_split``.
        DataError: nothing to train on, or no validation case, is left.
    """
    config = config or SplitConfig()
    events = _Ordered.of(dataset)
    plan = _Plan.of(dataset, events, config)
    train = dataset.with_events(dataset.events[np.sort(events.row[plan.train])])
    valid, _ = _cases(dataset, events, plan.valid, _known_before(dataset, events), config)
    if not len(train.events) or not len(valid):
        left = "training event" if not len(train.events) else "validation case"
        raise DataError(f"the {config.kind} split leaves no {left} ({dataset!r})", todo=_LARGER)
    return Training(train, valid, _fingerprint(train, valid))


# -- the kinds ------------------------------------------------------------------------------
def _leave_one_out(dataset: Dataset, events: _Ordered, config: SplitConfig) -> _Plan:
    last = (events.start + events.lengths - 1)[events.lengths >= config.min_events]
    test, valid = (np.zeros(len(events), dtype=bool) for _ in range(2))
    test[last] = valid[last - 1] = True
    return _Plan(~(test | valid), valid, test, _short(events, config))


def _ratio(dataset: Dataset, events: _Ordered, config: SplitConfig) -> _Plan:
    n = events.lengths
    n_test, n_valid = (np.maximum(1, np.rint(n * share)).astype(np.int64) for share in (config.test, config.valid))
    enough = (n >= config.min_events) & (n_test + n_valid < n)
    n_test, n_valid = np.where(enough, n_test, 0)[events.user], np.where(enough, n_valid, 0)[events.user]
    test = events.from_end < n_test
    valid = ~test & (events.from_end < n_test + n_valid)
    return _Plan(~(test | valid), valid, test, _short(events, config))


def _global_time(dataset: Dataset, events: _Ordered, config: SplitConfig) -> _Plan:
    if dataset.clock == "order":
        raise SpecError(
            f"{dataset.name} has no times, only an order of events, so no moment cuts it",
            where="split.kind",
            todo="take leave-one-out, ratio, user-disjoint or item-cold",
        )
    times = np.sort(events.time)

    def moment(given: int | datetime | None, share: float, key: str) -> int:
        if isinstance(given, datetime):
            return int((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp())
        if given is not None:
            return given
        if not len(times):
            raise DataError("no events to split", where=f"split.{key}")
        return int(times[min(round(len(times) * (1 - share)), len(times) - 1)])

    test_from = moment(config.test_from, config.test, "test_from")
    valid_from = moment(config.valid_from, config.valid + config.test, "valid_from")
    if valid_from > test_from:
        todo = "give both moments" if config.valid_from is None or config.test_from is None else None
        raise SpecError(
            f"validation would start after the test ({valid_from} > {test_from})", where="split.valid_from", todo=todo
        )
    train, test = events.time < valid_from, events.time >= test_from
    return _Plan(train, ~(train | test), test, {"valid_from": valid_from, "test_from": test_from})


def _user_disjoint(dataset: Dataset, events: _Ordered, config: SplitConfig) -> _Plan:
    able = np.flatnonzero(events.lengths >= config.min_events)
    part = _draw(dataset.n_users, able, config)
    n_truth = np.maximum(1, np.rint(events.lengths * config.holdout)).astype(np.int64)
    last = events.from_end < n_truth[events.user]
    of = part[events.user]
    counts = {"valid_users": int((part == 1).sum()), "test_users": int((part == 2).sum())}
    return _Plan(of == 0, (of == 1) & last, (of == 2) & last, counts)


def _item_cold(dataset: Dataset, events: _Ordered, config: SplitConfig) -> _Plan:
    part = _draw(dataset.n_items, np.flatnonzero(dataset.item_counts), config)
    of = part[events.item]
    place = np.arange(len(events))
    first = np.full(dataset.n_users, len(events))  # place of each user's first query
    truths = []
    for code in (2, 1):  # test, then validation before it: the user's last event of a cold item
        cold = (of == code) & (place < first[events.user])
        at = np.full(dataset.n_users, -1)
        np.maximum.at(at, events.user[cold], place[cold])
        at = at[at >= 0]
        truth = np.zeros(len(events), dtype=bool)
        truth[at] = True
        truths.append(truth)
        first[events.user[at]] = at
    test, valid = truths
    train = (of == 0) & (place < first[events.user])
    counts = {
        "valid_items": int((part == 1).sum()),
        "test_items": int((part == 2).sum()),
        "events_in_no_part": int((~(train | valid | test)).sum()),
    }
    return _Plan(train, valid, test, counts)


_PLANS = {
    "leave-one-out": _leave_one_out,
    "ratio": _ratio,
    "global-time": _global_time,
    "user-disjoint": _user_disjoint,
    "item-cold": _item_cold,
}


def _short(events: _Ordered, config: SplitConfig) -> dict[str, Any]:
    n = events.lengths
    return {"users_too_short": int(((n > 0) & (n < config.min_events)).sum())}


def _draw(n: int, able: NDArray[np.integer], config: SplitConfig) -> NDArray[np.int8]:
    """Return int8[n]: 1 for those drawn for validation, 2 for test, 0 for the rest."""
    drawn = np.random.default_rng(config.seed).permutation(able)
    n_test, n_valid = (max(1, round(len(able) * share)) for share in (config.test, config.valid))
    part = np.zeros(n, dtype=np.int8)
    part[drawn[:n_test]] = 2
    part[drawn[n_test : n_test + n_valid]] = 1
    return part


# -- cases ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Known:
    """What users are known to have touched: the events and the hidden ones, in time order.

    Attributes:
        user, item: int32 of all of them, by user, then time, then source order.
        place: for each event (in order) its place in this longer list.
        repeat: for each event, has the user touched its item before?
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    place: NDArray[np.int64]
    repeat: Bools


def _known_before(dataset: Dataset, events: _Ordered) -> _Known:
    m = len(events)
    user, item, place = events.user, events.item, np.arange(m)
    if isinstance(dataset, Log) and len(dataset.hidden):
        hidden = dataset.hidden
        user, item, time = (
            np.concatenate([a, hidden[c].to_numpy()]) for a, c in ((user, USER), (item, ITEM), (events.time, TIME))
        )
        source = np.concatenate([2 * events.row + 1, 2 * hidden[BEFORE].to_numpy()])  # hidden ones in front of their row
        order = stable_order(user, time, source)
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        user, item, place = user[order], item[order], place[:m]
    repeat = ~first_of_each(user.astype(np.int64) * dataset.n_items + item)
    return _Known(user, item, place, repeat[place])


def _cases(
    dataset: Dataset, events: _Ordered, truth: Bools, known: _Known, config: SplitConfig
) -> tuple[Cases, dict[str, Any]]:
    repeated = truth & known.repeat if config.repeats == "drop" else np.zeros_like(truth)
    at = np.flatnonzero(truth & ~repeated)
    pairs = events.user[at].astype(np.int64) * dataset.n_items + events.item[at]
    at = at[np.sort(np.unique(pairs, return_index=True)[1])]  # an item is truth once in a case
    users, first = np.unique(events.user[at], return_index=True)
    query = at[first]  # place of each user's first truth event; users ascend
    lengths = query - events.start[users]  # of the user's events before the query
    short = lengths < config.min_history
    users, query, lengths = users[~short], query[~short], lengths[~short]

    row = np.full(dataset.n_users, -1)
    row[users] = np.arange(len(users))
    at = at[row[events.user[at]] >= 0]
    kept = query if config.targets == "next" else at
    truths = Ragged.from_lengths(np.bincount(row[events.user[kept]], minlength=len(users)), events.item[kept])

    cut = lengths if config.max_history is None else np.minimum(lengths, config.max_history)
    shown = _ranges(query - cut, cut)
    queries = Queries(
        users.astype(np.int32),
        Ragged.from_lengths(cut, events.item[shown]),
        events.time[query],
        history_times=events.time[shown],
        history_behaviors=events.behavior[shown],
        history_values=events.value[shown],
    )
    if known.item is events.item and config.max_history is None:
        seen = queries.history
    else:
        known_start = np.searchsorted(known.user, users)
        known_lengths = known.place[query] - known_start
        seen = Ragged.from_lengths(known_lengths, known.item[_ranges(known_start, known_lengths)])
    previous = np.maximum(query - 1, 0)
    tied = (lengths > 0) & (events.time[previous] == events.time[query])
    counts = {
        "cases": len(users),
        "truth_events": len(kept),
        "repeats_dropped": int(repeated.sum()),
        "users_without_history": int(short.sum()),
        "tied_cases": int(tied.sum()),
    }
    return Cases(queries, truths, seen, values=events.value[kept]), counts


def _ranges(start: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places ``start[i] ... start[i] + lengths[i] - 1`` of all rows, one after the other."""
    first = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(int(lengths.sum())) + np.repeat(start - first, lengths), dtype=np.int64)


def _fingerprint(train: Dataset, *asked: Cases) -> str:
    digest = hashlib.sha256(train.fingerprint().encode())
    for cases in asked:
        queries = cases.queries
        arrays: list[NDArray[Any]] = [queries.users, queries.times]
        for ragged in (queries.history, cases.truth, cases.seen):
            arrays += [ragged.offsets, ragged.values]
        arrays += [] if cases.values is None else [cases.values]
        for array in arrays:
            digest.update(f"{array.dtype.str}{len(array)}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
