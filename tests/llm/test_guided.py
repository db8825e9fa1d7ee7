"""Answers that a schema holds: a network of random weights, which knows no JSON at all, cannot but write values of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import validate  # type: ignore[import-untyped]

from llm4rec.llm import ChatRequest, Message
from llm4rec.llm.inprocess import LocalModel
from llm4rec.llm.spelling import request_json
from tests.llm.tiny import make_tiny_llama


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


CALL = {
    "anyOf": [
        closed({"tool": {"const": "show"}, "arguments": closed({})}),
        closed({"tool": {"const": "search"}, "arguments": closed({"words": {"type": "string", "maxLength": 12}})}),
        closed({"tool": {"const": "drop"}, "arguments": closed({"item": {"enum": ["7", "007", "Ünïcode <b>"]}})}),
    ]
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    return LocalModel(make_tiny_llama(tmp_path_factory.mktemp("tiny")), dtype="float32")


def asked(schema: dict[str, Any], text: str = "What now?", **changed: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), schema, guided=True, **{"max_tokens": 400, **changed})


part = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.integers(0, 40).map(lambda n: {"type": "integer", "minimum": n, "maximum": n + 9}),
    st.integers(0, 8).map(lambda n: {"type": "string", "maxLength": n}),
    st.lists(st.text(max_size=6), min_size=1, max_size=4, unique=True).map(lambda texts: {"enum": texts}),
)
schemas = st.recursive(
    part,
    lambda inner: st.one_of(
        st.dictionaries(st.text(min_size=1, max_size=5), inner, min_size=1, max_size=3).map(closed),
        st.tuples(inner, st.integers(0, 2)).map(
            lambda given: {"type": "array", "items": given[0], "minItems": given[1], "maxItems": 2}
        ),
    ),
    max_leaves=4,
)


@settings(max_examples=25, deadline=None)
@given(schema=schemas, seed=st.integers(0, 9), temperature=st.sampled_from([0.0, 1.5]))
def test_every_answer_is_a_value_of_its_schema(
    model: LocalModel, schema: dict[str, Any], seed: int, temperature: float
) -> None:
    reply = model.chat([asked(closed({"x": schema}), seed=seed, temperature=temperature)])[0]
    assert reply.failure is None
    assert not reply.repaired
    validate(reply.value, closed({"x": schema}))


def test_all_that_a_schema_allows_is_within_reach(model: LocalModel) -> None:
    replies = model.chat([asked(CALL, temperature=3.0, seed=seed) for seed in range(40)])
    assert {reply.value["tool"] for reply in replies} == {"show", "search", "drop"}
    assert len({str(reply.value["arguments"].get("item")) for reply in replies}) > 2


def test_an_answer_depends_on_its_request_alone(model: LocalModel, tmp_path: Path) -> None:
    questions = [asked(CALL, f"{'So many words ' * 12 * i}{i}?", temperature=0.9, seed=i) for i in range(6)]
    together = [reply.text for reply in model.chat(questions)]
    mixed = model.chat([ChatRequest((Message("user", "Hello"),), max_tokens=5), *questions[::-1]])
    alone = LocalModel(make_tiny_llama(tmp_path), dtype="float32")
    assert [reply.text for reply in mixed[:0:-1]] == together
    assert [alone.chat([question])[0].text for question in questions] == together
    assert [model.chat([question])[0].text for question in questions] == together  # from the beginning that was kept


def test_what_is_certain_is_not_decoded(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    network, passes = model._network, []
    real = network.model.forward
    monkeypatch.setattr(network.model, "forward", lambda *a, **k: passes.append(k["input_ids"].shape[1]) or real(*a, **k))
    reply = model.chat([asked(closed({"a rather long key": {"enum": ["yes"]}, "another": {"type": "boolean"}}))])[0]
    assert isinstance(reply.value["another"], bool)
    assert reply.usage.tokens_out is not None
    assert len(passes) < 8 < reply.usage.tokens_out


def test_an_answer_that_does_not_end_is_cut_and_says_so(model: LocalModel) -> None:
    reply = model.chat([asked(closed({"x": {"enum": ["a" * 90]}}), max_tokens=9)])[0]
    assert (reply.failure, reply.value) == ("truncated", None)


def test_a_schema_that_cannot_be_held_to_is_said() -> None:
    with pytest.raises(ValueError, match="needs a schema"):
        ChatRequest((Message("user", "?"),), guided=True)


def test_an_unsatisfiable_schema_is_said(model: LocalModel) -> None:
    with pytest.raises(ValueError, match="held to this schema"):
        model.chat([asked({"enum": []})])


def test_a_question_without_guidance_keeps_its_key() -> None:
    free = ChatRequest((Message("user", "?"),), CALL)
    assert "guided" not in request_json(free)
    assert '"guided":true' in request_json(ChatRequest((Message("user", "?"),), CALL, guided=True))


def test_an_object_that_is_left_free_is_json_or_cut(model: LocalModel) -> None:
    free = closed({"tool": {"enum": ["show"]}, "arguments": {"type": "object"}})  # as a larger model in process is asked
    replies = model.chat([asked(free, temperature=1.0, seed=seed, max_tokens=120) for seed in range(6)])
    assert {reply.failure for reply in replies} <= {None, "truncated"}
    assert all(reply.text.startswith('{"tool": "show", "arguments": {') for reply in replies)
