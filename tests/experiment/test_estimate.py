"""Budgets and dry runs: what would be asked is what is asked, and a limit stops a run that then continues."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm4rec.core import BudgetError
from llm4rec.experiment.estimate import estimate
from llm4rec.experiment.run import run
from llm4rec.experiment.spec import read_spec
from llm4rec.llm import Store


def silent(_: str) -> None:
    pass


def test_a_dry_run_counts_the_calls_that_the_run_makes(log_folder: Path) -> None:
    spec = read_spec(log_folder / "spec.toml")
    out = log_folder / "out"
    rows, stand_ins = estimate(spec, out, tell=silent)
    assert not out.exists()
    assert [(row.system, row.llm) for row in rows] == [("told", "told")]
    assert stand_ins == ["text"]
    run(spec, out)
    with Store(out / "llm.sqlite", readonly=True) as store:
        made = len(store)
    assert rows[0].estimate.calls == made > 0  # as many, though popularity proposed other items
    again, stand_ins = estimate(spec, out, tell=silent)
    assert stand_ins == []
    assert again[0].estimate.calls == 0
    assert again[0].estimate.cached > 0
    (out / "llm.sqlite").unlink()
    fitted, stand_ins = estimate(spec, out, tell=silent)
    assert (fitted[0].estimate.calls, stand_ins) == (made, [])
    assert not (out / "llm.sqlite").exists()


def test_a_budget_stops_a_run_that_then_continues(log_folder: Path) -> None:
    path, out = log_folder / "spec.toml", log_folder / "out"
    text = path.read_text()
    path.write_text(text.replace("[data]", "[budget]\nmax_tokens = 500\n[data]", 1))
    with pytest.raises(BudgetError, match="raise max_tokens, and the same command continues"):
        run(read_spec(path), out)
    with Store(out / "llm.sqlite", readonly=True) as store:
        paid = {row.key: row.created for row in store}
    assert paid
    path.write_text(text)
    run(read_spec(path), out)
    with Store(out / "llm.sqlite", readonly=True) as store:
        after = {row.key: row.created for row in store}
    assert len(after) > len(paid)
    assert {key: after[key] for key in paid} == paid, "an answer was paid twice"
    assert json.loads((out / "summary.json").read_text())["told"]["llm"]["calls"] > 0


def test_a_replay_is_not_stopped_by_a_budget(log_folder: Path) -> None:
    path, out = log_folder / "spec.toml", log_folder / "out"
    run(read_spec(path), out)
    (out / "summary.json").unlink()
    for part in (out / "parts" / "told").rglob("part.json"):
        part.unlink()
    path.write_text(path.read_text().replace("[data]", "[budget]\nmax_tokens = 1\n[data]", 1))
    run(read_spec(path), out, mode="replay")
    assert (out / "summary.json").exists()
