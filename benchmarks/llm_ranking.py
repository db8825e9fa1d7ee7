"""The embedded language model as a ranker on MovieLens-100K; prints one line of JSON for each figure.

``negatives``: whole catalogue, leave-one-out; every case ranks its true item among 19 random unseen
ones (a candidate protocol, not to be compared with full ranking).  Cases and candidates are drawn
with a seed; parameters were chosen on validation cases drawn alike (``--part valid``).

``cascades``: 5-core, leave-one-out, full ranking; the model ranks the first 20 of a retriever's
list.  Weight and prior are chosen on ``--tune`` validation cases; beside it stand the retriever
alone and a plain listing prompt (LLMRank: sequential history, one listing, no calibration, no
fusion).  With ``--diagnose`` the model's own order is also diagnosed.

    python benchmarks/llm_ranking.py --table negatives --cases 300
    python benchmarks/llm_ranking.py --table negatives --cases 100 --scoring choice --scoring generate
    python benchmarks/llm_ranking.py --table cascades --retriever text --diagnose

Every answer is kept in ``--store``: a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from llm4rec.core import Cases, Lists, Split
from llm4rec.data import DataConfig, SplitConfig, load, make_split
from llm4rec.experiment.resources import RunResources
from llm4rec.features.encoders import EncoderConfig
from llm4rec.llm import ChatModel, LLMConfig, Metered
from llm4rec.metrics import bootstrap_interval, evaluate, paired_test
from llm4rec.models.als import ALS
from llm4rec.models.bpr import BPR
from llm4rec.models.ease import EASE
from llm4rec.models.item_knn import ItemKNN
from llm4rec.models.popular import Popular
from llm4rec.models.text import TextRetriever, TextRetrieverConfig
from llm4rec.pipeline import Pipeline, PipelineConfig
from llm4rec.prompted import LLMRanker, LLMRankerConfig
from llm4rec.prompted.rank.diagnose import (
    agreement,
    answer_failures,
    history_sensitivity,
    json_values,
    popularity_bias,
    position_bias,
)

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


#: Name -> what finds the candidates, unfitted.
RETRIEVERS: Mapping[str, Callable[[RunResources], Any]] = {
    "text": lambda resources: TextRetriever.create(TextRetrieverConfig(), resources),
    "fused": lambda resources: Pipeline(
        {"ease": EASE(), "knn": ItemKNN(), "als": ALS(), "bpr": BPR()}, config=PipelineConfig(candidates=200)
    ),
}
DEPTH = 20
#: System -> parameters of its ranker, and of the pipeline around it.
SYSTEMS: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "likelihood, calibrated and fused": ({"prior_weight": "auto"}, {"weight": "auto"}),
    "likelihood alone": ({}, {}),
    "plain listing, label": ({"scoring": "choice", "permutations": 1}, {}),
    "plain listing, written": ({"scoring": "generate", "permutations": 1}, {}),
}
#: Without the one that writes every order out, at some ten seconds a case on two cores.
DEFAULT = tuple(name for name in SYSTEMS if name != "plain listing, written")


def cascades(
    split: Split, resources: RunResources, retrievers: Sequence[str], systems: Sequence[str], *, part: str, n: int, tune: int,
    seed: int, diagnose: bool,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Yield the figures of each retriever alone and of each system over it, with paired differences."""
    drawn = np.random.default_rng(seed).permutation(len(split.test))
    valid, cases = split.valid.take(np.sort(drawn[:tune])), getattr(split, part).take(np.sort(drawn[:n]))
    exclude = cases.exclude("seen")
    for name in retrievers:
        retriever = RETRIEVERS[name](resources).fit(split.train, valid=split.valid, rng=np.random.default_rng(seed))
        alone = retriever.retrieve(cases.queries, 100, exclude=exclude)
        gains = {"alone": evaluate(alone, cases.truth, [METRIC])[METRIC]}
        yield {"retriever": name, "system": "alone", "part": part, **_cascade_figures(alone, cases)}
        for system in systems:
            ranking, joining = SYSTEMS[system]
            model = resources.llm("embedded")
            before = model.tally
            ranker = LLMRanker(LLMRankerConfig(**ranking), model)
            config = PipelineConfig(candidates=100, depth=DEPTH, tuning_cases=tune, **joining)
            pipeline = Pipeline({name: retriever}, [ranker], config=config)
            pipeline.fit(split.train, valid=valid, rng=np.random.default_rng(seed))
            lists = pipeline.retrieve(cases.queries, 100, exclude=exclude)
            gains[system] = evaluate(lists, cases.truth, [METRIC])[METRIC]
            tally = model.tally - before
            moved = gains[system] - gains["alone"]
            chosen = {"up": int((moved > 0).sum()), "down": int((moved < 0).sum())}
            chosen |= {"weight": pipeline.weights_[0], "prior_weight": ranker.prior_weight_}
            paired = {
                f"less {other}": {
                    key: round(value, 4)
                    for key, value in asdict(paired_test(gains[system], gain, rng=np.random.default_rng(0))).items()
                }
                for other, gain in gains.items()
                if other != system
            }
            told = {"calls": tally.calls, "cached": tally.cached, "tokens": tally.tokens_in + tally.cached_in}
            yield {
                "retriever": name, "system": system, "part": part, **_cascade_figures(lists, cases), **chosen, **paired, **told,
                **({"diagnosis": diagnosis(split, ranker, cases, alone.head(DEPTH), seed)} if diagnose else {}),
            }  # fmt: skip


def _cascade_figures(lists: Lists, cases: Cases) -> dict[str, Any]:
    interval = bootstrap_interval(evaluate(lists, cases.truth, [METRIC])[METRIC], rng=np.random.default_rng(0))
    ceiling = evaluate(lists, cases.truth, [f"recall@{DEPTH}"])[f"recall@{DEPTH}"]
    failures = Counter(kind for note in lists.notes or () for kind in note.failures)
    return {
        METRIC: round(interval.mean, 4), "low": round(interval.low, 4), "high": round(interval.high, 4),
        "cases": len(lists), f"recall@{DEPTH}": round(float(ceiling.mean()), 4), "failures": dict(failures),
    }  # fmt: skip


def diagnosis(split: Split, ranker: LLMRanker, cases: Cases, candidates: Lists, seed: int) -> dict[str, Any]:
    """Return what is known of a ranker's own order: biases, agreement, use of the history."""
    rng = np.random.default_rng(seed)
    ranked = ranker.rank(cases.queries, candidates)
    notes = ranked.notes or ()
    last = ranker.config.history
    found = {
        "popularity": popularity_bias(ranked, split.train.item_counts, cases.truth, rng=rng).to_json(),
        "history": history_sensitivity(ranker, cases.queries, candidates, cases.truth, rng=rng, last=last).to_json(),
        "answers": answer_failures(notes),
    }
    if ranker.config.scoring in ("choice", "generate", "pairs"):
        found["position"] = position_bias(notes, cases.truth, rng=rng).to_json()
        found["agreement"] = asdict(agreement(notes, rng=rng))
    return dict(json_values(found))


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="append", choices=("negatives", "cascades"), help="default: both")
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--tune", type=int, default=300, help="validation cases on which weights are chosen (cascades)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=("test", "valid"), default="test")
    parser.add_argument("--scoring", action="append", choices=("likelihood", "choice", "generate", "yes-no", "pairs"))
    parser.add_argument("--set", default="{}", help="JSON object of further ranker parameters (negatives)")
    parser.add_argument("--retriever", action="append", choices=tuple(RETRIEVERS))
    parser.add_argument("--system", action="append", choices=tuple(SYSTEMS))
    parser.add_argument("--diagnose", action="store_true")
    parser.add_argument("--store", type=Path, default=Path("runs/llm-ranking.sqlite"))
    given = parser.parse_args(arguments)
    tables = given.table or ("negatives", "cascades")
    resources = RunResources({"embedded": LLMConfig()}, {"minilm": EncoderConfig(model="all-MiniLM-L6-v2")}, given.store)
    lines: list[Iterator[dict[str, Any]]] = []
    if "negatives" in tables:
        split = make_split(load(DataConfig(set="ml-100k")), SplitConfig(kind="leave-one-out"))
        configs = [LLMRankerConfig(scoring=scoring, **json.loads(given.set)) for scoring in given.scoring or ("likelihood",)]
        lines.append(measure(split, resources.llm("embedded"), configs, part=given.part, n=given.cases, seed=given.seed))
    if "cascades" in tables:
        split = make_split(load(DataConfig(set="ml-100k", user_core=5, item_core=5)), SplitConfig(kind="leave-one-out"))
        retrievers, systems = given.retriever or tuple(RETRIEVERS), given.system or DEFAULT
        asked = {"part": given.part, "n": given.cases, "tune": given.tune, "seed": given.seed, "diagnose": given.diagnose}
        lines.append(cascades(split, resources, retrievers, systems, **asked))
    for table in lines:
        for line in table:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
    resources.close()


if __name__ == "__main__":
    main(sys.argv[1:])
