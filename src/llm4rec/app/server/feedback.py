"""``POST /v1/chat/feedback``: what was accepted or rejected feeds the session, the user's history and memory."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import replace

import numpy as np
from fastapi import FastAPI, Response

from llm4rec.agents.tools import Session
from llm4rec.app.server.guard import Refused
from llm4rec.app.server.schemas import EventIn, EventsRequest, FeedbackAnswer, FeedbackRequest
from llm4rec.app.server.service import Service
from llm4rec.app.server.sessions import Sessions
from llm4rec.prompted.memory.facts import Evidence

_REASONS = {"accept": "accepted by the user", "reject": "refused by the user"}


def add_feedback(app: FastAPI, service: Service, sessions: Sessions) -> None:
    """Add the route."""

    @app.post("/v1/chat/feedback", response_model=FeedbackAnswer)
    async def feedback(request: FeedbackRequest) -> Response:
        """Accept or reject an item that was proposed.

        Accepted, it is an interaction of the user; rejected, the user's memory keeps that it is disliked, with the
        item as evidence. Either way the conversation does not propose it again.
        """
        catalogue = service.engine.catalogue
        item = catalogue.index(request.item)
        opened = None
        if request.session is not None:
            opened = await asyncio.to_thread(sessions.open, request.session, request.user, service.engine, service.memory)
            if opened is None:
                raise Refused(404, "unknown_session", "there is no such conversation of this user")
        event, fact = False, None
        if request.user is not None and request.verdict == "accept":
            told = EventIn.model_validate({"user": request.user, "item": request.item, "id": _once(request)})
            await service.add(EventsRequest(events=[told]))
            event = True
        elif request.user is not None:
            fact = await asyncio.to_thread(_dislike, service, request.user, request.item, catalogue.names[item])
        if opened is not None:
            id_, session = opened
            await asyncio.to_thread(sessions.keep, id_, _without(session, item, _REASONS[request.verdict]))
        return _answered(request, event, fact, opened is not None)


def _once(request: FeedbackRequest) -> str | None:
    """Return an id under which one acceptance in one conversation counts once."""
    if request.session is None:
        return None
    return f"chat:{request.session}:{hashlib.sha256(request.item.encode()).hexdigest()[:32]}"


def _dislike(service: Service, user: str, item: str, name: str) -> str:
    """Keep that an item is disliked, beside others of its name."""
    facts = service.memory.list(user)
    before = next((f.evidence for f in facts if (f.text, f.detail, f.attribute) == (name.strip(), "dislikes", None)), ())
    evidence = tuple(dict.fromkeys((*before, Evidence(item))))
    now = int(time.time())
    return service.memory.remember(user, name, source="said", time=now, detail="dislikes", evidence=evidence).id


def _without(session: Session, item: int, reason: str) -> Session:
    """Return the session in which an item is out of the candidates and does not come back."""
    refused = tuple(dict.fromkeys((*session.refused, item)))
    held = session.candidates
    if held is not None:
        held = held.kept(held.items != np.int32(item), f"{session.calls} feedback", reason)
    return replace(session, refused=refused, candidates=held)


def _answered(request: FeedbackRequest, event: bool, fact: str | None, held: bool) -> Response:
    if event:
        line = "Kept as an interaction: it counts from the next answer on."
    elif fact is not None:
        line = "Kept in the memory as disliked: it is not proposed again."
    else:
        line = "Left out of this conversation." if held else "Nothing is kept of somebody unknown."
    answer = FeedbackAnswer(line=line, event=event, fact=fact)
    return Response(answer.model_dump_json(), media_type="application/json")
