"""Tuning: equal budgets, validation cases alone, failures counted, and the best written out."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from llm4rec.core import SpecError
from llm4rec.data import load, make_split, make_training
from llm4rec.experiment.run import run
from llm4rec.experiment.search import search_of
from llm4rec.experiment.spec import read_spec, tune_options
from llm4rec.experiment.tune import tune
from llm4rec.metrics import evaluate
from llm4rec.models.ease import EASE, EASEConfig
from tests.experiment.made_tune import go, lines, with_search


@pytest.fixture
def path(log_folder: Path) -> Path:
    """Return a specification with a table for tuning."""
    return with_search(log_folder)


# -- budgets, finalists, results --------------------------------------------------------------
def test_every_system_gets_the_same_trials_and_the_best_mean_wins(path: Path, tmp_path: Path) -> None:
    found = go(path, tmp_path / "out")
    done = [line for line in lines(tmp_path / "out") if line["state"] == "done"]
    first = Counter(line["system"] for line in done if line["seed"] == 7)
    assert first == {"ease": 5, "sasrec": 5, "both": 5}
    again = {line["number"] for line in done if line["seed"] == 8}
    assert {line["system"] for line in done if line["seed"] == 8} == {"sasrec"}, "chance plays no part in the others"
    assert 0 in again, "the gain is one over the same seeds"
    assert len(again) in (2, 3)
    for outcome in found.outcomes:
        mine = [line for line in done if line["system"] == outcome.system]
        if outcome.system == "sasrec":
            means = {n: np.mean([x["value"] for x in mine if x["number"] == n]) for n in again}
        else:
            means = {line["number"]: line["value"] for line in mine}
        assert outcome.best == max(means.values())
        assert outcome.default == means[0]
        assert outcome.number == min(n for n in means if means[n] == outcome.best)
        assert outcome.trials == 5
        assert outcome.failed == 0
        assert outcome.seconds > 0


def test_the_first_trial_is_the_specification_itself_and_others_keep_to_the_space(path: Path, tmp_path: Path) -> None:
    go(path, tmp_path / "out")
    spec, found = read_spec(path), lines(tmp_path / "out")
    for name in ("ease", "sasrec", "both"):
        search = search_of(spec, name)
        assert search is not None
        own = next(line["params"] for line in found if line["system"] == name and line["number"] == 0)
        assert search.with_params(own) == search.with_params({})
        for line in found:
            if line["system"] == name and line["number"]:
                assert set(line["params"]) == {*search.ranges, *search.fixed}
    rates = {line["params"]["learning_rate"] for line in found if line["system"] == "sasrec" and line["number"]}
    assert len(rates) > 1
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert {line["params"].get("epochs") for line in found if line["system"] == "sasrec" and line["number"]} == {1}


def test_the_best_specification_runs_and_measures_what_was_found(path: Path, tmp_path: Path) -> None:
    found = go(path, tmp_path / "out")
    assert found.path.read_text().startswith("# Parameters chosen on 60 validation cases by: llm4rec tune")
    best = read_spec(found.path)
    assert best.experiment.name == "small-tuned"
    assert best.data.path == path.parent / "events.csv"
    ease = next(o for o in found.outcomes if o.system == "ease")
    part = best.systems["ease"].part
    assert part is not None
    if ease.number:
        assert part.params["l2"] == ease.params["l2"]
    assert best.systems["popular"] == read_spec(path).systems["popular"]
    alone = best.model_copy(update={"systems": {n: best.systems[n] for n in ("ease", "sasrec")}})
    run(alone, tmp_path / "run")
    training = make_training(load(best.data), best.split)
    model = EASE(EASEConfig.model_validate(part.params))
    model.fit(training.train, valid=training.valid, rng=np.random.default_rng(7))
    lists = model.retrieve(training.valid.queries, 10, exclude=training.valid.seen)
    assert evaluate(lists, training.valid.truth, ["ndcg@10"])["ndcg@10"].mean() == pytest.approx(ease.best)


def test_a_pipeline_is_tuned_over_its_tuned_retrievers(path: Path, tmp_path: Path) -> None:
    one = go(path, tmp_path / "one")
    assert one.outcomes[-1].system == "both"
    alone = go(path, tmp_path / "alone", systems=("both",))
    ease = next(o for o in one.outcomes if o.system == "ease")
    assert ease.number, "the search finds something better than the specification's own l2, which is the point here"
    keys = [{line["key"] for line in lines(tmp_path / d) if line["system"] == "both"} for d in ("one", "alone")]
    assert len(keys[0] | keys[1]) == 2
    best = read_spec(alone.path)
    assert len(best.systems["both"].pipeline.fusion_weights) in (0, 2)


def test_what_is_like_another_system_is_searched_from_what_was_chosen_for_that_one(path: Path, tmp_path: Path) -> None:
    like = '[systems.near]\nlike = "ease"\nhalf_life = 3.0\n[tune.space.near]\nl2 = 20000.0\nhalf_life = [3.0, 0.01]\n'
    path.write_text(path.read_text() + like)
    found = go(path, tmp_path / "out", systems=("ease", "near"))
    ease, near = found.outcomes
    assert ease.number, "the search finds something better than the specification's own l2, which is the point here"
    best = read_spec(found.path)
    first = next(line for line in lines(tmp_path / "out") if line["system"] == "near" and line["state"] == "done")
    parts = {name: best.systems[name].part for name in ("ease", "near")}
    assert parts["ease"] is not None
    assert parts["near"] is not None
    if near.number == 0:  # what is written out is what was measured
        assert parts["near"].params["l2"] == parts["ease"].params["l2"] == ease.params["l2"]
    training = make_training(load(best.data), best.split)
    model = EASE(EASEConfig.model_validate(parts["near"].params)).fit(training.train, valid=None, rng=np.random.default_rng(0))
    lists = model.retrieve(training.valid.queries, 10, exclude=training.valid.seen)
    assert evaluate(lists, training.valid.truth, ["ndcg@10"])["ndcg@10"].mean() == pytest.approx(near.best)
    assert first["number"] == 0


def test_a_budget_of_seconds_ends_with_the_trial_in_which_it_runs_out(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = 0.15
    fit = EASE.fit

    def slow(self: EASE, *args: Any, **kwargs: Any) -> EASE:
        time.sleep(spent)
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(EASE, "fit", slow)
    found = go(path, tmp_path / "out", systems=("ease",), seconds=3 * spent)
    (outcome,) = found.outcomes
    assert 2 <= outcome.trials <= 3
    assert "budget of each system: 0.45 s" in found.path.read_text().lower()


def test_a_space_that_is_used_up_ends_the_search(path: Path, tmp_path: Path) -> None:
    path.write_text(path.read_text() + "[tune.space.ease]\nl2 = [1.0, 5.0, 20.0]\nhalf_life = 6.0\n")
    (outcome,) = go(path, tmp_path / "out", systems=("ease",), trials=50).outcomes
    assert outcome.exhausted
    assert outcome.trials == 3
    tried = [line["params"]["l2"] for line in lines(tmp_path / "out") if line["state"] == "done"]
    assert sorted(tried) == [1.0, 5.0, 20.0]


# -- the test part ----------------------------------------------------------------------------
def test_a_poisoned_test_part_changes_nothing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user's last event, which is the test's, becomes another item; and no split with test cases is made."""
    monkeypatch.setattr("llm4rec.data.splits.make_split", None)
    go(path, tmp_path / "clean", trials=2)
    log = path.parent / "events.csv"
    rows = pl.read_csv(log)
    catalogue = [f"i{i}" for i in range(40)]
    strange = {user: next(i for i in catalogue if i not in set(mine["item_id"])) for (user,), mine in rows.group_by("user_id")}
    last = pl.col("timestamp") == pl.col("timestamp").max().over("user_id")
    other = pl.col("user_id").replace_strict(strange)
    poisoned = rows.with_columns(item_id=pl.when(last).then(other).otherwise(pl.col("item_id")))
    assert (poisoned["item_id"] != rows["item_id"]).sum() == 60
    poisoned.write_csv(log)
    go(path, tmp_path / "poisoned", trials=2)
    assert lines(tmp_path / "clean") == lines(tmp_path / "poisoned")


def test_a_poisoned_validation_part_changes_the_figures(path: Path, tmp_path: Path) -> None:
    """The test above can fail."""
    spec = read_spec(path)
    clean, split = make_training(load(spec.data), spec.split), make_split(load(spec.data), spec.split)
    assert clean.train.fingerprint() == split.train.fingerprint()
    assert np.array_equal(clean.valid.truth.values, split.valid.truth.values)
    assert not hasattr(clean, "test")
    log = path.parent / "events.csv"
    rows = pl.read_csv(log).sort("user_id", "timestamp")
    rows.filter(rows["user_id"].eq(rows["user_id"].shift(-1)).fill_null(False)).write_csv(log)  # test events are gone
    other = make_training(load(spec.data), spec.split)
    assert other.fingerprint != clean.fingerprint


# -- failures ---------------------------------------------------------------------------------
def test_a_failing_trial_is_counted_and_not_fatal(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit, calls = EASE.fit, iter(range(100))

    def fails(self: EASE, *args: Any, **kwargs: Any) -> EASE:
        if next(calls) in (1, 3):
            raise MemoryError("no room for\nthe matrix")
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(EASE, "fit", fails)
    (outcome,) = go(path, tmp_path / "out", systems=("ease",)).outcomes
    assert (outcome.trials, outcome.failed) == (5, 2)
    failed = [line for line in lines(tmp_path / "out") if line["state"] == "failed"]
    assert [line["number"] for line in failed] == [1, 3]
    assert {line["error"] for line in failed} == {"MemoryError: no room for the matrix"}


def test_where_every_trial_fails_the_own_parameters_stay(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: EASE, *args: Any, **kwargs: Any) -> None:
        raise SpecError("the matrix to be inverted is singular")

    monkeypatch.setattr(EASE, "fit", fails)
    found = go(path, tmp_path / "out", systems=("ease",))
    (outcome,) = found.outcomes
    assert (outcome.best, outcome.default, outcome.failed) == (None, None, 5)
    assert "every trial failed" in found.path.read_text()
    assert read_spec(found.path).systems["ease"] == read_spec(path).systems["ease"]


def test_of_two_budgets_the_first_to_be_used_up_ends_the_search(path: Path, tmp_path: Path) -> None:
    few = go(path, tmp_path / "few", systems=("ease",), trials=2, seconds=1000.0)
    short = go(path, tmp_path / "short", systems=("ease",), trials=1000, seconds=1e-6)
    assert [found.outcomes[0].trials for found in (few, short)] == [2, 1]
    assert "Budget of each system: 2 trials or 1000 s of trials." in few.path.read_text()


def test_a_budget_given_takes_the_place_of_the_specifications(path: Path) -> None:
    spec = read_spec(path)
    replaced = tune_options(spec, {"seconds": 3.0}).tune
    assert replaced is not None
    assert (replaced.trials, replaced.seconds) == (None, 3.0)
    both = tune_options(spec, {"seconds": 3.0, "trials": 3}).tune
    assert both is not None
    assert (both.trials, both.seconds) == (3, 3.0)
    with pytest.raises(SpecError, match="tune: sampler"):
        tune_options(spec, {"sampler": "grid"})


def test_systems_that_cannot_be_tuned_say_why(path: Path, tmp_path: Path) -> None:
    found = tune(tune_options(read_spec(path), {"trials": 1}), tmp_path / "out")
    assert "language model" in found.skipped["told"]
    with pytest.raises(SpecError, match=r"systems.told: cannot be tuned: a language model"):
        go(path, tmp_path / "out", systems=("told",))
    with pytest.raises(SpecError, match="'eas' is no system; did you mean 'ease'"):
        go(path, tmp_path / "out", systems=("eas",))
