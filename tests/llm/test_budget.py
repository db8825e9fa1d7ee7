"""Budgets stop a run cleanly: before a call, in one line, with every answer kept; and price lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm4rec.core import BudgetError, RunError, SpecError
from llm4rec.llm import (
    Budget,
    BudgetConfig,
    Budgeted,
    ChatReply,
    ChatRequest,
    LLMConfig,
    Message,
    Metered,
    Price,
    ScoreRequest,
    ScriptedModel,
    Store,
    Stored,
    Usage,
)
from llm4rec.llm.budget import Spent
from llm4rec.llm.prices import LOCAL, known_price

PRICE = Price(1.0, 10.0, "a test")  # a reply of 100 and 10 tokens costs 200e-6 dollars


def ask(text: str, **changed: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), **changed)


class OneByOne(ScriptedModel):
    """Asked for one request at a time, as a server's slots are."""

    chunk = 1


def model(**changed: Any) -> OneByOne:
    return OneByOne(lambda request: ChatReply("x", usage=Usage(100, 10), **changed))


@pytest.mark.parametrize(
    ("limits", "calls", "says"),
    [
        ({"max_usd": 0.0005}, 3, "budget.max_usd: the budget is spent: 0.0006 of 0.0005 US dollars (after 3 calls)"),
        ({"max_tokens": 220}, 2, "budget.max_tokens: the budget is spent: 220 of 220 tokens (after 2 calls)"),
        ({"max_seconds": 1e-9}, 0, "budget.max_seconds: the budget is spent: 0 of 1e-09 seconds (after 0 calls)"),
    ],
)
def test_stops_before_the_call_that_is_too_much(limits: dict[str, float], calls: int, says: str) -> None:
    inner = model()
    budget = Budget(BudgetConfig(**limits))
    with pytest.raises(BudgetError) as caught:
        Budgeted(inner, budget, PRICE).chat([ask(str(i)) for i in range(9)])
    assert len(inner.asked) == budget.spent.calls == calls
    assert str(caught.value).startswith(says)
    assert f"raise {next(iter(limits))}, and the same command continues" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, RunError)


def test_a_stopped_run_goes_on_without_paying_twice(tmp_path: Path) -> None:
    asked = [ask(str(i)) for i in range(9)]
    with Store(tmp_path / "llm.sqlite") as store:

        def run(inner: ScriptedModel, max_tokens: int, store_counts: bool = True) -> list[ChatReply]:
            budget = Budget(BudgetConfig(max_tokens=max_tokens))
            within = Budgeted(inner, budget, PRICE, store if store_counts else None)
            return Metered(Stored(within, store), PRICE).chat(asked)

        first, second, third = model(), model(), model()
        with pytest.raises(BudgetError):
            run(first, 440)
        assert (len(first.asked), len(store)) == (4, 4)
        with pytest.raises(BudgetError, match="440 of 440 tokens"):  # what was spent stays spent
            run(second, 440)
        assert not second.asked
        replies = run(third, 10_000)
        assert [r.cached for r in replies] == [True] * 4 + [False] * 5
        assert len(third.asked) == 5
        run(model(), 1)  # all of it is cached: nothing is asked, so nothing stops it


def test_limits_of_one_command_alone(tmp_path: Path) -> None:
    with Store(tmp_path / "llm.sqlite") as store:
        for n in (2, 4):
            with pytest.raises(BudgetError):
                Stored(Budgeted(model(), Budget(BudgetConfig(max_tokens=220)), PRICE), store).chat(
                    [ask(str(i)) for i in range(9)]
                )
            assert len(store) == n


def test_shared_over_models_and_verbs() -> None:
    budget = Budget(BudgetConfig(max_tokens=1000))
    one, other = Budgeted(model(), budget, PRICE), Budgeted(ScriptedModel(), budget, LOCAL)
    one.chat([ask("a"), ask("b")])
    other.score([ScoreRequest("a b c", (" d", " e"))])
    assert budget.spent.calls == 3
    assert budget.spent.tokens == 220 + 5
    assert budget.spent.usd == pytest.approx(400e-6)
    assert (one.name, one.identity["backend"]) == ("scripted", "scripted")


def test_a_model_in_this_process_is_loaded_ahead_also_within_a_budget() -> None:
    class Heavy(ScriptedModel):
        loads = 0

        def load(self) -> None:
            self.loads += 1

    heavy = Heavy()
    Budgeted(heavy, Budget(BudgetConfig()), LOCAL).load()
    assert heavy.loads == 1
    Budgeted(ScriptedModel(), Budget(BudgetConfig()), LOCAL).load()  # has nothing to load


def test_replays_are_never_stopped(tmp_path: Path) -> None:
    with Store(tmp_path / "llm.sqlite") as store:
        Stored(model(), store).chat([ask("a")])
        spent = Budgeted(model(), Budget(BudgetConfig(max_seconds=1e-9, max_tokens=1)), LOCAL, store)
        assert Stored(spent, store, "replay").chat([ask("a")])[0].cached


def test_an_unknown_price_cannot_be_held() -> None:
    with pytest.raises(BudgetError, match="price of 'scripted' is not known") as caught:
        Budgeted(model(), Budget(BudgetConfig(max_usd=1)), None)
    assert "LLM4REC_PRICES" in str(caught.value)
    Budgeted(model(), Budget(BudgetConfig(max_tokens=1)), None)


def test_unreported_tokens_count_with_their_upper_bound_and_lost_calls_nothing() -> None:
    answers = [
        ChatReply("x", usage=Usage(None, None)),
        ChatReply("", failure="unreachable"),
        ChatReply("", failure="not_asked"),
    ]
    budget = Budget(BudgetConfig())
    Budgeted(ScriptedModel(answers), budget, None).chat([ask("x" * 1000, max_tokens=50)] * 3)
    assert budget.spent.calls == 2
    assert 1050 < budget.spent.tokens < 1150


def test_unreported_tokens_of_the_store_count_too(tmp_path: Path) -> None:
    with Store(tmp_path / "llm.sqlite") as store:
        answers = [ChatReply("x", usage=Usage(None, None))]
        Stored(ScriptedModel(answers), store).chat([ask("x" * 1000, max_tokens=50)])
        budget = Budget(BudgetConfig())
        Budgeted(ScriptedModel(answers), budget, None, store)
    assert 1050 < budget.spent.tokens < 1300


@pytest.mark.parametrize("wrong", [{"max_usd": 0}, {"max_tokens": -1}, {"max_seconds": float("nan")}, {"max_euro": 1}])
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BudgetConfig(**wrong)
    assert all(field.description for field in BudgetConfig.model_fields.values())
    assert Spent(1, 2, 3.0) + Spent(1) == Spent(2, 2, 3.0)


# -- lists of prices ----------------------------------------------------------------------

LIST = """
date = 2026-11-01
[[provider]]
host = "localhost:8000"
models = { mine = [0.5, 1], "gpt-4o-mini" = [9, 9] }
[[provider]]
host = "api.openai.com"
models = { "gpt-4o-mini" = [7, 8] }
"""


def test_own_prices_go_before_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prices.toml").write_text(LIST)
    (tmp_path / "other.toml").write_text(
        'date = "2026-10"\n[[provider]]\nhost = "api.openai.com"\nmodels = {"gpt-4o-mini" = [1, 2]}'
    )
    local = LLMConfig(backend="server", model="mine", base_url="http://localhost:8000/v1")
    hosted = LLMConfig(backend="server", model="gpt-4o-mini-2024-07-18")
    assert local.price is None
    monkeypatch.setenv("LLM4REC_PRICES", str(tmp_path / "prices.toml"))
    assert local.price == Price(0.5, 1.0, "localhost:8000, prices.toml of 2026-11-01")
    assert hosted.price == Price(7.0, 8.0, "api.openai.com, prices.toml of 2026-11-01")
    assert LLMConfig(backend="server", model="gpt-4.1").price == known_price(
        "https://api.openai.com/v1", "gpt-4.1"
    )  # still ours
    assert LLMConfig(backend="server", model="mine", base_url="http://localhost:8001/v1").price is None
    named = LLMConfig(backend="server", model="gpt-4o-mini", prices=tmp_path / "other.toml")
    assert named.price == Price(1.0, 2.0, "api.openai.com, other.toml of 2026-10")
    assert LLMConfig(backend="server", model="mine", price_in=3, price_out=4).price == Price(3.0, 4.0, "the spec")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot read the list of prices"),
        ("date = ", "not TOML"),
        ("provider = []", "date: Field required"),
        ('date = "x"\n[[provider]]\nhost = "h"\nmodels = { m = [-1, 2] }', "provider.0.models.m.0"),
        ('date = "x"\n[[provider]]\nhost = "h"\nmodels = { m = [1] }', "provider.0.models.m"),
        ('date = "x"\n[[provider]]\nhost = "h"\nmodels = { m = [nan, 2] }', "provider.0.models.m.0"),
        ('date = "x"\nprovider = []\nmodels = 3', "models: Extra inputs"),
    ],
)
def test_a_wrong_list_of_prices_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, says: str
) -> None:
    path = tmp_path / "prices.toml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("LLM4REC_PRICES", str(path))
    with pytest.raises(SpecError, match=r"prices\.toml") as caught:
        known_price("https://api.openai.com/v1", "gpt-4o-mini")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
