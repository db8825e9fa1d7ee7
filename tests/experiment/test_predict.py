"""Runs of the tasks that predict: the same files, figures that agree with them, and errors of one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from llm4rec.app.terminal import print_leaderboard
from llm4rec.core import DataError, SpecError
from llm4rec.data import SplitConfig, as_clicks, load, make_split, make_training
from llm4rec.experiment.audit.audit import audit
from llm4rec.experiment.compare import compare
from llm4rec.experiment.planned import effects
from llm4rec.experiment.predict import prepare
from llm4rec.experiment.report import write_report
from llm4rec.experiment.run import run
from llm4rec.experiment.spec import Spec, parse_spec, read_spec
from llm4rec.experiment.tune import tune
from llm4rec.metrics import gauc
from tests import rated

SPEC = """
[experiment]
name = "made"
sample = 60
[data]
path = "log.csv"
[split]
kind = "ratio"
[protocol]
task = "TASK"
threshold = 3.0
[systems.bias]
component = "bias"
[systems.stiff]
component = "bias"
label = "Stiff <b>biases</b>"
user_l2 = 500.0
item_l2 = 500.0
[systems.some]
component = "bias"
sampled = true
half_life = 0
"""


NETWORK = (
    SPEC.replace("TASK", "click").partition("[systems.bias]")[0]
    + """
[systems.net]
component = "fm"
epochs = 1
width = 2
"""
)


def spec(folder: Path, task: str = "rating", extra: str = "") -> Spec:
    """Write the world's events as a log, and return a specification on it."""
    world = rated.tastes(n_users=120, each=30).split.train
    users, items = np.array(world.users.ids), np.array(world.items.ids)
    log = world.events.with_columns(
        user=pl.Series(users[world.events["user"].to_numpy()]), item=pl.Series(items[world.events["item"].to_numpy()])
    )
    log.select("user", "item", pl.col("value").alias("rating"), "time").write_csv(folder / "log.csv")
    return parse_spec(SPEC.replace("TASK", task) + extra, folder=folder)


@pytest.fixture(scope="module", params=["rating", "click"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    run(spec(folder, request.param), folder / "run")
    return request.param, folder / "run"


def tables(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, dict[str, Any]]:
    cases, lists, results = (pl.read_parquet(folder / f"{n}.parquet") for n in ("cases", "lists", "results"))
    return cases, lists, results, json.loads((folder / "summary.json").read_text())


def test_figures_agree_with_the_files(made: tuple[str, Path]) -> None:
    task, folder = made
    cases, lists, results, summary = tables(folder)
    assert (cases["truth"].list.len() == 1).all()
    assert cases["case"].n_unique() == len(cases) == 240
    assert set(cases["value"].unique()) == {0.0, 1.0} if task == "click" else cases["value"].n_unique() > 60
    for name, row in summary.items():
        mine = lists.filter(pl.col("system") == name).join(cases, on="case")
        assert (mine["item"] == mine["truth"].list.first()).all()
        assert mine["stage"].unique().to_list() == ["predict"]
        assert mine["rank"].unique().to_list() == [1]
        p, y = mine["score"].to_numpy().astype(float), mine["value"].to_numpy()
        kept = results.filter((pl.col("system") == name) & (pl.col("metric") == "squared_error")).sort("case")["value"]
        np.testing.assert_allclose(kept, ((p - y) ** 2)[np.argsort(mine["case"].to_numpy())], atol=1e-6)
        found = {m: f["mean"] for m, f in row["metrics"].items()}
        assert found["rmse"] == pytest.approx(np.sqrt(np.mean((p - y) ** 2)))
        assert found["gauc"] == pytest.approx(gauc(p, y >= (1 if task == "click" else 3), mine["user"].to_numpy()))
        assert ("logloss" in found) == (task == "click")
        assert all(f["low"] <= f["mean"] <= f["high"] for f in row["metrics"].values())
    assert summary["bias"]["cases"] == len(cases)
    primary = "rmse" if task == "rating" else "logloss"
    assert summary["bias"]["metrics"][primary]["mean"] < summary["stiff"]["metrics"][primary]["mean"]


def test_systems_are_tested_in_pairs_on_what_both_were_asked(made: tuple[str, Path]) -> None:
    task, folder = made
    *_, summary = tables(folder)
    assert summary["some"]["sampled"]
    assert summary["some"]["cases"] == 60 == summary["bias"]["sample"]["n"]
    d = summary["bias"]["versus"]["stiff"]
    assert d["metric"] == ("squared_error" if task == "rating" else "logloss")
    assert d["difference"] < 0
    assert d["p"] <= d["p_holm"]
    assert task == "click" or d["p_holm"] < 0.05
    rows = compare([folder])
    assert [r.system for r in rows][-1] == "stiff", "the worst stands last"
    assert rows[0].n == 60
    for row in rows:  # of errors, less is more
        for label in row.below:
            over = next(other for other in rows if other.label == label)
            assert over.mean <= row.mean
    assert not rows[0].below or rows[0].mean == rows[1].mean


def test_predictions_are_compared_over_users(made: tuple[str, Path]) -> None:
    _, folder = made
    cases, _, _, summary = tables(folder)
    (row,) = [r for r in compare([folder], metric="rmse", against="bias", full=True) if r.system == "stiff"]
    (effect,) = [e for e in effects([folder], metrics=["rmse"], against="bias", full=True) if e.system == "stiff"]
    assert row.units == cases["user"].n_unique() < row.n == len(cases)
    assert (effect.n, effect.p, effect.difference) == (row.n, row.p, row.difference)
    wide = pl.read_parquet(folder / "results.parquet").filter(pl.col("metric") == "squared_error")
    wide = wide.pivot(on="system", index="case", values="value", aggregate_function="mean").join(cases, on="case")
    each = wide.group_by("user").agg((pl.col("stiff") - pl.col("bias")).sum())["stiff"].to_numpy()
    shares = each * len(each) / len(cases)
    assert row.difference == pytest.approx(shares.mean())
    assert row.deviation == pytest.approx(shares.std(ddof=1))
    if summary["bias"]["versus"]["stiff"]["metric"] == "squared_error":  # the same test as in the run's own summary
        assert row.p == pytest.approx(summary["bias"]["versus"]["stiff"]["p"], abs=0.02)


def test_a_metric_that_measures_nothing_is_told_before_anything_is_fitted(tmp_path: Path) -> None:
    alone = spec(tmp_path, "click").model_copy(update={"split": SplitConfig(kind="leave-one-out")})
    asked = alone.model_copy(update={"experiment": alone.experiment.model_copy(update={"primary": "gauc"})})
    told: list[str] = []
    with pytest.raises(DataError, match=r"experiment.primary: none of 120 users has questions of both classes"):
        run(asked, tmp_path / "gauc", tell=told.append)
    assert not any("fitting" in line for line in told)
    networks = {"net": parse_spec(NETWORK, folder=tmp_path).systems["net"], "bias": alone.systems["bias"]}
    seeds = alone.experiment.model_copy(update={"seeds": (1, 2)})
    run(alone.model_copy(update={"experiment": seeds, "systems": networks}), tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["net"]["metrics"]["gauc"]["mean"] is None
    assert summary["net"]["seed_deviation"]["gauc"] is None
    assert summary["net"]["seed_deviation"]["logloss"] > 0
    print_leaderboard(tmp_path / "run")


def test_the_same_command_does_nothing_twice_and_mends_what_is_missing(made: tuple[str, Path]) -> None:
    task, folder = made
    told: list[str] = []
    before = (folder / "summary.json").read_bytes()
    run(read_spec(folder / "spec.toml"), folder, tell=told.append)
    assert not any("fitting" in line for line in told)
    (folder / "results.parquet").unlink()
    run(spec(folder.parent, task), folder)
    assert (folder / "summary.json").read_bytes() == before


def test_the_report_shows_every_figure_and_obeys_no_label(made: tuple[str, Path]) -> None:
    _, folder = made
    *_, summary = tables(folder)
    page = write_report(folder).read_text()
    for row in summary.values():
        for f in row["metrics"].values():
            assert f"{f['mean']:.4f}" in page
    assert "<b>biases</b>" not in page
    assert "<script" not in page
    assert "GAUC" in page


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('"rating"', '"stars"'), "protocol.task"),
        (('name = "made"', 'name = "made"\nprimary = "auc"'), "'auc' cannot be the primary metric"),
        (('name = "made"', 'name = "made"\nprimary = "logloss"'), "take one of rmse, mae, gauc"),
        (('name = "made"', 'name = "made"\nprimary = "ndcg@10"'), "take one of rmse, mae, gauc"),
        (('name = "made"', 'name = "made"\nmetrics = ["rmse"]'), "leave the key out"),
        (("threshold = 3.0", "[protocol.candidates]"), "leave out the candidates"),
        (('component = "bias"', 'component = "ease"'), "ease cannot predict; those that can: p5, bias"),
        (('[systems.bias]\ncomponent = "bias"', '[systems.bias]\nretrieve = ["stiff"]'), "name a component that predicts"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(change: tuple[str, str], says: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_spec(SPEC.replace("TASK", "rating").replace(*change, 1))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_ranking_takes_no_metric_of_predictions() -> None:
    text = '[experiment]\nname = "a"\nprimary = "rmse"\n[data]\nset = "ml-100k"\n[systems.ease]\ncomponent = "ease"\n'
    with pytest.raises(SpecError, match=r"set protocol\.task to 'rating' or 'click'"):
        parse_spec(text)
    with pytest.raises(SpecError, match="a threshold belongs to"):
        parse_spec(text.replace('primary = "rmse"', "[protocol]\nthreshold = 4"))
    with pytest.raises(SpecError, match="bias cannot retrieve"):
        parse_spec(text.replace('primary = "rmse"', "").replace('"ease"', '"bias"'))


def test_what_asks_for_lists_says_that_there_are_none(made: tuple[str, Path]) -> None:
    _, folder = made
    told = {f.check: f for f in audit(folder / "spec.toml", folder.parent / "audited")[0].findings}
    assert {told[c].verdict for c in ("lists", "floors", "shuffled", "masked-truth")} == {"not applicable"}
    assert told["own-future"].verdict == "ok"  # data and split are audited all the same
    again = {f.check: f for f in audit(folder, only=["fingerprint", "recomputed"])[0].findings}
    assert again["fingerprint"].verdict == "ok", "the run's fingerprint is that of its clicks"
    assert again["recomputed"].verdict == "not applicable"


def test_parameters_are_searched_by_the_error_on_validation_questions(made: tuple[str, Path], tmp_path: Path) -> None:
    task, folder = made
    text = (folder / "spec.toml").read_text() + "[tune]\ntrials = 4\n"
    asked = parse_spec(text, folder=tmp_path)
    found = tune(asked, tmp_path / "out", systems=["stiff"])
    (outcome,) = found.outcomes
    assert outcome.metric == ("rmse" if task == "rating" else "logloss")
    assert outcome.best is not None
    assert outcome.default is not None
    assert outcome.gain == pytest.approx(outcome.default - outcome.best)
    assert outcome.gain > 0, "biases that are hardly shrunk are better ones"
    trials = [json.loads(line) for line in (tmp_path / "out" / "trials.jsonl").read_text().splitlines()]
    assert min(t["value"] for t in trials if t["state"] == "done") == outcome.best
    # The figure is that of the chosen parameters on the questions of the validation part.
    training = prepare(make_training(load(asked.data), asked.split), asked.protocol)
    part = read_spec(found.path).systems["stiff"].part
    assert part is not None
    model = part.entry.component(part.config).fit(training.train, valid=training.valid, rng=np.random.default_rng(0))
    questions = training.valid.single()
    p = model.predict(questions.queries, questions.truth.values).astype(float)
    y = np.asarray(questions.values)
    wanted = np.sqrt(np.mean((p - y) ** 2)) if task == "rating" else -np.mean(np.log(np.where(y > 0, p, 1 - p)))
    assert outcome.best == pytest.approx(wanted, rel=1e-6)
    for metric in ("ndcg@10", *(["logloss"] if task == "rating" else [])):
        with pytest.raises(SpecError, match=f"tune.metric: '{metric}' is no metric of the task '{task}'; take one of"):
            parse_spec(text + f'metric = "{metric}"\n', folder=tmp_path)


def test_clicks_need_a_threshold_that_parts_the_values() -> None:
    split = rated.tastes().split
    with pytest.raises(SpecError, match=r"threshold: .* which are no clicks"):
        as_clicks(split, None)
    with pytest.raises(DataError, match=r"every training event .* is a click"):
        as_clicks(split, -100.0)
    clicks = as_clicks(split, 3.0)
    assert clicks.fingerprint != split.fingerprint
    again = as_clicks(clicks, None)
    for part in (clicks, again):
        q = part.test.queries
        assert set(np.unique(np.concatenate([q.history_values, part.test.values, part.train.events["value"]]))) == {0.0, 1.0}


def test_questions_hold_the_values_of_the_held_out_events() -> None:
    dataset = rated.tastes().split.train
    split = make_split(dataset, SplitConfig(kind="ratio"))
    known = {(u, i): v for u, i, v in dataset.events.select("user", "item", "value").iter_rows()}
    asked = split.test.take(np.array([3, 1])).single()
    wanted = [known[u, i] for u, i in zip(asked.queries.users.tolist(), asked.truth.values.tolist(), strict=True)]
    assert np.asarray(asked.values).tolist() == wanted
    assert len(asked) == split.test.truth.lengths[[3, 1]].sum()
