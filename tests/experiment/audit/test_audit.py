"""The whole audit: from a specification or a run to the table, the file and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from llm4rec.app.cli import app
from llm4rec.core import SpecError
from llm4rec.experiment.audit.audit import FILE, audit
from llm4rec.experiment.audit.bench import Bench
from llm4rec.experiment.audit.checks import CHECKS
from llm4rec.experiment.audit.subject import AuditConfig
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.spec import read_spec
from tests.experiment.audit.made import QUICK, split


def audited(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["audit", *map(str, arguments)], catch_exceptions=False)


def test_an_audit_of_a_specification_is_written(log_folder: Path) -> None:
    found, path = audit(log_folder / "spec.toml", log_folder / "out", config=QUICK)
    assert path == log_folder / "out" / FILE
    told = json.loads(path.read_text())
    assert told == found.to_json()
    assert {f["check"] for f in told["findings"]} == set(CHECKS)
    assert told["verdicts"]["leak"] == 0
    RunDirectory(log_folder / "out").open()  # the experiment may then run in the same place


def test_the_command_prints_a_plain_table_and_returns_zero(log_folder: Path) -> None:
    done = audited(log_folder / "spec.toml", "--quick", "--out", log_folder / "out", "--only", "own-future,order")
    assert done.exit_code == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "own-future" in done.stdout
    assert "others-future" not in done.stdout
    assert "0 leaks" in done.stdout


def test_the_command_returns_one_for_a_leak(log_folder: Path) -> None:
    # Items count up through the whole log, and the catalogue shows their numbers as titles.
    users = [u for u in range(60) for _ in range(10)]
    items = [f"{n:04d}" for n in range(600)]
    told = pl.DataFrame({"user_id": users, "item_id": items, "timestamp": [1_600_000_000 + 60 * n for n in range(600)]})
    told.write_csv(log_folder / "events.csv")
    catalogue = pl.DataFrame({"item_id": items, "title": items, "year": [2000] * 600, "genres": ["crime"] * 600})
    catalogue.write_csv(log_folder / "items.csv")
    done = audited(log_folder / "spec.toml", "--quick", "--out", log_folder / "out", "--only", "order", "--quiet")
    assert done.exit_code == 1, (done.stdout, done.stderr)
    assert done.stderr == ""
    assert "leak" in done.stdout
    assert json.loads((log_folder / "out" / FILE).read_text())["verdicts"]["leak"] > 0


def test_an_unknown_check_is_one_line(log_folder: Path) -> None:
    with pytest.raises(SpecError, match="did you mean 'order'"):
        audit(log_folder / "spec.toml", config=AuditConfig(), only=["ordr"])


@pytest.mark.slow
def test_a_whole_audit_of_real_data_has_no_leak(tmp_path: Path, asset: Callable[[str], Path]) -> None:
    asset("ml-100k")
    systems = "popular", "ease", "item-knn", "als", "markov"
    head = '[experiment]\nname = "real"\n[data]\nset = "ml-100k"\nuser_core = 5\nitem_core = 5\n[systems]\n'
    (tmp_path / "real.toml").write_text(head + "\n".join(f'{s} = {{ component = "{s}" }}' for s in systems))
    found, _ = audit(tmp_path / "real.toml", tmp_path / "out")
    assert found.count("leak") == 0
    # What is left is known of this set: tied times, twins, the order of the forms; and an order of ties that matters.
    warned = {f.check for f in found.findings if f.verdict == "warning"}
    assert warned <= {"others-future", "ties", "twins", "order", "tie-orders"}
    floors = {f.of: f for f in found.findings if f.check == "floors"}
    assert floors["popular"].verdict == "not applicable"
    assert {floors[s].verdict for s in systems[1:]} == {"ok"}
    for finding in found.findings:
        if finding.check == "shuffled":
            assert finding.details["chance"] == pytest.approx(0.0034, abs=0.0003)  # ten places, 1,349 items


def test_a_log_of_one_user_is_audited(log_folder: Path) -> None:
    """One test case has no standard error; nothing that is no number may reach the file."""
    rows = [("u", f"i{n}", 1_600_000_000 + 60 * (n // 2)) for n in range(8)]  # two events at each moment
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    log.write_csv(log_folder / "events.csv")
    text = (log_folder / "spec.toml").read_text().partition("[encoder.words]")[0]
    (log_folder / "spec.toml").write_text(
        text + '[systems]\nease = { component = "ease" }\npopular = { component = "popular" }\n'
    )
    found, path = audit(log_folder / "spec.toml", log_folder / "out", config=AuditConfig(permutations=99, level=0.01))
    assert json.loads(path.read_text()) == found.to_json()
    assert {f.check: f.verdict for f in found.findings}["tie-orders"] == "not applicable"


def test_what_the_audit_does_not_fit_is_named(log_folder: Path) -> None:
    (found,) = audit(log_folder / "spec.toml", log_folder / "out", config=QUICK, only=["systems"])[0].findings
    assert (found.value, found.verdict) == (1, "warning")
    assert found.line.startswith("told asks a language model: nothing that they recommend is looked at")
    spec = read_spec(log_folder / "spec.toml")
    systems = {n: spec.systems[n] for n in ("text", "ease", "both")}
    systems["text"] = systems["text"].model_copy(update={"sampled": True})
    with Bench.opened(spec.model_copy(update={"systems": systems}), split()) as bench:
        assert bench.left_out == {"text": "is declared sampled", "both": "retrieves with text"}
        assert bench.names == ["ease"]


def test_candidates_of_a_system_that_is_not_fitted_are_told_of(log_folder: Path) -> None:
    text = (log_folder / "spec.toml").read_text()
    rules = '[protocol.candidates]\nsize = 5\nsources = ["told"]\n[encoder.words]'
    (log_folder / "spec.toml").write_text(text.replace("[encoder.words]", rules, 1))
    findings = audit(log_folder / "spec.toml", log_folder / "out", only=["lists", "floors", "own-future"])[0].findings
    assert [f.verdict for f in findings][-2:] == ["not applicable"] * 2
    assert {f.line.partition(";")[0] for f in findings[-2:]} == {"the candidates come from a system that asks a language model"}
