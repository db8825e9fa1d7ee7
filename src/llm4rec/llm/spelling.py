"""Requests and replies as JSON, as they lie in the store."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from llm4rec.llm.values import ChatReply, ChatRequest, ScoreReply, ScoreRequest, ToolCall, Usage

#: Fields of requests and messages that are written only where they say something.
_SPARSE = ("tools", "calls", "answers", "guided")


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, ASCII, no nan."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def request_json(request: ChatRequest | ScoreRequest) -> str:
    """Return the canonical JSON of a request: every field of it, but for tools and guidance where there are none.

    So a question without them has the key that it had before there were any.
    """
    fields = asdict(request)
    turns = fields["messages"] if isinstance(request, ChatRequest) else fields["prompt"]
    for part in (fields, *(turns if isinstance(turns, tuple) else ())):
        for name in _SPARSE:
            if not part.get(name, True):
                del part[name]
    return canonical(fields)


def chat_json(reply: ChatReply) -> str:
    """Return the JSON of a reply."""
    fields = asdict(reply)
    for name in ("cached", "once", *(() if reply.calls else ("calls",))):
        del fields[name]
    return canonical(fields)


def chat_reply(stored: str) -> ChatReply:
    """Return the reply that a JSON text holds, as one of the store."""
    fields = json.loads(stored)
    calls = tuple(ToolCall(**call) for call in fields.get("calls", ()))
    told = {"usage": Usage(**fields["usage"]), "calls": calls, "seconds": 0.0, "once": fields["seconds"], "cached": True}
    return ChatReply(**(fields | told))


def score_json(reply: ScoreReply) -> str:
    """Return the JSON of a reply; nan is null."""
    fields = {
        "logprobs": [None if math.isnan(x) else x if math.isfinite(x) else str(x) for x in reply.logprobs.tolist()],
        "tokens": reply.tokens.tolist(),
        "failure": reply.failure,
        "detail": reply.detail,
        "usage": asdict(reply.usage),
        "seconds": reply.seconds,
    }
    return canonical(fields)


def score_reply(stored: str) -> ScoreReply:
    """Return the reply that a JSON text holds, as one of the store."""
    fields = json.loads(stored)
    fields["logprobs"] = np.array([math.nan if x is None else float(x) for x in fields["logprobs"]], dtype=np.float64)
    fields["tokens"] = np.array(fields["tokens"], dtype=np.int32)
    return ScoreReply(**(fields | {"usage": Usage(**fields["usage"]), "seconds": 0.0, "cached": True}))


def stored_reply(kind: str, reply: str) -> ChatReply | ScoreReply:
    """Return the reply that a row of a kind holds; raises ``KeyError``, ``TypeError`` or ``ValueError`` if it holds none."""
    loaders: Mapping[str, Callable[[str], ChatReply | ScoreReply]] = {"chat": chat_reply, "score": score_reply}
    return loaders[kind](reply)
