"""Explanations: contracts, and sentences that do not hold."""

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

from llm4rec.llm.scripted import ScriptedModel
from llm4rec.llm.values import ChatRequest
from llm4rec.prompted import EvidenceExplainer, LLMExplainer
from tests.contracts.explainer import ExplainerContract
from tests.prompted.test_rank import Given


def obedient(request: ChatRequest) -> str:
    """Write the sentence that the facts of the prompt call for."""
    facts = request.messages[-1].content
    item = re.search(r'^Recommended: "([^"]+)"', facts, re.MULTILINE)
    cited = re.search(r'^Watched: "([^"]+)"', facts, re.MULTILINE)
    value = re.search(r"^(?:In common|It is): (.+)$", facts, re.MULTILINE)
    assert item
    sentence = f'"{item[1]}" is for you'
    if cited:
        sentence += f', since you watched "{cited[1]}"'
    return sentence + (f", and it is about {value[1]}." if value else ".")


def first_of_all(request: ChatRequest) -> str:
    """Answer the JSON question with the first history item and the first property."""
    prompt = request.messages[-1].content
    cited = re.search(r"^\[1\] (.+)$", prompt, re.MULTILINE)
    value = re.search(r"^\(1\) (.+)$", prompt, re.MULTILINE)
    sentence = f"You watched {cited[1]}, " if cited else "You "
    sentence += f"so {value[1]} is your thing." if value else "so this is your thing."
    return json.dumps({"history": int(bool(cited)), "attribute": int(bool(value)), "sentence": sentence})


class TestEvidence(ExplainerContract):
    component = EvidenceExplainer


class TestEvidenceWithoutAttributes(ExplainerContract):
    component = EvidenceExplainer
    configs: ClassVar[dict[str, Any]] = {"attributes": ()}


class TestChoose(ExplainerContract):
    component = LLMExplainer
    configs: ClassVar[dict[str, Any]] = {"top": 3}

    def resources(self) -> Given:
        return Given(ScriptedModel(obedient))


class TestChooseGarbage(ExplainerContract):
    component = LLMExplainer

    def resources(self) -> Given:
        return Given(ScriptedModel(lambda request: "Steven Spielberg made it in 1975!"))


class TestJson(ExplainerContract):
    component = LLMExplainer
    configs: ClassVar[dict[str, Any]] = {"mode": "json", "top": 4}

    def resources(self) -> Given:
        return Given(ScriptedModel(first_of_all))
