"""Structured output: find the JSON in an answer, hold it against the schema, ask once again.

Servers ignore schemas silently, so every backend that is asked for a schema goes through
:func:`answered` (or its parts, one request at a time), whatever the backend promises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from llm4rec.llm.values import ChatReply, ChatRequest, FailureKind, Message, Usage

_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
_OPEN, _CLOSE = "{[", "}]"
#: Failures that a second question may cure; a cut answer would be cut again.
_REPAIRABLE: frozenset[FailureKind] = frozenset({"unreadable", "schema", "empty", "tool_call"})
#: Longest piece of a bad answer that is sent back in the repair.
_QUOTED = 2_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read from an answer: a value, or the kind of failure and one line about it."""

    value: Any = None
    failure: FailureKind | None = None
    detail: str = ""


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _end(text: str, start: int) -> int:
    """Return where the bracket opened at ``start`` closes (one past it), or -1."""
    depth, quoted, at = 0, False, start
    while at < len(text):
        character = text[at]
        if quoted:
            if character == "\\":
                at += 1
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return -1


def without_thoughts(text: str) -> str:
    """Return an answer without the ``<think>`` part that reasoning models put before it."""
    return _THOUGHT.sub(" ", text)


def json_values(text: str) -> Iterator[Any]:
    """Yield the JSON objects and arrays that stand in a text (in prose, in code fences).

    A bracket that opens something broken is skipped as a whole: what is nested in a broken or
    cut value is never taken for the answer.
    """
    text = without_thoughts(text)
    at = 0
    while True:
        at = min((p for p in (text.find(b, at) for b in _OPEN) if p >= 0), default=-1)
        if at < 0:
            return
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = _end(text, at)
            if at < 0:
                return
        else:
            yield value


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
    from jsonschema.exceptions import SchemaError  # type: ignore[import-untyped]

    try:
        Draft202012Validator.check_schema(json.loads(schema))
    except SchemaError as error:
        raise ValueError(f"not a JSON schema: {error.message}") from None
    return Draft202012Validator(json.loads(schema))


def read_json(text: str, schema: Mapping[str, Any]) -> Reading:
    """Return the one value in the text that satisfies the schema, or why there is none.

    Two different values that both satisfy it are ``unreadable``: which one was meant is anybody's
    guess.  Raises ``ValueError`` if the schema itself is wrong.
    """
    validator = _validator(json.dumps(schema, sort_keys=True))
    if not text.strip():
        return Reading(failure="empty", detail="no text")
    try:
        values: list[Any] = [_DECODER.decode(text.strip())]
    except (ValueError, RecursionError):
        values = list(json_values(text))
    if not values:
        return Reading(failure="unreadable", detail="no JSON value in the answer")
    good: list[Any] = []
    complaint = ""
    for value in values:
        error = next(iter(sorted(validator.iter_errors(value), key=lambda e: list(map(str, e.path)))), None)
        if error is None:
            if value not in good:
                good.append(value)
        else:
            place = "/".join(map(str, error.path)) or "the top"
            complaint = " ".join(f"at {place}: {error.message}".split())[:300]
    if len(good) == 1:
        return Reading(good[0])
    if good:
        return Reading(failure="unreadable", detail=f"{len(good)} different answers in one")
    return Reading(failure="schema", detail=complaint)


def judged(request: ChatRequest, reply: ChatReply) -> ChatReply:
    """Return a backend's reply with its value, or with the failure to give one."""
    if request.schema is None:
        if reply.failure is None and not reply.text.strip() and not reply.calls:
            return replace(reply, failure="empty", detail="no text")
        return reply
    if reply.failure not in (None, "truncated"):
        return reply
    reading = read_json(reply.text, request.schema)
    if reading.failure is None:
        return replace(reply, value=reading.value, failure=None, detail="")
    if reply.failure == "truncated":
        return reply
    return replace(reply, failure=reading.failure, detail=reading.detail)


def repair(request: ChatRequest, reply: ChatReply) -> ChatRequest | None:
    """Return the one further question that a judged reply deserves, or None."""
    if request.schema is None or reply.failure not in _REPAIRABLE:
        return None
    ask = (
        f"That answer cannot be used: {reply.detail}. "
        f"Answer again, with nothing but one JSON value that satisfies this schema: {json.dumps(request.schema)}"
    )
    turns = (Message("assistant", reply.text[:_QUOTED] or "(no answer)"), Message("user", ask))
    return replace(request, messages=request.messages + turns)


def most_repaired(request: ChatRequest) -> int:
    """Return an upper bound, in bytes, of what a repair adds to a request: the bad answer, the complaint, the schema."""
    return 4 * _QUOTED + 1_000 + len(json.dumps(request.schema))


def repaired(request: ChatRequest, first: ChatReply, second: ChatReply) -> ChatReply:
    """Return the judged answer to the repair, with usage and seconds of both calls."""
    usage = Usage(_sum(first.usage.tokens_in, second.usage.tokens_in), _sum(first.usage.tokens_out, second.usage.tokens_out))
    return replace(judged(request, second), usage=usage, seconds=first.seconds + second.seconds, repaired=True)


def schema_instruction(request: ChatRequest, *, enforced: bool = False) -> tuple[Message, ...]:
    """Return the messages with the schema in words at the end, or with its keys alone where it is enforced."""
    if request.schema is None:
        return request.messages
    if enforced:
        parts = (request.schema, *request.schema.get("anyOf", ()))
        keys = ", ".join(next((part["properties"] for part in parts if "properties" in part), ()))
        words = f"Answer with one JSON object: {keys}." if keys else "Answer with one JSON value."
    else:
        words = f"Answer with nothing but one JSON value that satisfies this schema: {json.dumps(request.schema)}"
    *before, last = request.messages
    if last.role != "user":
        return (*request.messages, Message("user", words))
    return (*before, Message("user", f"{last.content}\n\n{words}"))


def _sum(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def answered(requests: Sequence[ChatRequest], complete: Callable[[Sequence[ChatRequest]], list[ChatReply]]) -> list[ChatReply]:
    """Answer requests through ``complete``, check each value, and repair once what can be repaired.

    Args:
        requests: n questions.
        complete: asks the backend; returns texts or transport failures, n in, n out.

    Returns:
        n replies.  The usage and seconds of a repaired reply are those of both calls; its text is
        that of the second.
    """
    replies = [judged(request, reply) for request, reply in zip(requests, complete(requests), strict=True)]
    again = {i: q for i, (request, reply) in enumerate(zip(requests, replies, strict=True)) if (q := repair(request, reply))}
    if again:
        for i, second in zip(again, complete(list(again.values())), strict=True):
            replies[i] = repaired(requests[i], replies[i], second)
    return replies
