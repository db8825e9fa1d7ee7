"""What model calls cost: calls, tokens, seconds, failures by kind, and money where a price is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from types import MappingProxyType
from typing import Any

from llm4rec.llm.prices import Price
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest, Loadable, ScoreReply, ScoreRequest

_NONE: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over model calls; two of them can be subtracted and added.

    Attributes:
        calls: calls that reached the model (those that failed too; not those that were ``not_asked``).
        cached: calls that the store answered.
        tokens_in, tokens_out: of the calls that reached the model, as reported.
        cached_in, cached_out: tokens that the store's answers once took.
        unreported: calls (cached ones too) whose tokens the backend did not report.
        seconds: sum of the calls' times; calls in parallel count each.
        repaired: calls that needed the one bounded repair.
        failures: kind of failure -> number of calls, cached ones too.
    """

    calls: int = 0
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cached_in: int = 0
    cached_out: int = 0
    unreported: int = 0
    seconds: float = 0.0
    repaired: int = 0
    failures: Mapping[str, int] = field(default_factory=lambda: _NONE)

    def _with(self, other: Tally, sign: int) -> Tally:
        names = ("calls", "cached", "tokens_in", "tokens_out", "cached_in", "cached_out", "unreported", "seconds", "repaired")
        failures = Counter(self.failures)
        failures.update({kind: sign * n for kind, n in other.failures.items()})
        sums = {name: getattr(self, name) + sign * getattr(other, name) for name in names}
        return Tally(**sums, failures=MappingProxyType({k: n for k, n in sorted(failures.items()) if n}))

    def __add__(self, other: Tally) -> Tally:
        return self._with(other, 1)

    def __sub__(self, other: Tally) -> Tally:
        return self._with(other, -1)

    def paid(self, price: Price | None) -> float | None:
        """Return the money in US dollars that the calls took; None when price or tokens are unknown."""
        return None if price is None or not price.covers(self.unreported) else price.of(self.tokens_in, self.tokens_out)

    def worth(self, price: Price | None) -> float | None:
        """Return what all answers, the store's too, would cost if they were asked now."""
        if price is None or not price.covers(self.unreported):
            return None
        return price.of(self.tokens_in + self.cached_in, self.tokens_out + self.cached_out)

    def to_json(self) -> dict[str, Any]:
        """Return the sums as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "failures"} | {"failures": dict(self.failures)}


class Metered:
    """A chat model that keeps count.

    ``tally`` is a snapshot; what one stage of a run took is the difference of two.

    Args:
        model: any model; put the meter outside of the store, so that it sees both kinds of answer.
        price: of the model's tokens, None when unknown.
    """

    def __init__(self, model: ChatModel, price: Price | None = None) -> None:
        self.model, self.price = model, price
        self._tally = Tally()
        self._lock = Lock()

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model's identity."""
        return self.model.identity

    @property
    def tally(self) -> Tally:
        """The sums so far."""
        return self._tally

    def load(self) -> None:
        """Have a model in this process load its weights now, rather than at the first call."""
        if isinstance(self.model, Loadable):
            self.model.load()

    def chat(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answer each request and count it."""
        return self._counted(self.model.chat(requests))

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """Return log-probabilities and count the calls."""
        return self._counted(self.model.score(requests))

    def _counted(self, replies: list[Any]) -> list[Any]:
        total = Tally()
        for reply in replies:
            tokens_in, tokens_out = reply.usage.tokens_in or 0, reply.usage.tokens_out or 0
            total += Tally(
                calls=int(not reply.cached and reply.failure != "not_asked"),
                cached=int(reply.cached),
                tokens_in=0 if reply.cached else tokens_in,
                tokens_out=0 if reply.cached else tokens_out,
                cached_in=tokens_in if reply.cached else 0,
                cached_out=tokens_out if reply.cached else 0,
                unreported=int(reply.usage.tokens_in is None or reply.usage.tokens_out is None),
                seconds=reply.seconds,
                repaired=int(getattr(reply, "repaired", False)),
                failures={reply.failure: 1} if reply.failure else {},
            )
        with self._lock:
            self._tally += total
        return replies
