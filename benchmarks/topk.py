"""Masked top-k over a catalogue of a million items beside ``torch.topk``; prints lines of JSON.

64 queries, lists of 100, 105 seen items masked each.  Ours masks, breaks ties by inside id, leaves out nan and
-inf; torch does none of that.  Both may use two threads.  Seconds are those of the wall and of the
processor, the least of several repeats; ``rss_mb`` is what the peak of the process's memory grew by.  The line
``retrieve`` is a whole retrieval from 64 factors a million items by the adapter that all scoring components share.
``python benchmarks/topk.py``.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from llm4rec.core import Cases, Config, Dataset, Lists, Queries, Ragged, ScoringComponent

N, N_ITEMS, K, SEEN, FACTORS = 64, 1_000_000, 100, 105, 64


class Factors(ScoringComponent[Config]):
    """Scores by the inner product of made factors of users and items."""

    def fit(self, train: Dataset | None, *, valid: Cases | None, rng: np.random.Generator) -> Factors:
        """Draw the factors."""
        self.users_, self.items_ = (rng.standard_normal((n, FACTORS), dtype=np.float32) for n in (4 * N, N_ITEMS))
        return self

    def score(self, queries: Queries) -> np.ndarray:
        """Return float32[n, N_ITEMS]."""
        return self.users_[queries.users] @ self.items_.T


def measured(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Return the least seconds of the wall and of the processor, and the growth of peak memory in MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = [], []
    for _ in range(repeats):
        at, spent = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - at)
        cpu.append(time.process_time() - spent)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": round(min(wall), 4), "cpu_seconds": round(min(cpu), 4), "rss_mb": round(grown, 1)}


def scores(kind: str) -> np.ndarray:
    """Return float32[N, N_ITEMS]: all different, rounded so that thousands are tied, or nine in ten of them 0."""
    made = np.random.default_rng(0).standard_normal((N, N_ITEMS), dtype=np.float32)
    if kind == "tied":
        return np.round(made, 1)
    return np.maximum(made - 1.28, 0) if kind == "sparse" else made


def measure(kind: str, repeats: int = 5) -> dict[str, object]:
    """Return both sides' figures for one kind of scores, and how many times faster ours is by the wall."""
    made = scores(kind)
    seen = Ragged.from_lengths(np.full(N, SEEN), np.random.default_rng(1).integers(0, N_ITEMS, N * SEEN))
    tensor = torch.from_numpy(made)
    ours = measured(lambda: Lists.from_scores(made, K, exclude=seen), repeats)
    theirs = measured(lambda: torch.topk(tensor, K), repeats)
    return {"scores": kind, "ours": ours, "torch.topk": theirs, "times": round(theirs["seconds"] / ours["seconds"], 2)}


def measure_retrieve() -> dict[str, object]:
    """Return the figures of 256 retrievals; all of their scores at once would take 1 GB."""
    model = Factors().fit(None, valid=None, rng=np.random.default_rng(0))
    n = len(model.users_)
    queries = Queries.of(Ragged.empty(n), users=np.arange(n))
    seen = Ragged.from_lengths(np.full(n, SEEN), np.random.default_rng(1).integers(0, N_ITEMS, n * SEEN))
    return {"retrieve": n, **measured(lambda: model.retrieve(queries, K, exclude=seen), 1)}


if __name__ == "__main__":
    torch.set_num_threads(2)
    sys.stdout.write(json.dumps({"benchmark": "topk", **measure_retrieve()}) + "\n")
    for kind in ("distinct", "tied", "sparse"):
        sys.stdout.write(json.dumps({"benchmark": "topk", **measure(kind)}) + "\n")
