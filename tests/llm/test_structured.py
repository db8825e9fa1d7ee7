"""Answers that should be JSON: what is found in them, what counts as failed, the one repair."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.llm import ChatReply, ChatRequest, Message, ScriptedModel, Usage
from llm4rec.llm.structured import json_values, read_json, schema_instruction

NUMBERS = {
    "type": "object",
    "properties": {"order": {"type": "array", "items": {"type": "integer"}}},
    "required": ["order"],
    "additionalProperties": False,
}
ASK = ChatRequest((Message("user", "rank"),), schema=NUMBERS)


@pytest.mark.parametrize(
    "text",
    [
        '{"order": [3, 1]}',
        '  {"order": [3, 1]}\n',
        'Sure! Here it is:\n```json\n{"order": [3, 1]}\n```\nEnjoy.',
        'As [you] asked {well}: {"order": [3, 1]}',
        '<think>maybe {"order": [1, 3]}</think>{"order": [3, 1]}',
        'twice {"order": [3, 1]} the same {"order":[3,1]}',
        '[1] says {"order": [3, 1]}',
    ],
)
def test_value_is_found(text: str) -> None:
    assert read_json(text, NUMBERS).value == {"order": [3, 1]}


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("3 then 1", "unreadable"),
        ('{"order": [3, 1}', "unreadable"),
        ('{"order": [3, NaN]}', "unreadable"),
        ('{"answer": {"order": [3, 1]}, "cut', "unreadable"),  # what is nested in a cut value is not the answer
        ('{"order": [3, 1]} or rather {"order": [1, 3]}', "unreadable"),
        ('{"order": ["3"]}', "schema"),
        ('{"order": [3], "why": "so"}', "schema"),
        ("[3, 1]", "schema"),
        ('"order"', "schema"),
        ("[" * 100_000, "unreadable"),
        ('{"order": [' + "9" * 5000 + "]}", "unreadable"),  # more digits than Python reads
    ],
)
def test_failures_by_kind(text: str, failure: str) -> None:
    reading = read_json(text, NUMBERS)
    assert reading.failure == failure
    assert reading.value is None
    assert reading.detail
    assert "\n" not in reading.detail


@given(st.text(max_size=200))
def test_any_text_gives_a_value_or_one_failure(text: str) -> None:
    reading = read_json(text, NUMBERS)
    assert (reading.failure is None) == (reading.value is not None)


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.one_of(st.lists(_json), st.dictionaries(st.text(max_size=3), _json)), st.sampled_from(["{}", "so: {} .", "```\n{}\n```"])
)
def test_whatever_is_wrapped_is_found(value: Any, wrapper: str) -> None:
    assert value in list(json_values(wrapper.replace("{}", json.dumps(value))))


@given(st.text(alphabet='[]{}",:\\ 1a', max_size=60))
def test_broken_brackets_end(text: str) -> None:
    assert all(isinstance(v, dict | list) for v in json_values(text))


def test_one_repair_and_no_more() -> None:
    model = ScriptedModel(["no idea", '{"order": [2]}', "no idea", "still none"])
    good, bad = model.chat([ASK])[0], model.chat([ASK])[0]
    assert (good.value, good.failure, good.repaired) == ({"order": [2]}, None, True)
    assert (bad.value, bad.failure, bad.repaired) == (None, "unreadable", True)
    assert len(model.asked) == 4
    repair = model.asked[1]
    assert isinstance(repair, ChatRequest)
    assert [m.role for m in repair.messages] == ["user", "assistant", "user"]
    assert "no JSON value" in repair.messages[2].content
    assert '"order"' in repair.messages[2].content


def test_repair_adds_usage_and_only_asks_the_broken_ones() -> None:
    model = ScriptedModel(
        [
            ChatReply("?", usage=Usage(10, 1), seconds=1.0),
            '{"order": []}',
            ChatReply('{"order": [1]}', usage=Usage(20, 5), seconds=2.0),
        ]
    )
    first, second = model.chat([ASK, ASK])
    assert (first.usage, first.seconds, first.repaired) == (Usage(30, 6), 3.0, True)
    assert not second.repaired
    assert len(model.asked) == 3


def test_unknown_usage_stays_unknown() -> None:
    model = ScriptedModel([ChatReply("?"), ChatReply('{"order": [1]}', usage=Usage(20, 5))])
    assert model.chat([ASK])[0].usage == Usage(None, None)


@pytest.mark.parametrize("failure", ["refused", "unreachable", "rate_limited", "server_error", "rejected", "garbage"])
def test_failures_that_a_second_question_cannot_cure(failure: Any) -> None:
    model = ScriptedModel([ChatReply("", failure=failure, detail="so it was")])
    reply = model.chat([ASK])[0]
    assert (reply.failure, reply.repaired, len(model.asked)) == (failure, False, 1)


def test_truncated_counts_unless_the_value_is_whole() -> None:
    cut, whole = ChatReply('{"order": [1, 2', failure="truncated"), ChatReply('{"order": [1]} because', failure="truncated")
    replies = ScriptedModel([cut, whole]).chat([ASK, ASK])
    assert [r.failure for r in replies] == ["truncated", None]
    assert replies[1].value == {"order": [1]}


def test_free_text_without_text_is_empty() -> None:
    replies = ScriptedModel([" ", "x"]).chat([ChatRequest((Message("user", "?"),))] * 2)
    assert [r.failure for r in replies] == ["empty", None]


def test_wrong_schema_is_the_callers_fault() -> None:
    with pytest.raises(ValueError, match="not a JSON schema"):
        read_json("{}", {"type": "strange"})


def test_schema_in_words_keeps_the_turns() -> None:
    assert schema_instruction(ChatRequest((Message("user", "a"),))) == (Message("user", "a"),)
    system, user = schema_instruction(ChatRequest((Message("system", "s"), Message("user", "a")), schema={"type": "array"}))
    assert system == Message("system", "s")
    assert user.content.startswith("a\n\n")
    assert '{"type": "array"}' in user.content
