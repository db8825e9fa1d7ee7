"""What a run would ask, and what that would take, before anything is asked or paid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from threading import Lock
from typing import Any

import numpy as np

from llm4rec.llm.prices import Price
from llm4rec.llm.sizes import likely_tokens, most_answered, most_tokens
from llm4rec.llm.spelling import canonical, request_json, stored_reply
from llm4rec.llm.store import Store, Sums, call_key
from llm4rec.llm.structured import most_repaired
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest, Reply, Request, ScoreReply, ScoreRequest, Usage

_DETAIL = "a dry run asks nobody"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What calls would take; two of them can be added and subtracted.

    ``most`` is an upper bound of one attempt at each call, with the one bounded repair where a schema is
    asked for: a token for each byte of a prompt, and answers as long as allowed.  What a server
    charges for attempts that fail is not in it.

    Attributes:
        calls: calls that would reach the model.
        cached: calls that the store (or the same run, earlier) would answer.
        tokens_in, tokens_out: likely tokens of the calls that would reach the model.
        most_in, most_out: upper bounds.
        seconds: likely wall time of the calls; None where no earlier answer tells how long one takes.
    """

    calls: int = 0
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    most_in: int = 0
    most_out: int = 0
    seconds: float | None = 0.0

    def _with(self, other: Estimate, sign: int) -> Estimate:
        seconds = None if self.seconds is None or other.seconds is None else self.seconds + sign * other.seconds
        sums = {f.name: getattr(self, f.name) + sign * getattr(other, f.name) for f in fields(self) if f.name != "seconds"}
        return Estimate(**sums, seconds=seconds)

    def __add__(self, other: Estimate) -> Estimate:
        return self._with(other, 1)

    def __sub__(self, other: Estimate) -> Estimate:
        return self._with(other, -1)

    def usd(self, price: Price | None) -> float | None:
        """Return the likely money in US dollars; None when the price is unknown."""
        return None if price is None else price.of(self.tokens_in, self.tokens_out)

    def most_usd(self, price: Price | None) -> float | None:
        """Return an upper bound of the money in US dollars; None when the price is unknown."""
        return None if price is None else price.of(self.most_in, self.most_out)

    def to_json(self, price: Price | None) -> dict[str, Any]:
        """Return everything as JSON values; what is unknown is null."""
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        return told | {"usd": self.usd(price), "most_usd": self.most_usd(price)}


class DryRun:
    """A chat model that never asks: it answers what the store holds, and counts the rest.

    What is not stored gets a stand-in, ``not_asked`` (and nan for scores), so that a pipeline flows
    on.  A prompt that quotes an earlier answer is therefore counted without it, and what a run asks
    only after certain answers is not counted at all.

    A prompt's tokens are its characters / 4 unless ``count`` counts them; an answer is likely as
    long, and takes as many seconds, as this model's stored answers on average; without any, it is
    likely as long as allowed.

    Args:
        model: whose calls are estimated; it is asked for its name and identity alone.
        store: what has been answered; None if there is nothing yet.
        slots: requests that the model answers at a time, for the seconds.
        count: counts a request's tokens, where the model's own tokenizer is at hand.
    """

    def __init__(
        self, model: ChatModel, store: Store | None, *, slots: int = 1, count: Callable[[Request], int] | None = None
    ) -> None:
        self.model, self.store, self.slots = model, store, slots
        self._count = count
        self._estimate = Estimate()
        self._asked: set[str] = set()
        self._lock = Lock()
        identity = dict(model.identity)
        self._identity, self._echoed = canonical(identity), identity.get("backend") == "server"
        self._fixed = dict(identity.get("fixed", {}))
        self._known = {kind: Sums() if store is None else store.sums(self._identity, kind) for kind in ("chat", "score")}

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model's identity."""
        return self.model.identity

    @property
    def estimate(self) -> Estimate:
        """What has been counted so far."""
        return self._estimate

    def chat(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answer each request from the store, or with a stand-in."""
        standin = ChatReply("", failure="not_asked", detail=_DETAIL, usage=Usage(0, 0))
        return [standin if reply is None else reply for reply in self._found("chat", requests)]

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """Return stored log-probabilities, or nan."""
        return [
            _unscored(request) if reply is None else reply
            for request, reply in zip(requests, self._found("score", requests), strict=True)
        ]

    def _found(self, kind: str, requests: Sequence[Any]) -> list[Any]:
        """Return the stored replies, None for the others, which are counted once each."""
        keys = [call_key(kind, self._identity, request_json(request)) for request in requests]
        found: dict[str, Reply] = {}
        if self.store is not None:
            found = {key: stored_reply(kind, reply) for key, reply in self.store.read(list(dict.fromkeys(keys))).items()}
        total = Estimate()
        with self._lock:
            for key, request in zip(keys, requests, strict=True):
                known = key in found or key in self._asked
                self._asked.add(key)
                total += Estimate(cached=1) if known else self._of(kind, request)
            self._estimate += total
        return [found.get(key) for key in keys]

    def _of(self, kind: str, request: Request) -> Estimate:
        if isinstance(request, ChatRequest):
            request = replace(request, **self._fixed)
        if self._count is None:
            likely, most = likely_tokens(request, echoed=self._echoed), most_tokens(request, echoed=self._echoed)
        else:
            likely = most = self._count(request)
        answer, seconds, known = most_answered(request), None, self._known[kind]
        most_answer = answer
        if isinstance(request, ChatRequest) and request.schema is not None:  # it may be asked for once more
            most, most_answer = 2 * most + most_repaired(request), 2 * most_answer
        if known.calls:
            answer, seconds = min(answer, round(known.tokens_out / known.calls)), known.seconds / known.calls / self.slots
        return Estimate(1, 0, likely, answer, most, most_answer, seconds)


def _unscored(request: ScoreRequest) -> ScoreReply:
    n = len(request.continuations)
    return ScoreReply(np.full(n, np.nan), np.ones(n, np.int32), failure="not_asked", detail=_DETAIL, usage=Usage(0, 0))
