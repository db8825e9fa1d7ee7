"""Memory and query expansion on MovieLens-100K; prints one line of JSON for each system.

All 943 users and 1,682 items, leave-one-out, full ranking, seen items masked, MiniLM.  First what
needs no language model: user memory as the query at several weights, and its control, on all
cases.  Then, on a seeded sample of cases, what the embedded language model says of the next item, in
each form.  Item memory has no embedded source but that model: experiments/memory.toml measures it.
Seconds are those of all cases.  Run it on an idle machine: ``python benchmarks/memory.py``.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from llm4rec.core import Cases, Split
from llm4rec.data import DataConfig, SplitConfig, load, make_split
from llm4rec.experiment.resources import RunResources
from llm4rec.features import EncoderConfig
from llm4rec.llm import LLMConfig
from llm4rec.metrics import bootstrap_interval, evaluate
from llm4rec.prompted.memory.expand import ExpandedText, ExpandedTextConfig
from llm4rec.prompted.memory.users import UserMemory, UserMemoryConfig

METRICS = ("recall@10", "ndcg@10", "recall@100")
SAMPLE = 60
USERS: dict[str, Mapping[str, Any] | None] = {
    "no memory": None,
    "user memory": {},
    "user memory, favourites alone": {"short_term": 0},
    "user memory, latest events alone": {"favourites": 0},
    "user memory, shuffled": {"control": "shuffled"},
}
WEIGHTS = (0.1, 0.3, 0.5, 1.0)
ASKED = ("none", "description", "search", "vector", "id")


def figures(retriever: ExpandedText, cases: Cases) -> dict[str, Any]:
    """Return mean and 95 % interval of each metric, seconds, and failures by kind."""
    start = time.perf_counter()
    lists = retriever.retrieve(cases.queries, 100, exclude=cases.exclude("seen"))
    seconds = time.perf_counter() - start
    values = evaluate(lists, cases.truth, METRICS)
    told = Counter(kind for note in lists.notes or () for kind in note.failures)
    out: dict[str, Any] = {}
    for name, per_case in values.items():
        interval = bootstrap_interval(per_case, rng=np.random.default_rng(0))
        out[name] = [round(float(x), 4) for x in (interval.mean, interval.low, interval.high)]
    return out | {"cases": len(cases), "seconds": round(seconds, 2), "failures": dict(told)}


def measure(split: Split, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield each system's figures on validation and test cases, then those of the sample."""
    resources = RunResources({"embedded": LLMConfig()}, {"minilm": EncoderConfig()}, folder / "calls.sqlite")
    rng = np.random.default_rng(0)

    def fitted(**config: Any) -> ExpandedText:
        retriever = ExpandedText.create(ExpandedTextConfig.model_validate(config), resources)
        retriever.fit(split.train, valid=None, rng=rng)
        return retriever

    for name, config in USERS.items():
        memory = None if config is None else UserMemory(UserMemoryConfig.model_validate(config))
        if memory is not None:
            memory.fit(split.train, valid=None, rng=rng)
        told = {}
        start = time.perf_counter()
        for part in ("valid", "test"):
            cases: Cases = getattr(split, part)
            told[part] = cases if memory is None else replace(cases, queries=memory.enrich(cases.queries))
        seconds = round(time.perf_counter() - start, 2)
        for weight in WEIGHTS if memory is not None else (0.0,):
            retriever = fitted(answer="profile" if memory is not None else "none", weight=weight)
            found = {part: figures(retriever, cases) for part, cases in told.items()}
            yield {"system": name, "weight": weight, "memory_seconds": seconds, **found}
    sample = split.test.take(np.sort(rng.permutation(len(split.test))[:SAMPLE]))
    for answer in ASKED:
        retriever = fitted(answer=answer, llm=None if answer == "none" else "embedded", weight=0.3)
        yield {"system": f"embedded model, {answer}", "weight": 0.3, "test": figures(retriever, sample)}
    resources.close()


def main() -> None:
    """Measure and print."""
    split = make_split(load(DataConfig(set="ml-100k")), SplitConfig(kind="leave-one-out"))
    with TemporaryDirectory() as folder:
        for line in measure(split, Path(folder)):
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
