"""How SASRec's defaults were chosen: on validation cases alone, with equal budgets for both kinds.

MovieLens-100K, 5-core, leave-one-out.  SASRec from random and from text vectors each get the
same number of random trials from the same space (for text also the start's scale and
whitening); the best three of each are run with two more seeds, and the best mean wins.  No
test case is looked at.  ``python experiments/search_sasrec.py LOG.jsonl`` takes about an hour
on two cores, and continues a log that is there.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llm4rec.data import DataConfig, SplitConfig, load, make_split
from llm4rec.features import EncoderConfig, open_encoder
from llm4rec.models.sasrec import SASRec, SASRecConfig

TRIALS, FINALISTS, FIRST_SEED, MORE_SEEDS = 10, 3, 101, (102, 103)
SPACE: dict[str, Sequence[Any]] = {
    "dropout": (0.2, 0.3, 0.4, 0.5),
    "learning_rate": (5e-4, 1e-3, 2e-3),
    "item_rate": (1.0, 0.3, 0.1),
    "batch_size": (64, 128),
    "smoothing": (0.0, 0.1),
    "weight_decay": (0.0, 0.01, 0.1),
    "blocks": (1, 2),
    "heads": (1, 2),
}
TEXT_SPACE: dict[str, Sequence[Any]] = {"scale": (0.03, 0.06, 0.12), "whiten": (True, False)}


def draw(kind: str) -> list[dict[str, Any]]:
    """Return a kind's trials: the defaults, then random draws from the space, without repetition."""
    rng = np.random.default_rng(7)
    trials: list[dict[str, Any]] = [{"item_init": {}} if kind == "text" else {}]
    while len(trials) < TRIALS:
        trial = {name: values[rng.integers(len(values))] for name, values in SPACE.items()}
        if kind == "text":
            trial["item_init"] = {name: values[rng.integers(len(values))] for name, values in TEXT_SPACE.items()}
        if trial not in trials:
            trials.append(trial)
    return trials


def run(job: tuple[str, int, dict[str, Any], int]) -> dict[str, Any]:
    """Train one trial with one seed; return its best validation NDCG@10."""
    kind, number, trial, seed = job
    torch.set_num_threads(1)
    split = make_split(load(DataConfig(set="ml-100k", user_core=5, item_core=5)), SplitConfig(kind="leave-one-out"))
    encoder = open_encoder(EncoderConfig(model="all-MiniLM-L6-v2")) if kind == "text" else None
    start = time.perf_counter()
    model = SASRec(SASRecConfig.model_validate(trial), encoder=encoder)
    model.fit(split.train, valid=split.valid, rng=np.random.default_rng(seed))
    seconds = time.perf_counter() - start
    best = max(record["valid"] for record in model.training_ if "valid" in record)
    line = {"kind": kind, "trial": number, "seed": seed, "valid": round(best, 4), "params": trial}
    return line | {"epochs": len(model.training_), "seconds": round(seconds, 1)}


def main(log: Path) -> None:
    """Run what the log does not hold yet, and append it."""
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    trials = {kind: draw(kind) for kind in ("plain", "text")}

    def go(jobs: list[tuple[str, int, dict[str, Any], int]]) -> None:
        known = {(d["kind"], d["trial"], d["seed"]) for d in done}
        with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool, log.open("a") as out:
            for line in pool.imap_unordered(run, [j for j in jobs if (j[0], j[1], j[3]) not in known]):
                out.write(json.dumps(line) + "\n")
                out.flush()
                done.append(line)

    go([(kind, i, trials[kind][i], FIRST_SEED) for i in range(TRIALS) for kind in trials])
    finals = {}
    for kind in trials:
        first = sorted((d for d in done if d["kind"] == kind and d["seed"] == FIRST_SEED), key=lambda d: -d["valid"])
        finals[kind] = [d["trial"] for d in first[:FINALISTS]]
    go([(kind, i, trials[kind][i], seed) for kind in trials for i in finals[kind] for seed in MORE_SEEDS])
    for kind, numbers in finals.items():
        means = {i: float(np.mean([d["valid"] for d in done if (d["kind"], d["trial"]) == (kind, i)])) for i in numbers}
        best = max(numbers, key=means.__getitem__)
        sys.stdout.write(f"{kind}: trial {best}, mean validation NDCG@10 {means[best]:.4f}: {json.dumps(trials[kind][best])}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
