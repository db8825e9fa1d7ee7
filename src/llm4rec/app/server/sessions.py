"""Conversations: where each stands, in the database between two requests."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import numpy as np
from sqlalchemy import Column, Integer, MetaData, String, Table, Text, delete, insert, select
from sqlalchemy import Engine as Database

from llm4rec.agents.bus import Candidates
from llm4rec.agents.dialogue import Dialogue
from llm4rec.agents.engine import Engine
from llm4rec.agents.memory import MemoryStore
from llm4rec.agents.tools import Session

_METADATA = MetaData()
_SESSIONS = Table(
    "sessions", _METADATA,
    Column("id", String(32), primary_key=True),
    Column("user", String(200)),
    Column("touched", Integer, nullable=False, index=True),  # UTC s
    Column("body", Text, nullable=False),  # JSON of the candidates, of what was refused, and the number of calls
)  # fmt: skip

#: Seconds after which a silent conversation is over.
_LIFE = 24 * 3_600


class Sessions:
    """Conversations by id: the candidates, what was refused, and how many calls were made.

    What was said is kept for agents that read it, which are those with a language model. The rule agent reads no
    more than the request, so of a conversation with it no words are kept.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        _METADATA.create_all(database)

    def open(self, id_: str | None, user: str | None, engine: Engine, memory: MemoryStore) -> tuple[str, Session] | None:
        """Return a conversation, a new one for None; None for one that is not there, or is another user's.

        What it refuses is what was turned down in it, and what the user's memory says is disliked of single items.
        """
        fresh = Session(engine, memory, user, _disliked(user, engine, memory))
        if id_ is None:
            return secrets.token_hex(16), fresh
        query = select(_SESSIONS.c.user, _SESSIONS.c.body).where(
            _SESSIONS.c.id == id_, _SESSIONS.c.touched > time.time() - _LIFE
        )
        with self._database.connect() as connection:
            row = connection.execute(query).first()
        if row is None or row[0] != user:
            return None
        body = json.loads(row[1])
        turned_down = tuple(engine.catalogue.index(i) for i in body.get("refused", ()))
        refused = tuple(dict.fromkeys((*fresh.refused, *turned_down)))
        dialogue = Dialogue.from_dict(body["dialogue"]) if "dialogue" in body else Dialogue()
        session = Session(engine, memory, user, refused, calls=body["calls"], dialogue=dialogue)
        return id_, session if body["items"] is None else session.with_candidates(_candidates(body, engine))

    def keep(self, id_: str, session: Session) -> None:
        """Write where a conversation stands, and clear those that are over."""
        held = session.candidates
        ids = None if held is None else session.engine.catalogue.items.decode(held.items)
        refused = [session.engine.catalogue.items.ids[i] for i in session.refused]
        body: dict[str, Any] = {"calls": session.calls, "items": ids, "refused": refused}
        if held is not None:
            body |= {"scores": held.scores.tolist(), "sources": held.sources}
        if session.dialogue != Dialogue():
            body["dialogue"] = session.dialogue.as_dict()
        now = int(time.time())
        with self._database.begin() as connection:
            connection.execute(delete(_SESSIONS).where((_SESSIONS.c.id == id_) | (_SESSIONS.c.touched <= now - _LIFE)))
            connection.execute(insert(_SESSIONS).values(id=id_, user=session.user, touched=now, body=json.dumps(body)))


def _disliked(user: str | None, engine: Engine, memory: MemoryStore) -> tuple[int, ...]:
    """Return the items of which a user's memory says that they are disliked."""
    facts = () if user is None else memory.list(user)
    ids = [e.item for f in facts if f.detail == "dislikes" and f.attribute is None for e in f.evidence]
    return tuple(engine.catalogue.index(i) for i in dict.fromkeys(ids) if i is not None and i in engine.catalogue.items)


def _candidates(body: dict[str, Any], engine: Engine) -> Candidates:
    items = np.array([engine.catalogue.index(i) for i in body["items"]], np.int32)
    return Candidates(items, np.array(body["scores"], np.float32), tuple(tuple(s) for s in body["sources"]))
