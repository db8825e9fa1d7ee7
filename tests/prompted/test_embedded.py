"""The embedded language model for real: it ranks far above chance, and most of its sentences hold."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.llm_ranking import CHANCE, METRIC, draw, measure

from llm4rec.core import Split
from llm4rec.experiment.resources import open_model
from llm4rec.llm import ChatModel, LLMConfig
from llm4rec.prompted import LLMExplainer, LLMExplainerConfig, LLMRankerConfig
from tests.contracts.explainer import assert_true_claim

pytestmark = [pytest.mark.assets, pytest.mark.slow]


@pytest.fixture(scope="module")
def embedded(asset: object) -> ChatModel:
    asset(LLMConfig().model)  # type: ignore[operator]
    return open_model(LLMConfig(), download=False)


def test_chance_is_what_a_random_order_gains() -> None:
    gains = np.where(np.arange(20) < 10, 1 / np.log2(np.arange(20) + 2), 0.0)
    assert pytest.approx(gains.mean()) == CHANCE


def test_likelihood_ranks_twice_as_well_as_chance(embedded: ChatModel, ml100k_whole_split: Split) -> None:
    popular, likelihood = measure(ml100k_whole_split, embedded, [LLMRankerConfig()], n=300)
    assert likelihood[METRIC] >= 0.45  # measured: .471
    assert likelihood["failures"] == {}
    assert popular[METRIC] == pytest.approx(0.545, abs=0.01)


def test_most_sentences_hold_and_all_claims_are_true(embedded: ChatModel, ml100k_whole_split: Split) -> None:
    split = ml100k_whole_split
    cases, candidates = draw(split, "valid", 10, seed=1)
    explainer = LLMExplainer(LLMExplainerConfig(), embedded).fit(split.train, valid=None, rng=np.random.default_rng(0))
    told = explainer.explain(cases.queries, candidates.head(3))
    for history, row in zip(cases.queries.history, told, strict=True):
        for explanation in row:
            assert explanation.sentence
            for claim in explanation.claims:
                assert_true_claim(claim, explanation.item, set(history.tolist()), split.train)
    held = [e.failure is None for row in told for e in row if e.exchange_prompt]
    assert np.mean(held) >= 0.7  # measured on 60: .87
