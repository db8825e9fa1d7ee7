"""The ranker in a pipeline: prior and weight are chosen on the retriever's own candidates, for every scoring and window."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from benchmarks.llm_ranking import cascades

from llm4rec.llm import Metered
from llm4rec.llm.scripted import ScriptedModel
from llm4rec.llm.values import ScoreRequest
from llm4rec.metrics import evaluate
from llm4rec.models.ease import EASE
from llm4rec.models.popular import Popular
from llm4rec.pipeline import Pipeline, PipelineConfig
from llm4rec.prompted import LLMRanker, LLMRankerConfig
from tests import worlds
from tests.prompted.test_rank_parts import SCORINGS, WINDOWS, knows, lines_of

WORLD = worlds.topics()
TOPIC = {word: topic for topic, words in worlds.TOPICS.items() for word in words}


def likes(prompt: str, line: str) -> float:
    """How many words of a line belong to the topic of most words of the history, less a little by its letters."""
    past = prompt.split("andidate")[0].split("in order:")[-1].lower().replace(",", " ").split()
    topics = [TOPIC[word] for word in past if word in TOPIC]
    main = max(sorted(set(topics)), key=topics.count) if topics else None
    return 3.0 * sum(TOPIC.get(word) == main for word in line.lower().split()) - 0.001 * (sum(map(ord, line)) % 89)


def taste(sign: float = 1.0) -> ScriptedModel:
    """A model that knows the topics of all words."""
    asked: dict[str, str] = {}

    def value(line: str) -> float:
        return sign * likes(asked["prompt"], line)

    inner = knows(value)

    def score(request: ScoreRequest) -> list[float]:
        asked["prompt"] = request.prompt if isinstance(request.prompt, str) else request.prompt[-1].content
        if isinstance(request.prompt, str):
            return [value(c.strip(" ,.")) for c in request.continuations]
        if request.continuations == ("Yes", "No"):
            return [value(lines_of(asked["prompt"])[0]), 0.0]
        return [value(line) for line in lines_of(asked["prompt"])]

    def write(request: Any) -> str:
        asked["prompt"] = request.messages[-1].content
        return inner.chat([request])[0].text

    return ScriptedModel(write, score)


def pipeline(model: Any, weight: Any = "auto", retriever: Any = None, **parts: Any) -> Pipeline:
    ranker = LLMRanker(LLMRankerConfig(item="{title}", **parts), model)
    config = PipelineConfig(candidates=34, depth=12, weight=weight, tuning_cases=12)
    return Pipeline({"first": retriever or Popular()}, [ranker], config=config).fit(
        WORLD.split.train, valid=WORLD.split.valid, rng=np.random.default_rng(0)
    )


def gain(built: Pipeline) -> float:
    """Return mean ndcg@10 on validation cases, where the truth has been seen by others."""
    cases = WORLD.split.valid.take(np.arange(20, 36))
    lists = built.retrieve(cases.queries, 10, exclude=cases.exclude("seen"))
    return float(np.mean(evaluate(lists, cases.truth, ["ndcg@10"])["ndcg@10"]))


def alone(retriever: Any) -> float:
    return gain(Pipeline({"alone": retriever}).fit(WORLD.split.train, valid=None, rng=np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("scoring", "window"),
    [(s, "all") for s in ("likelihood", "choice", "generate", "yes-no", "sorted pairs")]
    + [(s, w) for s in ("likelihood", "choice", "generate") for w in ("sliding", "tournament")],
)
def test_every_scoring_and_window_gets_a_say_where_it_knows(scoring: str, window: str) -> None:
    built = pipeline(taste(), **SCORINGS[scoring], **{**WINDOWS[window], **({"passes": 1} if window == "sliding" else {})})
    assert built.weights_[0] > 0
    assert gain(built) > alone(Popular()) + 0.1


@pytest.mark.parametrize("scoring", ["likelihood", "choice", "generate", "yes-no", "sorted pairs"])
def test_no_scoring_gets_a_say_where_it_answers_the_contrary(scoring: str) -> None:
    built = pipeline(taste(-1.0), retriever=EASE(), **SCORINGS[scoring])
    assert built.weights_[0] <= 0.2
    assert gain(built) >= alone(EASE()) - 0.02


@pytest.mark.parametrize("scoring", ["likelihood", "choice", "yes-no"])
def test_prior_and_weight_are_chosen_together_and_recorded(scoring: str) -> None:
    """What a prompt without content says outweighs the taste until it is subtracted."""

    def bias(line: str) -> float:
        return 25.0 * (sum(map(ord, line)) % 7)

    def score(request: ScoreRequest) -> list[float]:
        if isinstance(request.prompt, str):
            return [likes(request.prompt, c) + bias(c.strip(" ,.")) for c in request.continuations]
        prompt = request.prompt[-1].content
        lines = lines_of(prompt)
        if request.continuations == ("Yes", "No"):
            return [likes(prompt, lines[0]) + bias(lines[0]), 0.0]
        return [likes(prompt, line) + 25.0 * (slot % 5) for slot, line in enumerate(lines)]

    open_ = {**SCORINGS[scoring], "prior_weight": "auto", "permutations": 1}
    built = pipeline(ScriptedModel(scores=score), **open_)
    (record,) = built.facts()["tuning"]
    assert record["setting"] == built.rankers[0].prior_weight_ >= 0.8
    assert {row["setting"] for row in record["grid"]} >= {0.0, 0.5, 1.0}
    blind = pipeline(ScriptedModel(scores=score), **{**open_, "prior_weight": 0.0})
    assert gain(built) > gain(blind) + 0.05


def test_listings_reach_the_trace_with_unranked_candidates_too() -> None:
    model = ScriptedModel(lambda request: '{"order": [1, 2]}')
    built = pipeline(model, 1.0, scoring="generate", permutations=1)
    cases = WORLD.split.test.take(np.arange(3))
    stage = built.run(cases.queries, 5, exclude=cases.exclude("seen")).stages[-1]
    assert all(len(note.trials) == 1 for note in stage.notes or ())
    assert len(stage.notes or ()) == 3


class Given:
    """Resources of one scripted model."""

    def __init__(self, model: ScriptedModel) -> None:
        self.model = Metered(model)

    def llm(self, name: str) -> Metered:
        return self.model


def test_the_benchmark_of_cascades_compares_what_it_says() -> None:
    systems = ("likelihood, calibrated and fused", "plain listing, label", "plain listing, written")
    table = cascades(
        WORLD.split,
        Given(taste()),
        ["fused"],
        systems,
        part="valid",
        n=10,
        tune=12,
        seed=0,
        diagnose=True,  # type: ignore[arg-type]
    )
    alone, fused, labels, written = table
    assert alone["system"] == "alone"
    assert fused["less alone"]["n"] == 10
    assert fused["ndcg@10"] >= alone["ndcg@10"]
    assert set(written) >= {"less alone", f"less {systems[0]}", f"less {systems[1]}"}
    assert labels["weight"] == 1.0
    assert labels["diagnosis"]["position"]["trials"] == 10
    assert written["diagnosis"]["answers"]["listings"] == 10
    assert "position" not in fused["diagnosis"]
    json.dumps([alone, fused, labels, written], allow_nan=False)
