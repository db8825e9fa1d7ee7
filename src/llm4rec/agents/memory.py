"""What is kept of a user in the long run: facts with evidence, in a database, to be listed, edited and forgotten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    delete,
    insert,
    select,
)

from llm4rec.core import DataError
from llm4rec.prompted.memory.facts import Evidence, Fact, FactError, FactKind

_METADATA = MetaData()
_FACTS = Table(
    "facts", _METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("user", String(200), nullable=False, index=True),
    Column("id", String(16), nullable=False),
    Column("body", Text, nullable=False),  # JSON of the fact
    UniqueConstraint("user", "id"),
)  # fmt: skip

#: A user's facts, at most: a memory is read whole.
MOST = 1_000


class MemoryStore:
    """The long-term memory of users.

    What is remembered is a :class:`llm4rec.prompted.memory.facts.Fact` of a user, with its source and its
    evidence. Every change is committed when the method returns. What is forgotten or corrected is deleted: no
    copy stays.
    """

    def __init__(self, database: Engine) -> None:
        self._database = database
        _METADATA.create_all(database)

    def list(self, user: str) -> tuple[Fact, ...]:
        """Return what is known of a user, in the order in which it came."""
        query = select(_FACTS.c.body).where(_FACTS.c.user == user).order_by(_FACTS.c.seq)
        with self._database.connect() as connection:
            return tuple(Fact.from_dict(json.loads(body)) for (body,) in connection.execute(query))

    def remember(
        self,
        user: str,
        text: str,
        *,
        source: str,
        time: int | None = None,
        attribute: str | None = None,
        detail: str | None = None,
        evidence: Sequence[Evidence] = (),
    ) -> Fact:
        """Keep a fact of a user; the same one again takes the old one's place.

        Args:
            text: what is known, or the value of ``attribute``.
            source: who says so: ``"said"`` by the user, or the name of what concluded it.
            time: when it became known (UTC s).
            attribute: what the text is a value of.
            detail: how it stands to the user ("likes", "dislikes"), or how often it was seen.
            evidence: what supports it.

        Raises:
            DataError: for an empty or overlong text, or a full memory.
        """
        kind: FactKind = "attribute" if attribute is not None else "text"
        try:
            fact = Fact("user", user, kind, text.strip(), source, attribute, time, tuple(evidence), detail=detail)
        except FactError as error:
            raise DataError(str(error), where="memory") from None
        with self._database.begin() as connection:
            known = connection.execute(select(_FACTS.c.id).where(_FACTS.c.user == user)).scalars().all()
            if len(known) >= MOST and fact.id not in known:
                raise DataError(f"it holds {MOST} facts already", where="memory", todo="forget some first")
            _put(connection, user, fact)
        return fact

    def edit(self, user: str, id_: str, text: str, *, source: str = "said") -> Fact:
        """Put another text in the place of a fact's own; raises ``DataError`` for a fact that is not there."""
        with self._database.begin() as connection:
            body = connection.execute(select(_FACTS.c.body).where(_FACTS.c.user == user, _FACTS.c.id == id_)).scalar()
            if body is None:
                raise DataError("there is no such fact of this user", where="memory", todo="list them")
            try:
                fact = replace(Fact.from_dict(json.loads(body)), text=text.strip(), source=source, evidence=(), replaces=None)
            except FactError as error:
                raise DataError(str(error), where="memory") from None
            connection.execute(delete(_FACTS).where(_FACTS.c.user == user, _FACTS.c.id == id_))
            _put(connection, user, fact)
        return fact

    def forget(self, user: str, id_: str | None = None) -> int:
        """Delete one fact of a user, or all; returns how many there were."""
        query = delete(_FACTS).where(_FACTS.c.user == user)
        with self._database.begin() as connection:
            return int(connection.execute(query if id_ is None else query.where(_FACTS.c.id == id_)).rowcount)


def _put(connection: Connection, user: str, fact: Fact) -> None:
    connection.execute(delete(_FACTS).where(_FACTS.c.user == user, _FACTS.c.id == fact.id))
    connection.execute(insert(_FACTS).values(user=user, id=fact.id, body=json.dumps(fact.as_dict())))
