"""Runs on logs and with parameters at the edge of what there is: the right figures, or one line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from llm4rec.core import RunError, SpecError
from llm4rec.experiment.compare import compare
from llm4rec.experiment.run import run
from llm4rec.experiment.spec import parse_spec

Row = tuple[str, str, int, int]


def log(users: int = 12, items: int = 9, each: int = 6) -> Iterable[Row]:
    """Yield events of users who walk over the items from different starts: user, item, time, rating."""
    return (
        (f"u{u}", f"i{(2 * u + s) % items}", 1_000_000_000 + 86_400 * s, 1 + (u + s) % 5)
        for u in range(users)
        for s in range(each)
    )


def ran(folder: Path, rows: Iterable[Row], rest: str, experiment: str = "") -> Path:
    """Write a log, run a specification on it, and return the run's directory."""
    lines = ["user,item,time,rating", *(",".join(map(str, row)) for row in rows)]
    (folder / "log.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = f'[experiment]\nname = "t"\nks = [1, 10]\n{experiment}\n[data]\npath = "log.csv"\n{rest}'
    run(parse_spec(text, folder=folder), folder / "run", tell=lambda line: None)
    return folder / "run"


@pytest.mark.parametrize(
    ("system", "says"),
    [
        (
            'component = "sasrec"\nlearning_rate = 1e30\nepochs = 1',
            r"systems\.x: SASRec gives scores that are no finite numbers",
        ),
        ('component = "lightgcn"\nlearning_rate = 1e30\nepochs = 1', r"systems\.x.* no finite numbers"),
        ('component = "markov"\nsmoothing = 1e300', r"systems\.x: Markov gives scores that are no finite numbers"),
    ],
)
def test_a_system_whose_scores_are_no_numbers_is_no_row_in_the_table(tmp_path: Path, system: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        ran(tmp_path, log(), f"[systems.x]\n{system}\n")
    assert not (tmp_path / "run" / "summary.json").exists()


def test_predictions_that_are_no_numbers_are_no_row_either(tmp_path: Path) -> None:
    rest = '[protocol]\ntask = "rating"\n[systems.x]\ncomponent = "fm"\nlearning_rate = 1e30\nepochs = 1\n'
    with pytest.raises(SpecError, match=r"systems\.x.* no finite numbers"):
        ran(tmp_path, log(), rest)


def summary(run: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return found


POPULAR = '[systems.popular]\ncomponent = "popular"\n'


def test_a_truth_that_the_mask_hides_is_refused(tmp_path: Path) -> None:
    """No system could ever be right about it, so every figure would be too low by the same share."""
    habits = [(f"u{u}", f"i{s % 3}", s, 1) for u in range(6) for s in range(9)]
    keep = 'duplicates = "keep"\n[split]\nrepeats = "keep"\n'
    for mask in ("seen", "history"):
        with pytest.raises(
            SpecError, match=r"split\.repeats: with mask = '(seen|history)' no list may show the repeated items"
        ):
            ran(tmp_path, habits, f'{keep}[protocol]\nmask = "{mask}"\n{POPULAR}')
    run = ran(tmp_path, habits, f'{keep}[protocol]\nmask = "none"\n{POPULAR}')
    assert summary(run)["popular"]["metrics"]["recall@10"]["mean"] == 1.0


@pytest.mark.parametrize(
    ("protocol", "says"),
    [
        (
            "candidates = { size = 50 }",
            r"protocol\.candidates\.size: the sources propose at most 4 candidates for a case, not 50",
        ),
        (
            "candidates = { size = 3 }\n[split]\nkind = 'ratio'\ntest = 0.5",
            r"sets of 3 cannot hold a case's 3 true items and others",
        ),
    ],
)
def test_candidate_sets_are_of_the_size_that_their_name_says(tmp_path: Path, protocol: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        ran(tmp_path, log(), f"[protocol]\n{protocol}\n{POPULAR}")


def test_some_short_candidate_sets_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*log(), *(("u0", f"i{i}", 999_999_000 + i, 3) for i in range(9))]  # has had all but nothing left
    ran(tmp_path, rows, f"[protocol]\ncandidates = {{ size = 4 }}\n{POPULAR}")
    assert "of 12 sets hold fewer than 4 candidates" in caplog.text


def test_without_validation_cases_training_goes_to_the_end_and_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A mean over no cases is nan, which is never a new best: training would stop as if it no longer got better."""
    moments = [(f"u{u}", f"i{(u + s) % 9}", 1_000_000_000 + (s > 2), 1) for u in range(12) for s in range(5)]
    system = '[systems.x]\ncomponent = "lightgcn"\nepochs = 3\nevery = 1\npatience = 1\nwidth = 4\n'
    run = ran(tmp_path, moments, f'[split]\nkind = "global-time"\n{system}')
    assert "leaves no validation case" in caplog.text
    saved = json.loads((run / "models" / "x" / "1" / "config.json").read_text(encoding="utf-8"))
    assert len(saved["values"]["training_"]) == 3


def test_runs_on_other_candidates_of_the_same_name_are_not_compared(tmp_path: Path) -> None:
    """Another seed draws other items: the same protocol, but not the same questions, so no paired test."""
    runs = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        (tmp_path / name).mkdir()
        rest = f"[protocol]\ncandidates = {{ size = 4 }}\n{POPULAR}"
        runs.append(ran(tmp_path / name, log(items=15), rest, experiment=f"seeds = [{seed}]").rename(tmp_path / f"run-{name}"))
    assert len(compare(runs[:2])) == 2
    with pytest.raises(RunError, match="has another set of candidates than"):
        compare(runs)
