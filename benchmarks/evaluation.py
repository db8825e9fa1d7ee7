"""Seconds to evaluate one scored system of MovieLens-100K's size; prints one line of JSON.

From scores float32[943, 1682] over lists of 100, seen items masked, to every metric at 5, 10, 20,
50 and 100.  Run it on an idle machine: ``python benchmarks/evaluation.py``.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable

import numpy as np

from llm4rec.core import Lists, Ragged
from llm4rec.metrics import ACCURACY, BEYOND, ItemContext, evaluate, evaluate_beyond

N_CASES, N_ITEMS, SEEN, CUTOFFS = 943, 1682, 105, (5, 10, 20, 50, 100)


def make_evaluation() -> dict[str, Callable[[], object]]:
    """Return the steps of one evaluation, to be called in order."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((N_CASES, N_ITEMS), dtype=np.float32)
    seen = Ragged.of([rng.choice(N_ITEMS, size=SEEN, replace=False) for _ in range(N_CASES)])
    truth = Ragged.of(rng.integers(0, N_ITEMS, size=(N_CASES, 1)))
    counts = np.bincount(seen.values, minlength=N_ITEMS)
    vectors = rng.standard_normal((N_ITEMS, 384), dtype=np.float32)
    made: dict[str, Lists] = {}

    def lists() -> object:
        made["lists"] = Lists.from_scores(scores, max(CUTOFFS), exclude=seen)
        return made["lists"]

    def accuracy() -> object:
        return evaluate(made["lists"], truth, [f"{m}@{k}" for m in ACCURACY for k in CUTOFFS])

    def beyond() -> object:
        names = [f"{m}@{k}" for m in BEYOND for k in CUTOFFS]
        return evaluate_beyond(made["lists"], names, ItemContext(counts, vectors), history=seen)

    return {"lists": lists, "accuracy": accuracy, "beyond": beyond}


def measure(repeats: int = 5) -> dict[str, float]:
    """Return the seconds of each step and of all, the median of several repeats."""
    steps = make_evaluation()
    for step in steps.values():
        step()  # imports and caches
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(taken)) for name, taken in seconds.items()}
    return medians | {"all": sum(medians.values())}


if __name__ == "__main__":
    rounded = {name: round(taken, 4) for name, taken in measure().items()}
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    sys.stdout.write(json.dumps({"benchmark": "evaluation", "seconds": rounded, "machine": machine}) + "\n")
