"""Ranking by a language model: contracts, known answers, failures, order, replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from llm4rec.core import Lists, ModelError, Queries, Ragged, SpecError
from llm4rec.llm.scripted import ScriptedModel
from llm4rec.llm.store import Store, Stored
from llm4rec.llm.values import ChatReply, ChatRequest, ScoreReply, ScoreRequest
from llm4rec.prompted import LLMRanker, LLMRankerConfig
from llm4rec.prompted.choice import labels
from llm4rec.prompted.generate import borda
from llm4rec.prompted.question import Question
from tests import worlds
from tests.contracts.ranker import RankerContract


class Given:
    """Resources that hold one language model."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def llm(self, name: str) -> Any:
        return self.model

    def encoder(self, name: str) -> Any:
        raise AssertionError("a ranker needs no encoder")


def listed(prompt: str) -> list[str]:
    """Return the candidates' names in a listing prompt, in order."""
    lines = prompt.split("in no particular order:\n")[1].splitlines()
    return [line.split(" ", 1)[1] for line in lines[: lines.index("")]]


def backwards(request: ChatRequest) -> str:
    """Answer with the candidates in reverse order of the alphabet."""
    names = listed(request.messages[-1].content)
    return json.dumps({"order": [names.index(name) + 1 for name in sorted(names, reverse=True)]})


def label_scores(request: ScoreRequest) -> list[float]:
    """Prefer labels whose candidates come last in the alphabet."""
    assert not isinstance(request.prompt, str)
    names = listed(request.prompt[-1].content)
    return [-float(sorted(names, reverse=True).index(name)) for name in names]


class TestLikelihood(RankerContract):
    component = LLMRanker
    configs: ClassVar[dict[str, Any]] = {"scoring": "likelihood", "prior_weight": 0.3}

    def resources(self) -> Given:
        return Given(ScriptedModel())


class TestTunedLikelihood(RankerContract):
    component = LLMRanker
    configs: ClassVar[dict[str, Any]] = {"prior_weight": "auto", "tune_cases": 4, "tune_negatives": 5}
    uses_valid = True

    def resources(self) -> Given:
        return Given(ScriptedModel())


class TestChoice(RankerContract):
    component = LLMRanker
    configs: ClassVar[dict[str, Any]] = {"scoring": "choice", "permutations": 3}

    def resources(self) -> Given:
        return Given(ScriptedModel())


class TestGenerate(RankerContract):
    component = LLMRanker
    configs: ClassVar[dict[str, Any]] = {"scoring": "generate", "permutations": 3}

    def resources(self) -> Given:
        return Given(ScriptedModel(backwards))


class TestGenerateGarbage(RankerContract):
    component = LLMRanker
    configs: ClassVar[dict[str, Any]] = {"scoring": "generate", "permutations": 2}

    def resources(self) -> Given:
        return Given(ScriptedModel(lambda request: "I cannot say."))
