"""Systems that cheat, guess or hang on ties are found; honest ones pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from llm4rec.core import Lists, Split
from llm4rec.core.columns import ITEM, TIME
from llm4rec.experiment.audit.audit import examine
from llm4rec.experiment.audit.control import relabelled
from llm4rec.experiment.audit.subject import AuditConfig
from llm4rec.experiment.audit.ties import _shuffled
from llm4rec.experiment.catalog import CATALOG
from tests.experiment.audit.made import found, log, split
from tests.experiment.audit.systems import CHEATS, Guess, Oracle, findings, subject


@pytest.fixture(autouse=True)
def cheats(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, entry in CHEATS.items():
        monkeypatch.setitem(CATALOG, name, entry)


def daily(n_users: int = 240) -> Split:
    return split(dataset=log(n_users).with_events(log(n_users).events.with_columns(pl.col(TIME) // 10**6 * 10**6)))


# -- ties ---------------------------------------------------------------------------------------
def test_counts_ties_in_time() -> None:
    assert [(f.verdict, f.value) for f in found(split(), "ties")] == [("ok", 0.0)]
    tied = daily()
    (finding,) = found(tied, "ties")
    assert finding.verdict == "warning"
    assert finding.value == pytest.approx(tied.rules["test"]["tied_cases"] / len(tied.test))


def test_equal_times_are_shuffled_and_nothing_else() -> None:
    whole = log().with_events(log().events.with_columns(pl.col(TIME) // 10**6 * 10**6))
    moved = _shuffled(whole, np.random.default_rng(0))
    for column in ("user", TIME):
        assert (moved.events[column] == whole.events[column]).all()
    assert not (moved.events[ITEM] == whole.events[ITEM]).all()
    assert moved.events.sort(moved.events.columns).equals(whole.events.sort(whole.events.columns))
    assert _shuffled(log(), np.random.default_rng(0)).events.equals(log().events)  # nothing is tied


def test_the_spread_over_tie_orders() -> None:
    whole = log().with_events(log().events.with_columns(pl.col(TIME) // 10**6 * 10**6))
    told = findings(daily(), ["popular", "ease"], "tie-orders", dataset=whole)
    assert set(told) == {"popular", "ease"}
    for finding in told.values():
        low, high = finding.details["low_high"]["ndcg@10"]
        assert finding.value == pytest.approx(high - low)
        assert 0 < finding.value < 0.2
    (clean,) = findings(split(), ["popular"], "tie-orders", dataset=log()).values()
    assert (clean.verdict, clean.value) == ("ok", 0.0)


# -- floors -------------------------------------------------------------------------------------
def test_systems_are_held_against_simple_rules() -> None:
    told = findings(split(), ["popular", "ease", "guess"], "floors")
    assert told["popular"].verdict == "not applicable"  # is the rule itself
    assert told["ease"].verdict == "ok"
    assert told["guess"].verdict == "warning"
    assert told["guess"].value is not None
    assert told["guess"].value < 0


def test_what_is_popular_at_the_moment_is_a_rule_too() -> None:
    rng = np.random.default_rng(0)
    times = 1_000_000_000 + 43_200 * np.arange(len(log().events))  # two events a day
    fashion = (np.arange(len(times)) * log().n_items // len(times) + rng.integers(0, 4, len(times))) % log().n_items
    ordered = log().events.sort(TIME)
    drifting = log().with_events(ordered.with_columns(pl.Series(TIME, times), pl.Series(ITEM, fashion, pl.Int32)))
    told = findings(split(dataset=drifting), ["popular", "guess"], "floors")
    for name in ("popular", "guess"):
        rules = told[name].details["rules"]
        assert rules["popularity of late"] > 2 * rules["popularity"]
    assert told["guess"].verdict == "warning"
    timeless = split(dataset=replace(log(), clock="order"))
    assert "popularity of late" not in findings(timeless, ["guess"], "floors")["guess"].details["rules"]


# -- the shuffled-label control -----------------------------------------------------------------
def wishing() -> Split:
    clean = split()
    wish = np.zeros(clean.train.n_users, np.int64)
    wish[clean.test.queries.users] = clean.test.truth.values
    return replace(clean, train=replace(clean.train, user_table=clean.train.user_table.with_columns(wish=pl.Series(wish))))


def test_honest_systems_fall_to_chance() -> None:
    told = findings(split(), ["popular", "ease", "item-knn", "guess"], "shuffled")
    assert {f.verdict for f in told.values()} == {"ok"}
    # Chance is that of a random list: on average over renumberings every place is as likely to hold the truth.
    random_list = (1 / np.log2(np.arange(2, 12))).sum() / 80
    for finding in told.values():
        assert finding.details["chance"] == pytest.approx(random_list, rel=0.1)


def test_a_system_that_reads_the_answer_elsewhere_does_not_fall() -> None:
    told = findings(wishing(), ["ease", "wisher"], "shuffled")
    assert told["ease"].verdict == "ok"
    assert told["wisher"].verdict == "leak"
    assert told["wisher"].value is not None
    assert told["wisher"].value > 0.8


def test_a_mark_on_what_is_often_true_is_a_leak_for_all_but_readers_of_text() -> None:
    clean = split()
    often = np.bincount(clean.test.truth.values, minlength=clean.train.n_items)
    table = clean.train.item_table.with_columns(mark=pl.Series(often))
    marked = replace(clean, train=replace(clean.train, item_table=table))
    told = findings(marked, ["marked", "marked-text"], "shuffled")
    assert told["marked"].verdict == "leak"
    assert told["marked-text"].verdict == "warning"  # a year may say as much, and honestly


def test_relabelling_moves_everything_but_the_truth_of_the_test() -> None:
    clean = split()
    number = np.random.default_rng(3).permutation(clean.train.n_items)
    moved = relabelled(clean, number)
    assert (moved.test.truth.values == clean.test.truth.values).all()
    for a, b in ((moved.valid.truth, clean.valid.truth), (moved.test.seen, clean.test.seen)):
        assert (a.values == number[b.values]).all()
    assert (moved.train.events[ITEM].to_numpy() == number[clean.train.events[ITEM].to_numpy()]).all()


def test_the_control_raises_no_false_alarm_over_many_seeds() -> None:
    verdicts = []
    for seed in range(12):
        config = AuditConfig(seed=seed, permutations=199, level=0.005)
        verdicts += [f.verdict for f in findings(split(), ["popular", "ease"], "shuffled", config=config).values()]
    assert verdicts.count("leak") == 0


# -- sampled candidates -------------------------------------------------------------------------
@pytest.mark.parametrize(("rules", "verdict"), [("", "ok"), ("[protocol]\ncandidates = { size = 20 }", "warning")])
def test_sampled_candidates_can_name_another_winner(rules: str, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # One system finds three truths in ten, at the top; the other all of them, at place 31 of 600.
    made = split(dataset=log(100, 600))
    known = dict(zip(made.test.queries.users.tolist(), made.test.truth.values.tolist(), strict=True))
    monkeypatch.setattr(Oracle, "truth", known)
    systems = [
        'few = { component = "oracle", share = 0.3, place = 0 }',
        'all = { component = "oracle", share = 0.0, place = 31 }',
    ]
    told = findings(made, systems, "sampled", rules=rules)
    uniform = told["100 uniform"]
    assert uniform.value == -1.0
    assert uniform.details["changes"] == [["few", "all"]]
    assert uniform.verdict == verdict
    full = uniform.details["means"]["full"]
    assert full["few"] == pytest.approx(0.3, abs=0.1)
    assert full["all"] == 0.0


# -- lists --------------------------------------------------------------------------------------
def test_lists_that_show_masked_items_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = split()
    assert {f.verdict for f in findings(clean, ["ease"], "lists").values()} == {"ok"}

    def unmasked(self: Guess, queries: object, k: int, *, exclude: object) -> Lists:
        return Lists.from_scores(self.score(queries), k)  # type: ignore[arg-type]

    monkeypatch.setattr(Guess, "retrieve", unmasked)
    told = findings(clean, ["guess", "ease"], "lists")
    assert told["guess"].verdict == "leak"
    assert told["ease"].verdict == "ok"


def test_ties_at_the_cutoff_are_counted() -> None:
    told = findings(split(), ["flat", "ease"], "score-ties")
    assert (told["flat"].verdict, told["flat"].value) == ("warning", 1.0)
    assert told["ease"].verdict == "ok"


def test_quick_fits_nothing() -> None:
    with subject(split(), "ease", dataset=log(), config=AuditConfig(quick=True)) as made:
        told = examine(made, only=["lists", "score-ties", "floors", "shuffled", "tie-orders", "sampled"]).findings
        assert made.bench is not None
        assert made.bench._fitted == {}
    assert {f.verdict for f in told} == {"not applicable"}
    assert all("--quick" in f.line for f in told)
