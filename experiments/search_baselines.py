"""How the defaults of the linear, sequential, neighbourhood and content models were chosen: on validation cases alone.

MovieLens-100K, 5-core, leave-one-out, seen masked.  Each component named gets its defaults of the time
and random draws from the ranges that it declares (``space``), and one line of JSON for each; no test
case is looked at.  ``python experiments/search_baselines.py LOG.jsonl TRIALS NAME ...``
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llm4rec.core import Choice, Space, Whole
from llm4rec.data import DataConfig, SplitConfig, load, make_split
from llm4rec.experiment.catalog import CATALOG
from llm4rec.features import Encoder, EncoderConfig, open_encoder
from llm4rec.metrics import evaluate

SEED, DRAWS = 101, 7


class MiniLM:
    """What the components share: the default sentence encoder."""

    def encoder(self, name: str) -> Encoder:
        return open_encoder(EncoderConfig(model="all-MiniLM-L6-v2"))

    def llm(self, name: str) -> Any:
        raise NotImplementedError


def draw(spaces: Mapping[str, Space], rng: np.random.Generator) -> dict[str, Any]:
    """Return one value for each parameter."""
    drawn: dict[str, Any] = {}
    for name, space in spaces.items():
        if isinstance(space, Choice):
            drawn[name] = space.values[int(rng.integers(len(space.values)))]
            continue
        share = rng.random()
        value = space.low * (space.high / space.low) ** share if space.log else space.low + (space.high - space.low) * share
        drawn[name] = round(value) if isinstance(space, Whole) else float(f"{value:.3g}")
    return drawn


def main(log: Path, trials: int, names: list[str]) -> None:
    """Append the trials of each component to the log."""
    split = make_split(load(DataConfig(set="ml-100k", user_core=5, item_core=5)), SplitConfig(kind="leave-one-out"))
    cases, exclude = split.valid, split.valid.exclude("seen")
    for name in names:
        component, rng = CATALOG[name].component, np.random.default_rng(DRAWS)
        for number in range(trials):
            params = draw(component.space, rng) if number else {}
            start = time.perf_counter()
            model: Any = component.create(component.Config.model_validate(params), MiniLM())
            model.fit(split.train, valid=None, rng=np.random.default_rng(SEED))
            lists = model.retrieve(cases.queries, 10, exclude=exclude)
            valid = round(float(evaluate(lists, cases.truth, ("ndcg@10",))["ndcg@10"].mean()), 4)
            line = {"name": name, "trial": number, "valid": valid, "seconds": round(time.perf_counter() - start, 1)}
            with log.open("a") as out:
                out.write(json.dumps(line | {"params": params}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
