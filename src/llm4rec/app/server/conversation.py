"""``POST /v1/chat``: a turn of an agent, as server-sent events while it happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import numpy as np
from fastapi import FastAPI, Response
from starlette.responses import StreamingResponse

from llm4rec.agents.loop.agent import LLMAgent
from llm4rec.agents.rule import RuleAgent
from llm4rec.agents.tools import Session
from llm4rec.agents.turn import Agent, Call, Turn
from llm4rec.app.server.guard import Refused
from llm4rec.app.server.schemas import ChatRequest
from llm4rec.app.server.service import Service
from llm4rec.app.server.sessions import Sessions
from llm4rec.app.server.thinking import GaveUp, Thinking, standing_in
from llm4rec.core import LLM4RecError


@dataclass(frozen=True, slots=True)
class Chatting:
    """Who answers in conversations.

    Attributes:
        agents: by name, among them the rule agent.
        default: who answers unless a request names another.
        thinking: where agents with a language model work.
    """

    agents: Mapping[str, Agent] = field(default_factory=lambda: {"rule": RuleAgent()})
    default: str = "rule"
    thinking: Thinking = field(default_factory=lambda: Thinking(1, 30.0))

    def warm(self) -> None:
        """Begin to load what agents in this process would load in their first turn, and return."""

        def work() -> None:
            for agent in self.agents.values():
                if isinstance(agent, LLMAgent):
                    with suppress(LLM4RecError):  # the first turn says what is wrong
                        agent.warm()

        Thread(target=work, name="warm", daemon=True).start()


def add_chat(app: FastAPI, service: Service, sessions: Sessions, chatting: Chatting) -> None:
    """Add the route."""
    agents, rule = chatting.agents, RuleAgent()
    service.agents = tuple(dict.fromkeys((chatting.default, *agents)))

    @app.post("/v1/chat", response_class=StreamingResponse)
    async def chat(request: ChatRequest) -> Response:
        """Answer a request in words by an agent, through the run's systems.

        Server-sent events: ``plan`` (the calls meant; again when it changes), ``tool`` (a call with its answer or
        error), ``candidates`` (the items under consideration, and why others left), ``degraded`` (why the rule
        agent answers in place of the one that was asked), ``token`` (words of the answer), ``done`` (session, whole answer,
        ids of the items that it shows, the candidates, and what it took) or ``error``.
        """
        name = request.agent or chatting.default
        if name not in agents:
            todo = "serve the run with a language model (--llm)"
            raise Refused(422, "invalid", f"agent: {name!r} is not served here; {todo}")
        opened = await asyncio.to_thread(sessions.open, request.session, request.user, service.engine, service.memory)
        if opened is None:
            raise Refused(404, "unknown_session", "there is no such conversation of this user")
        id_, session = opened

        async def steps(session: Session) -> AsyncIterator[Turn]:
            # Each step of the rule agent is done in the thread of the systems, between two batches of other requests.
            turns = rule.steps(session, request.message)
            while (step := await service.between(lambda: next(turns, None))) is not None:
                yield step

        async def events() -> AsyncIterator[str]:
            told = _Told(id_)
            degraded: str | None = None
            try:
                if name == rule.name:
                    async for turn in steps(session):
                        for event in told.news(turn):
                            yield event
                else:
                    try:
                        async for turn in chatting.thinking.steps(lambda: agents[name].steps(session, request.message)):
                            for event in told.news(turn):
                                yield event
                        degraded = standing_in(turn, name)
                    except GaveUp as given_up:
                        degraded = given_up.reason
                        told = _Told(id_)  # another turn begins
                        async for turn in steps(session):
                            for event in told.news(turn):
                                yield event
                if degraded is not None:
                    service.figures.degraded.labels(name, degraded).inc()
                    yield _event("degraded", {"agent": rule.name, "reason": degraded})
                for line in turn.text.splitlines(keepends=True):
                    yield _event("token", {"text": line})
                await asyncio.to_thread(sessions.keep, id_, turn.session)
                shown = turn.session.engine.catalogue.items.decode(np.array(turn.shown, np.int32))
                whole = {"session": id_, "text": turn.text, "degraded": degraded, "shown": shown, **_took(turn)}
                whole |= _candidates(turn, 100)
                yield _event("done", whole)
            except LLM4RecError as error:
                yield _event("error", {"code": "invalid", "message": str(error)})

        return StreamingResponse(events(), media_type="text/event-stream")


class _Told:
    """What of a turn has been told already."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._plan: list[dict[str, Any]] | None = None
        self._calls = 0

    def news(self, turn: Turn) -> list[str]:
        """Return the events for what is new in a turn."""
        plan, events = [_asked(call) for call in turn.plan], []
        if plan != self._plan and (plan or self._plan is None):
            act = None if turn.request is None else turn.request.act
            events.append(_event("plan", {"session": self._session, "act": act, "calls": plan}))
            self._plan = plan
        for call in turn.calls[self._calls :]:
            events.append(_event("tool", _asked(call) | ({"error": call.error} if call.error else {"answer": call.answer})))
            events.append(_event("candidates", _candidates(turn, 20)))
        self._calls = len(turn.calls)
        return events


def _asked(call: Call) -> dict[str, Any]:
    return {"tool": call.tool, "arguments": dict(call.arguments)}


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"  # JSON has no line breaks of its own


def _took(turn: Turn) -> dict[str, Any]:
    told = {"by": turn.by, "ended": turn.ended, "failures": list(turn.failures), "questions": len(turn.asked)}
    if not turn.asked:
        return told | {"tokens": None, "usd": None}
    cost = turn.cost
    return told | {"tokens": cost.tokens_in + cost.cached_in + cost.tokens_out + cost.cached_out, "usd": turn.usd}


def _candidates(turn: Turn, most: int) -> dict[str, Any]:
    held, engine = turn.session.candidates, turn.session.engine
    if held is None:
        return {"items": [], "dropped": []}
    told = held.as_dict(engine.catalogue.items)
    names = engine.catalogue.names
    items = [{**entry, "name": names[int(i)]} for entry, i in zip(told["items"], held.items, strict=True)]
    return {"items": items[:most], "dropped": told["dropped"][-most:]}
