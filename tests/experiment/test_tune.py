"""Tuning: equal budgets, validation cases alone, nothing lost by a kill, and the best written out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import Choice, RunError, SpecError, Uniform, Whole
from llm4rec.data import load, make_split, make_training
from llm4rec.experiment.catalog import CATALOG
from llm4rec.experiment.run import run
from llm4rec.experiment.search import Search, search_of
from llm4rec.experiment.spec import parse_spec, read_spec, tune_options
from llm4rec.experiment.trials import Record, TrialLog
from llm4rec.experiment.tune import Tuned, tune
from llm4rec.models.ease import EASE, EASEConfig
from llm4rec.models.sasrec import SASRec, SASRecConfig

SEARCH = """
[tune]
trials = 5
seeds = [7, 8]
finalists = 2

[tune.space.sasrec]
learning_rate = { low = 1e-4, high = 1e-1, log = true }
heads = [1, 2, 4]
epochs = 1

[tune.space.both.fusion_weights]
1 = { low = 0.1, high = 10.0, log = true }
"""


@pytest.fixture
def path(log_folder: Path) -> Path:
    """Return a specification with a table for tuning."""
    path = log_folder / "spec.toml"
    path.write_text(path.read_text() + SEARCH)
    return path


def lines(out: Path) -> list[dict[str, Any]]:
    """Return the trials without what differs from one machine to the next."""
    found = [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


def go(path: Path, out: Path, **options: Any) -> Tuned:
    names = options.pop("systems", ("ease", "sasrec", "both"))
    return tune(tune_options(read_spec(path), options), out, systems=names)


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
    from llm4rec.metrics import evaluate

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


# -- resuming ---------------------------------------------------------------------------------
def test_the_same_command_again_fits_nothing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = go(path, tmp_path / "out", systems=("ease", "sasrec"))
    before = (tmp_path / "out" / "trials.jsonl").read_bytes(), one.path.read_text()

    def no(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(EASE, "fit", no)
    monkeypatch.setattr(SASRec, "fit", no)
    two = go(path, tmp_path / "out", systems=("ease", "sasrec"))
    assert ((tmp_path / "out" / "trials.jsonl").read_bytes(), two.path.read_text()) == before
    assert one.outcomes == two.outcomes


def test_more_trials_go_on_from_those_there_are(path: Path, tmp_path: Path) -> None:
    go(path, tmp_path / "out", systems=("ease",), trials=3)
    few = lines(tmp_path / "out")
    go(path, tmp_path / "out", systems=("ease",), trials=14)
    go(path, tmp_path / "whole", systems=("ease",), trials=14)
    assert lines(tmp_path / "out")[: len(few)] == few
    assert lines(tmp_path / "out") == lines(tmp_path / "whole"), "a search that was cut off goes on as it would have"


def test_kill_9_loses_the_trial_in_flight_and_no_more(path: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "llm4rec.app.cli",
        "tune",
        str(path),
        "--out",
        str(tmp_path / "out"),
        "--systems",
        "ease,sasrec",
    ]
    log = tmp_path / "out" / "trials.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while not (log.exists() and log.read_bytes().count(b'"done"') >= 3):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = [line for line in lines(tmp_path / "out") if line["state"] == "done"]
    with log.open("a") as file:
        file.write('{"key": "half a li')  # what a kill within a write leaves
    go(path, tmp_path / "out", systems=("ease", "sasrec"))
    go(path, tmp_path / "whole", systems=("ease", "sasrec"))
    done = [[line for line in lines(tmp_path / d) if line["state"] == "done"] for d in ("out", "whole")]
    assert done[0][: len(kept)] == kept
    assert done[0] == done[1]


def test_a_changed_specification_is_another_search(path: Path, tmp_path: Path) -> None:
    go(path, tmp_path / "out", systems=("ease",), trials=2)
    path.write_text(path.read_text().replace("l2 = 5.0", "l2 = 6.0"))
    told: list[str] = []
    tune(tune_options(read_spec(path), {"trials": 2}), tmp_path / "out", systems=["ease"], tell=told.append)
    assert any("2 trials in the log are of another specification" in line for line in told)
    assert len([line for line in lines(tmp_path / "out") if line["state"] == "done"]) == 4


def test_a_broken_log_is_told(path: Path, tmp_path: Path) -> None:
    go(path, tmp_path / "out", systems=("ease",), trials=2)
    log = tmp_path / "out" / "trials.jsonl"
    log.write_text("nonsense\n" + log.read_text())
    with pytest.raises(RunError, match="line 1 is no trial"):
        go(path, tmp_path / "out", systems=("ease",))


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


def test_a_trial_that_kills_its_process_three_times_has_failed(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(path, out, systems=("ease",), trials=1)
    log = TrialLog(out / "trials.jsonl")
    second = search_of(read_spec(path), "ease")
    assert second is not None
    own = [(log.records[-1].params, log.records[-1].value)]
    params = second.propose(own, sampler="tpe", seed=1, name="ease", number=1)
    assert params is not None
    for _ in range(3):
        log.append(log.records[0].model_copy(update={"number": 1, "params": dict(params)}))
    (outcome,) = go(path, out, systems=("ease",), trials=2).outcomes
    assert outcome.failed == 1
    assert outcome.error is not None
    assert "ended 3 times" in outcome.error


# -- the space --------------------------------------------------------------------------------
def space(path: Path, name: str, table: str) -> Search | None:
    text = path.read_text().split("[tune.space.both")[0].replace("[tune.space.sasrec]", "[unused]").split("[unused]")[0]
    return search_of(parse_spec(f"{text}\n[tune.space.{name}]\n{table}", folder=path.parent), name)


def test_ranges_of_the_specification_replace_those_of_the_component(path: Path) -> None:
    search = space(path, "ease", "l2 = { low = 1, high = 9 }")
    assert search is not None
    assert search.ranges == {"l2": Uniform(1.0, 9.0), "half_life": EASE.space["half_life"]}
    search = space(
        path, "sasrec", "epochs = { low = 1, high = 9 }\nheads = [1, 2]\nwidth = 16\ndropout = { low = 0, high = 0.5 }"
    )
    assert search is not None
    assert {k: search.ranges[k] for k in ("epochs", "heads", "dropout")} == {
        "epochs": Whole(1, 9), "heads": Choice((1, 2)), "dropout": Uniform(0.0, 0.5)
    }  # fmt: skip
    assert search.fixed == {"width": 16}


@pytest.mark.parametrize(
    ("name", "table", "says"),
    [
        ("ease", "l3 = [1.0, 2.0]", r"tune.space.ease.l3: there is no such parameter to tune; known: half_life, l2"),
        ("ease", "l2 = { low = 1.0 }", "a range needs 'high'"),
        ("ease", "l2 = { low = 5.0, high = 1.0 }", "no range"),
        ("ease", "l2 = { low = -1.0, high = 1.0 }", "cannot be -1.0: Input should be greater than 0"),
        ("ease", "l2 = [1.0, 'much']", "cannot be 'much'"),
        ("ease", "half_life = 'long'", "cannot be 'long'"),
        ("both", "fusion_weights.2 = [1.0, 2.0]", "there is no such parameter"),
        ("sasrec", "item_init.scale = [0.1, 0.2]", "there is no such parameter"),
        ("easy", "l2 = [1.0, 2.0]", "'easy' is no system; did you mean 'ease'"),
    ],
)
def test_a_range_that_does_not_fit_is_told(path: Path, name: str, table: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        space(path, name, table)


def test_two_budgets_are_refused_and_one_takes_the_others_place(path: Path) -> None:
    spec = read_spec(path)
    replaced = tune_options(spec, {"seconds": 3.0}).tune
    assert replaced is not None
    assert (replaced.trials, replaced.seconds) == (None, 3.0)
    with pytest.raises(SpecError, match="exclude each other"):
        tune_options(spec, {"seconds": 3.0, "trials": 3})
    with pytest.raises(SpecError, match="tune: sampler"):
        tune_options(spec, {"sampler": "grid"})


def test_systems_that_cannot_be_tuned_say_why(path: Path, tmp_path: Path) -> None:
    found = tune(tune_options(read_spec(path), {"trials": 1}), tmp_path / "out")
    assert "language model" in found.skipped["told"]
    with pytest.raises(SpecError, match=r"systems.told: cannot be tuned: a language model"):
        go(path, tmp_path / "out", systems=("told",))
    with pytest.raises(SpecError, match="'eas' is no system; did you mean 'ease'"):
        go(path, tmp_path / "out", systems=("eas",))


@pytest.mark.parametrize("name", [n for n, e in CATALOG.items() if e.component.space])
def test_declared_ranges_fit_their_component_and_hold_its_defaults(name: str) -> None:
    component = CATALOG[name].component
    own = component.Config().model_dump(mode="json")
    search = Search(component.Config, own, {k: s for k, s in component.space.items() if "." not in k})
    for key, space in search.ranges.items():
        ends = space.values if isinstance(space, Choice) else (space.low, space.high)
        for end in ends:
            component.Config.model_validate(own | {key: end})
        value = own[key]
        assert value in ends if isinstance(space, Choice) else space.low <= value <= space.high, f"{key}: {value}"
    for number in range(1, 4):
        params = search.propose([], sampler="random", seed=1, name=name, number=number)
        assert params is not None
        search.with_params(params)


def test_what_does_not_go_together_is_never_tried() -> None:
    search = Search(SASRecConfig, SASRecConfig().model_dump(mode="json"), {"width": Choice((8, 9)), "heads": Choice((2, 3, 4))})
    past: list[tuple[dict[str, Any], float | None]] = []
    while (params := search.propose(past, sampler="tpe", seed=1, name="x", number=len(past))) is not None:
        assert params["width"] % params["heads"] == 0
        past.append((dict(params), None))
    assert len(past) == 3


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 15), st.sampled_from(["tpe", "random"]))
def test_a_proposal_follows_from_the_past_alone(seed: int, n: int, sampler: Any) -> None:
    search = Search(EASEConfig, EASEConfig().model_dump(mode="json"), {"l2": Uniform(10.0, 5000.0, log=True)})
    past: list[tuple[dict[str, Any], float | None]] = [({"l2": 400.0}, 0.1)]
    past += [({"l2": 10.0 + i}, None if i % 3 == 0 else 0.1 + i / 100) for i in range(n)]
    drawn = [search.propose(past, sampler=sampler, seed=seed, name="a", number=n) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] is not None
    value = drawn[0]["l2"]
    assert 10.0 <= value <= 5000.0
    assert value == float(f"{value:.4g}"), "short enough to read"


def test_tpe_finds_a_peak_sooner_than_chance() -> None:
    """On a made peak, 30 trials: the guided draws come nearer."""
    search = Search(
        EASEConfig, EASEConfig().model_dump(mode="json"), {"l2": EASE.space["l2"], "half_life": EASE.space["half_life"]}
    )

    def best(sampler: Any, seed: int) -> float:
        past: list[tuple[Any, float | None]] = []
        for number in range(30):
            params = search.propose(past, sampler=sampler, seed=seed, name="x", number=number)
            assert params is not None
            distance = np.log(params["l2"] / 300) ** 2 + np.log(params["half_life"] / 5) ** 2
            past.append((params, float(-distance)))
        return max(v for _, v in past if v is not None)

    assert best("tpe", 1) > best("random", 1)


def test_a_line_of_the_log_reads_back(tmp_path: Path) -> None:
    record = Record(key="k", system="s", number=0, seed=1, params={}, state="done", metric="m", value=0.1, seconds=1.0)
    log = TrialLog(tmp_path / "log.jsonl")
    log.append(record)
    assert TrialLog(log.path).records == [record]
