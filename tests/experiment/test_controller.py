"""A controller in a specification: run like any system, with its choices and what they cost in the record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm4rec.core import SpecError
from llm4rec.experiment.opened import OpenRun
from llm4rec.experiment.run import run
from llm4rec.experiment.spec import parse_spec, read_spec

SYSTEMS = """
[systems.chosen]
retrieve = ["popular", "ease", "told"]
choose = { component = "bandit", batch = 5, cases = 40, costs = { told = 0.05 } }

[systems.advised]
retrieve = ["popular", "ease"]
choose = { component = "llm-advisor", llm = "adviser", cases = 40, about = { ease = "what people like you took" } }

[llm.adviser]
backend = "scripted"
answers = ['{"system": "ease"}', '{"system": "popular"}', "no idea", "really none"]
"""


def test_a_run_with_controllers(log_folder: Path) -> None:
    path = log_folder / "spec.toml"
    path.write_text(path.read_text() + SYSTEMS)
    spec = read_spec(path)
    assert parse_spec(spec.dump(), folder=log_folder) == spec
    run(spec, log_folder / "run", tell=lambda _: None)
    summary = json.loads((log_folder / "run" / "summary.json").read_text())
    assert summary["chosen"]["label"]
    assert summary["advised"]["uses_llm"]
    assert summary["advised"]["llm"]["calls"] > 0
    assert summary["chosen"]["llm"]["calls"] + summary["chosen"]["llm"]["cached"] > 0  # what the chosen arms asked
    opened = OpenRun(log_folder / "run")
    for name in ("chosen", "advised"):
        facts = opened.system(name).facts()
        assert sum(arm["plays"] for arm in facts["arms"].values()) == 40
    opened.close()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('component = "ease"\nchoose = { component = "bandit" }', "has no 'choose'"),
        ('retrieve = ["popular", "ease"]\nchoose = { component = "ease" }', "ease cannot choose"),
        ('retrieve = ["popular", "ease"]\nchoose = { component = "llm-advisor", llm = "nobody" }', "refers to llm 'nobody'"),
        ('retrieve = ["popular", "ease"]\nchoose = { component = "bandit", alhpa = 1 }', "did you mean 'alpha'"),
    ],
)
def test_a_wrong_controller_is_one_line(log_folder: Path, table: str, says: str) -> None:
    path = log_folder / "spec.toml"
    path.write_text(f"{path.read_text()}\n[systems.chosen]\n{table}\n")
    with pytest.raises(SpecError, match=says):
        read_spec(path)
