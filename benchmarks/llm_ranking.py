"""The embedded language model as a ranker on MovieLens-100K; prints one line of JSON for each way of scoring.

Whole catalogue, leave-one-out; every case ranks its true item among 19 random unseen ones (a
candidate protocol, not to be compared with full ranking).  Cases and candidates are drawn with a
seed; parameters were chosen on validation cases drawn alike (``--part valid``).

    python benchmarks/llm_ranking.py --cases 300
    python benchmarks/llm_ranking.py --cases 100 --scoring choice --scoring generate
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from llm4rec.core import Cases, Lists, Split
from llm4rec.data import DataConfig, SplitConfig, load, make_split
from llm4rec.experiment.resources import open_model
from llm4rec.llm import ChatModel, LLMConfig, Metered
from llm4rec.metrics import bootstrap_interval, evaluate
from llm4rec.models.popular import Popular
from llm4rec.prompted import LLMRanker, LLMRankerConfig

NEGATIVES, METRIC = 19, "ndcg@10"
#: Mean of 1 / log2(rank + 1) up to rank 10, if the rank is drawn among 20.
CHANCE = float((1 / np.log2(np.arange(2, 12))).sum() / (NEGATIVES + 1))


def draw(split: Split, part: str, n: int, seed: int) -> tuple[Cases, Lists]:
    """Return ``n`` random cases and for each the true item among random unseen ones, in random order."""
    rng = np.random.default_rng(seed)
    cases: Cases = getattr(split, part)
    cases = cases.take(rng.permutation(len(cases))[:n])
    everything = np.arange(split.train.n_items)
    pools = []
    for truth, seen in zip(cases.truth, cases.seen, strict=True):
        others = rng.permutation(np.setdiff1d(everything, np.append(seen, truth)))[:NEGATIVES]
        pools.append(rng.permutation(np.append(others, truth[0])))
    items = np.stack(pools).astype(np.int32)
    return cases, Lists(items, np.tile(-np.arange(items.shape[1], dtype=np.float32), (len(items), 1)))


def figures(lists: Lists, cases: Cases) -> dict[str, Any]:
    """Return the mean gain with its interval, and failures by kind."""
    values = evaluate(lists, cases.truth, [METRIC])[METRIC]
    interval = bootstrap_interval(values, rng=np.random.default_rng(0))
    failures = Counter(kind for note in lists.notes or () for kind in note.failures)
    return {
        METRIC: round(interval.mean, 4), "low": round(interval.low, 4), "high": round(interval.high, 4),
        "cases": len(lists), "chance": round(CHANCE, 4), "failures": dict(failures),
    }  # fmt: skip


def measure(
    split: Split, model: ChatModel, configs: Sequence[LLMRankerConfig], *, part: str = "test", n: int = 300, seed: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield the figures of training popularity and of each config."""
    cases, candidates = draw(split, part, n, seed)
    rng = np.random.default_rng(seed)
    popular = Popular().fit(split.train, valid=None, rng=rng)
    yield {"system": "popular", "part": part, **figures(popular.rank(cases.queries, candidates), cases)}
    for config in configs:
        metered = Metered(model)
        ranker = LLMRanker(config, metered).fit(split.train, valid=split.valid, rng=rng)
        start = time.perf_counter()
        ranked = ranker.rank(cases.queries, candidates)
        seconds = round(time.perf_counter() - start, 1)
        tally = metered.tally
        told = {"seconds": seconds, "calls": tally.calls, "tokens_in": tally.tokens_in, "tokens_out": tally.tokens_out}
        given = config.model_dump(exclude_defaults=True)
        yield {"system": f"llm, {config.scoring}", "part": part, **figures(ranked, cases), **told, "config": given}


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=("test", "valid"), default="test")
    parser.add_argument("--scoring", action="append", choices=("likelihood", "choice", "generate"))
    parser.add_argument("--set", default="{}", help="JSON object of further ranker parameters")
    given = parser.parse_args(arguments)
    split = make_split(load(DataConfig(set="ml-100k")), SplitConfig(kind="leave-one-out"))
    configs = [LLMRankerConfig(scoring=scoring, **json.loads(given.set)) for scoring in given.scoring or ("likelihood",)]
    for line in measure(split, open_model(LLMConfig()), configs, part=given.part, n=given.cases, seed=given.seed):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
