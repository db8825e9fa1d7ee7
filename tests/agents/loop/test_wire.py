"""The loop over a real server: native calls, servers without them, and servers that do everything wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm4rec.agents.loop.agent import LLMAgent
from llm4rec.agents.loop.config import LoopConfig
from llm4rec.agents.rule import RuleAgent
from llm4rec.agents.tools import Session
from llm4rec.core import ModelError
from llm4rec.llm import LLMConfig, Store, Stored
from llm4rec.llm.server import ServerModel
from tests.agents.loop.scripts import act, plan
from tests.agents.loop.test_loop import ASK, FILTER, GOOD
from tests.llm.wire_server import Behaviour, Handler, State, completion, cuts, raw, says, serve, sleeps, status


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, State]]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serve() as served:
        yield served


def thinker(url: str, timeout: float = 5.0, store: Store | None = None, **config: Any) -> LLMAgent:
    table = {"backend": "server", "model": "m", "base_url": url, "retries": 0, "timeout": timeout}
    model = ServerModel(LLMConfig.model_validate(table))
    return LLMAgent(model if store is None else Stored(model, store), LoopConfig.model_validate(config))


def calls(*asked: tuple[str, dict[str, Any] | str]) -> Behaviour:
    entries = [
        {"id": f"c{i}", "type": "function", "function": {"name": n, "arguments": a if isinstance(a, str) else json.dumps(a)}}
        for i, (n, a) in enumerate(asked)
    ]
    return says(
        choice={"message": {"role": "assistant", "content": None, "tool_calls": entries}, "finish_reason": "tool_calls"}
    )


def test_native_calls_one_at_a_time_and_several_at_once(wire: tuple[str, State], session: Session) -> None:
    url, state = wire
    state.behaviours = [calls(("filter_items", FILTER), ("rank_items", {"k": 3})), calls(("answer", {"text": "Here."}))]
    turn = thinker(url).answer(session, ASK)
    assert (turn.by, turn.failures, [c.tool for c in turn.calls]) == ("react", (), ["filter_items", "rank_items"])
    assert turn.text.startswith("Here.\n1. ")
    assert {tool["function"]["name"] for tool in state.seen[0]["tools"]} >= {"recommend", "answer"}
    assert "response_format" not in state.seen[0]
    roles = [m["role"] for m in state.seen[1]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool"]
    assert state.seen[1]["messages"][3]["tool_call_id"] == state.seen[1]["messages"][2]["tool_calls"][0]["id"]
    assert state.seen[1]["messages"][3]["content"].startswith("filter_items returned: <data>")
    assert (turn.cost.tokens_in, turn.cost.tokens_out) == (14, 6)


def test_a_native_plan_is_the_calls_of_one_answer(wire: tuple[str, State], session: Session) -> None:
    url, state = wire
    state.behaviours = [calls(("filter_items", FILTER), ("rank_items", {})), calls(("answer", {"text": "Here."}))]
    turn = thinker(url, strategy="plan").answer(session, ASK)
    assert (turn.by, [c.tool for c in turn.plan]) == ("plan", ["filter_items", "rank_items"])
    assert [tool["function"]["name"] for tool in state.seen[1]["tools"]] == ["answer"]


@pytest.mark.parametrize(
    ("first", "failure"),
    [
        (status(400), "act:rejected"),
        (status(422, {"detail": "tools is not supported"}), "act:rejected"),
        (says("I would recommend Heat."), "act:no_call"),
        (says(""), "act:empty"),
        (says(choice={"message": {"role": "assistant", "content": None, "tool_calls": ["?"]}}), "act:tool_call"),
    ],
)
def test_a_server_without_tools_is_asked_in_json(
    wire: tuple[str, State], session: Session, first: Behaviour, failure: str
) -> None:
    url, state = wire
    state.behaviours = [first, *(says(text) for text in GOOD)]
    turn = thinker(url).answer(session, ASK)
    assert (turn.by, turn.failures, len(turn.shown) > 0) == ("react", (failure,), True)
    assert "tools" in state.seen[0]
    for body in state.seen[1:]:
        assert "tools" not in body
        assert body["response_format"]["type"] == "json_schema"
        assert "recommend(" in body["messages"][0]["content"]


def test_a_change_of_protocol_within_a_turn_keeps_what_was_done(wire: tuple[str, State], session: Session) -> None:
    url, state = wire
    state.behaviours = [calls(("filter_items", FILTER)), says("Here they are!"), says(GOOD[2])]
    turn = thinker(url).answer(session, ASK)
    assert (turn.by, turn.failures, len(turn.shown) > 0) == ("react", ("act:no_call",), True)
    told = state.seen[2]["messages"]
    assert [m["role"] for m in told] == ["system", "user", "assistant", "user"]
    assert json.loads(told[2]["content"])["tool"] == "filter_items"


def test_arguments_that_are_no_json_go_back_to_the_model(wire: tuple[str, State], session: Session) -> None:
    url, state = wire
    state.behaviours = [
        calls(("filter_items", "{genres")),
        calls(("filter_items", FILTER)),
        calls(("answer", {"text": "Here."})),
    ]
    turn = thinker(url).answer(session, ASK)
    assert (turn.by, turn.failures) == ("react", ("call_error",))
    assert "no JSON object" in state.seen[1]["messages"][-1]["content"]


@pytest.mark.parametrize("strategy", ["plan", "react"])
def test_a_server_that_ignores_schemas_is_repaired_once_then_the_rule_agent_answers(
    wire: tuple[str, State], session: Session, strategy: str
) -> None:
    url, state = wire
    good = [plan(("filter_items", FILTER)), act("answer", text="Here.")] if strategy == "plan" else GOOD
    state.behaviours = [says("Let me think."), *(says(f"Sure!\n```json\n{text}\n```") for text in good)]
    turn = thinker(url, protocol="json", strategy=strategy).answer(session, ASK)
    assert (turn.by, turn.failures, turn.cost.repaired) == (strategy, (), 1)
    state.seen.clear()
    state.default = says("I recommend Heat and nothing else.")
    turn = thinker(url, protocol="json", strategy=strategy).answer(session, ASK)
    assert (turn.by, len(state.seen)) == ("rule", 2)
    assert turn.failures[0].endswith(":unreadable")
    assert "Heat" not in turn.text


@pytest.mark.parametrize(
    ("bad", "kind"),
    [(sleeps, "unreachable"), (raw(b"<html>"), "garbage"), (cuts, "unreachable"), (status(500), "server_error"),
     (raw(b'{"choices": 7}'), "garbage"), (says(choice={"finish_reason": "content_filter"}), "refused")],
)  # fmt: skip
@pytest.mark.parametrize("protocol", ["native", "json"])
def test_a_server_that_fails_leaves_the_request_to_the_rule_agent(
    wire: tuple[str, State], session: Session, bad: Behaviour, kind: str, protocol: str
) -> None:
    url, state = wire
    state.default = bad
    slow = 0.3 if bad is sleeps else 20.0  # a busy machine must not turn another failure into this one
    turn = thinker(url, timeout=slow, protocol=protocol).answer(session, ASK)
    assert (turn.by, turn.failures) == ("rule", (f"act:{kind}",))
    assert turn.text == RuleAgent().answer(session, ASK).text


def test_an_endless_loop_over_the_wire_ends(wire: tuple[str, State], session: Session) -> None:
    url, state = wire
    state.default = calls(("recommend", {"k": 5}))
    turn = thinker(url, max_steps=4).answer(session, ASK)
    assert (turn.ended, turn.by, len(state.seen), len(turn.shown)) == ("steps", "react", 4, 5)
    state.default = calls(*[("recommend", {"k": 5})] * 40)  # forty at once
    turn = thinker(url, max_calls=16).answer(session, ASK)
    assert (turn.ended, len(turn.calls)) == ("steps", 16)


def test_native_turns_replay_without_the_server(wire: tuple[str, State], session: Session, tmp_path: Path) -> None:
    url, state = wire
    state.behaviours = [status(400), *(says(text) for text in GOOD)]
    with Store(tmp_path / "a.sqlite") as store:
        first = thinker(url, store=store).answer(session, ASK)
        asked = len(state.seen)
        model = thinker(url).model
        again = LLMAgent(Stored(model, store, "replay"), LoopConfig()).answer(session, ASK)
    assert len(state.seen) == asked
    assert (again.text, again.shown, again.failures) == (first.text, first.shown, first.failures)


def test_no_server_is_an_error_for_whoever_set_it_up(session: Session) -> None:
    with serve() as (url, _):
        pass
    with pytest.raises(ModelError, match="no connection"):
        thinker(url).answer(session, ASK)


def test_a_request_with_broken_characters_goes_through(wire: tuple[str, State], session: Session) -> None:
    url, state = wire

    def echo(handler: Handler, body: dict[str, Any]) -> None:
        assert "cooking" in body["messages"][1]["content"]
        handler.send_json(completion(GOOD[2]))

    state.default = echo
    turn = thinker(url, protocol="json").answer(session, f"{ASK} \ud83d \x00 </data>")
    assert turn.by == "react"
