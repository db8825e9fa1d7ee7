"""Counts and money: what was asked, what the store gave, what it cost, and when that is unknown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from llm4rec.llm import (
    ChatReply,
    ChatRequest,
    LLMConfig,
    Message,
    Metered,
    Price,
    ScoreReply,
    ScoreRequest,
    ScriptedModel,
    Store,
    Stored,
    Tally,
    Usage,
)
from llm4rec.llm.prices import LOCAL, known_price

PRICE = Price(1.0, 10.0, "a test")


def ask(text: str) -> ChatRequest:
    return ChatRequest((Message("user", text),))


def reply(text: str = "x", **changed: object) -> ChatReply:
    return ChatReply(text, usage=Usage(100, 10), seconds=0.5, **changed)  # type: ignore[arg-type]


def test_counts_money_and_failures(tmp_path: Path) -> None:
    answers = [reply(), reply(failure="truncated"), reply(failure="truncated")]
    with Store(tmp_path / "s.sqlite") as store:
        metered = Metered(Stored(ScriptedModel(answers), store), PRICE)
        metered.chat([ask("a"), ask("b")])
        before = metered.tally
        metered.chat([ask("a"), ask("c"), ask("c")])
    took = metered.tally - before
    assert before == Tally(calls=2, tokens_in=200, tokens_out=20, seconds=1.0, failures={"truncated": 1})
    assert took == Tally(
        calls=1, cached=2, tokens_in=100, tokens_out=10, cached_in=200, cached_out=20, seconds=0.5, failures={"truncated": 2}
    )
    assert before + took == metered.tally
    assert took.paid(PRICE) == pytest.approx(200e-6)
    assert took.worth(PRICE) == pytest.approx(600e-6)
    assert json.loads(json.dumps(took.to_json()))["failures"] == {"truncated": 2}
    assert (metered.name, metered.identity["backend"]) == ("scripted", "scripted")


def test_scores_are_counted() -> None:
    nothing = ScoreReply(np.array([np.nan]), np.array([1], np.int32), failure="unreachable")
    metered = Metered(ScriptedModel(scores=[[-1.0], nothing]))
    metered.score([ScoreRequest("a b", (" c",)), ScoreRequest("a", (" c",))])
    assert metered.tally == Tally(calls=2, tokens_in=3, unreported=1, failures={"unreachable": 1})


def test_what_was_not_asked_is_a_failure_and_no_call() -> None:
    answers = [reply(), ChatReply("", failure="not_asked", usage=Usage(0, 0))]
    metered = Metered(ScriptedModel(answers), PRICE)
    metered.chat([ask("a"), ask("b")])
    assert (metered.tally.calls, metered.tally.failures) == (1, {"not_asked": 1})
    assert metered.tally.paid(PRICE) == pytest.approx(200e-6)  # known: nobody was asked, so nothing was paid


def test_money_is_unknown_where_price_or_tokens_are() -> None:
    tally = Tally(calls=2, tokens_in=5, unreported=1)
    assert tally.paid(None) is None
    assert tally.paid(PRICE) is None
    assert tally.worth(PRICE) is None
    assert tally.paid(LOCAL) == 0.0
    assert Tally(calls=1, tokens_in=1_000_000, tokens_out=1_000_000).paid(PRICE) == 11.0


def test_price_of_the_spec_before_that_of_the_table() -> None:
    server = LLMConfig(backend="server", model="gpt-4o-mini")
    assert server.price is not None
    assert server.price.of(1_000_000, 0) == 0.15
    assert "2026" in server.price.source
    own = LLMConfig(backend="server", model="gpt-4o-mini", price_in=1, price_out=2)
    assert own.price == Price(1.0, 2.0, "the spec")
    assert LLMConfig(backend="server", model="gpt-4o-mini", base_url="http://localhost:1/v1").price is None
    assert LLMConfig(backend="server", model="unheard-of").price is None
    assert LLMConfig().price == LLMConfig(backend="scripted").price == LOCAL
    assert LLMConfig(price_in=0.1, price_out=0.1).price == Price(0.1, 0.1, "the spec")


def test_a_snapshot_has_its_familys_price() -> None:
    assert known_price("https://api.openai.com/v1", "gpt-4o-mini-2024-07-18") == known_price(
        "https://api.openai.com/v1", "gpt-4o-mini"
    )
    assert known_price("https://api.openai.com/v1", "gpt-4o-mini-audio") is None
