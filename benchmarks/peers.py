"""Other libraries beside ours, each by its own code in its own environment (``make peers``); prints lines of JSON.

``sasrec``: RecBole's SASRec on MovieLens-100K (five-core, leave-one-out) with its defaults, stopped after the first
epoch that ends later than ten minutes; ours with its defaults; seconds an epoch, and the seconds until ours reaches
the validation NDCG@10 (this package's metric, seen items masked) of RecBole's best weights.
``rectools``: RecTools' SASRec, softmax over the catalogue, 64 factors, windows of 50, 60 epochs; the same of it.
``metrics``: RecBole's evaluator and ours on 100,000 lists of 100 items, ten metrics at five cut-offs.
``reading``: a million events in an atomic file, five-core, leave-one-out, by RecBole and by us.
``beauty``: seconds an epoch of RecTools' own recipe for Amazon-2014 Beauty, from ten steps, and hours of 200 epochs.

Processor seconds are of all threads of a process: on a machine with other work they are the figures to go by.
Run it idle (twenty minutes): ``python -m benchmarks.peers [sasrec rectools metrics reading beauty]``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl

from benchmarks import evaluation, reading
from llm4rec.core import LLM4RecError, Split
from llm4rec.data import DataConfig, SplitConfig, load, make_split
from llm4rec.metrics import evaluate
from llm4rec.models.sasrec import SASRec, SASRecConfig
from llm4rec.peers import Peer, PeerConfig, interpreter
from llm4rec.peers.evaluator import recbole_figures
from llm4rec.peers.foreign import foreign

TEN_MINUTES = 10.0
RECTOOLS = {"epochs": 60, "loss": "softmax", "n_factors": 64, "n_heads": 2, "session_max_len": 50}
#: The configuration of arXiv 2508.06450 for the sets with leave-one-out (github.com/blondered/transformer_benchmark).
BEAUTY: dict[str, Any] = {
    "n_factors": 256, "n_blocks": 1, "n_heads": 1, "session_max_len": 50, "dropout_rate": 0.2, "loss": "sampled_softmax",
    "n_negatives": 256, "batch_size": 128, "lr": 0.001, "epochs": 200, "patience": 50,
}  # fmt: skip
METRICS = (
    "Recall", "Hit", "NDCG", "MRR", "MAP", "Precision", "ItemCoverage", "GiniIndex", "ShannonEntropy", "AveragePopularity",
)  # fmt: skip


def movielens() -> Split:
    """Return the split of the SASRec benchmarks."""
    return make_split(load(DataConfig(set="ml-100k", user_core=5, item_core=5)), SplitConfig(kind="leave-one-out"))


def quality(model: Peer | SASRec, split: Split) -> float:
    """Return NDCG@10 of the validation cases, seen items masked."""
    lists = model.retrieve(split.valid.queries, 10, exclude=split.valid.seen)
    return float(evaluate(lists, split.valid.truth, ["ndcg@10"])["ndcg@10"].mean())


def beside_ours(split: Split, config: PeerConfig, seed: int = 1) -> dict[str, Any]:
    """Train a peer, then ours until it is as good on the validation cases; return the times of both."""
    peer = Peer(config).fit(split.train, valid=split.valid, rng=np.random.default_rng(seed))
    told, wanted = peer.training_, quality(peer, split)
    theirs = {
        "peer": config.title, "epochs": told["epochs"], "epoch_s": round(median(told["epoch_seconds"]), 2),
        "epoch_processor_s": round(median(told["epoch_processor_seconds"]), 2),
        "train_s": round(told["curve"][-1]["elapsed"] if told["curve"] else sum(told["epoch_seconds"]), 1),
        "valid_ndcg@10": round(wanted, 4),
    }  # fmt: skip
    spent = time.process_time()
    ours = SASRec(SASRecConfig(every=1)).fit(split.train, valid=split.valid, rng=np.random.default_rng(seed))
    spent = (time.process_time() - spent) / len(ours.training_)  # with the look at the validation cases
    start = time.perf_counter()
    quality(ours, split)
    look = time.perf_counter() - start
    epoch = median(record["seconds"] for record in ours.training_[1:])
    at = next((i for i, record in enumerate(ours.training_, 1) if record["valid"] >= wanted), None)
    reached = None if at is None else sum(record["seconds"] for record in ours.training_[:at]) + at * look
    return theirs | {
        "ours_epoch_s": round(epoch, 3), "ours_epoch_processor_s": round(spent, 3), "ours_epochs_to_it": at,
        "ours_s_to_it": None if reached is None else round(reached, 2),
        "ours_best_valid_ndcg@10": round(max(record["valid"] for record in ours.training_), 4),
        "epoch_ratio": round(theirs["epoch_s"] / epoch, 1),
        "epoch_processor_ratio": round(theirs["epoch_processor_s"] / spent, 1),
        "time_ratio": None if reached is None else round(theirs["train_s"] / reached, 1),
    }  # fmt: skip


def sasrec() -> dict[str, Any]:
    """RecBole's SASRec, ten minutes of it."""
    interpreter("recbole")
    return beside_ours(movielens(), PeerConfig(peer="recbole:SASRec", train_minutes=TEN_MINUTES))


def rectools() -> dict[str, Any]:
    """RecTools' SASRec, 60 epochs of it."""
    interpreter("rectools")
    return beside_ours(movielens(), PeerConfig.model_validate({"peer": "rectools:SASRec", "params": RECTOOLS}))


def metrics() -> dict[str, Any]:
    """RecBole's evaluator on the lists of ``benchmarks/evaluation.py``."""
    interpreter("recbole")
    lists, truth, context = evaluation.made_lists()
    _, theirs = recbole_figures(lists, truth, context.counts, METRICS, evaluation.CUTOFFS)
    ours = evaluation.measure_large()["all"]
    return {
        "peer": "RecBole",
        "processor_s": round(theirs, 2),
        "ours_processor_s": round(ours, 3),
        "ratio": round(theirs / ours, 1),
    }


def events() -> dict[str, Any]:
    """Return the times of both readers for a made world of a million events."""
    interpreter("recbole")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "made"
        folder.mkdir()
        table = pl.read_csv(reading.made("ml-1m"))
        names = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
        table = table.select(pl.col(old).alias(new) for old, new in zip(table.columns[:4], names, strict=True))
        table.write_csv(folder / "made.inter", separator="\t")
        with foreign("recbole", Path(name), threads=None, minutes=60) as ask:
            job = {"do": "read", "name": "made", "folder": name, "users": "[5,inf)", "items": "[5,inf)"}
            theirs: Any = ask(job)
        ours = reading.measure(folder / "made.inter")
    read, split = theirs["seconds"]
    return {
        "peer": "RecBole", "events": len(table), "kept": theirs["events"], "ours_kept": ours["events"],
        "read_s": round(read, 2), "ours_read_s": ours["read_seconds"], "ratio": round(read / ours["read_seconds"], 1),
        "split_s": round(split, 2), "ours_split_s": ours["split_seconds"],
        "to_split_ratio": round((read + split) / (ours["read_seconds"] + ours["split_seconds"]), 1),
        "processor_s": [round(x, 2) for x in theirs["processor_seconds"]], "ours_processor_s_with_start": ours["cpu_seconds"],
    }  # fmt: skip


def beauty() -> dict[str, Any]:
    """Ten steps of RecTools' recipe on Amazon-2014 Beauty; an epoch is as many more as it has users."""
    interpreter("rectools")
    split = make_split(load(DataConfig(set="amazon14-beauty")), SplitConfig(kind="leave-one-out"))
    some = 10 * BEAUTY["batch_size"]
    kept = np.random.default_rng(1).permutation(split.train.n_users)[:some]
    train = split.train.with_events(split.train.events.filter(pl.col("user").is_in(kept.tolist())))
    params = {key: value for key, value in BEAUTY.items() if key != "patience"} | {"epochs": 2}
    config = PeerConfig.model_validate({"peer": "rectools:SASRec", "params": params})
    told = Peer(config).fit(train, valid=None, rng=np.random.default_rng(1)).training_
    times = split.train.n_users / some
    epoch = told["epoch_seconds"][1] * times  # of the second: in the first, kernels are prepared
    return {
        "peer": config.title, "recipe": BEAUTY, "epoch_s": round(epoch),
        "epoch_processor_s": round(told["epoch_processor_seconds"][1] * times), "hours_of_200_epochs": round(epoch / 18, 1),
    }  # fmt: skip


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "sasrec": sasrec, "rectools": rectools, "metrics": metrics, "reading": events, "beauty": beauty,
}  # fmt: skip


def main(names: list[str]) -> Iterator[dict[str, Any]]:
    """Yield a line for each part; one whose library or data is not there says so."""
    for name in names or PARTS:
        try:
            yield {"benchmark": "peers", "part": name, **PARTS[name]()}
        except LLM4RecError as error:
            yield {"benchmark": "peers", "part": name, "left_out": str(error)}


if __name__ == "__main__":
    for line in main(sys.argv[1:]):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
