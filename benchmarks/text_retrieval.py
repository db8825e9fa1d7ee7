"""Text retrieval on MovieLens-100K; prints one line of JSON for each system.

All 943 users and 1,682 items, leave-one-out, full ranking, seen items masked.  The defaults (text,
centring, profile) were chosen on the validation cases.  The first line times the encoder on the
texts of the catalogue, nothing cached.  Run it on an idle machine:
``python benchmarks/text_retrieval.py``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from llm4rec.core import Cases, Split
from llm4rec.data import DataConfig, SplitConfig, load, make_split
from llm4rec.features import DEFAULT_TEMPLATE, Encoder, EncoderConfig, ItemText, open_encoder
from llm4rec.metrics import bootstrap_interval, evaluate
from llm4rec.models.text import TextRetriever, TextRetrieverConfig

METRICS = ("recall@10", "ndcg@10", "recall@20", "recall@50", "recall@100")
ENCODERS = {
    "minilm": EncoderConfig(model="all-MiniLM-L6-v2"),
    "words": EncoderConfig(backend="hash", dimension=4096),
}
PLAIN: dict[str, Any] = {"profile": "mean", "last": 10}
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "last 10, not centred": ("minilm", PLAIN | {"center": False}),
    "last 10, not centred, title genres year": ("minilm", PLAIN | {"center": False, "template": "{title} {genres} {year}"}),
    "last 10": ("minilm", PLAIN),
    "whole history": ("minilm", {"profile": "mean", "last": 0}),
    "defaults": ("minilm", {}),
    "defaults, hnsw": ("minilm", {"index": {"kind": "hnsw"}}),
    "defaults, ivf": ("minilm", {"index": {"kind": "ivf"}}),
    "last 10, hashed words": ("words", PLAIN),
    "defaults, hashed words": ("words", {}),
}


def time_encoder(split: Split) -> dict[str, Any]:
    """Return the seconds that the catalogue's texts take, the model being loaded."""
    texts = ItemText(DEFAULT_TEMPLATE).render(split.train.item_table)
    start = time.perf_counter()
    encoder = open_encoder(ENCODERS["minilm"], cache=None)
    encoder.encode(["loads the model"])
    loaded = time.perf_counter()
    encoder.encode(texts)
    seconds = {"load_seconds": round(loaded - start, 2), "encode_seconds": round(time.perf_counter() - loaded, 2)}
    return {"encoder": encoder.name, "texts": len(texts), "cores": len(os.sched_getaffinity(0)), **seconds}


def measure(split: Split) -> Iterator[dict[str, Any]]:
    """Yield each system's seconds and its figures on the test and the validation cases."""
    opened: dict[str, Encoder] = {name: open_encoder(config) for name, config in ENCODERS.items()}
    for name, (encoder, config) in SYSTEMS.items():
        model = TextRetriever(TextRetrieverConfig.model_validate(config), encoder=opened[encoder])
        start = time.perf_counter()
        model.fit(split.train, valid=split.valid, rng=np.random.default_rng(0))
        fitted = time.perf_counter()
        test = figures(model, split.test)
        seconds = {"fit_seconds": round(fitted - start, 2), "serve_seconds": round(time.perf_counter() - fitted, 2)}
        yield {"system": name, **seconds, "test": test, "valid": figures(model, split.valid), "cases": len(split.test)}


def figures(model: TextRetriever, cases: Cases) -> dict[str, list[float]]:
    """Return (mean, low, high) of each metric."""
    lists = model.retrieve(cases.queries, 100, exclude=cases.exclude("seen"))
    rows = {}
    for name, values in evaluate(lists, cases.truth, METRICS).items():
        interval = bootstrap_interval(values, rng=np.random.default_rng(0))
        rows[name] = [round(v, 4) for v in (interval.mean, interval.low, interval.high)]
    return rows


if __name__ == "__main__":
    whole = make_split(load(DataConfig(set="ml-100k")), SplitConfig(kind="leave-one-out"))
    sys.stdout.write(json.dumps(time_encoder(whole)) + "\n")
    for line in measure(whole):
        sys.stdout.write(json.dumps(line) + "\n")
