"""Tests of text retrieval."""

from __future__ import annotations

from typing import Any, ClassVar

from llm4rec.core import Resources
from llm4rec.features import Encoder, HashEncoder
from llm4rec.models.text import TextRetriever
from tests import worlds
from tests.contracts.scoring import ScoringContract


class Hashed:
    """Resources whose every encoder hashes words."""

    def llm(self, name: str) -> Any:
        raise AssertionError("text retrieval asked for an LLM")

    def encoder(self, name: str) -> Encoder:
        return HashEncoder(256)


class TextContract(ScoringContract):
    component = TextRetriever
    configs: ClassVar[dict[str, Any]] = {"encoder": "hash"}
    world = worlds.topics()

    def resources(self) -> Resources:
        return Hashed()


class TestFlat(TextContract):
    pass


class TestDecay(TextContract):
    configs: ClassVar[dict[str, Any]] = {"profile": "decay", "half_life": 2.0, "half_life_unit": "days", "last": 0}


class TestUncentred(TextContract):
    configs: ClassVar[dict[str, Any]] = {"center": False, "template": "{genres}: {title}"}


class TestHNSW(TextContract):
    configs: ClassVar[dict[str, Any]] = {"index": {"kind": "hnsw", "neighbors": 4}}
    exact = False


class TestIVF(TextContract):
    configs: ClassVar[dict[str, Any]] = {"index": {"kind": "ivf", "cells": 4, "probes": 2}}
    exact = False
