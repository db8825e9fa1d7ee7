"""What came in while a run was served: interactions and new items, on the disk before they are acknowledged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Engine, Float, Integer, MetaData, String, Table, Text, func, insert, select, text

_METADATA = MetaData()
_EVENTS = Table(
    "events", _METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(200), unique=True),  # the sender's own, so that what is sent twice counts once
    Column("user", String(200), nullable=False),
    Column("item", String(200), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("value", Float, nullable=False),
    Column("behavior", Integer, nullable=False),
)  # fmt: skip
_ITEMS = Table(
    "items", _METADATA,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(200), nullable=False, unique=True),
    Column("attributes", Text, nullable=False),  # JSON
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kept:
    """An interaction as it lies in the store, under outside ids; see :class:`llm4rec.agents.users.Event`."""

    user: str
    item: str
    time: int
    value: float
    behavior: int
    id: str | None = None


class EventStore:
    """Interactions and new items in the order in which they came."""

    def __init__(self, database: Engine) -> None:
        self._database = database
        _METADATA.create_all(database)

    def read(self) -> tuple[list[tuple[str, Mapping[str, Any]]], list[Kept]]:
        """Return all items (id, attributes) and all events."""
        with self._database.connect() as connection:
            query = select(_ITEMS.c.id, _ITEMS.c.attributes).order_by(_ITEMS.c.seq)
            items = [(identifier, json.loads(attributes)) for identifier, attributes in connection.execute(query)]
            columns = (_EVENTS.c[name] for name in ("user", "item", "time", "value", "behavior", "id"))
            return items, [Kept(*row) for row in connection.execute(select(*columns).order_by(_EVENTS.c.seq))]

    def known(self, ids: Sequence[str]) -> set[str]:
        """Return which of the senders' own ids are here already."""
        with self._database.connect() as connection:
            return set(connection.execute(select(_EVENTS.c.id).where(_EVENTS.c.id.in_(ids))).scalars()) if ids else set()

    def append(self, items: Sequence[tuple[str, Mapping[str, Any]]], events: Sequence[Kept]) -> None:
        """Write items and events, all or none; they are on the disk when this returns."""
        with self._database.begin() as connection:
            if items:
                told = [{"id": i, "attributes": json.dumps(a, ensure_ascii=False)} for i, a in items]
                connection.execute(insert(_ITEMS), told)
            if events:
                connection.execute(insert(_EVENTS), [asdict(event) for event in events])

    def count(self) -> int:
        """Return how many events there are; also whether the database answers."""
        with self._database.connect() as connection:
            connection.execute(text("SELECT 1"))
            return int(connection.execute(select(func.count()).select_from(_EVENTS)).scalar_one())
