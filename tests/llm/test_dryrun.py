"""A dry run asks nobody, and its figures can be relied on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm4rec.llm import (
    ChatModel,
    ChatReply,
    ChatRequest,
    DryRun,
    Estimate,
    LLMConfig,
    Message,
    Metered,
    Price,
    ScoreRequest,
    ScriptedModel,
    Store,
    Stored,
    Usage,
    open_chat_model,
)
from llm4rec.llm.tokens import Tokens
from tests.llm.tiny import make_tiny_llama

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def ask(text: str, **changed: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), **changed)


def test_nobody_is_asked_and_the_pipeline_flows_on() -> None:
    model = ScriptedModel()  # has no answers: asking it would raise
    dry = DryRun(model, None)
    assert isinstance(dry, ChatModel)
    replies = dry.chat([ask("a" * 400, max_tokens=50), ask("b")])
    scored = dry.score([ScoreRequest("p", ("x", "y"))])[0]
    assert [(r.failure, r.text, r.value, r.usage) for r in replies] == [("not_asked", "", None, Usage(0, 0))] * 2
    assert scored.failure == "not_asked"
    assert np.isnan(scored.logprobs).all()
    assert scored.logprobs.shape == scored.tokens.shape == (2,)
    assert not model.asked
    assert (dry.name, dry.identity) == (model.name, model.identity)
    found = dry.estimate
    assert (found.calls, found.cached) == (3, 0)
    assert found.tokens_in == (100 + 4) + (1 + 4) + 1
    assert found.tokens_out == 50 + 256 + 3
    assert found.seconds is None


def test_the_store_answers_and_tells_how_long_answers_are(tmp_path: Path) -> None:
    answers = [ChatReply("x", usage=Usage(100, 12), seconds=3.0), ChatReply("y", usage=Usage(100, 8), seconds=1.0)]
    with Store(tmp_path / "llm.sqlite") as store:
        Stored(ScriptedModel(answers), store).chat([ask("a"), ask("b")])
        dry = DryRun(ScriptedModel(answers), store, slots=4)
        replies = dry.chat([ask("a"), ask("c"), ask("d"), ask("c"), ask("e", max_tokens=5)])
        assert len(store) == 2  # a dry run leaves no trace
    assert [r.cached for r in replies] == [True, False, False, False, False]
    assert replies[0].text == "x"
    found = dry.estimate
    assert (found.calls, found.cached) == (3, 2)  # the second "c" would be answered by the store
    assert (found.tokens_out, found.most_out) == (10 + 10 + 5, 256 + 256 + 5)
    assert found.seconds == pytest.approx(3 * 2.0 / 4)


def test_failures_of_the_transport_would_be_asked_again(tmp_path: Path) -> None:
    with Store(tmp_path / "llm.sqlite") as store:
        answers = [ChatReply("", failure="unreachable")]
        Stored(ScriptedModel(answers), store).chat([ask("a")])
        dry = DryRun(ScriptedModel(answers), store)
        assert dry.chat([ask("a")])[0].failure == "not_asked"
    assert dry.estimate.calls == 1


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    """A byte-level tokenizer of 400 tokens: it cuts texts into more pieces than any real one."""
    from transformers import AutoTokenizer

    return Tokens(AutoTokenizer.from_pretrained(make_tiny_llama(tmp_path_factory.mktemp("tiny"))), "tiny")


@pytest.mark.parametrize("text", ["plain words in a row", "ünïcödé ♥ 漢字", "x" * 3000, '{"a": [1, 2, 3]}', ""])
def test_upper_bounds_hold_for_a_real_tokenizer(tokens: Tokens, text: str) -> None:
    request = ChatRequest((Message("system", "be brief"), Message("user", text)), max_tokens=7)
    bounded, counted = DryRun(ScriptedModel(), None), DryRun(ScriptedModel(), None, count=lambda _: exact)
    exact = len(tokens.of_prompt(request.messages))
    bounded.chat([request])
    counted.chat([request])
    assert exact <= bounded.estimate.most_in
    assert counted.estimate.tokens_in == counted.estimate.most_in == exact


def test_a_schema_may_be_asked_for_twice() -> None:
    once, twice = DryRun(ScriptedModel(), None), DryRun(ScriptedModel(), None)
    once.chat([ask("a", max_tokens=50)])
    twice.chat([ask("a", max_tokens=50, schema=SCHEMA)])
    assert (once.estimate.most_out, twice.estimate.most_out) == (50, 100)
    assert twice.estimate.most_in > 2 * once.estimate.most_in + 2000


def test_the_bounds_hold_for_a_repaired_answer() -> None:
    def bad(request: ChatRequest) -> ChatReply:
        sent = sum(len(m.content.encode()) for m in request.messages)
        return ChatReply("♥" * 5000, usage=Usage(sent, request.max_tokens))

    request = ask("a", max_tokens=50, schema=SCHEMA)
    dry = DryRun(ScriptedModel(bad), None)
    dry.chat([request])
    usage = ScriptedModel(bad).chat([request])[0].usage
    assert usage.tokens_in is not None
    assert usage.tokens_in <= dry.estimate.most_in
    assert usage.tokens_out == dry.estimate.most_out


def test_a_server_is_sent_a_plain_prompt_with_each_continuation() -> None:
    request = ScoreRequest("p" * 400, ("x" * 4, "y" * 4))
    local, server = DryRun(ScriptedModel(), None), DryRun(open_chat_model(LLMConfig(backend="server", model="m")), None)
    local.score([request])
    server.score([request])
    assert (local.estimate.tokens_in, server.estimate.tokens_in) == (102, 302)


def test_what_the_spec_fixes_is_the_bound() -> None:
    dry = DryRun(open_chat_model(LLMConfig(backend="server", model="m", max_tokens=9)), None)
    dry.chat([ask("a", max_tokens=300)])
    assert dry.estimate.most_out == 9


def test_money_is_null_where_the_price_is_unknown() -> None:
    found = Estimate(calls=2, tokens_in=1_000_000, tokens_out=500_000, most_in=2_000_000, most_out=1_000_000, seconds=None)
    price = Price(1.0, 2.0, "a test")
    assert (found.usd(price), found.most_usd(price)) == (2.0, 4.0)
    assert (found + found).calls == 4
    assert (found + Estimate()).seconds is None
    told = json.loads(json.dumps(found.to_json(None)))
    assert (told["usd"], told["most_usd"], told["seconds"], told["calls"]) == (None, None, None, 2)


def test_the_real_run_asks_what_the_dry_run_counted(tmp_path: Path) -> None:
    """The same keys: what is counted as a call is a call, and what as cached is cached."""
    asked = [ask(str(i % 5)) for i in range(12)]
    with Store(tmp_path / "llm.sqlite") as store:
        Stored(ScriptedModel(lambda r: "x"), store).chat([ask("1"), ask("2")])
        dry = DryRun(ScriptedModel(lambda r: "x"), store)
        dry.chat(asked)
        metered = Metered(Stored(ScriptedModel(lambda r: "x"), store))
        metered.chat(asked)
    assert (dry.estimate.calls, dry.estimate.cached) == (metered.tally.calls, metered.tally.cached) == (3, 9)
