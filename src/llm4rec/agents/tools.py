"""The tools: what a run's systems, catalogue and memory can do, each a typed function over a session.

Tools that propose, order or take out items write to the session's candidates; all others answer. Items
are named by id. What a tool returns is data from the catalogue and never an instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from llm4rec.agents.bus import Candidates
from llm4rec.agents.catalogue import Operator
from llm4rec.agents.dialogue import Dialogue
from llm4rec.agents.engine import Engine, Found
from llm4rec.agents.toolbox import OneOf, Toolbox
from llm4rec.agents.users import Asker
from llm4rec.core import DataError
from llm4rec.prompted.memory.facts import Evidence, Fact

if TYPE_CHECKING:  # a database is a matter of those who keep one
    from llm4rec.agents.memory import MemoryStore

MOST = 1_000
#: Formats, in schemas, of texts that are ids of items, and values of attributes.
ITEM_ID, VALUE = "item-id", "attribute-value"

ItemID = Annotated[
    str, Field(description="Id of an item.", min_length=1, max_length=200, json_schema_extra={"format": ITEM_ID})
]
ItemIDs = Annotated[list[ItemID], Field(description="Ids of items.", min_length=1, max_length=MOST)]
Count = Annotated[int, Field(description="How many items.", ge=1, le=MOST)]
Words = Annotated[str, Field(description="Words to look for.", min_length=1, max_length=1_000)]
Add = Annotated[bool, Field(description="Put them behind the candidates that are there, instead of in their place.")]
SystemName = Annotated[str | None, OneOf("systems"), Field(description="Which recommender; null for the default one.")]
RankerName = Annotated[str | None, OneOf("rankers"), Field(description="Which recommender; null for the default one.")]
Attribute = Annotated[str, OneOf("attributes"), Field(description="Attribute of items.")]


@dataclass(frozen=True, slots=True)
class Session:
    """Where a conversation stands.

    Attributes:
        engine: what answers.
        memory: the users' long-term memory, or None where none is kept.
        user: whose session it is, by outside id; None for somebody unknown.
        refused: inside ids of items that the user turned down: nothing proposes them again.
        candidates: the items under consideration; None before the first were proposed.
        calls: tool calls so far, which number the stages.
        dialogue: what was said, as far as an agent that reads it keeps it.
    """

    engine: Engine
    memory: MemoryStore | None = None
    user: str | None = None
    refused: tuple[int, ...] = ()
    candidates: Candidates | None = None
    calls: int = 0
    dialogue: Dialogue = field(default_factory=Dialogue)

    def with_candidates(self, candidates: Candidates) -> Session:
        """Return the session with other candidates."""
        return replace(self, candidates=candidates)


Outcome = tuple[Any, Session]


# -- proposing ------------------------------------------------------------------------------
def recommend(session: Session, *, k: Count = 20, system: SystemName = None, add: Add = False) -> Outcome:
    """Recommend items to the user of this session by what the user did before; they become the candidates."""
    engine = session.engine
    served = engine.system(system)
    found = engine.retrieve(served.name, engine.ask([Asker(session.user)]), k)[0]
    return _proposed(session, f"recommend:{served.name}", found, add)


def search_items(session: Session, *, words: Words, k: Count = 20, add: Add = False) -> Outcome:
    """Find items whose attributes share telling words with the given ones; they become the candidates."""
    return _proposed(session, "search_items", session.engine.search(words, k), add)


def similar_items(session: Session, *, item: ItemID, k: Count = 20, system: SystemName = None, add: Add = False) -> Outcome:
    """Find items that are new to the user, for somebody who liked one item; they become the candidates."""
    served = session.engine.system(system)
    found = session.engine.similar(session.engine.catalogue.index(item), k, served.name, session.user)
    return _proposed(session, f"similar_items:{served.name}", found, add)


def _proposed(session: Session, name: str, found: Found, add: bool) -> Outcome:
    stage = f"{session.calls + 1} {name}"
    proposed = _wanted(session, Candidates.of(found.items, found.scores, stage), stage)
    before = session.candidates
    candidates = before.joined(proposed) if add and before is not None else proposed
    answer = {"found": len(proposed), "failures": list(found.note.failures), "items": _listed(session, proposed.items)}
    return answer, session.with_candidates(candidates)


def _wanted(session: Session, proposed: Candidates, stage: str) -> Candidates:
    """Return what is proposed without the items that the user has turned down."""
    return proposed.kept(~np.isin(proposed.items, session.refused), stage, "refused by the user")


# -- taking out and ordering ------------------------------------------------------------------
def filter_items(
    session: Session,
    *,
    attribute: Attribute,
    operator: Annotated[Operator, Field(description="How the attribute has to stand to the value.")],
    value: Annotated[
        str, Field(description="The value, as text.", min_length=1, max_length=200, json_schema_extra={"format": VALUE})
    ],
    among: Annotated[
        Literal["candidates", "catalogue"], Field(description="Filter the candidates, or take all items that fit.")
    ] = "candidates",
) -> Outcome:
    """Keep the candidates for which something is so; or make all items for which it is so, and new to the user, candidates."""
    catalogue = session.engine.catalogue
    holds = catalogue.where(attribute, operator, value)
    stage = f"{session.calls + 1} filter_items"
    if among == "catalogue":
        items = np.flatnonzero(holds)
        fitting = Candidates.of(items.astype(np.int32), np.zeros(len(items), np.float32), stage)
        known = session.engine.users.queries([Asker(session.user)])[1][0]
        candidates = _wanted(session, fitting.kept(~np.isin(items, known), stage, "the user knows it"), stage)
    else:
        before = _held(session)
        candidates = before.kept(holds[before.items], stage, f"not so: {attribute} {operator} {value}")
    answer = {"kept": len(candidates), "items": _listed(session, candidates.items[:20])}
    return answer, session.with_candidates(candidates)


def drop_items(
    session: Session,
    *,
    items: ItemIDs,
    reason: Annotated[str, Field(description="Why, in a few words.", min_length=1, max_length=200)] = "refused by the user",
) -> Outcome:
    """Take given items out of the candidates."""
    catalogue, before = session.engine.catalogue, _held(session)
    refused = np.array([catalogue.index(i) for i in items])
    candidates = before.kept(~np.isin(before.items, refused), f"{session.calls + 1} drop_items", reason)
    return {"kept": len(candidates)}, session.with_candidates(candidates)


def rank_items(
    session: Session,
    *,
    items: Annotated[list[ItemID] | None, Field(description="Ids; null for the candidates.", max_length=MOST)] = None,
    system: RankerName = None,
    k: Annotated[int | None, Field(description="Keep only so many of the best.", ge=1, le=MOST)] = None,
) -> Outcome:
    """Put the candidates, or given items, in the order of a recommender for the user; they become the candidates."""
    engine = session.engine
    served = engine.system(system)
    stage = f"{session.calls + 1} rank_items:{served.name}"
    if items is not None:
        inside = np.array(list(dict.fromkeys(map(engine.catalogue.index, items))), np.int32)
        before = Candidates.of(inside, np.zeros(len(inside), np.float32), stage)
    else:
        before = _held(session)
    found = engine.rank(served.name, engine.ask([Asker(session.user)], seen=True), before.items)
    candidates = before.ranked(found.items, found.scores, stage, found.note.dropped)
    if k is not None:
        candidates = candidates.head(k, stage)
    answer = {"failures": list(found.note.failures), "items": _listed(session, candidates.items)}
    return answer, session.with_candidates(candidates)


# -- looking --------------------------------------------------------------------------------
def item_details(session: Session, *, items: ItemIDs) -> Outcome:
    """Tell all attributes of given items."""
    catalogue = session.engine.catalogue
    return {"items": [catalogue.details(catalogue.index(i)) for i in items]}, session


def attribute_values(session: Session, *, attribute: Attribute) -> Outcome:
    """List the values of an attribute with the number of items that have each, the most frequent first (at most 100)."""
    return {"values": session.engine.catalogue.values(attribute)[:100]}, session


def recent_history(session: Session, *, k: Count = 10) -> Outcome:
    """List what the user of this session did last, the latest first."""
    history = session.engine.users.history(session.user) if session.user is not None else None
    items = np.empty(0, np.int32) if history is None else history.items[::-1][:k]
    return {"events": 0 if history is None else len(history.items), "items": _listed(session, items)}, session


def explain_items(
    session: Session,
    *,
    items: Annotated[list[ItemID] | None, Field(description="Ids; null for the candidates.", max_length=100)] = None,
    system: SystemName = None,
) -> Outcome:
    """Say why items suit the user; the sentence is empty where there is nothing true to say."""
    engine = session.engine
    inside = _held(session).items[:20] if items is None else np.array([engine.catalogue.index(i) for i in items], np.int32)
    told = engine.explain(system, engine.ask([Asker(session.user)], seen=True), inside)
    listed = zip(_listed(session, inside), told, strict=True)
    return {"items": [entry | {"why": sentence, "by": by} for entry, (sentence, by) in listed]}, session


# -- memory ---------------------------------------------------------------------------------
def remember(
    session: Session,
    *,
    text: Annotated[
        str, Field(description="What to keep, in words; for an attribute, its value.", min_length=1, max_length=1_000)
    ],
    attribute: Annotated[
        str | None, OneOf("attributes"), Field(description="The attribute that the text is a value of.")
    ] = None,
    stance: Annotated[Literal["likes", "dislikes"] | None, Field(description="How the user stands to it.")] = None,
    item: Annotated[str | None, Field(description="Id of an item that shows it.", max_length=200)] = None,
) -> Outcome:
    """Keep something about the user for later sessions."""
    evidence = () if item is None else (Evidence(session.engine.catalogue.items.ids[session.engine.catalogue.index(item)]),)
    memory, user = _memory(session)
    fact = memory.remember(user, text, source="said", attribute=attribute, detail=stance, evidence=evidence)
    return {"remembered": _told(fact)}, session


def recall(session: Session) -> Outcome:
    """List what is kept about the user."""
    memory, user = _memory(session)
    return {"facts": [_told(fact) for fact in memory.list(user)]}, session


def forget(
    session: Session, *, fact: Annotated[str, Field(description="Id of the fact.", pattern="^[0-9a-f]{16}$")]
) -> Outcome:
    """Delete something that is kept about the user."""
    memory, user = _memory(session)
    if not memory.forget(user, fact):
        raise DataError("there is no such fact of this user", where="forget", todo="list them with recall")
    return {"forgotten": fact}, session


#: Every tool, in the order in which agents are told of them.
FUNCTIONS = (
    recommend, search_items, similar_items, filter_items, drop_items, rank_items, item_details, attribute_values,
    recent_history, explain_items, remember, recall, forget,
)  # fmt: skip


def toolbox(engine: Engine) -> Toolbox[Session]:
    """Return the registry of tools over an engine: its systems and attributes are the tools' choices."""
    choices = {
        "systems": list(engine.systems),
        "rankers": [s.name for s in engine.systems.values() if s.ranks],
        "attributes": engine.catalogue.attributes,
    }
    return Toolbox(FUNCTIONS, choices, writes=("remember", "forget"))


# -- parts ----------------------------------------------------------------------------------
def _held(session: Session) -> Candidates:
    if session.candidates is None:
        raise DataError("there are no candidates yet", todo="propose some with recommend, search_items or similar_items")
    return session.candidates


def _memory(session: Session) -> tuple[MemoryStore, str]:
    if session.memory is None or session.user is None:
        raise DataError("nothing can be kept of somebody unknown", where="memory", todo="name the user of the session")
    return session.memory, session.user


def _listed(session: Session, items: Sequence[int] | np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    catalogue = session.engine.catalogue
    return [{"item": catalogue.items.ids[int(i)], "name": catalogue.names[int(i)]} for i in items]


def _told(fact: Fact) -> dict[str, Any]:
    values = fact.as_dict()
    kept = ("id", "text", "attribute", "detail", "source", "time", "evidence")
    return {name: values[name] for name in kept if name in values}
