"""How many tokens a request takes, before anybody has counted them."""

from __future__ import annotations

import json

from llm4rec.llm.values import ChatRequest, Request

#: Characters of a token of English text, by the usual rule of thumb; other scripts take more tokens.
CHARACTERS = 4
#: Tokens that a chat template adds to each message: about, and at most.
_TURN, _LONGEST_TURN = 4, 16


def _texts(request: Request, echoed: bool) -> tuple[list[str], int]:
    """Return all that is sent, and the number of messages."""
    if isinstance(request, ChatRequest):
        schema = [] if request.schema is None else [json.dumps(request.schema)]
        calls = [text for m in request.messages for call in m.calls for text in (call.name, call.arguments, call.id)]
        tools = [json.dumps(tool) for tool in request.tools]
        return [m.content for m in request.messages] + schema + calls + tools, len(request.messages)
    if isinstance(request.prompt, str):
        times = len(request.continuations) + 1 if echoed else 1
        return [*[request.prompt] * times, *request.continuations], 0
    return [m.content for m in request.prompt] + list(request.continuations), len(request.prompt)


def likely_tokens(request: Request, *, echoed: bool = False) -> int:
    """Return an estimate of a request's tokens: characters / 4, and what the template adds.

    Args:
        request: a question, or continuations to be scored.
        echoed: is a plain prompt sent anew with each continuation (as servers need it)?
    """
    texts, turns = _texts(request, echoed)
    return -(-sum(map(len, texts)) // CHARACTERS) + _TURN * turns


def most_tokens(request: Request, *, echoed: bool = False) -> int:
    """Return an upper bound of a request's tokens: one for each byte, as in any byte-level vocabulary."""
    texts, turns = _texts(request, echoed)
    return sum(len(text.encode("utf-8", "replace")) for text in texts) + _LONGEST_TURN * (turns + 1)


def most_answered(request: Request) -> int:
    """Return an upper bound of an answer's tokens; a server generates one for each prompt that it echoes."""
    return request.max_tokens if isinstance(request, ChatRequest) else len(request.continuations) + 1
