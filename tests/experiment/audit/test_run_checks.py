"""A finished run is audited with its own lists and figures; what was changed in it is found."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from llm4rec.core import Ragged, RunError
from llm4rec.experiment.audit.audit import audit, examine
from llm4rec.experiment.audit.finding import Finding
from llm4rec.experiment.report import write_report
from llm4rec.experiment.report_audit import audited
from llm4rec.experiment.run import run
from llm4rec.experiment.spec import read_spec
from tests.experiment.audit.made import QUICK, split
from tests.experiment.audit.systems import subject

CHECKS = ("fingerprint", "lists", "score-ties", "recomputed", "floors", "user-text")


@pytest.fixture
def finished(log_folder: Path) -> Path:
    text = (log_folder / "spec.toml").read_text().partition("[encoder.words]")[0]
    systems = '[systems]\nease = { component = "ease", l2 = 5.0 }\n'
    systems += 'told = { retrieve = ["ease"], augment = [{ component = "user-memory" }] }\n'
    (log_folder / "spec.toml").write_text(text + systems)
    run(read_spec(log_folder / "spec.toml"), log_folder / "run")
    return log_folder / "run"


def look(place: Path) -> dict[tuple[str, str], Finding]:
    found, path = audit(place, config=QUICK, only=CHECKS)
    assert path == place / "audit.json"
    return {(f.check, f.of): f for f in found.findings}


def test_a_run_is_audited_without_fitting_its_systems(finished: Path) -> None:
    told = look(finished)
    assert "leak" not in {f.verdict for f in told.values()}
    assert "cut-off" in told["score-ties", "ease"].line  # the run's lists end there
    for check in ("lists", "recomputed", "floors"):
        assert told[check, "ease"].value is not None
    assert told["recomputed", "told"].verdict == "ok"
    assert ("user-text", "profiles of told, titles") in told
    assert told["fingerprint", ""].verdict == "ok"
    page = (finished / "report.html").read_text()
    assert '<section id="audit"' in page
    assert "no list shows a masked item" in page
    assert "others-future" not in page  # it was not asked for


def test_changed_figures_lists_and_profiles_are_found(finished: Path) -> None:
    results = pl.read_parquet(finished / "results.parquet")
    results.with_columns(value=pl.when(pl.col("system") == "ease").then(1.0).otherwise("value")).write_parquet(
        finished / "results.parquet"
    )
    cases = pl.read_parquet(finished / "cases.parquet")
    shown = cases.select("case", pl.col("history").list.last().alias("had"))
    lists = pl.read_parquet(finished / "lists.parquet").join(shown, on="case")
    masked = pl.when((pl.col("system") == "told") & (pl.col("rank") == 3)).then("had").otherwise("item")
    lists.with_columns(item=masked).drop("had").write_parquet(finished / "lists.parquet")
    profiles = pl.read_parquet(finished / "profiles.parquet").join(cases.select("case", "truth"), on="case")
    named = pl.format("{} Wants {}.", "profile", pl.col("truth").list.first())
    profiles.with_columns(profile=named).drop("truth").write_parquet(finished / "profiles.parquet")
    environment = json.loads((finished / "environment.json").read_text())
    environment["split"]["fingerprint"] = "another"
    (finished / "environment.json").write_text(json.dumps(environment))
    told = look(finished)
    assert told["recomputed", "ease"].verdict == "leak"
    assert told["lists", "told"].verdict == "leak"
    assert told["lists", "ease"].verdict == "ok"
    assert told["user-text", "profiles of told, ids"].verdict == "leak"
    assert told["fingerprint", ""].verdict == "warning"


@pytest.mark.parametrize("sources", ['"random"', '"popular"'])
def test_lists_of_other_items_than_the_candidates_are_found(log_folder: Path, sources: str) -> None:
    """The mask hides none of them, so that only the sets of candidates tell."""
    text = (log_folder / "spec.toml").read_text().partition("[encoder.words]")[0]
    rules = f"[protocol.candidates]\nsize = 12\nsources = [{sources}]\n"
    systems = '[systems]\npopular = { component = "popular" }\nease = { component = "ease", l2 = 5.0 }\n'
    (log_folder / "spec.toml").write_text(text + rules + systems)
    run(read_spec(log_folder / "spec.toml"), log_folder / "run")
    assert {look(log_folder / "run")["lists", s].verdict for s in ("popular", "ease")} == {"ok"}
    table = log_folder / "run" / "lists.parquet"
    sets = pl.read_parquet(log_folder / "run" / "cases.parquet").select("case", "candidates")
    lists = pl.read_parquet(table).join(sets, on="case")
    shown = pl.read_parquet(log_folder / "run" / "cases.parquet").select("case", seen=pl.col("history"))
    every = pl.Series("item", [f"i{i}" for i in range(40)])
    free = {
        case: next(i for i in every if i not in set(candidates) | set(seen))
        for case, candidates, seen in sets.join(shown, on="case").iter_rows()
    }
    stranger = pl.col("case").replace_strict(free, return_dtype=pl.String)
    spoilt = pl.when((pl.col("system") == "ease") & (pl.col("rank") == 10) & (pl.col("case") < 7)).then(stranger)
    lists.with_columns(item=spoilt.otherwise("item")).drop("candidates").write_parquet(table)
    told = look(log_folder / "run")
    assert (told["lists", "ease"].verdict, told["lists", "popular"].verdict) == ("leak", "ok")
    assert told["lists", "ease"].value == 7
    assert "7 lists show what is no candidate" in told["lists", "ease"].line
    pl.read_parquet(log_folder / "run" / "cases.parquet").drop("candidates").write_parquet(log_folder / "run" / "cases.parquet")
    with pytest.raises(RunError, match=r"cases\.parquet lacks the candidates of its cases; run it again"):
        look(log_folder / "run")


def test_fitted_systems_are_held_to_the_candidates_too() -> None:
    with subject(split(), "popular", "ease", rules="[protocol.candidates]\nsize = 12\n") as made:
        told = {f.of: f for f in examine(made, only=["lists"]).findings}
        assert {f.verdict for f in told.values()} == {"ok"}
        assert made.candidates is not None
        others = Ragged.of(
            [row[row != served] for row, served in zip(made.candidates, made.served["ease"].lists.items[:, 0], strict=True)]
        )
        made.__dict__["candidates"] = others  # as if each first place were none of the set
        told = {f.of: f for f in examine(made, only=["lists"]).findings}
        assert (told["ease"].verdict, told["ease"].value) == ("leak", len(made.split.test))


def test_a_run_that_has_outlived_its_source_is_audited(finished: Path) -> None:
    for name in ("events.csv", "items.csv"):
        (finished.parent / name).unlink()
    told = {f.check: f for f in audit(finished, config=QUICK)[0].findings}
    assert told["fingerprint"].verdict == "warning"
    assert "the source cannot be read again" in told["fingerprint"].line
    assert told["order"].value is not None
    assert told["recomputed"].verdict == "ok"


def test_figures_that_are_none_and_cases_of_another_split_are_found(finished: Path) -> None:
    results = pl.read_parquet(finished / "results.parquet")
    results.with_columns(value=pl.lit(float("nan"))).write_parquet(finished / "results.parquet")
    found, path = audit(finished, config=QUICK, only=["recomputed"])
    assert {f.verdict for f in found.findings} == {"leak"}
    assert json.loads(path.read_text())["verdicts"]["leak"] == len(found.findings)
    results.with_columns(pl.col("case") + 1_000).write_parquet(finished / "results.parquet")
    with pytest.raises(RunError, match="tells of other cases than the 60 of its split; run it again"):
        audit(finished, config=QUICK, only=["recomputed"])
    results.write_parquet(finished / "results.parquet")
    (finished / "summary.json").write_text('{"ease": {}}')
    with pytest.raises(RunError, match=r"summary\.json tells nothing of ease"):
        audit(finished, config=QUICK, only=["recomputed"])


# -- the report -----------------------------------------------------------------------------------
ROW = {"check": "order", "of": "<b>ids</b>", "measure": "Hit@1", "value": 0.5, "verdict": "leak", "line": "<script>no</script>"}


def test_the_report_takes_nothing_from_an_audit_but_text(finished: Path) -> None:
    told = {"split": "s", "config": {"quick": True}, "findings": [{**ROW, "verdict": "ok", "line": "fine"}, ROW]}
    (finished / "audit.json").write_text(json.dumps(told))
    page = write_report(finished).read_text()
    assert "&lt;script&gt;no&lt;/script&gt;" in page
    assert "<script>no" not in page
    assert page.index("&lt;script&gt;no") < page.index("fine</bdi>")  # leaks come first
    assert "1 leaks, 0 warnings, 1 checks passed" in page
    assert "made on another split" in page
    (finished / "audit.json").unlink()
    assert 'id="audit"' not in write_report(finished).read_text()


@pytest.mark.parametrize("told", [{}, {"findings": 3}, {"findings": [None, {"verdict": "new"}, {"verdict": "ok"}]}])
def test_any_audit_is_survived(tmp_path: Path, told: dict[str, object]) -> None:
    (tmp_path / "audit.json").write_text(json.dumps(told))
    found = audited(tmp_path, "")
    assert found is not None
    assert len(found["rows"]) <= 1


def test_a_broken_audit_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text("{")
    with pytest.raises(RunError, match=r"audit\.json"):
        audited(tmp_path, "")
