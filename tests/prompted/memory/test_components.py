"""Item memory and user memory: the contract of augmenters, with and without a language model."""
# ruff: noqa: RUF012 (the hooks of a contract are class attributes)

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from llm4rec.core import Resources
from llm4rec.llm import ChatRequest, ScriptedModel
from llm4rec.prompted.memory.expand import ExpandedText
from llm4rec.prompted.memory.items import ItemMemory
from llm4rec.prompted.memory.users import UserMemory
from tests.contracts import AugmenterContract, ScoringContract
from tests.prompted.memory.world import MUTE, WORLD, knowledge, resources

_FOLDER = tempfile.TemporaryDirectory()
FILE = str(knowledge(Path(_FOLDER.name) / "facts.jsonl"))
SOURCES = [{"kind": "jsonl", "path": FILE, "name": "secrets"}]


def answer(request: ChatRequest) -> str:
    """Answer by what the prompt says: repeat its last line of data, or fill in the form."""
    prompt = request.messages[-1].content
    if request.schema is not None:
        return json.dumps({name: ["space", "Mystery"] for name in request.schema["properties"]})
    lines = re.findall(r"^- (.*)$", prompt, re.MULTILINE)
    return f"Somebody who knows {lines[-1] if lines else 'nothing'}."


def titles(request: ChatRequest) -> str:
    """Name two items by hash of the prompt, and one that there is none of."""
    prompt = request.messages[-1].content
    names = sorted(re.findall(r"^- (.*)$", prompt, re.MULTILINE))
    return "\n".join(["1. " + (names[0] if names else "Item 3"), '2. "Item 5"', "3. Nowhere Man (1999)"])


class TestItemMemory(AugmenterContract):
    component = ItemMemory
    configs = {"sources": SOURCES, "fields": ["genres"]}
    world = MUTE
    enriches = False

    def test_the_rest_of_the_queries_is_as_it_was(self, fitted: Any) -> None:
        assert fitted.enrich(self.cases.queries) is self.cases.queries or fitted.enrich(self.cases.queries).profiles is None


class TestItemMemoryShuffled(TestItemMemory):
    configs = {"sources": SOURCES, "control": "shuffled"}


class TestItemMemoryWritten(TestItemMemory):
    configs = {"sources": SOURCES, "llm": "any", "write": ["summary", "attributes"], "attributes": ["genres", "mood"]}

    def resources(self) -> Resources:
        return resources(ScriptedModel(answer))


class TestUserMemory(AugmenterContract):
    component = UserMemory
    configs = {"short_term": 3}
    world = MUTE
    augments = False


class TestUserMemoryShuffled(TestUserMemory):
    configs = {"control": "shuffled"}


class TestUserMemoryWritten(TestUserMemory):
    configs = {"llm": "any", "write": ["profile", "reflection"], "lately": 2}

    def resources(self) -> Resources:
        return resources(ScriptedModel(answer))


class Expanded(ScoringContract):
    component = ExpandedText
    world = WORLD

    def resources(self) -> Resources:
        return resources(ScriptedModel(titles if self.configs.get("answer") in ("id", "vector") else answer))


class TestUnexpanded(Expanded):
    configs = {"answer": "none"}


class TestByProfile(Expanded):
    configs = {"answer": "profile", "weight": 0.3}


class TestByDescription(Expanded):
    configs = {"answer": "description", "llm": "any", "weight": 0.3}


class TestBySearch(Expanded):
    configs = {"answer": "search", "llm": "any", "weight": 0.3, "samples": 2}


class TestByVector(Expanded):
    configs = {"answer": "vector", "llm": "any", "weight": 0.2}


class TestById(Expanded):
    configs = {"answer": "id", "llm": "any"}
