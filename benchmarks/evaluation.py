"""Seconds to evaluate lists, small and large; prints lines of JSON.

``evaluation``: one scored system of MovieLens-100K's size, from scores float32[943, 1682] over lists of 100,
seen items masked, to every metric at 5, 10, 20, 50 and 100.

``metrics``: ten metrics (those that RecBole has too) at the same five cut-offs of 100,000 lists of 100 items out of
60,000, three lists in ten with their one true item.  Beside it the reference, on the same arrays: copying them and
one sort of the places, flat (``sort``) and within lists (``row_sort``).  One thread; processor seconds, the least of
several repeats, which other work on the machine disturbs little.

Run it on an idle machine: ``python benchmarks/evaluation.py``.
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


def made_lists(n: int = 100_000, k: int = 100, n_items: int = 60_000) -> tuple[Lists, Ragged, ItemContext]:
    """Return lists without repeats, the one true item of each case, and the items' counts."""
    rng = np.random.default_rng(0)
    first, step = rng.integers(0, n_items, (n, 1)), rng.integers(1, n_items // k, (n, 1))
    items = ((first + step * np.arange(k)) % n_items).astype(np.int32)
    scores = np.tile(-np.arange(k, dtype=np.float32), (n, 1))
    shown = items[np.arange(n), rng.integers(0, k, n)]
    true = np.where(rng.random(n) < 0.3, shown, rng.integers(0, n_items, n))
    return Lists(items, scores), Ragged.from_lengths(np.ones(n, int), true), ItemContext(rng.integers(0, 1_000, n_items))


def measure_large(repeats: int = 5, n: int = 100_000) -> dict[str, float]:
    """Return processor seconds of the metrics and of the reference, and how many times the reference the metrics take."""
    lists, truth, context = made_lists(n)
    accurate = [f"{m}@{k}" for m in ("recall", "hit", "ndcg", "mrr", "map", "precision") for k in CUTOFFS]
    others = [f"{m}@{k}" for m in ("coverage", "gini", "entropy", "arp") for k in CUTOFFS]

    def least(work: Callable[[], object]) -> float:
        seconds = []
        for _ in range(repeats):
            start = time.process_time()
            work()
            seconds.append(time.process_time() - start)
        return min(seconds)

    accuracy = least(lambda: evaluate(lists, truth, accurate))
    beyond = least(lambda: evaluate_beyond(lists, others, context))
    read = least(lambda: (lists.items.copy(), truth.values.copy(), truth.offsets.copy()))
    sort, row_sort = (least(lambda axis=axis: np.sort(lists.items, axis=axis)) for axis in (None, 1))
    return {
        "accuracy": accuracy, "beyond": beyond, "all": accuracy + beyond, "read": read, "sort": sort, "row_sort": row_sort,
        "times_read_and_sort": (accuracy + beyond) / (read + sort),
    }  # fmt: skip


if __name__ == "__main__":
    rounded = {name: round(taken, 4) for name, taken in measure().items()}
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}"
    sys.stdout.write(json.dumps({"benchmark": "evaluation", "seconds": rounded, "machine": machine}) + "\n")
    large = {name: round(taken, 4) for name, taken in measure_large().items()}
    sys.stdout.write(json.dumps({"benchmark": "metrics", "cpu_seconds": large, "machine": machine}) + "\n")
