"""Tools that a model calls: what goes over the wire, what comes back in any shape, and what the store keeps of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm4rec.core import ModelError
from llm4rec.llm import ChatReply, ChatRequest, LLMConfig, Message, ScoreRequest, ScriptedModel, Store, Stored, ToolCall
from llm4rec.llm.inprocess import LocalModel
from llm4rec.llm.jsonl import export_jsonl, import_jsonl
from llm4rec.llm.server import ServerModel
from llm4rec.llm.sizes import most_tokens
from llm4rec.llm.spelling import request_json
from tests.llm.wire_server import Behaviour, State, says, serve, status

FIND = {
    "type": "function",
    "function": {"name": "find", "description": "Find.", "parameters": {"type": "object", "properties": {"k": {}}}},
}


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ServerModel, State]]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serve() as (url, state):
        table = {"backend": "server", "model": "m", "base_url": url, "retries": 0}
        yield ServerModel(LLMConfig.model_validate(table)), state


def ask(**changed: Any) -> ChatRequest:
    return replace(ChatRequest((Message("user", "Which?"),), tools=(FIND,)), **changed)


def calls(*entries: Any, content: str | None = None) -> Behaviour:
    message = {"role": "assistant", "content": content, "tool_calls": list(entries)}
    return says(choice={"message": message, "finish_reason": "tool_calls"})


def call(name: Any = "find", arguments: Any = '{"k": 3}', id_: Any = "c1") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def test_tools_are_offered_called_and_answered(wire: tuple[ServerModel, State]) -> None:
    model, state = wire
    state.behaviours = [calls(call(), call("drop", "{}", "c2"), content="I will look.")]
    reply = model.chat([ask()])[0]
    assert (reply.text, reply.failure) == ("I will look.", None)
    assert reply.calls == (ToolCall("find", '{"k": 3}', "c1"), ToolCall("drop", "{}", "c2"))
    assert state.seen[0]["tools"] == [FIND]
    told = (Message("assistant", "", reply.calls), Message("tool", "[1, 2]", answers="c1"))
    model.chat([ask(messages=(Message("user", "Which?"), *told))])
    assert state.seen[1]["messages"][1:] == [
        {"role": "assistant", "content": "", "tool_calls": [call(), call("drop", "{}", "c2")]},
        {"role": "tool", "content": "[1, 2]", "tool_call_id": "c1"},
    ]


@pytest.mark.parametrize(
    ("entries", "found"),
    [
        ([call(arguments={"k": 3})], [ToolCall("find", '{"k": 3}', "c1")]),  # an object where a text belongs
        ([call(id_=None)], [ToolCall("find", '{"k": 3}', "call_0")]),
        ([call(arguments="not json")], [ToolCall("find", "not json", "c1")]),  # whoever offered the tool judges that
        ([call(arguments=None)], [ToolCall("find", "{}", "c1")]),
        ([{"function": "find"}, call()], [ToolCall("find", '{"k": 3}', "c1")]),
        ([{"function": "find"}], None),
        (["find"], None),
        ([call(name=7)], None),
    ],
)
def test_calls_of_any_shape(wire: tuple[ServerModel, State], entries: list[Any], found: list[ToolCall] | None) -> None:
    model, state = wire
    state.behaviours = [calls(*entries)]
    reply = model.chat([ask()])[0]
    assert list(reply.calls) == (found or [])
    assert reply.failure == (None if found else "tool_call")


def test_an_answer_in_words_or_none_and_a_server_that_refuses_tools(wire: tuple[ServerModel, State]) -> None:
    model, state = wire
    state.behaviours = [says("Take the first."), says(""), status(400), says(choice={"finish_reason": "length"})]
    replies = [model.chat([ask()])[0] for _ in range(4)]
    assert [(r.text, r.failure) for r in replies[:3]] == [("Take the first.", None), ("", "empty"), ("", "rejected")]
    assert replies[3].failure == "truncated"
    assert all(not r.calls for r in replies)


def test_a_schema_and_tools_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        ask(schema={"type": "object"})


def test_a_model_in_process_says_that_it_calls_no_tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Network:
        limit = 1_000

        class tokens:
            @staticmethod
            def of_prompt(_: Any) -> list[int]:
                return [1]

        @staticmethod
        def write(prompts: list[Any], _: list[Any]) -> list[Any]:
            assert not prompts
            return []

    (tmp_path / "config.json").write_text("{}")
    model = LocalModel(tmp_path)
    monkeypatch.setitem(model.__dict__, "_network", Network())
    reply = model.chat([ask()])[0]
    assert reply.failure == "rejected"
    assert "calls no tools" in reply.detail


def test_the_store_keeps_calls_and_what_they_took(tmp_path: Path) -> None:
    said = ChatReply("", calls=(ToolCall("find", "{}", "c1"),), seconds=2.5)
    with Store(tmp_path / "a.sqlite") as store:
        fresh = Stored(ScriptedModel([said]), store).chat([ask()])[0]
        kept = Stored(ScriptedModel([said]), store, "replay").chat([ask()])[0]
        assert (fresh.calls, fresh.seconds, fresh.once, fresh.cached) == (said.calls, 2.5, 0.0, False)
        assert (kept.calls, kept.seconds, kept.once, kept.cached) == (said.calls, 0.0, 2.5, True)
        with pytest.raises(ModelError):  # other tools are another question
            Stored(ScriptedModel([said]), store, "replay").chat([ask(tools=(FIND, FIND))])
        assert export_jsonl(store, tmp_path / "a.jsonl") == 1
    with Store(tmp_path / "b.sqlite") as other:
        assert import_jsonl(other, tmp_path / "a.jsonl").added == 1
        assert Stored(ScriptedModel([said]), other, "replay").chat([ask()])[0].calls == said.calls


def test_questions_without_tools_have_the_keys_that_they_always_had() -> None:
    plain = ChatRequest((Message("user", "Which?"),), schema={"type": "object"}, seed=3)
    assert json.loads(request_json(plain)) == {
        "messages": [{"role": "user", "content": "Which?"}],
        "schema": {"type": "object"}, "temperature": 0.0, "max_tokens": 256, "seed": 3, "sample": 0,
    }  # fmt: skip
    scored = ScoreRequest((Message("user", "Which?"),), (" A",))
    assert json.loads(request_json(scored))["prompt"] == [{"role": "user", "content": "Which?"}]
    assert set(json.loads(request_json(ask()))) == {
        "messages", "schema", "temperature", "max_tokens", "seed", "sample", "tools"
    }  # fmt: skip


def test_tools_and_calls_count_in_what_a_question_takes() -> None:
    told = Message("assistant", "", (ToolCall("find", '{"k": 3}', "c1"),))
    assert most_tokens(ask()) > most_tokens(ask(tools=())) + 50
    assert most_tokens(ask(messages=(*ask().messages, told))) > most_tokens(ask()) + 10
