"""The scripted model: given answers, a name that gives it away, and the contract of every backend."""

from __future__ import annotations

import numpy as np
import pytest

from llm4rec.core import ModelError
from llm4rec.llm import ChatModel, ChatReply, ChatRequest, Message, ScoreReply, ScoreRequest, ScriptedModel


def ask(text: str) -> ChatRequest:
    return ChatRequest((Message("user", text),))


def test_queue_is_given_in_turn_and_ends_with_an_error() -> None:
    model = ScriptedModel(["a", "b"])
    assert [r.text for r in model.chat([ask("1"), ask("2")])] == ["a", "b"]
    with pytest.raises(ModelError, match="no more answers"):
        model.chat([ask("3")])


def test_repeating_queue() -> None:
    assert [r.text for r in ScriptedModel(["a", "b"], repeat=True).chat([ask("1")] * 5)] == ["a", "b", "a", "b", "a"]


def test_function_sees_the_request() -> None:
    model = ScriptedModel(lambda r: r.messages[0].content.upper())
    assert model.chat([ask("loud")])[0].text == "LOUD"
    assert isinstance(model, ChatModel)


def test_whole_replies_pass() -> None:
    assert ScriptedModel([ChatReply("", failure="refused", detail="no")]).chat([ask("?")])[0].failure == "refused"


def test_scores_by_function_queue_and_default() -> None:
    request = ScoreRequest("p", (" one", " two three"))
    by_function = ScriptedModel(scores=lambda r: [-len(c) for c in r.continuations]).score([request])[0]
    assert by_function.logprobs.tolist() == [-4, -10]
    assert by_function.tokens.tolist() == [1, 2]
    assert by_function.logprobs.dtype == np.float64
    assert by_function.tokens.dtype == np.int32
    failed = ScoreReply(np.array([np.nan]), np.array([1], np.int32), failure="unreachable")
    assert ScriptedModel(scores=[[-1.0, -2.0], failed]).score([request, request])[1] is failed
    one, again = ScriptedModel().score([request])[0], ScriptedModel().score([request])[0]
    assert (one.logprobs == again.logprobs).all()
    assert (one.logprobs <= 0).all()
    assert not (ScriptedModel().score([ScoreRequest("q", request.continuations)])[0].logprobs == one.logprobs).any()


def test_no_table_can_take_it_for_a_real_model() -> None:
    model = ScriptedModel(["a"], name="gpt-9")
    assert model.name == "scripted-gpt-9"
    assert model.identity["backend"] == "scripted"
    assert model.identity["model"].startswith("scripted")
    assert model.identity != ScriptedModel(["b"], name="gpt-9").identity
    assert model.identity == ScriptedModel(["a"], name="gpt-9").identity
