"""Leaks planted in a split are found; a clean split has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from llm4rec.core import Ragged, SpecError, Split, Vocabulary
from llm4rec.data import Log
from llm4rec.experiment.audit.audit import audit_split, chosen
from llm4rec.experiment.audit.checks import CHECKS
from llm4rec.experiment.audit.subject import AuditConfig, Subject
from tests.experiment.audit.made import QUICK, found, log, split, verdicts, with_train, with_truth_in_history
from tests.worlds import WORLDS, popularity


@pytest.mark.parametrize("kind", ["leave-one-out", "ratio", "global-time", "user-disjoint", "item-cold"])
def test_a_clean_split_passes(kind: str) -> None:
    findings = found(split(kind))
    assert {f.check for f in findings} == set(CHECKS)
    assert [f for f in findings if f.verdict == "leak"] == []
    # What is left is inherent: the future of others in a split that is not by time, and what is cold.
    allowed = {"others-future", "cold-truth"} if kind != "global-time" else {"cold-truth"}
    assert {f.check for f in findings if f.verdict == "warning"} <= allowed


@pytest.mark.parametrize("world", WORLDS, ids=lambda w: w.__name__)
def test_the_made_worlds_have_no_leak(world: object) -> None:
    leaks = {f.check for f in found(world().split) if f.verdict == "leak"}  # type: ignore[operator]
    # The world of popularity asks the same cases in validation and in the test, and is told so.
    assert leaks == ({"shared-truth"} if world is popularity else set())


def test_finds_the_future_of_the_same_user() -> None:
    clean = split()
    case = clean.test.queries
    planted = with_train(clean, (int(case.users[0]), 0, int(case.times[0]) + 1))
    test, valid = found(planted, "own-future")
    assert (test.verdict, test.value, valid.verdict) == ("leak", 1, "leak")  # the validation query is earlier still
    at_once = with_train(clean, (int(case.users[0]), 0, int(case.times[0])))
    assert found(at_once, "own-future")[0].verdict == "ok"  # at the same moment, the log's order decides


def test_finds_events_after_the_cut_of_a_global_split() -> None:
    clean = split("global-time")
    assert verdicts(found(clean, "others-future")) == {"ok"}
    cut = int(clean.test.queries.times.min())
    planted = with_train(clean, (0, 0, cut), (1, 0, cut + 9))
    (finding,) = found(planted, "others-future")
    assert (finding.verdict, finding.value) == ("leak", 2)


def test_tells_how_much_of_training_is_later_in_leave_one_out() -> None:
    clean = split()
    (finding,) = found(clean, "others-future")
    times = clean.train.events["time"].to_numpy()
    by_hand = np.mean([(times > t).mean() for t in clean.test.queries.times])
    assert finding.verdict == "warning"
    assert finding.value == pytest.approx(by_hand)
    assert "global-time" in finding.line


def test_finds_histories_that_go_beyond_their_query() -> None:
    clean = split()
    queries = clean.test.queries
    assert queries.history_times is not None
    late = queries.history_times.copy()
    late[-1] = queries.times[-1] + 5
    planted = replace(clean, test=replace(clean.test, queries=replace(queries, history_times=late)))
    assert [f.verdict for f in found(planted, "history-times")] == ["leak", "ok"]
    backward = queries.history_times.copy()
    backward[0] = backward[1] + 1  # the first history's first event after its second, both before the query
    planted = replace(clean, test=replace(clean.test, queries=replace(queries, history_times=backward)))
    assert [f.verdict for f in found(planted, "history-times")] == ["warning", "ok"]


def test_finds_truth_in_histories_and_in_training() -> None:
    clean = split()
    assert verdicts(found(clean, "known-truth")) == {"ok"}
    shown = replace(clean, test=with_truth_in_history(clean.test))
    assert {f.of for f in found(shown, "known-truth") if f.verdict == "leak"} == {"test, history"}
    case = clean.test
    trained = with_train(clean, (int(case.queries.users[3]), int(case.truth[3][0]), int(case.queries.times[3]) - 1))
    assert [(f.of, f.value) for f in found(trained, "known-truth") if f.verdict == "leak"] == [("test, training", 1)]


def test_kept_repeats_are_a_warning() -> None:
    events = log().events
    last = pl.lit(events["time"].max() + 7, pl.Int64)  # type: ignore[operator]
    again = pl.concat([events, events.head(40).with_columns(time=last)])
    kept = split(dataset=log().with_events(again), repeats="keep")
    assert "leak" not in verdicts(found(kept, "known-truth", "shared-truth"))
    assert "warning" in verdicts(found(kept, "known-truth"))
    assert verdicts(found(kept, "masked-truth")) == {"warning"}


def test_kept_repeats_do_not_excuse_an_answer_in_training() -> None:
    """With repeats the user may have had the item before the question, and neither at it nor after."""
    kept = split(repeats="keep")
    assert verdicts(found(kept, "known-truth")) == {"ok"}
    case, n = kept.test, 3
    user, item, asked = int(case.queries.users[n]), int(case.truth[n][0]), int(case.queries.times[n])
    for after, verdict in ((-1, "warning"), (0, "leak"), (1, "leak")):
        planted = with_train(kept, (user, item, asked + after))
        told = {f.of: f for f in found(planted, "known-truth")}
        assert told["test, training"].verdict == verdict
        assert told["test, training"].value == 1
        assert told["test, history"].verdict == "ok"
    assert told["test, training"].details["not_before_the_query"] == 1
    # At the very moment own-future says nothing, as the order of the log decides there.
    assert found(with_train(kept, (user, item, asked)), "own-future")[0].verdict == "ok"
    # Another item of that moment is no answer.
    other = with_train(kept, (user, (item + 1) % kept.train.n_items, asked))
    assert "leak" not in verdicts(found(other, "known-truth"))


def test_finds_answers_asked_for_twice() -> None:
    clean = split()
    planted = replace(clean, valid=replace(clean.valid, truth=clean.test.truth))
    (finding,) = found(planted, "shared-truth")
    assert (finding.verdict, finding.value) == ("leak", len(clean.test))


def test_finds_events_told_twice() -> None:
    clean = split()
    assert [f.verdict for f in found(clean, "duplicate-events")] == ["ok"]
    doubled = with_train(clean, *clean.train.events.head(7).select("user", "item", "time").iter_rows())
    (finding,) = found(doubled, "duplicate-events")
    assert (finding.verdict, finding.details) == ("warning", {"exact": 7, "same_user_and_item": 7})


def test_finds_truth_that_the_mask_hides() -> None:
    clean = split()
    hidden = replace(clean, test=with_truth_in_history(clean.test))
    (finding,) = found(hidden, "masked-truth")
    assert (finding.verdict, finding.value) == ("warning", 1.0)
    assert finding.details["cases_that_cannot_be_hit"] == len(clean.test)


@pytest.mark.parametrize("kind", ["user-disjoint", "item-cold"])
def test_finds_what_should_be_new_in_training(kind: str) -> None:
    clean = split(kind)
    user, item = int(clean.test.queries.users[0]), int(clean.test.truth[0][0])
    known_user, known_item = (int(clean.train.events[c][0]) for c in ("user", "item"))
    row = (user, known_item, 0) if kind == "user-disjoint" else (known_user, item, 0)
    assert [f.verdict for f in found(with_train(clean, row), "disjoint")] == ["leak", "ok"]


def test_finds_cold_truth() -> None:
    clean = split()
    gone = clean.train.events.filter(~clean.train.events["item"].is_in(clean.test.truth.values[:60].tolist()))
    (finding,) = found(replace(clean, train=clean.train.with_events(gone)), "cold-truth")
    assert finding.verdict == "warning"
    assert finding.value is not None
    assert finding.value > 0.2


def sequences(order: str, n_users: int = 400, n_items: int = 500) -> Split:
    """Random sequences whose items are numbered by first appearance over the whole of them, or at random."""
    rng = np.random.default_rng(5)
    walks = [rng.choice(n_items, size=8, replace=False) for _ in range(n_users)]
    flat = np.concatenate(walks)
    _, first = np.unique(flat, return_index=True)
    by_appearance = [f"i{x}" for x in flat[np.sort(first)]]
    ids = by_appearance if order == "appearance" else rng.permutation(by_appearance).tolist()
    items, users = Vocabulary(ids), Vocabulary.of([f"u{u}" for u in range(n_users)])
    events = pl.DataFrame(
        {
            "user": users.encode([f"u{u}" for u in np.repeat(np.arange(n_users), 8)]),
            "item": items.encode([f"i{x}" for x in flat]),
            "time": np.tile(np.arange(8), n_users),
            "value": np.ones(len(flat), np.float32),
            "behavior": np.zeros(len(flat), np.int8),
        }
    )
    tables = (pl.DataFrame({c: np.arange(len(v), dtype=np.int32)}) for c, v in (("item", items), ("user", users)))
    item_table, user_table = tables
    return split(dataset=Log("numbered", users, items, events, item_table, user_table))


def test_finds_items_numbered_by_first_appearance() -> None:
    (finding,) = [f for f in found(sequences("appearance"), "order") if f.of == "inside ids: max plus one"]
    assert finding.verdict == "leak"
    assert finding.value is not None
    assert finding.value > 5 * finding.details["expected"]
    (finding,) = [f for f in found(sequences("random"), "order") if f.of == "inside ids: max plus one"]
    assert finding.verdict == "ok"


def test_outside_ids_that_tell_are_a_leak_only_where_a_model_reads_them() -> None:
    told = sequences("appearance")
    # Hashed numbers within, while the outside ids are those of first appearance.
    number = {i: f"{n}" for n, i in enumerate(told.train.items.ids)}
    train = replace(told.train, items=Vocabulary([number[i] for i in told.train.items.ids]))
    order = np.random.default_rng(0).permutation(train.n_items)
    place = np.argsort(order)
    items = Vocabulary([train.items.ids[i] for i in order])
    events = train.events.with_columns(pl.Series("item", place[train.events["item"].to_numpy()], pl.Int32))
    train = replace(train, items=items, events=events)
    move = lambda r: Ragged(r.offsets, place[r.values])  # noqa: E731
    queries = replace(told.test.queries, history=move(told.test.queries.history))
    test = replace(told.test, queries=queries, truth=move(told.test.truth), seen=move(told.test.seen))
    hidden = replace(told, train=train, test=test)
    verdict = {f.of: f.verdict for f in found(hidden, "order")}
    assert verdict == {
        "inside ids: max plus one": "ok", "inside ids: last plus one": "ok",
        "outside ids: max plus one": "warning", "outside ids: last plus one": verdict["outside ids: last plus one"],
    }  # fmt: skip
    table = train.item_table.with_columns(asin=pl.Series(items.ids, dtype=pl.String))
    shown = replace(hidden, train=replace(train, item_table=table))
    assert {f.verdict for f in found(shown, "order") if f.of == "outside ids: max plus one"} == {"leak"}


def test_no_times_are_not_applicable() -> None:
    clean = split()
    (finding,) = found(replace(clean, train=replace(clean.train, clock="order")), "others-future")
    assert finding.verdict == "not applicable"


def test_names_of_checks_are_helped() -> None:
    assert chosen(["order", "own-future"]) == ["own-future", "order"]  # in the registry's order
    with pytest.raises(SpecError, match="did you mean 'own-future'"):
        chosen(["own-futur"])


def test_an_audit_is_json_and_the_same_twice() -> None:
    first, second = (audit_split(split(), config=QUICK).to_json() for _ in range(2))
    assert first == second
    assert first["verdicts"]["leak"] == 0


def test_real_data_have_no_leak(ml100k_split: Split) -> None:
    findings = found(ml100k_split)
    assert [f for f in findings if f.verdict == "leak"] == []
    # Inherent: forms that listed films by number, so that the next number is a better guess than chance;
    # many ratings in one second; leave-one-out without one point in time; remakes with one title.
    assert {f.check for f in findings if f.verdict == "warning"} <= {"others-future", "order", "ties", "twins"}
    assert {f.of for f in findings if f.check == "order" and f.verdict == "warning"} == {"outside ids: last plus one"}


def test_a_level_that_no_test_can_reach_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"99 permutations give no p below 0\.01: more of them, or a higher level"):
        AuditConfig(permutations=99)
    assert AuditConfig(permutations=99, level=0.01).level == 0.01
    assert AuditConfig().permutations == 999  # whose least p is the default level


def test_subject_without_a_specification_has_default_rules() -> None:
    subject = Subject(split(), AuditConfig())
    assert subject.protocol.mask == "seen"
