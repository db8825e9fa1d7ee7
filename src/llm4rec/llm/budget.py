"""A budget for all models of a run: no call is begun that it does not allow.

Only what is really asked passes here (answers of the store do not), so a replay is never stopped
and a repeated run does not pay twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, cast

from pydantic import Field

from llm4rec.core import BudgetError, Config
from llm4rec.llm.prices import Price
from llm4rec.llm.sizes import most_answered, most_tokens
from llm4rec.llm.spelling import canonical
from llm4rec.llm.store import TRANSIENT, Store
from llm4rec.llm.streams import arrivals, in_order
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest, Loadable, Reply, Request, ScoreReply, ScoreRequest, Watch


class BudgetConfig(Config):
    """The ``[budget]`` table of an experiment: what its language models may take together."""

    max_usd: float | None = Field(default=None, gt=0)
    """US dollars; every model that is asked must have a price then."""
    max_tokens: int | None = Field(default=None, gt=0)
    """Tokens of prompts and answers."""
    max_seconds: float | None = Field(default=None, gt=0)
    """Seconds from the beginning of the command, until which calls may begin."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What has been spent: calls, tokens (prompts and answers), US dollars of the models whose price is known."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.calls + other.calls, self.tokens + other.tokens, self.usd + other.usd)


class Budget:
    """What the models of a run share: limits, and what has been spent.  Safe for threads.

    A limit is checked before each call.  Requests that are under way then may end, so a limit of
    money or tokens may be exceeded by as many answers as were under way.  An answer whose tokens the
    backend does not report counts with its upper bound (a token for each byte, and the longest
    answer that was allowed); a call that failed in the transport counts nothing.

    Args:
        config: the limits.
    """

    def __init__(self, config: BudgetConfig) -> None:
        self.config = config
        self._began = time.monotonic()
        self._spent = Spent()
        self._lock = Lock()

    @property
    def spent(self) -> Spent:
        """What has been spent so far."""
        return self._spent

    @property
    def seconds(self) -> float:
        """Seconds since the budget was made."""
        return time.monotonic() - self._began

    def check(self) -> None:
        """Raise ``BudgetError`` if no further call may begin."""
        limits, spent = self.config, self._spent
        if limits.max_usd is not None and spent.usd >= limits.max_usd:
            self._stop("max_usd", f"{spent.usd:.4f} of {limits.max_usd:g} US dollars")
        if limits.max_tokens is not None and spent.tokens >= limits.max_tokens:
            self._stop("max_tokens", f"{spent.tokens:,} of {limits.max_tokens:,} tokens")
        if limits.max_seconds is not None and self.seconds >= limits.max_seconds:
            self._stop("max_seconds", f"{self.seconds:.0f} of {limits.max_seconds:g} seconds")

    def _stop(self, name: str, share: str) -> None:
        raise BudgetError(
            f"the budget is spent: {share} (after {self._spent.calls:,} calls)",
            where=f"budget.{name}",
            todo=f"raise {name}, and the same command continues: every answer is kept, and none is paid twice",
        )

    def charge(self, calls: int, tokens_in: int, tokens_out: int, price: Price | None) -> None:
        """Add calls to what has been spent."""
        usd = 0.0 if price is None else price.of(tokens_in, tokens_out)
        with self._lock:
            self._spent += Spent(calls, tokens_in + tokens_out, usd)


class Budgeted:
    """A chat model that asks within a budget; stands between the model and its store.

    Args:
        model: who answers.
        budget: shared with the other models of the run.
        price: of the model's tokens, None when unknown; ``BudgetError`` if it must be known.
        store: if given, what it holds of this model's answers counts as spent: the limits are then
            those of a run that was stopped and continues, not of each of its commands.
    """

    def __init__(self, model: ChatModel, budget: Budget, price: Price | None, store: Store | None = None) -> None:
        if price is None and budget.config.max_usd is not None:
            raise BudgetError(
                f"the price of {model.name!r} is not known, so the limit cannot be held",
                where="budget.max_usd",
                todo="set price_in and price_out in its table, or name a list of prices in LLM4REC_PRICES",
            )
        self.model, self.budget, self.price = model, budget, price
        if store is not None:
            held = store.sums(canonical(dict(model.identity)))
            budget.charge(held.calls, held.tokens_in, held.tokens_out, price)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model's identity: a budget shapes no answer."""
        return self.model.identity

    def load(self) -> None:
        """Have a model in this process load its weights now, rather than at the first call."""
        if isinstance(self.model, Loadable):
            self.model.load()

    def chat(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answer each request, or raise ``BudgetError``."""
        return cast("list[ChatReply]", in_order(self.stream(requests), len(requests)))

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """Return log-probabilities, or raise ``BudgetError``."""
        return cast("list[ScoreReply]", in_order(self.stream(requests), len(requests)))

    def stream(self, requests: Sequence[Request], watch: Watch | None = None) -> Iterator[list[tuple[int, Reply]]]:
        """Yield answers as they arrive (see ``Streaming``)."""
        yield from arrivals(self.model, requests, _Within(self.budget, self.price, watch))


class _Within:
    """Checks the budget before a request and charges its answer."""

    def __init__(self, budget: Budget, price: Price | None, further: Watch | None) -> None:
        self._budget, self._price, self._further = budget, price, further

    def before(self, request: Request) -> None:
        self._budget.check()
        if self._further is not None:
            self._further.before(request)

    def after(self, request: Request, reply: Reply) -> None:
        usage = reply.usage
        failed = reply.failure in TRANSIENT
        tokens_in = usage.tokens_in if usage.tokens_in is not None else 0 if failed else most_tokens(request, echoed=True)
        tokens_out = usage.tokens_out if usage.tokens_out is not None else 0 if failed else most_answered(request)
        self._budget.charge(int(reply.failure != "not_asked"), tokens_in, tokens_out, self._price)
        if self._further is not None:
            self._further.after(request, reply)
