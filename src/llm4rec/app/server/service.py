"""What the server does for its routes: one engine, one store, and the order in which they are asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from llm4rec.agents.catalogue import Catalogue
from llm4rec.agents.engine import Engine, Found, Served
from llm4rec.agents.memory import MemoryStore
from llm4rec.agents.users import Asker, Event
from llm4rec.app.server.batching import Batcher, Bounded, Overloaded
from llm4rec.app.server.config import ServerConfig
from llm4rec.app.server.events import EventStore, Kept
from llm4rec.app.server.figures import Figures
from llm4rec.app.server.guard import Refused
from llm4rec.app.server.schemas import (
    Condition,
    Degraded,
    EventsAnswer,
    EventsRequest,
    ExplainAnswer,
    ExplainRequest,
    Item,
    ListAnswer,
    RankRequest,
    RecommendRequest,
    SearchAnswer,
    SearchRequest,
    Who,
    Why,
)
from llm4rec.core import DataError, LLM4RecError, Note, RunError
from llm4rec.llm.store import TRANSIENT

T = TypeVar("T")
_FILTERS = 256  # sets of conditions whose items are kept in mind


@dataclass(frozen=True, slots=True)
class _Kind:
    """Requests that one call of a system can answer together."""

    system: str
    k: int
    given: bool
    seen: bool
    where: tuple[tuple[str, str, str], ...]


class Service:
    """A run as it is served.

    Args:
        engine: over the run's systems.
        store, memory: what outlasts the process.
        config, figures: of the server.
    """

    def __init__(self, engine: Engine, store: EventStore, memory: MemoryStore, config: ServerConfig, figures: Figures) -> None:
        self.engine, self.store, self.memory, self.figures = engine, store, memory, figures
        self.agents: tuple[str, ...] = ("rule",)  # those that answer in conversations, the default first
        self._batcher: Batcher[Asker, tuple[Found, int]] = Batcher(
            self._prepare, most=config.batch, waiting=config.waiting, measure=figures.batches.observe
        )
        self._models = Bounded(config.llm_workers, config.llm_timeout)
        self._writing = asyncio.Lock()
        self._filters: tuple[Catalogue, dict[Any, NDArray[np.bool_]]] = engine.catalogue, {}
        self._restore()

    def _restore(self) -> None:
        """Take over what the store holds; raises ``RunError`` for what does not belong to this run."""
        items, events = self.store.read()
        catalogue = self.engine.catalogue
        new = [(i, a) for i, a in items if i not in catalogue.items]
        try:
            catalogue = catalogue.with_items([(i, catalogue.checked(i, a)) for i, a in new]) if new else catalogue
            self.engine.add(catalogue, [self._event(e, catalogue) for e in events])
        except LLM4RecError as error:
            todo = "serve the run that it was kept for, or name another --store"
            raise RunError(f"holds what is not of this run ({error.what})", where="the store", todo=todo) from None
        self.figures.items.set(len(catalogue))

    def warm(self) -> None:
        """Open the default system, what stands in for it, and the index of words; answer a first question."""
        served = self.engine.system(None)
        for name in dict.fromkeys(filter(None, (None if served.uses_llm else served.name, served.fallback))):
            self.engine.retrieve(name, self.engine.ask([Asker(items=(0,))]), 10)
        self.engine.search("warm", 1)

    def close(self) -> bool:
        """Stop the threads; returns whether none is still at work."""
        self._batcher.close()
        self._models.close()
        return self._models.idle

    # -- lists ----------------------------------------------------------------------------
    async def recommend(self, request: RecommendRequest) -> ListAnswer:
        """Return a list for a user or a history."""
        served = self.engine.system(request.system)
        asker = self._asker(request, request.text)
        where = tuple((c.attribute, c.operator, c.value) for c in request.where)
        self._allowed(where)  # what is wrong with a condition is told before anybody waits
        given = asker.items is not None

        def ask(system: str) -> Any:
            return self._batcher.ask(_Kind(system, request.k, given, request.seen, where), asker)

        def alone() -> tuple[Found, int]:
            return work()[0]

        degraded = None
        if not served.uses_llm:
            found, history = await ask(served.name)
        else:
            work = self._prepare(_Kind(served.name, request.k, given, request.seen, where), [asker])
            answer, degraded = await self._by_model(served, alone)
            found, history = answer if answer is not None else await ask(_fallback(served))
            degraded = degraded or self._failed(served, found)
        return self._list(served, request, found, history, degraded)

    async def rank(self, request: RankRequest) -> ListAnswer:
        """Return given items in order."""
        served, engine = self.engine.system(request.system), self.engine
        asked = engine.ask([self._asker(request)], seen=True)
        items = self._inside(request.items)
        history = len(asked.queries.history.values)

        def work() -> Found:
            return engine.rank(served.name, asked, items)

        degraded = None
        if served.uses_llm:
            answer, degraded = await self._by_model(served, work)
            stand_in = served.fallback if served.fallback and engine.system(served.fallback).ranks else None
            if answer is None and degraded is not None:
                degraded = Degraded(system=stand_in, reason=degraded.reason)
                as_given = Found(items, -np.arange(len(items), dtype=np.float32), Note())
                answer = await self._batcher.run(lambda: engine.rank(stand_in, asked, items)) if stand_in else as_given
            assert answer is not None
            found = answer
            degraded = degraded or self._failed(served, found)
        else:
            found = await self._batcher.run(work)
        return self._list(served, request, found, history, degraded)

    async def search(self, request: SearchRequest) -> SearchAnswer:
        """Return the items that share words."""
        allowed = self._allowed(tuple((c.attribute, c.operator, c.value) for c in request.where))
        found = await self._batcher.run(lambda: self.engine.search(request.words, request.k, allowed=allowed))
        return SearchAnswer(items=self._items(found))

    async def explain(self, request: ExplainRequest) -> ExplainAnswer:
        """Return a reason for each item."""
        served, engine = self.engine.system(request.system), self.engine
        asked, items = engine.ask([self._asker(request)], seen=True), self._inside(request.items)

        def work(evidence: bool = False) -> list[tuple[str, str]]:
            return engine.explain(served.name, asked, items, evidence=evidence)

        told: list[tuple[str, str]] | None = None
        degraded = None
        if served.tells_by_llm:
            told, degraded = await self._by_model(served, work)
        if told is None:
            told = await self._batcher.run(lambda: work(served.tells_by_llm))
            degraded = None if degraded is None else Degraded(system="evidence", reason=degraded.reason)
        catalogue = engine.catalogue
        names = ((catalogue.items.ids[i], catalogue.names[i]) for i in items.tolist())
        reasons = [Why(item=i, name=name, why=why, by=by) for (i, name), (why, by) in zip(names, told, strict=True)]
        return ExplainAnswer(items=reasons, degraded=degraded)

    async def between(self, work: Callable[[], T]) -> T:
        """Do a step of a conversation in the thread of the systems, between two batches."""
        return await self._batcher.run(work)

    async def slowly(self, work: Callable[[], T]) -> T:
        """Do what asks a language model; raises ``Refused`` where that takes too long, or too many ask at once."""
        try:
            return await self._models.run(work)
        except Overloaded:
            raise Refused(503, "busy", "the language model is busy with others; try again in a while") from None
        except TimeoutError:
            raise Refused(
                504, "slow", "the language model took too long; what it has answered by then is kept, so try again"
            ) from None

    # -- what comes in ----------------------------------------------------------------------
    async def add(self, request: EventsRequest) -> EventsAnswer:
        """Take in events and items; they are on the disk, and count, when this returns.

        What has begun is ended even if nobody waits for it any more: disk and memory stay alike.
        """
        return await asyncio.shield(asyncio.create_task(self._add(request)))

    async def _add(self, request: EventsRequest) -> EventsAnswer:
        async with self._writing:
            before = self.engine.catalogue
            rows: list[tuple[str, dict[str, Any]]] = []
            for item in request.items:
                row = before.checked(item.id, item.attributes)
                if item.id in before.items or any(item.id == i for i, _ in rows):
                    raise Refused(409, "exists", f"item {item.id!r} is in the catalogue already")
                rows.append((item.id, row))
            catalogue = await asyncio.to_thread(lambda: before.with_items(rows).ready()) if rows else before
            ids = [e.id for e in request.events if e.id is not None]
            if len(set(ids)) < len(ids):
                raise DataError("two events have one id", where="events")
            known = await asyncio.to_thread(self.store.known, ids)
            kept = [self._kept(e) for e in request.events if e.id is None or e.id not in known]
            events = [self._event(e, catalogue) for e in kept]
            if rows or kept:
                await asyncio.to_thread(self.store.append, rows, kept)
            self.engine.add(catalogue, events)
            self.figures.events.inc(len(kept))
            self.figures.items.set(len(catalogue))
        return EventsAnswer(accepted=len(kept), repeated=len(request.events) - len(kept), items=len(rows))

    def _kept(self, event: Any) -> Kept:
        behaviors = self.engine.dataset.behaviors
        behavior = behaviors[0] if event.behavior is None else event.behavior
        if behavior not in behaviors:
            raise DataError(f"no behaviour {behavior!r}", where="events", todo=f"known: {', '.join(behaviors)}")
        now = int(time.time()) if self.engine.dataset.clock == "utc" else self.engine.users.next_time(event.user)
        when = now if event.time is None else event.time
        return Kept(event.user, event.item, when, event.value, behaviors.index(behavior), event.id)

    @staticmethod
    def _event(kept: Kept, catalogue: Catalogue) -> Event:
        return Event(kept.user, catalogue.index(kept.item), kept.time, kept.value, kept.behavior)

    # -- parts ------------------------------------------------------------------------------
    def _prepare(self, kind: _Kind, askers: Sequence[Asker]) -> Callable[[], list[tuple[Found, int]]]:
        asked = self.engine.ask(askers, allowed=self._allowed(kind.where), seen=kind.seen)
        lengths = asked.queries.history.lengths.tolist()
        return lambda: list(zip(self.engine.retrieve(kind.system, asked, kind.k), lengths, strict=True))

    def _allowed(self, where: tuple[tuple[str, str, str], ...]) -> NDArray[np.bool_] | None:
        """Return bool[n], the items for which all conditions hold; None without any."""
        if not where:
            return None
        if self._filters[0] is not self.engine.catalogue or len(self._filters[1]) >= _FILTERS:
            self._filters = self.engine.catalogue, {}
        catalogue, known = self._filters
        if where not in known:
            conditions = [Condition(attribute=a, operator=o, value=v) for a, o, v in where]  # type: ignore[arg-type]
            known[where] = np.all([catalogue.where(c.attribute, c.operator, c.value) for c in conditions], axis=0)
        return known[where]

    async def _by_model(self, served: Served, work: Callable[[], T]) -> tuple[T | None, Degraded | None]:
        """Return what a language model helps to find, or why something has to stand in for it."""
        try:
            return await self._models.run(work), None
        except Overloaded:
            reason = "busy"
        except TimeoutError:
            reason = "slow"
        except DataError:
            raise
        except LLM4RecError:
            reason = "failed"
        self.figures.degraded.labels(served.name, reason).inc()
        return None, Degraded(system=served.fallback, reason=reason)  # type: ignore[arg-type]

    def _failed(self, served: Served, found: Found) -> Degraded | None:
        """Say so if a list is the retriever's because the model could not be reached."""
        if not TRANSIENT & set(found.note.failures):
            return None
        self.figures.degraded.labels(served.name, "failed").inc()
        return Degraded(system=served.fallback, reason="failed")

    def _asker(self, request: Who, text: str | None = None) -> Asker:
        items = None if request.history is None else tuple(self._inside(request.history, unique=False).tolist())
        return Asker(request.user, items, text)

    def _inside(self, ids: Sequence[str], *, unique: bool = True) -> NDArray[np.int32]:
        return np.array([self.engine.catalogue.index(i) for i in (dict.fromkeys(ids) if unique else ids)], np.int32)

    def _list(self, served: Served, who: Who, found: Found, history: int, degraded: Degraded | None) -> ListAnswer:
        ids = self.engine.catalogue.items.ids
        return ListAnswer(
            system=served.name,
            label=served.label,
            items=self._items(found),
            history=history,
            known=None if who.user is None else who.user in self.engine.users,
            degraded=degraded,
            failures=list(dict.fromkeys(found.note.failures)),
            dropped={ids[i]: reason for i, reason in found.note.dropped.items()},
        )

    def _items(self, found: Found) -> list[Item]:
        ids, names = self.engine.catalogue.items.ids, self.engine.catalogue.names
        pairs = zip(found.items.tolist(), found.scores.tolist(), strict=True)
        return [Item(item=ids[i], name=names[i], score=score) for i, score in pairs]


def _fallback(served: Served) -> str:
    if served.fallback is None:
        raise Refused(503, "unavailable", f"{served.name} asks a language model, and the run has nothing to stand in for it")
    return served.fallback
