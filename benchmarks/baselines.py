"""Traditional recommenders on MovieLens-100K; prints one line of JSON for each model and seed.

Users and items with at least five events, leave-one-out, full ranking, seen items masked.  The
defaults were chosen on the validation cases; ``half_life 0`` is each paper's own model.
Run it on an idle machine: ``python benchmarks/baselines.py``.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from llm4rec.core import ScoringComponent, Split
from llm4rec.data import DataConfig, SplitConfig, load, make_split
from llm4rec.features import EncoderConfig, open_encoder
from llm4rec.metrics import evaluate
from llm4rec.models.als import ALS, ALSConfig
from llm4rec.models.bpr import BPR, BPRConfig
from llm4rec.models.ease import EASE, EASEConfig
from llm4rec.models.edlae import EDLAE
from llm4rec.models.ials import IALS
from llm4rec.models.item_knn import ItemKNN, ItemKNNConfig
from llm4rec.models.markov import Markov
from llm4rec.models.popular import Popular, PopularConfig
from llm4rec.models.slim import SLIM
from llm4rec.models.text_ease import TextEASE

METRICS = ("ndcg@10", "recall@10", "recall@100")
SYSTEMS: dict[str, ScoringComponent[Any]] = {
    "popular": Popular(),
    "popular, half-life 30 days": Popular(PopularConfig(half_life_days=30.0)),
    "item-knn": ItemKNN(),
    "item-knn, half_life 0": ItemKNN(ItemKNNConfig(half_life=0.0)),
    "ease": EASE(),
    "ease, half_life 0": EASE(EASEConfig(l2=100.0, half_life=0.0)),
    "als": ALS(),
    "als, half_life 0": ALS(ALSConfig(half_life=0.0)),
    "bpr": BPR(),
    "bpr, half_life 0": BPR(BPRConfig(half_life=0.0)),
    "edlae": EDLAE(),
    "slim": SLIM(),
    "ials": IALS(),
    "markov": Markov(),
    "item-knn, last item": ItemKNN(ItemKNNConfig(half_life=0.05)),
}


def measure(split: Split, seeds: Sequence[int] = (1, 2, 3)) -> Iterator[dict[str, Any]]:
    """Yield for each model and seed its seconds and its figures on the test cases."""
    cases, exclude = split.test, split.test.exclude("seen")
    encoder = open_encoder(EncoderConfig(model="all-MiniLM-L6-v2"))
    for name, model in (SYSTEMS | {"text-ease": TextEASE(encoder=encoder)}).items():
        for seed in seeds[:1] if model.deterministic else seeds:
            start = time.perf_counter()
            model.fit(split.train, valid=split.valid, rng=np.random.default_rng(seed))
            fitted = time.perf_counter()
            lists = model.retrieve(cases.queries, 100, exclude=exclude)
            served = time.perf_counter()
            figures = {m: round(float(v.mean()), 4) for m, v in evaluate(lists, cases.truth, METRICS).items()}
            seconds = {"fit_seconds": round(fitted - start, 2), "serve_seconds": round(served - fitted, 2)}
            yield {"model": name, "seed": seed, **seconds, **figures, "cases": len(cases)}


if __name__ == "__main__":
    data = load(DataConfig(set="ml-100k", user_core=5, item_core=5))
    for line in measure(make_split(data, SplitConfig(kind="leave-one-out"))):
        sys.stdout.write(json.dumps(line) + "\n")
