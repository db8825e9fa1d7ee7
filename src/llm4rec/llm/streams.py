"""Answers as they arrive, from any model: its own stream, or chunk by chunk."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import cast

from llm4rec.llm.values import ChatModel, ChatRequest, Reply, Request, ScoreRequest, Streaming, Watch

#: Requests asked at once of a model that neither streams nor names a ``chunk``.
CHUNK = 32


def arrivals(
    model: ChatModel, requests: Sequence[Request], watch: Watch | None = None, *, chunk: int | None = None
) -> Generator[list[tuple[int, Reply]], None, None]:
    """Yield what has been answered since the last time, as (place in ``requests``, reply).

    Args:
        model: any chat model.
        requests: all of one kind.
        watch: told before a request is sent and after it is answered; where the model does not
            stream, before and after its chunk.
        chunk: requests asked at once of a model that does not stream; by default the model's own
            ``chunk``, else 32.
    """
    if isinstance(model, Streaming):
        yield from model.stream(requests, watch)
        return
    size = max(1, chunk if chunk is not None else int(getattr(model, "chunk", CHUNK)))
    for start in range(0, len(requests), size):
        part = requests[start : start + size]
        if watch is not None:
            for request in part:
                watch.before(request)
        replies = ask(model, part)
        if watch is not None:
            for request, reply in zip(part, replies, strict=True):
                watch.after(request, reply)
        yield list(enumerate(replies, start))


def ask(model: ChatModel, requests: Sequence[Request]) -> list[Reply]:
    """Ask requests of one kind through the verb that is theirs."""
    if requests and isinstance(requests[0], ScoreRequest):
        return list(model.score(cast("Sequence[ScoreRequest]", requests)))
    return list(model.chat(cast("Sequence[ChatRequest]", requests)))


def in_order(parts: Iterator[list[tuple[int, Reply]]], n: int) -> list[Reply]:
    """Return n streamed replies in the order of their requests."""
    replies = dict(pair for part in parts for pair in part)
    return [replies[at] for at in range(n)]
