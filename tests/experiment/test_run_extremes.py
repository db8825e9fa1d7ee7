"""Runs on logs and with parameters at the edge of what there is: the right figures, or one line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from llm4rec.core import SpecError
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
