"""A small search: a specification with a table for tuning, its trials without what differs by machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llm4rec.experiment.spec import read_spec, tune_options
from llm4rec.experiment.tune import Tuned, tune

SEARCH = """
[tune]
trials = 5
seeds = [7, 8]
finalists = 2

[tune.space.sasrec]
learning_rate = { low = 1e-4, high = 1e-1, log = true }
heads = [1, 2, 4]
epochs = 1

[tune.space.both.fusion_weights]
1 = { low = 0.1, high = 10.0, log = true }
"""


def with_search(log_folder: Path) -> Path:
    """Return the path of the small log's specification, now with a table for tuning."""
    path = log_folder / "spec.toml"
    path.write_text(path.read_text() + SEARCH)
    return path


def lines(out: Path) -> list[dict[str, Any]]:
    """Return the trials without what differs from one machine to the next."""
    found = [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


def go(path: Path, out: Path, **options: Any) -> Tuned:
    """Tune three systems, or those named."""
    names = options.pop("systems", ("ease", "sasrec", "both"))
    return tune(tune_options(read_spec(path), options), out, systems=names)
