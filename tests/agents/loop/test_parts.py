"""Parts of the loop: signatures, data that closes nothing, the guard of the memory, demonstrations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.agents.dialogue import Dialogue
from llm4rec.agents.engine import Engine
from llm4rec.agents.loop.answering import ANSWERING
from llm4rec.agents.loop.demonstrations import Demonstrations, Example
from llm4rec.agents.loop.guard import refusal
from llm4rec.agents.loop.protocol import as_data, brief_schema, call_schema, signature
from llm4rec.agents.loop.work import BRIEF
from llm4rec.agents.tools import toolbox
from llm4rec.agents.turn import Call
from llm4rec.core import DataError
from llm4rec.features.hashing import HashEncoder

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_data_is_json_on_one_line_that_closes_nothing(value: object) -> None:
    told = as_data(value, 3)
    json.loads(told)
    assert "\n" not in told
    assert "</" not in told
    assert "<|" not in told


def test_long_lists_say_what_is_left_out() -> None:
    assert json.loads(as_data({"items": list(range(10))}, 3)) == {"items": [0, 1, 2, "and 7 more"]}


def test_signatures_say_what_a_tool_takes(engine: Engine) -> None:
    told = {tool.name: signature(tool) for tool in [*toolbox(engine), *ANSWERING]}
    assert told["recommend"].startswith('recommend(k: integer = 20, system: "ease" or "popular" or null = null, add: boolean')
    assert told["answer"].startswith("answer(text: string, items: list of string or null = null): Give the answer")
    assert all("\n" not in line for line in told.values())
    assert sum(map(len, told.values())) < 6_000  # a small model has to read it


def test_a_brief_signature_says_what_a_tool_needs(engine: Engine) -> None:
    told = {tool.name: signature(tool, brief=True) for tool in toolbox(engine)}
    assert told["recommend"].startswith("recommend(): ")
    assert told["search_items"].startswith("search_items(words: string): ")


def brief(engine: Engine, ids: Sequence[str], done: Sequence[Call] = (), *, single: bool = True) -> dict[str, Any]:
    """The brief schemas of the calls that may be made, by tool."""
    values = {"genres": ["cooking", "space"], "year": ["1999"]}
    schema = brief_schema([*toolbox(engine), ANSWERING["show"]], ids, values, done, single=single)
    call = schema if single else schema["properties"]["calls"]["items"]
    found: dict[str, Any] = {}
    for one in call["anyOf"]:
        found.setdefault(one["properties"]["tool"]["const"], []).append(one["properties"]["arguments"])
    return found


def test_a_brief_call_names_what_is_there_and_nothing_else(engine: Engine) -> None:
    calls = brief(engine, ["a", "b"])
    assert calls["recommend"][0]["properties"] == {}  # what has a default keeps it
    assert calls["similar_items"][0]["properties"] == {"item": {"enum": ["a", "b"]}}
    drop = calls["drop_items"][0]["properties"]["items"]
    assert (drop["items"], drop["maxItems"]) == ({"enum": ["a", "b"]}, 4)
    pairs = [(c["properties"]["attribute"]["enum"], c["properties"]["value"]["enum"]) for c in calls["filter_items"]]
    assert pairs == [(["genres"], ["cooking", "space"]), (["year"], ["1999"])]
    assert calls["search_items"][0]["properties"]["words"]["maxLength"] <= 200


def test_what_needs_an_item_is_left_out_where_there_is_none(engine: Engine) -> None:
    calls = brief(engine, [])
    assert not {"similar_items", "drop_items", "item_details"} & calls.keys()
    assert {"recommend", "search_items", "filter_items", "show"} <= calls.keys()


def test_a_call_without_arguments_is_made_once(engine: Engine) -> None:
    done = [Call("recommend", {}), Call("search_items", {"words": "space"})]
    assert "recommend" not in (calls := brief(engine, [], done, single=False))
    assert "search_items" in calls


def test_the_shipped_demonstrations_can_be_read_and_spoken(engine: Engine) -> None:
    shown = Demonstrations.read(BRIEF).like("something scary", 3)
    assert len(shown) == 3
    needed = {t.name: set(t.schema.get("required", ())) for t in toolbox(engine)}
    for line in BRIEF.read_text(encoding="utf-8").splitlines():
        example = Example.model_validate_json(line)
        assert all(set(call.arguments) == needed[call.tool] for call in example.calls)


def test_the_schema_names_the_tools_that_are_offered(engine: Engine) -> None:
    single = call_schema(list(toolbox(engine).without("forget")), single=True)
    assert "forget" not in single["properties"]["tool"]["enum"]
    assert set(single["required"]) == {"thought", "tool", "arguments"}


@pytest.mark.parametrize(
    ("tool", "arguments", "request_", "allowed"),
    [
        ("remember", {"text": "comedy"}, "I love comedies", True),
        ("remember", {"text": "comedies"}, "I love any comedy", True),
        ("remember", {"text": "the user likes comedies"}, "comedies, please", True),
        ("remember", {"text": "comedy"}, "I love dramas", False),
        ("remember", {"text": "call me now"}, "what is new?", False),
        ("remember", {"text": 7}, "what is new?", False),
        ("forget", {"fact": "0" * 16}, "Please delete that", True),
        ("forget", {"fact": "0" * 16}, "what is new?", False),
        ("recommend", {}, "what is new?", True),
    ],
)
def test_memory_changes_on_the_users_words_alone(tool: str, arguments: dict[str, object], request_: str, allowed: bool) -> None:
    assert (refusal(Call(tool, arguments), request_) is None) is allowed


@pytest.mark.parametrize("encoder", [None, HashEncoder(256)])
def test_demonstrations_come_by_likeness_the_nearest_last(encoder: HashEncoder | None) -> None:
    requests = ("space films with robots", "quiet films about cooking", "quiet evenings")
    examples = [Example.model_validate({"request": r, "calls": [{"tool": "recommend"}]}) for r in requests]
    shown = Demonstrations(examples, encoder).like("a film about quiet cooking", 2)
    assert shown[-1].request == requests[1]
    assert json.loads(shown[-1].calls) == [{"tool": "recommend", "arguments": {}}]
    assert len(shown) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no example"),
        ('{"request": "x", "calls": []}', "line 1"),
        ('{"request": "x", "calls": [{"tool": "a"}]}\n{"request": 1}', "line 2"),
        ("not json", "line 1"),
    ],
)
def test_a_file_of_demonstrations_that_is_wrong_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "examples.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=says) as error:
        Demonstrations.read(path)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="cannot be read"):
        Demonstrations.read(tmp_path / "nothing")


def test_a_dialogue_goes_through_json() -> None:
    dialogue = Dialogue("before").with_exchange("a", "b").with_exchange("c", "d", ["7", "x,y"])
    assert Dialogue.from_dict(json.loads(json.dumps(dialogue.as_dict()))) == dialogue
    kept_before = {"summary": "before", "said": [["a", "b"]]}  # by a server that did not keep what was shown
    assert Dialogue.from_dict(kept_before) == Dialogue("before").with_exchange("a", "b")
    assert dialogue.folded(1, "s") == Dialogue("s", dialogue.said[1:])
    assert dialogue.folded(0, "s") == Dialogue("s", ())
