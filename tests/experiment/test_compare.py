"""Runs beside each other: only what may be compared, on the cases that all share."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from llm4rec.app.comparison import print_comparison, print_effects
from llm4rec.core import RunError
from llm4rec.experiment.compare import compare
from llm4rec.experiment.planned import Effect, effects
from llm4rec.experiment.run import run
from llm4rec.experiment.spec import read_spec
from llm4rec.metrics import holm, minimum_detectable


@pytest.fixture
def two_runs(log_folder: Path) -> list[Path]:
    path = log_folder / "spec.toml"
    run(read_spec(path), log_folder / "one")
    path.write_text(path.read_text().replace("l2 = 5.0", "l2 = 500.0"))
    run(read_spec(path), log_folder / "two")
    return [log_folder / "one", log_folder / "two"]


def test_systems_of_two_runs_are_tested_on_the_cases_that_all_have(two_runs: list[Path]) -> None:
    rows = compare(two_runs, against="one/ease")
    summary = json.loads((two_runs[0] / "summary.json").read_text())
    assert len(rows) == 2 * len(summary)
    assert {row.n for row in rows} == {summary["told"]["cases"]}
    means = [row.mean for row in rows]
    assert means == sorted(means, reverse=True)
    found = {(row.run, row.system): row for row in rows}
    assert found["one", "ease"].difference is None
    assert (
        found["one", "popular"].mean
        == found["two", "popular"].mean
        == summary["popular"]["sample"]["metrics"]["ndcg@10"]["mean"]
    )
    for row in rows:
        if row.difference is not None and row.p is not None and row.p_holm is not None:
            assert row.difference == pytest.approx(row.mean - found["one", "ease"].mean)
            assert row.p <= row.p_holm <= 1


def test_full_compares_on_all_cases(two_runs: list[Path]) -> None:
    rows = compare(two_runs, metric="recall@10", full=True)
    summary = json.loads((two_runs[0] / "summary.json").read_text())
    assert {row.n for row in rows} == {summary["ease"]["cases"]}
    assert "told" not in {row.system for row in rows}
    mine = next(row for row in rows if (row.run, row.system) == ("one", "ease"))
    assert mine.mean == pytest.approx(summary["ease"]["metrics"]["recall@10"]["mean"])


def test_a_slice_is_compared_on_its_own_cases(two_runs: list[Path]) -> None:
    cases = pl.read_parquet(two_runs[0] / "cases.parquet")
    for name, stored in (("head", "head"), ("tail", "tail"), ("short", "short_history"), ("long", "long_history")):
        inside = cases.filter(pl.col("slices").list.contains(stored))["case"].to_list()
        if len(inside) < 2:
            continue
        rows = compare(two_runs[:1], full=True, slice_of=name)
        assert {row.n for row in rows} == {len(inside)}
        results = pl.read_parquet(two_runs[0] / "results.parquet").filter(
            (pl.col("system") == "ease") & (pl.col("metric") == "ndcg@10") & pl.col("case").is_in(inside)
        )
        assert next(row.mean for row in rows if row.system == "ease") == pytest.approx(results["value"].mean())
    with pytest.raises(RunError, match=r"'heads' is no slice; did you mean 'head'"):
        compare(two_runs, slice_of="heads")
    with pytest.raises(RunError, match="fewer than two cases of the slice 'cold'"):
        compare(two_runs, slice_of="cold")


def test_a_run_in_which_no_system_is_sampled_has_one_front(log_folder: Path) -> None:
    spec = read_spec(log_folder / "spec.toml")
    few = spec.model_copy(update={"systems": {n: spec.systems[n] for n in ("popular", "ease")}})
    run(few, log_folder / "out")
    summary = json.loads((log_folder / "out" / "summary.json").read_text())
    assert all(list(row["below"]) == ["all"] for row in summary.values())


def test_the_detectable_difference_and_the_front_stand_beside(two_runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    rows = compare(two_runs[:1], full=True)
    reference = next(row for row in rows if row.difference is None)
    for row in rows:
        assert (row.detectable is None) == (row is reference)
        if row.detectable is not None and row.deviation is not None:
            assert row.detectable == minimum_detectable(row.deviation, row.n)
    assert any(not row.below for row in rows)
    for row in rows:
        for label in row.below:
            over = next(other for other in rows if other.label == label)
            assert over.mean >= row.mean
            assert over.ms_per_query <= row.ms_per_query
    print_comparison(rows, markdown=True)
    shown = capsys.readouterr().out
    assert "| detectable | front |" in shown
    assert f"With {rows[0].n} cases a difference to" in shown
    assert "cases would show" in shown
    pairs = len(rows) * (len(rows) - 1) // 2
    assert f"Holm's correction is over all {pairs} that could have been made, since the same cases chose the best." in shown


def test_a_reference_that_the_cases_chose_costs_all_pairs(two_runs: list[Path]) -> None:
    chosen = {row.system: row for row in compare(two_runs[:1], full=True)}
    best = next(name for name, row in chosen.items() if row.difference is None)
    named = {row.system: row for row in compare(two_runs[:1], full=True, against=best)}
    others = [name for name in chosen if name != best]
    k = len(chosen)
    assert {chosen[n].family for n in others} == {k * (k - 1) // 2}
    assert {named[n].family for n in others} == {k - 1}
    assert [chosen[n].p for n in others] == [named[n].p for n in others]
    plain = [chosen[n].p or 0.0 for n in others]
    assert [chosen[n].p_holm for n in others] == pytest.approx(holm(plain, family=k * (k - 1) // 2))
    assert [named[n].p_holm for n in others] == pytest.approx(holm(plain))
    several = effects(two_runs[:1], metrics=["ndcg@10", "hit@5"], full=True)
    assert {e.family for e in several} == {2 * k * (k - 1) // 2}


def test_what_cannot_be_compared_says_so(two_runs: list[Path], log_folder: Path) -> None:
    with pytest.raises(RunError, match="is a system of several runs"):
        compare(two_runs, against="ease")
    with pytest.raises(RunError, match="is no system of these runs; did you mean"):
        compare(two_runs, against="one/eas")
    with pytest.raises(RunError, match="does not hold"):
        compare(two_runs, metric="ndcg@11")
    path = log_folder / "spec.toml"
    path.write_text(path.read_text().replace("[data]", "[protocol]\nmask = 'history'\ncandidates = { size = 8 }\n[data]", 1))
    run(read_spec(path), log_folder / "three")
    with pytest.raises(RunError, match="another protocol"):
        compare([two_runs[0], log_folder / "three"])


def test_a_run_named_twice_and_one_without_its_rules_say_so(two_runs: list[Path]) -> None:
    with pytest.raises(RunError, match="one: is named twice; name each run once"):
        compare([two_runs[0], two_runs[1] / ".." / "one"])
    environment = json.loads((two_runs[1] / "environment.json").read_text())
    del environment["split"]
    (two_runs[1] / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(RunError, match=r"two: environment\.json names no split or protocol; run it again"):
        compare(two_runs)


# -- each system against its own baseline ----------------------------------------------------------
PLANNED = {"sasrec": "ease", "both": "ease", "told": "text"}


@pytest.fixture
def planned_run(log_folder: Path) -> Path:
    path = log_folder / "spec.toml"
    text = path.read_text()
    for name, other in PLANNED.items():
        text = text.replace(f"[systems.{name}]\n", f'[systems.{name}]\nagainst = "{other}"\n')
    path.write_text(text)
    run(read_spec(path), log_folder / "planned")
    return log_folder / "planned"


def test_each_system_is_tested_against_its_own_baseline_in_each_metric(planned_run: Path) -> None:
    metrics = ["hit@5", "ndcg@10"]
    found = effects([planned_run], metrics=metrics, planned=True)
    assert [(e.system, e.metric) for e in found] == [(name, metric) for name in PLANNED for metric in metrics]
    summary = json.loads((planned_run / "summary.json").read_text())
    results = pl.read_parquet(planned_run / "results.parquet")

    def of(system: str, metric: str) -> pl.DataFrame:
        return results.filter((pl.col("system") == system) & (pl.col("metric") == metric))

    for e in found:
        own, other = of(e.system, e.metric), of(PLANNED[e.system], e.metric)
        other = other.filter(pl.col("case").is_in(own["case"].unique().to_list()))
        assert e.n == summary[e.system]["cases"] == own["case"].n_unique()
        assert e.against == summary[PLANNED[e.system]]["label"]
        assert e.mean == pytest.approx(own["value"].mean())
        assert e.baseline == pytest.approx(other["value"].mean())
        assert e.difference == pytest.approx(e.mean - e.baseline)
        assert e.low <= e.difference <= e.high
        seeds = own.group_by("seed").agg(pl.col("value").mean())
        assert e.seeds == len(seeds)
        # EASE and the text retriever have one seed, which stands beside both of SASRec's.
        assert e.deviation is None if len(seeds) == 1 else e.deviation == pytest.approx(seeds["value"].std())
    assert {e.system: e.seeds for e in found} == {"sasrec": 2, "both": 1, "told": 1}
    assert [e.p_holm for e in found] == pytest.approx(holm([e.p for e in found]))
    assert {e.n for e in effects([planned_run], planned=True, full=True)} == {summary["ease"]["cases"]}


def test_several_metrics_have_one_reference_too(planned_run: Path) -> None:
    metrics = ["ndcg@10", "hit@5"]
    found = {(e.system, e.metric): e for e in effects([planned_run], metrics=metrics, against="ease", full=True)}
    for metric in metrics:
        rows = {row.system: row for row in compare([planned_run], metric=metric, against="ease", full=True)}
        for name, row in rows.items():
            if name != "ease":
                one = found.pop((name, metric))
                assert (one.mean, one.difference, one.p) == (row.mean, row.difference, row.p)
    assert not found
    best = compare([planned_run], full=True)[0]
    assert best.label in {e.against for e in effects([planned_run], metrics=["ndcg@10", "hit@5"], full=True)}


def test_the_difference_of_two_systems_with_seeds_is_taken_seed_by_seed(planned_run: Path) -> None:
    path = planned_run.parent / "spec.toml"
    path.write_text(path.read_text() + '[systems.wider]\nlike = "sasrec"\nagainst = "sasrec"\nwidth = 16\n')
    run(read_spec(path), planned_run)
    wider = next(e for e in effects([planned_run], planned=True) if e.system == "wider")
    results = pl.read_parquet(planned_run / "results.parquet").filter(pl.col("metric") == "ndcg@10")
    means = results.group_by("system", "seed").agg(pl.col("value").mean()).pivot(on="system", index="seed", values="value")
    assert wider.seeds == 2
    assert wider.deviation == pytest.approx((means["wider"] - means["sasrec"]).std())


def test_a_slice_and_seeds_are_shown_beside_the_differences(planned_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: list[Effect] = effects([planned_run], planned=True, slice_of="tail")
    inside = pl.read_parquet(planned_run / "cases.parquet").filter(pl.col("slices").list.contains("tail"))
    assert {e.n for e in found if e.system != "told"} == {len(inside)}
    assert 0 < len(inside) < 60
    print_effects(effects([planned_run], metrics=["hit@5", "ndcg@10"], planned=True), markdown=True)
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if line.startswith("|")]
    assert lines[0].startswith("| system | against | metric | mean | baseline's | difference |")
    assert lines[2].startswith("| SASRec | EASE | hit@5 |")
    assert lines[3].startswith("|  |  | ndcg@10 |")
    assert "6 tests, paired over cases, values averaged over 2 seeds. Holm's correction is over all of them." in shown


def test_a_run_that_plans_nothing_says_how(log_folder: Path) -> None:
    run(read_spec(log_folder / "spec.toml"), log_folder / "out")
    with pytest.raises(RunError, match=r"out: no system names a baseline; say against = 'SYSTEM' in \[systems.NAME\]"):
        effects([log_folder / "out"], planned=True)
