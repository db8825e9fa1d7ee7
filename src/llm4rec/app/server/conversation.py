"""``POST /v1/chat``: a turn of an agent, as server-sent events while it happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Response
from starlette.responses import StreamingResponse

from llm4rec.agents.rule import RuleAgent
from llm4rec.agents.turn import Turn
from llm4rec.app.server.guard import Refused
from llm4rec.app.server.schemas import ChatRequest
from llm4rec.app.server.service import Service
from llm4rec.app.server.sessions import Sessions
from llm4rec.core import LLM4RecError


def add_chat(app: FastAPI, service: Service, sessions: Sessions) -> None:
    """Add the route."""
    agent = RuleAgent()

    @app.post("/v1/chat", response_class=StreamingResponse)
    async def chat(request: ChatRequest) -> Response:
        """Answer a request in words by a rule agent, without a language model, through the run's systems.

        Server-sent events: ``plan`` (the calls meant), ``tool`` (a call with its answer or error),
        ``candidates`` (the items under consideration, and why others left), ``token`` (words of the answer),
        ``done`` (session, whole answer, items) or ``error``.
        """
        opened = await asyncio.to_thread(sessions.open, request.session, request.user, service.engine, service.memory)
        if opened is None:
            raise Refused(404, "unknown_session", "there is no such conversation of this user")
        id_, session = opened

        async def events() -> AsyncIterator[str]:
            turns = agent.steps(session, request.message)
            turn, done = None, 0
            try:
                # Each step is done in the thread of the systems, between two batches of other requests.
                while (step := await service.between(lambda: next(turns, None))) is not None:
                    if turn is None:
                        plan = [{"tool": c.tool, "arguments": dict(c.arguments)} for c in step.plan]
                        act = None if step.request is None else step.request.act
                        yield _event("plan", {"session": id_, "act": act, "calls": plan})
                    for call in step.calls[done:]:
                        told = {"tool": call.tool, "arguments": dict(call.arguments)}
                        yield _event("tool", told | ({"error": call.error} if call.error else {"answer": call.answer}))
                        yield _event("candidates", _candidates(step, 20))
                    turn, done = step, len(step.calls)
                assert turn is not None
                for line in turn.text.splitlines(keepends=True):
                    yield _event("token", {"text": line})
                await asyncio.to_thread(sessions.keep, id_, turn.session)
                yield _event("done", {"session": id_, "text": turn.text, **_candidates(turn, 100)})
            except LLM4RecError as error:
                yield _event("error", {"code": "invalid", "message": str(error)})

        return StreamingResponse(events(), media_type="text/event-stream")


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"  # JSON has no line breaks of its own


def _candidates(turn: Turn, most: int) -> dict[str, Any]:
    held, engine = turn.session.candidates, turn.session.engine
    if held is None:
        return {"items": [], "dropped": []}
    told = held.as_dict(engine.catalogue.items)
    names = engine.catalogue.names
    items = [{**entry, "name": names[int(i)]} for entry, i in zip(told["items"], held.items, strict=True)]
    return {"items": items[:most], "dropped": told["dropped"][-most:]}
