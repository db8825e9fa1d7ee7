"""User memory: what is known of users from before the query, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from llm4rec.core import Cases, Config, Dataset, Exchange, FilePath, ModelError, Note, Queries, Ragged, Resources
from llm4rec.llm.prompts import plain
from llm4rec.llm.values import ChatModel, ChatRequest, Message
from llm4rec.prompted.explain.evidence import attribute_table
from llm4rec.prompted.items import item_names
from llm4rec.prompted.memory.encyclopedia import shortened
from llm4rec.prompted.memory.facts import Evidence, Fact, FactKind
from llm4rec.prompted.memory.lent import Lent
from llm4rec.prompted.memory.memory import Memory
from llm4rec.prompted.memory.remembering import Control, Remembering, stated
from llm4rec.prompted.memory.taste import attribute_columns, favourites, with_decade
from llm4rec.prompted.memory.writing import sentences
from llm4rec.prompted.wording import Kind, Template, load_prompt, spelt

#: The source of what code counts.
HISTORY = "history"
_BATCH = 1024  # queries at once


class UserMemoryConfig(Config):
    """Parameters of :class:`UserMemory`."""

    memory: FilePath | None = None
    """A file of facts about users: saved before, or written by hand."""
    short_term: int = Field(5, ge=0, le=200)
    """Number of the latest events that are told, with their ratings; 0 tells none."""
    attributes: tuple[str, ...] | None = None
    """Columns whose values can be favourites; ``decade`` is made of ``year``.  By default every column of
    lists, and the decade."""
    favourites: int = Field(3, ge=0, le=50)
    """Most values of one column that are told; 0 tells none."""
    at_least: int = Field(2, ge=1)
    """Events that a favourite needs (with ratings: that the user rated at least as high as his mean)."""
    llm: str | None = None
    """Name of the language model that writes; none is asked unless it is given."""
    write: tuple[Literal["profile", "reflection"], ...] = ()
    """What it writes about each user: the taste, and how it changed lately."""
    history: int = Field(20, ge=1, le=200)
    """Number of the latest events in the prompts."""
    lately: int = Field(5, ge=1, le=100)
    """How many of them count as late for the reflection; without an earlier one there is none."""
    things: str = "movies"
    """What the items are, in the plural."""
    did: str = "watched"
    """What users have done with them."""
    name: str | None = None
    """Template of an item's name; by default the title, with the year where there is one."""
    max_tokens: int = Field(96, ge=8)
    """Longest answer in tokens."""
    profile_template: FilePath | None = None
    """Path of a jinja template that replaces the built-in one for profiles."""
    reflection_template: FilePath | None = None
    """Path of a jinja template that replaces the built-in one for reflections."""
    show: tuple[FactKind, ...] = ("text", "knowledge", "profile", "reflection", "attribute", "event")
    """Kinds of facts in the profile, in this order."""
    max_chars: int = Field(800, ge=20)
    """Longest profile; cut between sentences where that is possible."""
    evidence: int = Field(5, ge=1)
    """Newest events that a fact points to."""
    control: Control = "none"
    """``shuffled``: each user gets another one's memory, as it was before the query.  What memory is
    worth is the difference."""
    seed: int = Field(0, ge=0)
    """Seed of the shuffle."""

    @model_validator(mode="after")
    def _asks_if_it_writes(self) -> Self:
        if bool(self.write) != (self.llm is not None):
            raise ValueError("llm and write go together: name the model and say what it writes, or neither")
        return self


@dataclass(frozen=True, slots=True)
class Recollection:
    """What is known of each query's user.

    Attributes:
        facts: in force, in the order of ``show``; the newest event last.
        profiles: the facts in words, ``""`` where nothing is known.
        notes: exchanges with the language model, and failures.
    """

    facts: tuple[tuple[Fact, ...], ...]
    profiles: tuple[str, ...]
    notes: tuple[Note, ...]


class UserMemory(Remembering[UserMemoryConfig]):
    """Tells what is known of each query's user: latest events, favourites, a model's profile and reflection.

    All of it is made from the query's own history, which by construction lies before the query, and
    from facts stated in ``memory_`` that were known before the query's time.  Nothing of it is
    computed ahead, so ``memory_`` holds what people decided: facts that they added, edits, and ids of
    what was forgotten.  A forgotten or corrected fact stays so when it is computed anew, and does not
    reach the language model's prompt either.

    ``facts`` lists what holds for given queries; ``recall`` also gives the words and the exchanges.
    """

    def __init__(self, config: UserMemoryConfig | None = None, llm: ChatModel | None = None) -> None:
        super().__init__(config)
        self._llm = llm
        c = self.config
        words = {"things": c.things, "did": c.did}
        kinds: dict[str, Kind] = {"things": "text", "did": "text"}
        taste: dict[str, Kind] = {"favourites": "lines", "history": "lines"}
        change: dict[str, Kind] = {"earlier": "lines", "lately": "lines"}
        profile = Template(load_prompt("memory/profile", c.profile_template), kinds | taste, ("history",))
        reflection = Template(load_prompt("memory/reflection", c.reflection_template), kinds | change, ("earlier", "lately"))
        self._profile, self._reflection = partial(profile.messages, **words), partial(reflection.messages, **words)
        self._lent: Lent | None = None

    @classmethod
    def create(cls, config: UserMemoryConfig, resources: Resources) -> Self:
        """Build from a config, with its language model if it names one."""
        return cls(config, None if config.llm is None else resources.llm(config.llm))

    # -- fitting ------------------------------------------------------------------------
    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Keep names and attributes of the items; for the control, who lends whom the history."""
        c = self.config
        table = with_decade(train.item_table)
        template = c.name or ("{title} ({year})" if "year" in table.columns else "{title}")
        self.names_ = item_names(train.item_table, template, max_chars=100, articles=True)
        self.columns_ = list(attribute_columns(table) if c.attributes is None else c.attributes)
        self.attributes_, self.values_ = attribute_table(table, self.columns_)
        self.users_, self.items_ = list(train.users.ids), list(train.items.ids)
        # Values that are all alike are no ratings.
        self.rated_ = len(train.events) > 0 and train.events["value"].n_unique() > 1
        self.memory_ = stated(c.memory)
        self._lent = Lent.of(train, c.seed) if c.control == "shuffled" else None
        return self

    def state(self) -> dict[str, Any]:
        """Return names, attributes and, for the control, the histories that are lent."""
        lent = {} if self._lent is None else {
            "lent_offsets_": self._lent.histories.offsets, "lent_items_": self._lent.histories.values,
            "lent_times_": self._lent.times, "lent_values_": self._lent.values, "lent_place_": self._lent.place,
            "lent_real_": self._lent.real,
        }  # fmt: skip
        return super().state() | lent

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` returned."""
        super().restore({name: value for name, value in state.items() if not name.startswith("lent_")})
        if "lent_offsets_" in state:
            histories = Ragged(state["lent_offsets_"], state["lent_items_"])
            self._lent = Lent(histories, state["lent_times_"], state["lent_values_"], state["lent_place_"], state["lent_real_"])

    # -- recalling ----------------------------------------------------------------------
    def augment(self, dataset: Dataset) -> Dataset:
        """Return the data set as it is."""
        return dataset

    def enrich(self, queries: Queries) -> Queries:
        """Return the queries with what is known of their users, after what was known before."""
        recalled = self.recall(queries)
        told = recalled.profiles
        if queries.profiles is not None:
            told = tuple(" ".join(filter(None, both)) for both in zip(queries.profiles, told, strict=True))
        return replace(queries, profiles=told, profile_notes=recalled.notes if self.config.write else None)

    def facts(self, queries: Queries) -> Memory:
        """Return what is known of the queries' users as a memory, with all that is stated in ``memory_``.

        Set ``memory_`` to what ``edit`` and ``forget`` make of it, and the decision holds from then on.
        """
        return self.memory_.add(*(fact for row in self.recall(queries).facts for fact in row if fact.of != _NOBODY))

    def recall(self, queries: Queries) -> Recollection:
        """Return facts, words and exchanges for each query."""
        parts = [self._recalled(chunk) for _, chunk in queries.chunks(_BATCH)]
        return Recollection(
            tuple(row for p in parts for row in p.facts),
            tuple(text for p in parts for text in p.profiles),
            tuple(note for p in parts for note in p.notes),
        )

    def _recalled(self, queries: Queries) -> Recollection:
        names = self.names_  # so that an unfitted one says so before anything else
        if self._lent is not None:
            queries = self._lent.exchange(queries)
        counted = [self._events(queries, row, names) for row in range(len(queries))]
        for row, facts in self._favourites(queries):
            counted[row] = facts + counted[row]
        known = [self._in_force(queries, row, facts) for row, facts in enumerate(counted)]
        notes: list[tuple[Exchange, ...]] = [()] * len(queries)
        failures: list[tuple[str, ...]] = [()] * len(queries)
        for kind in self.config.write:
            for row, fact, exchange in self._wrote(kind, queries, known):
                notes[row] += (exchange,)
                failures[row] += () if exchange.failure is None else (exchange.failure,)
                if fact is not None:
                    known[row] = self._in_force(queries, row, [*known[row], fact])
        rank = {kind: at for at, kind in enumerate(self.config.show)}
        shown = [tuple(sorted((f for f in facts if f.kind in rank), key=lambda f: rank[f.kind])) for facts in known]
        shown = [self._short(facts) for facts in shown]
        texts = tuple(_told(facts, self.config.max_chars) for facts in shown)
        return Recollection(
            tuple(shown), texts, tuple(Note(failures=f, exchanges=e) for f, e in zip(failures, notes, strict=True))
        )

    def _in_force(self, queries: Queries, row: int, computed: Sequence[Fact]) -> list[Fact]:
        """Return a user's computed facts together with those stated in time, less what was corrected or forgotten."""
        of = self._of(queries, row)
        own = {HISTORY} if self._llm is None else {HISTORY, self._llm.name}
        time = int(queries.times[row])
        stated_ = self.memory_.list("user", of, superseded=True)
        # What the history says counts at the very moment of the query, and so does its correction.
        kept = [f for f in stated_ if f.known(time) or (f.replaces is not None and f.time == time)]
        # A computed fact that somebody put into the memory counts only if it follows from this history as well.
        kept = [f for f in kept if f.source not in own or f.replaces is not None]
        if not kept and not self.memory_.forgotten:
            return [*computed]
        return [*Memory([*kept, *computed], self.memory_.forgotten).list()]

    def _of(self, queries: Queries, row: int) -> str:
        user = int(queries.users[row])
        return _NOBODY if user < 0 else self.users_[user]

    # -- counted by code ------------------------------------------------------------------
    def _events(self, queries: Queries, row: int, names: Sequence[str]) -> list[Fact]:
        """Return the latest events of one query's history, each with its own rating, oldest first."""
        c = self.config
        most = max(c.short_term, c.history if c.write else 0)
        facts: dict[str, Fact] = {}
        for at in queries.history.positions(np.array([row]), most).tolist() if most else []:
            item = int(queries.history.values[at])
            text = f"{c.did} {names[item]}"
            if self.rated_ and queries.history_values is not None:
                text += f", rated {queries.history_values[at]:g}"
            evidence = self._evidence(queries, at)
            facts.pop(text, None)  # done again, it counts as done last
            facts[text] = Fact("user", self._of(queries, row), "event", text, HISTORY, None, evidence.time, (evidence,))
        return list(facts.values())

    def _favourites(self, queries: Queries) -> list[tuple[int, list[Fact]]]:
        """Return (row, facts) of the values that stand out in each history."""
        c = self.config
        if not c.favourites or not len(queries.history.values) or not self.values_:
            return []
        numbers = {name: at for at, name in enumerate(self.columns_)}
        column = np.array([numbers[name] for name, _ in self.values_], dtype=np.int64)
        found = favourites(
            queries, self.attributes_, column, rated=self.rated_, most=c.favourites, at_least=c.at_least, evidence=c.evidence
        )
        lengths = queries.history.lengths
        facts: dict[int, list[Fact]] = {}
        for row, value, count, rating, places in found.iter_rows():
            name, text = self.values_[value]
            evidence = tuple(self._evidence(queries, at) for at in places)
            detail = f"{count} of {lengths[row]}" + ("" if rating is None else f", mean rating {rating:.1f}")
            fact = Fact("user", self._of(queries, row), "attribute", text, HISTORY, name, evidence[-1].time, evidence)
            facts.setdefault(row, []).append(replace(fact, detail=detail))
        return list(facts.items())

    def _evidence(self, queries: Queries, at: int) -> Evidence:
        time = None if queries.history_times is None else int(queries.history_times[at])
        return Evidence(self.items_[int(queries.history.values[at])], time)

    def _short(self, facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
        """Return the facts without computed events older than the short term (which only prompts may need)."""
        events = [at for at, f in enumerate(facts) if f.kind == "event" and f.source == HISTORY]
        early = set(events[: max(0, len(events) - self.config.short_term)])
        return tuple(f for at, f in enumerate(facts) if at not in early)

    # -- written by a language model --------------------------------------------------------
    def _wrote(
        self, kind: Literal["profile", "reflection"], queries: Queries, known: Sequence[Sequence[Fact]]
    ) -> list[tuple[int, Fact | None, Exchange]]:
        """Return (row, fact or None, exchange) for each user about whom there was something to ask."""
        if self._llm is None:
            raise ModelError("was made without a language model", where="UserMemory", todo="use UserMemory.create")
        asked: list[tuple[int, tuple[Message, ...], tuple[Evidence, ...]]] = []
        for row, facts in enumerate(known):
            events = [f for f in facts if f.kind == "event"][-self.config.history :]
            lines = [plain(f.text) for f in events]
            evidence = tuple(e for f in events[-self.config.evidence :] for e in f.evidence)
            cut = max(0, len(lines) - self.config.lately)
            if kind == "profile" and lines:
                liked = [plain(line) for line in _values([f for f in facts if f.kind == "attribute"])]
                asked.append((row, self._profile(favourites=liked, history=lines), evidence))
            elif kind == "reflection" and cut:
                asked.append((row, self._reflection(earlier=lines[:cut], lately=lines[cut:]), evidence))
        requests = [ChatRequest(messages, max_tokens=self.config.max_tokens) for _, messages, _ in asked]
        out: list[tuple[int, Fact | None, Exchange]] = []
        for (row, messages, evidence), reply in zip(asked, self._llm.chat(requests) if requests else [], strict=True):
            text, failure = sentences(reply, self.config.max_chars)
            time = max((e.time for e in evidence if e.time is not None), default=None)
            fact = Fact("user", self._of(queries, row), kind, text, self._llm.name, None, time, evidence) if text else None
            out.append((row, fact, Exchange(spelt(messages), reply.text or reply.detail, failure)))
        return out


#: A user outside of the vocabulary, of whom nothing is stated and nothing kept.
_NOBODY = "?"


def _values(facts: Sequence[Fact]) -> list[str]:
    """Return attribute facts in words, the values of one attribute together."""
    grouped: dict[str, list[str]] = {}
    for fact in facts:
        grouped.setdefault(fact.attribute or "", []).append(fact.text + (f" ({fact.detail})" if fact.detail else ""))
    return [f"{name}: {', '.join(values)}" if name else ", ".join(values) for name, values in grouped.items()]


def _told(facts: Sequence[Fact], max_chars: int) -> str:
    """Return facts as one line."""
    parts: list[str] = []
    for kind in dict.fromkeys(f.kind for f in facts):
        same = [f for f in facts if f.kind == kind]
        if kind == "attribute":
            parts += [f"Favourite {line}" for line in _values(same)]
        elif kind == "event":
            parts.append(f"Lately: {'; '.join(f.text for f in same)}")
        else:
            parts += [f.text if f.attribute is None else f"{f.attribute}: {f.text}" for f in same]
    return shortened(" ".join(p if p.rstrip()[-1:] in ".!?…" else f"{p.rstrip()}." for p in parts), max_chars)
