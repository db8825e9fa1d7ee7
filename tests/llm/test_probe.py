"""The probe finds out what a backend honours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from llm4rec.llm import ChatRequest, ScoreReply, ScriptedModel, Store, Stored, probe


def good(request: ChatRequest) -> str:
    if request.schema is not None:
        return '{"colour": "blue"}'
    return f"sample of seed {request.seed}: " + "word " * request.max_tokens


def test_all_is_honoured() -> None:
    found = probe(ScriptedModel(good))
    assert found == {"model": "scripted", "schema": "honoured", "labels": True, "likelihood": True, "seed": True, "usage": True}
    assert json.loads(json.dumps(found)) == found


def test_nothing_is_honoured() -> None:
    count = iter(range(100))
    none = ScoreReply(np.array([np.nan, np.nan]), np.ones(2, np.int32), failure="missing_logprob")
    found = probe(ScriptedModel(lambda r: f"{next(count)} blue", scores=[none, none]))
    assert (found["schema"], found["labels"], found["likelihood"], found["seed"]) == ("unreadable", False, False, False)


def test_repair_and_a_seed_that_cannot_be_told() -> None:
    answers = iter(["blue", '{"colour": "blue"}', "always this", "always this", "always this"])
    found = probe(ScriptedModel(lambda r: next(answers)))
    assert (found["schema"], found["seed"]) == ("repaired", None)


def test_stored_probe_replays(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        first = probe(Stored(ScriptedModel(good), store))
        assert probe(Stored(ScriptedModel(good), store, "replay")) == first
