"""The probe finds out what a backend honours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from llm4rec.core import ModelError
from llm4rec.llm import (
    ChatReply,
    ChatRequest,
    DryRun,
    LLMConfig,
    ScoreReply,
    ScriptedModel,
    Store,
    Stored,
    open_chat_model,
    probe,
)
from tests.llm.wire_server import Handler, completion, serve


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


def test_what_cannot_be_told_is_null() -> None:
    lost = ScoreReply(np.full(2, np.nan), np.ones(2, np.int32), failure="unreachable")
    found = probe(ScriptedModel(lambda r: ChatReply("", failure="not_asked"), scores=[lost, lost]))
    assert found == {
        "model": "scripted",
        "schema": "not_asked",
        "labels": None,
        "likelihood": None,
        "seed": None,
        "usage": None,
    }
    assert probe(DryRun(ScriptedModel(), None)) == found


def test_a_probe_stops_no_run(tmp_path: Path) -> None:
    def gone(_: ChatRequest) -> str:
        raise ModelError("no connection", where="http://localhost:1/v1")

    assert probe(ScriptedModel(gone)) == {"model": "scripted", "error": "http://localhost:1/v1: no connection"}
    with Store(tmp_path / "s.sqlite") as store:
        assert "not in the store" in probe(Stored(ScriptedModel(good), store, "replay"))["error"]


def test_the_second_probe_of_a_server_asks_nobody(tmp_path: Path) -> None:
    """A server without /completions and log-probabilities, which is then switched off."""

    def behave(handler: Handler, body: dict[str, Any]) -> None:
        if handler.path.endswith("/completions") and "prompt" in body:
            handler.send_json({"detail": "Not Found"}, 404)
        else:
            handler.send_json(
                completion('{"colour": "blue"}' if "response_format" in body else f"seed {body.get('seed')} it was")
            )

    with Store(tmp_path / "s.sqlite") as store:
        with serve() as (url, state):
            state.default = behave
            config = LLMConfig(backend="server", model="mine", base_url=url, api_key_env="NOT_SET")
            first = probe(Stored(open_chat_model(config), store))
            asked = len(state.seen)
        assert first == {
            "model": "mine", "schema": "honoured", "labels": False, "likelihood": False, "seed": True, "usage": True
        }  # fmt: skip
        assert asked == 6
        assert probe(Stored(open_chat_model(config), store)) == first  # nobody is there to be asked
