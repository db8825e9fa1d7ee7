"""Runs: what they write, that they agree with themselves, and that nothing is lost or made up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from llm4rec.core import ModelError, RunError, SpecError
from llm4rec.experiment.recommend import recommend
from llm4rec.experiment.run import run
from llm4rec.experiment.spec import read_spec

FILES = [
    "spec.toml",
    "environment.json",
    "cases.parquet",
    "lists.parquet",
    "results.parquet",
    "summary.json",
    "report.html",
    "llm.sqlite",
]


@pytest.fixture
def finished(log_folder: Path) -> Path:
    """Return the directory of a finished run."""
    run(read_spec(log_folder / "spec.toml"), log_folder / "out")
    return log_folder / "out"


def test_a_run_writes_the_contract(finished: Path) -> None:
    assert [n for n in FILES if not (finished / n).exists()] == []
    columns = {n: set(pl.read_parquet(finished / f"{n}.parquet").columns) for n in ("cases", "lists", "results")}
    assert columns["cases"] >= {"case", "user", "truth", "time", "slices"}
    assert columns["lists"] == {"system", "seed", "case", "stage", "rank", "item", "score"}
    assert columns["results"] == {"system", "seed", "case", "metric", "value"}
    assert not list(finished.rglob("*.pkl"))
    assert not list(finished.glob(".writing-*"))


def test_results_are_those_of_the_lists(finished: Path) -> None:
    cases = pl.read_parquet(finished / "cases.parquet")
    lists, results = (pl.read_parquet(finished / f"{n}.parquet") for n in ("lists", "results"))
    summary = json.loads((finished / "summary.json").read_text())
    truth = dict(zip(cases["case"], cases["truth"].to_list(), strict=True))
    for (system, seed), mine in results.group_by("system", "seed"):
        last = summary[system]["stages"][-1]["stage"]
        shown = lists.filter((pl.col("system") == system) & (pl.col("seed") == seed) & (pl.col("stage") == last)).sort(
            "case", "rank"
        )
        for row in mine.filter(pl.col("metric") == "ndcg@5").iter_rows(named=True):
            items = shown.filter(pl.col("case") == row["case"])["item"].to_list()[:5]
            gain = sum(1 / np.log2(r + 2) for r, item in enumerate(items) if item in truth[row["case"]])
            assert row["value"] == pytest.approx(gain, abs=1e-9)


def test_seeds_samples_and_costs(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert list(summary) == ["popular", "ease", "sasrec", "text", "both", "told"]
    assert summary["sasrec"]["seeds"] == [1, 2]
    assert summary["ease"]["seeds"] == summary["told"]["seeds"] == [1]
    assert summary["told"]["sampled"]
    assert summary["told"]["metrics"]["ndcg@10"]["n"] == 20 == summary["ease"]["sample"]["n"]
    assert summary["ease"]["metrics"]["ndcg@10"]["n"] == 60
    assert summary["told"]["versus"]["ease"]["n"] == 20
    assert summary["ease"]["versus"]["popular"]["n"] == 60
    assert summary["ease"]["versus"]["told"]["difference"] == -summary["told"]["versus"]["ease"]["difference"]
    assert summary["told"]["llm"]["calls"] > 0
    assert summary["ease"]["llm"]["calls"] == 0
    assert summary["told"]["failures"], "the script's answers cannot be read, and that must be counted"
    assert summary["told"]["llm"]["usd"] is None or summary["told"]["llm"]["usd"] == 0


def test_the_summary_says_what_its_figures_can_show(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    errors = summary["sasrec"]["standard_errors"]
    assert errors["metric"] == "ndcg@10"
    assert errors["together"] == pytest.approx(np.sqrt(sum(errors[k] ** 2 for k in ("cases", "seeds", "rest"))))
    assert summary["ease"]["standard_errors"] is None, "one seed tells nothing about seeds"
    test = summary["ease"]["versus"]["popular"]
    assert test["detectable"] == pytest.approx(2.83 * test["deviation"] / np.sqrt(test["n"]), rel=0.02)
    head = summary["ease"]["slices"]["head"]
    against = head["versus"]["popular"]
    plain = {n: summary[n]["slices"]["head"]["metrics"]["ndcg@10"]["mean"] for n in ("ease", "popular")}
    assert against["difference"] == pytest.approx(plain["ease"] - plain["popular"])
    assert against["n"] == head["n"]
    assert against["p"] <= against["p_holm"] <= 1
    assert head["versus"]["told"]["n"] <= 20, "a sampled system is met on the sample"
    assert all(row["below"]["sample"] is not None for row in summary.values())
    assert "all" not in summary["told"]["below"]
    top = max((n for n in summary if not summary[n]["sampled"]), key=lambda n: summary[n]["metrics"]["ndcg@10"]["mean"])
    assert (
        top in summary["ease"]["below"]["all"]
        or top == "ease"
        or (summary[top]["ms_per_query"] > summary["ease"]["ms_per_query"])
    )


def test_no_list_shows_what_the_user_has_seen(finished: Path) -> None:
    history = pl.read_parquet(finished / "cases.parquet").select("case", "history").explode("history")
    lists = pl.read_parquet(finished / "lists.parquet")
    assert lists.join(history, left_on=["case", "item"], right_on=["case", "history"]).is_empty()


def test_the_same_command_again_does_nothing(finished: Path, log_folder: Path) -> None:
    before = {
        p: p.stat().st_mtime_ns
        for p in finished.rglob("*")
        if p.is_file() and p.name not in ("run.lock",) and "sqlite" not in p.name
    }
    told: list[str] = []
    run(read_spec(log_folder / "spec.toml"), finished, tell=told.append)
    after = {
        p: p.stat().st_mtime_ns
        for p in finished.rglob("*")
        if p.is_file() and p.name not in ("run.lock",) and "sqlite" not in p.name
    }
    assert before == after
    assert not any("fitting" in line for line in told)


def test_a_changed_parameter_reruns_that_system_and_those_that_use_it(finished: Path, log_folder: Path) -> None:
    path = log_folder / "spec.toml"
    path.write_text(path.read_text().replace("l2 = 5.0", "l2 = 6.0"))
    told: list[str] = []
    run(read_spec(path), finished, tell=told.append)
    assert {line.split(":")[0] for line in told if "fitting" in line} == {"ease", "both"}


def test_a_replay_asks_nobody(finished: Path, log_folder: Path) -> None:
    fresh = log_folder / "fresh"
    fresh.mkdir()
    (fresh / "llm.sqlite").write_bytes((finished / "llm.sqlite").read_bytes())
    run(read_spec(log_folder / "spec.toml"), fresh, mode="replay")
    summary = json.loads((fresh / "summary.json").read_text())
    assert summary["told"]["llm"]["calls"] == summary["told"]["llm"]["cached"] > 0
    assert summary["told"]["metrics"] == json.loads((finished / "summary.json").read_text())["told"]["metrics"]


def test_a_replay_without_the_store_is_refused(log_folder: Path) -> None:
    with pytest.raises(ModelError, match="replay"):
        run(read_spec(log_folder / "spec.toml"), log_folder / "fresh", mode="replay")


def test_two_directories_give_the_same_figures(finished: Path, log_folder: Path) -> None:
    run(read_spec(log_folder / "spec.toml"), log_folder / "again")
    one, two = (pl.read_parquet(log_folder / d / "results.parquet") for d in ("out", "again"))
    assert one.equals(two)


def test_kill_9_loses_the_part_in_flight_and_no_more(log_folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "llm4rec.app.cli",
        "run",
        str(log_folder / "spec.toml"),
        "--out",
        str(log_folder / "killed"),
    ]
    first = log_folder / "killed" / "parts" / "ease" / "1" / "part.json"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not first.exists() and time.monotonic() < until:
        assert process.poll() is None or first.exists(), "the run ended before it could be killed"
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (log_folder / "killed" / "summary.json").exists()
    stamp = first.stat().st_mtime_ns
    again = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert again.returncode == 0, again.stderr
    assert first.stat().st_mtime_ns == stamp, "what was whole has been made again"
    run(read_spec(log_folder / "spec.toml"), log_folder / "whole")
    one, two = (pl.read_parquet(log_folder / d / "results.parquet") for d in ("killed", "whole"))
    assert one.equals(two)
    assert not list((log_folder / "killed").glob(".writing-*"))


def test_candidates_are_a_protocol_of_their_own(log_folder: Path) -> None:
    path = log_folder / "spec.toml"
    path.write_text(path.read_text().replace("[data]", "[protocol]\ncandidates = { size = 8 }\n[data]", 1))
    run(read_spec(path), log_folder / "out")
    environment = json.loads((log_folder / "out" / "environment.json").read_text())
    assert environment["protocol"] == "8 random candidates with the truth among them"
    cases = pl.read_parquet(log_folder / "out" / "cases.parquet")
    assert (cases["candidates"].list.len() == 8).all()
    pairs = cases.select("case", "candidates").explode("candidates")
    lists = pl.read_parquet(log_folder / "out" / "lists.parquet")
    inside = lists.join(pairs, left_on=["case", "item"], right_on=["case", "candidates"])
    assert len(inside) == len(lists) > 0
    summary = json.loads((log_folder / "out" / "summary.json").read_text())
    assert summary["popular"]["metrics"]["recall@10"]["mean"] == 1.0  # all eight are listed, the truth among them


def test_candidates_can_be_proposed_by_systems(log_folder: Path) -> None:
    path = log_folder / "spec.toml"
    table = '[protocol]\ncandidates = { size = 6, sources = ["ease", "text"], inject = %s }\n[data]'
    text = path.read_text()
    for inject in ("true", "false"):
        path.write_text(text.replace("[data]", table % inject, 1))
        run(read_spec(path), log_folder / inject)
    cases = {inject: pl.read_parquet(log_folder / inject / "cases.parquet") for inject in ("true", "false")}
    held = {
        k: v.select(pl.col("candidates").list.set_intersection("truth").list.len() > 0).to_series() for k, v in cases.items()
    }
    assert held["true"].all()
    assert 0 < held["false"].sum() < len(held["false"])
    assert (cases["false"]["candidates"].list.len() == 6).all()
    summary = json.loads((log_folder / "false" / "summary.json").read_text())
    ceilings = {row["metrics"]["recall@10"]["mean"] for row in summary.values() if not row["sampled"]}
    assert len(ceilings) == 1, "the same candidates for every system"
    assert ceilings.pop() == pytest.approx(held["false"].mean())


def test_a_run_diagnoses_its_language_models(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["ease"]["diagnosis"] == {}
    (stage, facts), *others = summary["told"]["diagnosis"].items()
    assert (stage, others) == ("rank:LLMRanker", [])
    assert facts["scoring"] == "generate"
    assert facts["answers"]["kinds"]["unreadable"] > 0  # every second answer of the script is prose
    assert facts["answers"]["unusable"] == facts["answers"]["kinds"]["unreadable"]
    position = facts["position"]
    assert position["slots"] == 5
    assert [round(share["mean"]) for share in position["first"]] == [0, 1, 0, 0, 0]  # it always names the second slot first
    assert facts["history"]["fake"]["gain"]["difference"] is not None
    notes = pl.read_parquet(finished / "notes.parquet")
    assert notes["trials"].list.len().sum() == facts["answers"]["listings"]


def test_a_run_checks_its_explanations(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    figures = summary["told"]["explanation"]
    assert figures["claim_precision"]["mean"] == 1.0
    assert figures["unsupported_mentions"]["mean"] == 0.0
    assert "fidelity" not in figures, "a language model would have to rank anew"
    assert summary["ease"]["explanation"] == {}
    assert "fidelity" in summary["both"]["explanation"]
    table = pl.read_parquet(finished / "explanations.parquet")
    outcomes = table.explode("claims")["claims"].drop_nulls().struct.field("outcome")
    assert len(outcomes) > 0
    assert set(outcomes) == {"true"}


def test_models_are_probed_for_the_data(log_folder: Path) -> None:
    path = log_folder / "spec.toml"
    path.write_text(path.read_text().replace("[data]", '[contamination]\nllm = ["told"]\ncases = 5\nwritten = 0\n[data]', 1))
    run(read_spec(path), log_folder / "out")
    found = json.loads((log_folder / "out" / "contamination.json").read_text())
    assert set(found) == {"told"}
    assert "verdict" in found["told"]
    path.write_text(path.read_text().replace('["told"]', '["tole"]'))
    with pytest.raises(SpecError, match=r"contamination.llm: there is no table \[llm.tole\]"):
        read_spec(path)


def test_a_directory_of_something_else_is_left_alone(log_folder: Path) -> None:
    with pytest.raises(RunError, match="holds other files"):
        run(read_spec(log_folder / "spec.toml"), log_folder)


def test_recommend_answers_users_and_histories(finished: Path) -> None:
    known = recommend(finished, system="ease", user="u1", k=5)
    assert len(known["list"]) == 5
    events = pl.read_csv(finished.parent / "events.csv").filter(pl.col("user_id") == "u1")
    assert not {item for item, _, _ in known["list"]} & set(events["item_id"])
    free = recommend(finished, system="both", history=["i0", "i4"], k=5)
    assert not {"i0", "i4"} & {item for item, _, _ in free["list"]}
    told = recommend(finished, system="told", history=["i0", "i4"], k=5, explain=True)
    assert told["why"]


def test_a_system_that_asks_no_model_needs_no_store_of_calls(finished: Path, tmp_path: Path) -> None:
    """A run may lie where nothing can be written."""
    copy = Path(shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("llm.sqlite*")))
    assert len(recommend(copy, system="ease", user="u1", k=5)["list"]) == 5
    assert not (copy / "llm.sqlite").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"system": "eas", "user": "u1"}, "did you mean 'ease'"),
        ({"system": "ease", "user": "nobody"}, "unknown user 'nobody'"),
        ({"system": "ease", "history": ["i0", "nothing"]}, "unknown item 'nothing'"),
        ({"system": "ease", "user": "u1", "k": 999}, "the catalogue has 40 items"),
        ({"system": "ease"}, "either a user or a history"),
        ({"system": "ease", "user": "u1", "explain": True}, "has no explainer"),
    ],
)
def test_recommend_says_what_is_wrong(finished: Path, arguments: dict[str, object], line: str) -> None:
    with pytest.raises(Exception, match=line):
        recommend(finished, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("stranger", ["environment.json", "parts/mine.txt", "models/dataset/mine.txt"])
def test_a_folder_of_one_s_own_that_looks_like_a_run_is_left_alone(log_folder: Path, stranger: str) -> None:
    mine = log_folder / "mine"
    (mine / stranger).parent.mkdir(parents=True)
    for name in (stranger, "spec.toml"):
        (mine / name).write_text("precious")
    with pytest.raises(RunError, match="no run"):
        run(read_spec(log_folder / "spec.toml"), mine)
    assert (mine / "spec.toml").read_text() == (mine / stranger).read_text() == "precious"


@pytest.mark.parametrize("fault", [b"", b"[]", b"PAR1 and no more"])
def test_the_same_command_mends_a_broken_run(finished: Path, log_folder: Path, fault: bytes) -> None:
    before = json.loads((finished / "summary.json").read_text())
    for name in (
        "spec.toml",
        "summary.json",
        "environment.json",
        "cases.parquet",
        "models/dataset/items.parquet",
        "models/dataset/hidden.parquet",
        "models/ease/1/fit.json",
        "parts/ease/1/part.json",
        "parts/text/1/lists.parquet",
    ):
        (finished / name).write_bytes(fault)
        run(read_spec(log_folder / "spec.toml"), finished)
        assert (finished / name).read_bytes() != fault, name
    (finished / "results.parquet").unlink()
    for name in ("models/ease/1/arrays.safetensors", "parts/ease/1/part.json"):  # to be served, it has to be read
        (finished / name).write_bytes(fault)
    run(read_spec(log_folder / "spec.toml"), finished)
    assert (finished / "results.parquet").exists()
    assert (finished / "models/ease/1/arrays.safetensors").read_bytes() != fault
    after = json.loads((finished / "summary.json").read_text())
    assert {n: s["metrics"] for n, s in before.items()} == {n: s["metrics"] for n, s in after.items()}


def test_a_refresh_asks_again_though_the_run_is_finished(finished: Path, log_folder: Path) -> None:
    told: list[str] = []
    run(read_spec(log_folder / "spec.toml"), finished, mode="refresh", tell=told.append)
    assert {line.split(":")[0] for line in told if line.endswith("fitting ...")} == {"told"}


def test_another_title_is_another_run(finished: Path, log_folder: Path) -> None:
    path = log_folder / "items.csv"
    path.write_text(path.read_text().replace("A crime film", "A crime novel"))
    run(read_spec(log_folder / "spec.toml"), finished)
    assert pl.read_parquet(finished / "catalog.parquet")["title"].str.contains("novel").sum() == 10


def test_a_run_that_another_one_cut_off_is_whole_again(
    finished: Path, log_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, path = (finished / "spec.toml").read_text(), log_folder / "spec.toml"
    mine = path.read_text()
    path.write_text(mine.replace("l2 = 5.0", "l2 = 6.0"))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("llm4rec.experiment.run._Runner._system", stop)
        run(read_spec(path), finished)
    assert (finished / "spec.toml").read_text() != first
    path.write_text(mine)
    run(read_spec(path), finished)
    assert (finished / "spec.toml").read_text() == first


def test_what_a_rule_hid_is_not_recommended_either(log_folder: Path) -> None:
    events = pl.read_csv(log_folder / "events.csv")
    low = pl.Series("rating", [1.0 if i % 3 == 0 else 5.0 for i in range(len(events))])
    events.with_columns(low).write_csv(log_folder / "events.csv")
    path = log_folder / "spec.toml"
    path.write_text(path.read_text().replace('path = "events.csv"', 'path = "events.csv"\nmin_value = 3'))
    run(read_spec(path), log_folder / "out")
    touched = set(events.filter(pl.col("user_id") == "u1")["item_id"])
    shown = recommend(log_folder / "out", system="popular", user="u1", k=40)
    assert {item for item, _, _ in shown["list"]} == {f"i{i}" for i in range(40)} - touched
