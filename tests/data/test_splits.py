"""Splits: known answers on a small log, and what must hold on any log."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llm4rec.core import Cases, DataError, Dataset, SpecError, Split
from llm4rec.core.columns import ITEM, TIME, USER
from llm4rec.data import DataConfig, Log, SplitConfig, make_split, read
from llm4rec.data.loading import assemble
from llm4rec.data.splits import make_training
from llm4rec.data.tables import Tables

KINDS = ("leave-one-out", "ratio", "global-time", "user-disjoint", "item-cold")


def log_of(rows: list[tuple[str, str, int, float]], **rules: Any) -> Log:
    """Make a log of (user, item, time, value) rows by the loader's own rules."""
    schema = {"user": pl.String, "item": pl.String, "time": pl.Int64, "value": pl.Float32}
    events = pl.DataFrame(rows, schema=schema, orient="row")
    tables = Tables("made", events.with_columns(behavior=pl.lit("interaction")), has_values=True)
    return assemble(tables, DataConfig(path=Path("made"), **rules))


def shown(log: Dataset, cases: Cases) -> list[tuple[str, list[str], list[str], list[str], int]]:
    """Return (user, history, truth, seen, time) of each case under outside ids, by user."""
    q = cases.queries
    return sorted(
        (u, log.items.decode(h), log.items.decode(t), log.items.decode(s), int(time))
        for u, h, t, s, time in zip(log.users.decode(q.users), q.history, cases.truth, cases.seen, q.times, strict=True)
    )


def trained(log: Dataset, split: Split) -> list[tuple[str, str]]:
    e = split.train.events
    return list(zip(log.users.decode(e[USER]), log.items.decode(e[ITEM]), strict=True))


A = [("a", x, t, 1.0) for x, t in (("p", 1), ("q", 2), ("r", 3), ("s", 3))]
B = [("b", x, t, 1.0) for x, t in (("s", 9), ("p", 4), ("r", 4))]
C = [("c", "p", 5, 1.0), ("c", "q", 8, 1.0)]


def test_leave_one_out() -> None:
    log = log_of(A + B + C)
    split = make_split(log)
    assert trained(log, split) == [("a", "p"), ("a", "q"), ("b", "p"), ("c", "p"), ("c", "q")]
    assert shown(log, split.valid) == [
        ("a", ["p", "q"], ["r"], ["p", "q"], 3),
        ("b", ["p"], ["r"], ["p"], 4),
    ]
    assert shown(log, split.test) == [
        ("a", ["p", "q", "r"], ["s"], ["p", "q", "r"], 3),
        ("b", ["p", "r"], ["s"], ["p", "r"], 9),
    ]
    assert split.rules["users_too_short"] == 1
    assert (split.rules["test"]["tied_cases"], split.rules["valid"]["tied_cases"]) == (1, 1)
    assert type(split.train) is Dataset


@pytest.mark.parametrize("kind", ["leave-one-out", "ratio"])
def test_validation_events_may_train_and_then_make_no_cases(kind: Any) -> None:
    log = log_of([*A, *B])
    held, all_but_test = (make_split(log, SplitConfig(kind=kind, validation=v)) for v in ("held", "trained"))
    assert not len(all_but_test.valid)
    assert shown(log, all_but_test.test) == shown(log, held.test)
    assert len(all_but_test.train.events) == len(held.train.events) + len(held.valid.truth.values)
    assert set(trained(log, held)) < set(trained(log, all_but_test))
    with pytest.raises(DataError, match="leaves no validation case"):
        make_training(log, SplitConfig(kind=kind, validation="trained"))


def test_histories_carry_times_and_behaviors() -> None:
    log = log_of(A)
    queries = make_split(log).test.queries
    assert queries.history_times is not None
    assert queries.history_behaviors is not None
    assert queries.history_times.tolist() == [1, 2, 3]
    assert queries.history_behaviors.tolist() == [0, 0, 0]


def test_ties_keep_the_order_of_the_source() -> None:
    swapped = [A[0], A[1], A[3], A[2]]
    log = log_of(swapped)
    assert shown(log, make_split(log).test) == [("a", ["p", "q", "s"], ["r"], ["p", "q", "s"], 3)]


def test_max_history_cuts_the_history_and_not_what_is_seen() -> None:
    log = log_of(A)
    assert shown(log, make_split(log, SplitConfig(max_history=1)).test) == [("a", ["r"], ["s"], ["p", "q", "r"], 3)]


def test_hidden_events_are_seen_before_the_query_only() -> None:
    low = [("a", "low", 2, 0.0), ("a", "later", 9, 0.0), ("a", "tie", 3, 0.0)]
    log = log_of([*A[:3], low[2], A[3], *low[:2], *B], min_value=1)
    assert len(log.hidden) == 3
    user, history, truth, seen, _ = shown(log, make_split(log).test)[0]
    assert (user, history, truth) == ("a", ["p", "q", "r"], ["s"])
    assert seen == ["p", "q", "low", "r", "tie"]
    assert "low" not in {item for _, item in trained(log, make_split(log))}


def test_a_truth_that_was_seen_before_is_dropped_and_counted() -> None:
    rows = [*A, ("a", "p", 9, 1.0), *B]
    log = log_of(rows, duplicates="keep")
    split = make_split(log)
    assert shown(log, split.test) == [("b", ["p", "r"], ["s"], ["p", "r"], 9)]
    assert split.rules["test"]["repeats_dropped"] == 1
    kept = make_split(log, SplitConfig(repeats="keep"))
    assert shown(log, kept.test)[0] == ("a", ["p", "q", "r", "s"], ["p"], ["p", "q", "r", "s"], 9)


def test_ratio_takes_the_end_of_each_user() -> None:
    log = log_of([("a", f"i{t}", t, 1.0) for t in range(10)] + C)
    split = make_split(log, SplitConfig(kind="ratio", valid=0.2, test=0.3))
    (case,) = shown(log, split.test)
    assert case[1:3] == ([f"i{t}" for t in range(7)], ["i7", "i8", "i9"])
    (case,) = shown(log, split.valid)
    assert case[1:3] == ([f"i{t}" for t in range(5)], ["i5", "i6"])
    assert trained(log, split) == [("a", f"i{t}") for t in range(5)] + [("c", "p"), ("c", "q")]
    following = make_split(log, SplitConfig(kind="ratio", valid=0.2, test=0.3, targets="next"))
    assert shown(log, following.test)[0][2] == ["i7"]


def test_global_time_cuts_at_moments() -> None:
    log = log_of(A + B + C)
    split = make_split(log, SplitConfig(kind="global-time", valid_from=4, test_from=8))
    assert trained(log, split) == [("a", x) for x in "pqrs"]
    assert len(split.valid) == 0
    assert split.rules["valid"]["users_without_history"] == 2
    assert shown(log, split.test) == [("b", ["p", "r"], ["s"], ["p", "r"], 9), ("c", ["p"], ["q"], ["p"], 8)]
    unknown = make_split(log, SplitConfig(kind="global-time", valid_from=4, test_from=8, min_history=0))
    assert [c[:3] for c in shown(log, unknown.valid)] == [("b", [], ["p", "r"]), ("c", [], ["p"])]


def test_global_time_takes_dates_and_shares() -> None:
    log = log_of([("a", f"i{t}", t * 86_400, 1.0) for t in range(10)])
    dates = {"valid_from": "1970-01-08", "test_from": "1970-01-09"}
    dated = make_split(log, SplitConfig.model_validate({"kind": "global-time", **dates}))
    assert (dated.rules["valid_from"], dated.rules["test_from"]) == (7 * 86_400, 8 * 86_400)
    shared = make_split(log, SplitConfig(kind="global-time", valid=0.1, test=0.2))
    assert shared.fingerprint == dated.fingerprint


def test_global_time_needs_times_in_order(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("user,item\n" + "".join(f"u,i{k}\n" for k in range(9)))
    with pytest.raises(SpecError, match=r"split\.kind: e has no times, only an order of events") as caught:
        make_split(read(path), SplitConfig(kind="global-time"))
    assert "\n" not in str(caught.value)
    with pytest.raises(SpecError, match=r"split\.valid_from: validation would start after the test"):
        make_split(log_of(A), SplitConfig(kind="global-time", valid_from=4, test_from=2))


def test_nothing_left_is_told() -> None:
    with pytest.raises(DataError, match="the leave-one-out split leaves no test case"):
        make_split(log_of(C))
    with pytest.raises(DataError, match="the global-time split leaves no training event"):
        make_split(log_of(A), SplitConfig(kind="global-time", valid_from=0, test_from=3, min_history=0))


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "random"},
        {"valid": 0.5, "test": 0.5},
        {"test": 0},
        {"min_events": 1},
        {"max_history": 0},
        {"sed": 1},
        {"kind": "item-cold", "validation": "trained"},
    ],
)
def test_nonsense_in_the_config_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SplitConfig.model_validate(options)


# -- any log ----------------------------------------------------------------------------------
@st.composite
def logs(draw: st.DrawFn) -> Log:
    row = st.tuples(
        st.sampled_from([f"u{k}" for k in range(8)]),
        st.sampled_from([f"i{k}" for k in range(12)]),
        st.integers(0, 20),
        st.sampled_from([0.0, 1.0]),
    )
    rows = draw(st.lists(row, min_size=20, max_size=120))
    duplicates = draw(st.sampled_from(["first", "last", "keep"]))
    minimum = draw(st.sampled_from([None, 1.0]))
    try:
        return log_of(rows, duplicates=duplicates, min_value=minimum)
    except DataError:
        assume(False)
        raise


def splitted(log: Log, kind: str, **options: Any) -> Split:
    try:
        return make_split(log, SplitConfig.model_validate({"kind": kind, "valid": 0.2, "test": 0.2, **options}))
    except DataError:  # too small a log
        assume(False)
        raise


def events_of(frame: pl.DataFrame) -> set[tuple[int, int, int]]:
    return set(zip(frame[USER].to_list(), frame[ITEM].to_list(), frame[TIME].to_list(), strict=True))


@settings(max_examples=150, deadline=None)
@given(logs(), st.sampled_from(KINDS), st.integers(0, 3), st.sampled_from(["drop", "keep"]))
def test_what_holds_for_every_split(log: Log, kind: str, seed: int, repeats: str) -> None:
    split = splitted(log, kind, seed=seed, repeats=repeats)
    train = split.train
    assert (train.users, train.items) == (log.users, log.items)
    assert events_of(train.events) <= events_of(log.events)
    first_query: dict[int, int] = {}
    for cases in (split.valid, split.test):
        q = cases.queries
        assert len(set(q.users.tolist())) == len(q)  # one case a user
        for k in range(len(cases)):
            user, time = int(q.users[k]), int(q.times[k])
            first_query[user] = min(time, first_query.get(user, time))
            own = log.events.filter(pl.col(USER) == user)
            history, truth, seen = q.history[k].tolist(), cases.truth[k].tolist(), cases.seen[k].tolist()
            times = q.history_times[q.history.offsets[k] : q.history.offsets[k + 1]]  # type: ignore[index]
            assert (np.diff(times) >= 0).all()
            assert (times <= time).all()
            assert len(set(truth)) == len(truth)
            assert {(user, i, t) for i, t in zip(history, times.tolist(), strict=True)} <= events_of(own)
            assert set(history) <= set(seen)
            assert all(own.filter((pl.col(ITEM) == i) & (pl.col(TIME) >= time)).height for i in truth)
            hidden = log.hidden.filter((pl.col(USER) == user) & (pl.col(TIME) < time))[ITEM].to_list()
            assert set(hidden) <= set(seen)
            if repeats == "drop":
                assert not set(truth) & set(seen)
    late = [(u, t) for u, _, t in events_of(train.events) if u in first_query and t > first_query[u]]
    assert not late  # no user trains on what comes after one of their queries


@settings(max_examples=80, deadline=None)
@given(logs(), st.sampled_from(["leave-one-out", "ratio", "global-time"]))
def test_every_event_is_in_one_part(log: Log, kind: str) -> None:
    split = splitted(log, kind, min_history=0, repeats="drop")
    counts = [len(split.train.events)] + [
        part["truth_events"] + part["repeats_dropped"] for part in (split.rules["valid"], split.rules["test"])
    ]
    assert sum(counts) == len(log.events)
    parts = [events_of(split.train.events)]
    for cases in (split.valid, split.test):
        users = np.repeat(cases.queries.users, cases.truth.lengths)
        parts.append({(u, i) for u, i in zip(users.tolist(), cases.truth.values.tolist(), strict=True)})
    if log.events.select(USER, ITEM).is_unique().all():
        train_pairs = {(u, i) for u, i, _ in parts[0]}
        assert not train_pairs & parts[1]
        assert not (train_pairs | parts[1]) & parts[2]


@settings(max_examples=60, deadline=None)
@given(logs())
def test_global_time_has_no_future_in_training(log: Log) -> None:
    split = splitted(log, "global-time")
    assert split.train.events[TIME].max() < split.rules["valid_from"]
    assert (split.valid.queries.times >= split.rules["valid_from"]).all()
    assert (split.valid.queries.times < split.rules["test_from"]).all()
    assert (split.test.queries.times >= split.rules["test_from"]).all()


@settings(max_examples=60, deadline=None)
@given(logs(), st.integers(0, 3))
def test_disjoint_users_and_cold_items_have_no_training_events(log: Log, seed: int) -> None:
    split = splitted(log, "user-disjoint", seed=seed)
    asked = set(split.valid.queries.users.tolist()) | set(split.test.queries.users.tolist())
    assert not asked & set(split.train.events[USER].to_list())
    assert not set(split.valid.queries.users.tolist()) & set(split.test.queries.users.tolist())
    split = splitted(log, "item-cold", seed=seed)
    cold = set(split.valid.truth.values.tolist()) | set(split.test.truth.values.tolist())
    assert not cold & set(split.train.events[ITEM].to_list())
    assert not set(split.valid.truth.values.tolist()) & set(split.test.truth.values.tolist())


@settings(max_examples=60, deadline=None)
@given(logs(), st.sampled_from(KINDS), st.randoms(use_true_random=False))
def test_the_fingerprint_names_the_split(log: Log, kind: str, random: Any) -> None:
    split = splitted(log, kind)
    assert splitted(log, kind).fingerprint == split.fingerprint
    if kind in ("user-disjoint", "item-cold"):
        return
    # Source order matters within a user's equal times alone: shuffling the users' blocks changes no case.
    blocks = log.events.with_row_index("row").partition_by(USER, maintain_order=True)
    random.shuffle(blocks)
    moved = log.events[pl.concat(blocks)["row"]]
    plain = Dataset(log.name, log.users, log.items, log.events, log.item_table, log.user_table)
    shuffled = plain.with_events(moved)
    one, other = (make_split(d, SplitConfig(kind=kind, valid=0.2, test=0.2)) for d in (plain, shuffled))  # type: ignore[arg-type]
    assert np.array_equal(one.test.truth.values, other.test.truth.values)
    assert np.array_equal(one.test.queries.history.values, other.test.queries.history.values)
    assert sorted(one.train.events.rows()) == sorted(other.train.events.rows())


def test_the_fingerprint_sees_each_part() -> None:
    log = log_of(A + B + C)
    base = make_split(log)
    others = [
        make_split(log_of(A + B)),
        make_split(log, SplitConfig(max_history=1)),
        make_split(log_of([A[0], A[1], A[3], A[2], *B, *C])),
        make_split(log_of([(u, i, t + 1, v) for u, i, t, v in A + B + C])),
    ]
    assert len({s.fingerprint for s in [base, *others]}) == 5


# -- known figures ----------------------------------------------------------------------------
@pytest.mark.assets
def test_movielens_counts(ml100k_split: Split, ml100k_whole_split: Split) -> None:
    train = ml100k_split.train
    assert (train.n_users, train.n_items, len(train.events)) == (943, 1_349, 99_287 - 2 * 943)
    assert len(ml100k_split.test) == len(ml100k_split.valid) == 943
    assert ml100k_whole_split.train.n_items == 1_682
    assert ml100k_whole_split.rules["test"]["tied_cases"] == 415


@pytest.mark.assets
def test_popularity_on_movielens_gives_the_known_figure(ml100k_whole_split: Split) -> None:
    split = ml100k_whole_split
    counts = split.train.item_counts.astype(np.float64)
    scores = np.tile(counts, (len(split.test), 1))
    scores[split.test.seen.rows, split.test.seen.values] = -np.inf
    truth = split.test.truth.values
    own = np.take_along_axis(scores, truth[:, None], axis=1)
    won, lost = (scores > own).sum(axis=1), (scores >= own).sum(axis=1) - 1  # ties for and against the truth
    assert (lost < 10).mean() == pytest.approx(0.0838, abs=5e-5)
    assert (won < 10).mean() == pytest.approx(0.0859, abs=5e-5)
    free = np.tile(counts, (len(split.test), 1))
    assert ((free > free[0, truth][:, None]).sum(axis=1) < 10).mean() == pytest.approx(0.0498, abs=5e-5)


@pytest.mark.slow
def test_a_million_events_take_seconds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n, path = 1_000_000, tmp_path / "e.csv"
    columns = {"user_id": rng.integers(0, 100_000, n), "item_id": rng.integers(0, 5_000, n)}
    pl.DataFrame({**columns, "timestamp": rng.integers(10**9, 15 * 10**8, n)}).write_csv(path)
    start = perf_counter()
    log = read(path, duplicates="keep")
    split = make_split(log)
    assert perf_counter() - start < 15
    for vocabulary, column in ((log.users, "user"), (log.items, "item")):  # the order of the file, in full
        ids = pl.Series(columns[f"{column}_id"]).cast(pl.String)
        assert np.array_equal(vocabulary.encode(ids), log.events[column].to_numpy())
    assert len(split.train.events) + len(split.valid) + len(split.test) <= n
