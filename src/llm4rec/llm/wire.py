"""The OpenAI protocol as it is really spoken: what to send, and what an answer of any shape means.

Nothing here raises: whatever a server sends becomes a value or a typed failure.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.llm.values import FailureKind, Message, ToolCall, Usage


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt: the body of a good answer, a failure, or what is wrong with the set-up.

    Attributes:
        body: decoded JSON object of an HTTP 200.
        after: seconds that the server asks to wait.
        refused: the connection itself could not be made.
        absent: there is no such endpoint (404 that does not speak of the model).
        setup: what is wrong and what to do about it, if no later call can do better.
    """

    body: Mapping[str, Any] | None = None
    failure: FailureKind | None = None
    detail: str = ""
    after: float | None = None
    refused: bool = False
    absent: bool = False
    setup: tuple[str, str] | None = None


def closed(schema: Mapping[str, Any]) -> bool:
    """Can a server hold its decoding strictly to this schema (every object names and requires all it may hold)?"""
    if schema.get("type") == "object" or "properties" in schema:
        names = set(schema.get("properties", {}))
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != names:
            return False
    inner = [v for v in schema.values() if isinstance(v, Mapping)]
    inner += [p for p in schema.get("properties", {}).values() if isinstance(p, Mapping)]
    return all(closed(part) for part in inner if part is not schema.get("properties"))


def turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [_turn(message) for message in messages]


def _turn(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role, "content": _unicode(message.content)}
    if message.calls:
        called = [(c.id, {"name": c.name, "arguments": _unicode(c.arguments)}) for c in message.calls]
        told["tool_calls"] = [{"id": id_, "type": "function", "function": function} for id_, function in called]
    return told if message.answers is None else {**told, "tool_call_id": message.answers}


def decoded(content: bytes) -> Outcome:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        start = content[:60].decode("utf-8", "replace")
        return Outcome(failure="garbage", detail=f"HTTP 200 with a body that is not JSON, beginning {start!r}")
    if isinstance(body, dict) and body.get("error") and not body.get("choices"):  # some gateways say it with HTTP 200
        code, message = error_fields(json.dumps(body))
        kind: FailureKind = "rate_limited" if code == "429" else "server_error"
        return Outcome(failure=kind, detail=f"HTTP 200 with an error: {message or code}")
    if not isinstance(body, dict) or not isinstance(body.get("choices"), list):
        return Outcome(failure="garbage", detail="HTTP 200 with JSON that is no answer of the protocol")
    return Outcome(body=body)


def error_fields(text: str) -> tuple[str, str]:
    """Return code and message of an error body, whatever its form."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return "", ""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        return str(error.get("code") or ""), str(error.get("message") or error.get("detail") or "")
    return "", str(error)


def wait_seconds(header: str | None, unit: float = 1.0) -> float | None:
    """Return the seconds of a ``Retry-After``: a number or a date."""
    if not header:
        return None
    try:
        value = float(header) * unit
    except ValueError:
        try:
            value = parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, value) if value == value else None


def usage(body: Mapping[str, Any]) -> Usage:
    told = body.get("usage")
    if not isinstance(told, dict):
        return Usage()
    counts = [told.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return Usage(*(c if isinstance(c, int) and c >= 0 else None for c in counts))


def spent(outcome: Outcome) -> Usage:
    """Return the tokens of a call without an answer: none if nobody was asked, else unknown."""
    return Usage(0, 0) if outcome.failure == "not_asked" else Usage()


def called(body: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """Return the tools that a chat completion calls, in order; what is no call of a function is left out."""
    try:
        entries = body["choices"][0]["message"]["tool_calls"]
    except (LookupError, TypeError):
        return ()
    found = []
    for at, entry in enumerate(entries if isinstance(entries, list) else ()):
        function = entry.get("function") if isinstance(entry, dict) else None
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            given = function.get("arguments")
            arguments = given if isinstance(given, str) else json.dumps({} if given is None else given)
            id_ = entry.get("id")
            named = id_ if isinstance(id_, str) and id_ else f"call_{at}"
            found.append(ToolCall(_unicode(function["name"]), _unicode(arguments), _unicode(named)))
    return tuple(found)


def answer(body: Mapping[str, Any], *, offered: bool = False) -> tuple[str, FailureKind | None, str]:
    """Return text, failure and detail of a chat completion; with ``offered`` tools it may call some (see :func:`called`)."""
    choice = body["choices"][0] if body["choices"] else None
    if choice is None:
        return "", "empty", "an answer without choices"
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        return "", "garbage", "a choice without a message"
    content, refusal = message.get("content"), message.get("refusal")
    if isinstance(content, list):  # some servers send parts
        content = "".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
    text = _unicode(content) if isinstance(content, str) else ""
    if isinstance(refusal, str) and refusal:
        return text or _unicode(refusal), "refused", _unicode(refusal)
    tools = message.get("tool_calls") or message.get("function_call")
    if tools and not (offered and called(body)):
        n = len(tools) if isinstance(tools, list) else 1
        if offered:
            return text, "tool_call", f"{n} tool{'s' if n > 1 else ''} called in a form that is not the protocol's"
        return text, "tool_call", f"{n} tool{'s' if n > 1 else ''} called, and there is none"
    reason = choice.get("finish_reason")
    if reason == "content_filter":
        return text, "refused", "the server's content filter"
    if reason == "length":
        return text, "truncated", "cut at max_tokens"
    return text, None, ""


def _unicode(text: str) -> str:
    """Return the text with ``?`` for each half of a character, which JSON can escape and no file can hold."""
    return text.encode("utf-8", "replace").decode()


def label_logprobs(body: Mapping[str, Any], labels: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return float64[c] log-probabilities of labels as the first token, nan where not among the top ones.

    White space around the label does not matter: "A" and " A" are summed.  A label that begins
    another one ("1" and "12") is nan unless the longer one is a token of its own: its probability
    might include the longer one's.
    """
    top: dict[str, float] = {}
    try:
        for entry in body["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            token = str(entry["token"]).strip()
            top[token] = float(np.logaddexp(top.get(token, -np.inf), float(entry["logprob"])))
    except (KeyError, IndexError, TypeError, ValueError):
        top = {}
    words = [label.strip() for label in labels]
    scores = np.array([top.get(word, np.nan) for word in words], dtype=np.float64)
    for i, word in enumerate(words):
        if any(other != word and other.startswith(word) and other not in top for other in words):
            scores[i] = np.nan
    return scores, np.ones(len(labels), dtype=np.int32)


def echoed_logprobs(body: Mapping[str, Any], continuations: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return float64[c] summed log-probabilities from an echo of the prompt alone and of prompt + continuation.

    The tokens of the prompt alone say where a continuation begins.  It is nan where the two do
    not split there alike (a token across the border), or where the server did not echo.
    """
    scores, counts = np.full(len(continuations), np.nan), np.zeros(len(continuations), dtype=np.int32)
    parts: dict[int, tuple[list[str], list[float]]] = {}
    for place, choice in enumerate(body["choices"]):
        try:
            logprobs = choice["logprobs"]
            tokens, values = list(map(str, logprobs["tokens"])), list(logprobs["token_logprobs"])
            # The last token was generated, not echoed.
            parts[int(choice.get("index", place))] = tokens[:-1], values[:-1]
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    border = parts.get(0, ([], []))[0]
    for i, continuation in enumerate(continuations):
        tokens, values = parts.get(i + 1, ([], []))
        own = values[len(border) :]
        whole = "".join(tokens[len(border) :]).strip() == continuation.strip()
        if border and own and whole and tokens[: len(border)] == border and all(isinstance(v, int | float) for v in own):
            scores[i], counts[i] = float(sum(own)), len(own)
    return scores, counts
