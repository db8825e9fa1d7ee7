"""Runs beside each other: only what may be compared, on the cases that all share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm4rec.core import RunError
from llm4rec.experiment.compare import compare
from llm4rec.experiment.run import run
from llm4rec.experiment.spec import read_spec


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
