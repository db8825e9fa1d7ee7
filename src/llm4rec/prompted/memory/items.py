"""Item memory: what is known of items beyond the catalogue, as columns of the item table."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import polars as pl
from pydantic import Field, field_validator, model_validator

from llm4rec.core import Cases, Config, DataError, Dataset, FilePath, ModelError, Queries, Resources, SpecError, did_you_mean
from llm4rec.core.columns import ITEM, TIME
from llm4rec.llm.values import ChatModel
from llm4rec.prompted.items import item_names
from llm4rec.prompted.memory import writing
from llm4rec.prompted.memory.encyclopedia import AnySourceConfig, open_source, shortened
from llm4rec.prompted.memory.facts import Fact, FactError, FactKind, moment
from llm4rec.prompted.memory.memory import Memory
from llm4rec.prompted.memory.remembering import Control, Remembering, neighbours, stated
from llm4rec.prompted.memory.sources import Item, Source
from llm4rec.prompted.memory.titles import catalogue_titles
from llm4rec.prompted.wording import Kind, Template, load_prompt

_LOG = logging.getLogger(__name__)
_NEVER = -(2**62)  # before every event: leaves what is timeless


class ItemMemoryConfig(Config):
    """Parameters of :class:`ItemMemory`."""

    memory: FilePath | None = None
    """A file of facts to begin with: one that was saved, or written by hand."""
    fields: tuple[str, ...] = ()
    """Columns of the item table that become facts, and so reach the summaries and can be edited."""
    sources: tuple[AnySourceConfig, ...] = ()
    """Where knowledge comes from: tables with ``kind = "jsonl"``, ``"wikipedia-dump"``, ``"mediawiki"`` or ``"http"``."""
    known_before: str = "start"
    """Only facts known before this moment are used: ``start`` (of the training events), ``end`` (for a
    split at one time, where all queries come after), or an ISO 8601 time.  Facts without a time are
    always used; where the data set has no real times, only they are."""
    llm: str | None = None
    """Name of the language model that writes; none is asked unless it is given."""
    write: tuple[Literal["summary", "attributes"], ...] = ()
    """What it writes about each item."""
    attributes: tuple[str, ...] = ("genres",)
    """Attributes that it extracts: columns of the item table, whose values are then resolved to
    those of the catalogue, or new ones ("mood")."""
    write_items: int | None = Field(None, ge=1)
    """Write about so many items only, the most touched first; all if not given."""
    thing: str = "movie"
    """What an item is, in the singular."""
    name: str | None = None
    """Template of an item's name in prompts; by default the title, with the year where there is one."""
    max_tokens: int = Field(96, ge=8)
    """Longest answer in tokens; attributes may use as many for each of them."""
    summary_template: FilePath | None = None
    """Path of a jinja template that replaces the built-in one for summaries."""
    attributes_template: FilePath | None = None
    """Path of a jinja template that replaces the built-in one for attributes."""
    column: str = Field("memory", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the text column; attributes lie in ``COLUMN_ATTRIBUTE`` beside it, as lists."""
    show: tuple[FactKind, ...] = ("summary", "knowledge", "attribute")
    """Kinds of facts in the text column, in this order."""
    max_chars: int = Field(400, ge=20)
    """Longest text of an item; cut between sentences where that is possible."""
    control: Control = "none"
    """``shuffled``: each item gets another one's memory.  What memory is worth is the difference."""
    seed: int = Field(0, ge=0)
    """Seed of the shuffle."""
    exchanges: int = Field(8, ge=0)
    """Prompts and answers that are kept."""

    @field_validator("known_before")
    @classmethod
    def _is_a_moment(cls, value: str) -> str:
        if value not in ("start", "end"):
            try:
                moment(value)
            except FactError:
                raise ValueError("must be 'start', 'end' or an ISO 8601 time such as '1998-01-31'") from None
        return value

    @model_validator(mode="after")
    def _asks_if_it_writes(self) -> Self:
        if bool(self.write) != (self.llm is not None):
            raise ValueError("llm and write go together: name the model and say what it writes, or neither")
        return self


class ItemMemory(Remembering[ItemMemoryConfig]):
    """Gathers facts about items and shows them as columns of the item table.

    Time: one column serves all queries, so it holds only what was known before the earliest of
    them can be asked (``known_before``).  ``enrich`` leaves queries as they are, and refuses one from
    before a fact that is shown.  What a model writes counts as known since the newest fact that it
    was shown; what the model itself knows of later days no date can tell (see the contamination probe).

    ``memory_`` holds all facts, also those that are too late; ``counts_`` says how many there are of
    each kind and source, and what went wrong.

    Args:
        config: see above.
        llm: where ``write`` asks for one.
        sources: further ones, such as a :class:`FunctionSource`.
    """

    def __init__(
        self, config: ItemMemoryConfig | None = None, llm: ChatModel | None = None, sources: Sequence[Source] = ()
    ) -> None:
        super().__init__(config)
        self._llm = llm
        self._sources = [*map(open_source, self.config.sources), *sources]
        c = self.config
        words: dict[str, Kind] = {"thing": "text", "name": "text", "facts": "lines"}
        asks: dict[str, Kind] = {"attributes": "pairs", "most": "text", "form": "text"}
        summary = Template(load_prompt("memory/summary", c.summary_template), words, ("name",))
        attributes = Template(load_prompt("memory/attributes", c.attributes_template), words | asks, ("name", "form"))
        self._summary, self._attributes = partial(summary.messages, thing=c.thing), partial(attributes.messages, thing=c.thing)

    @classmethod
    def create(cls, config: ItemMemoryConfig, resources: Resources) -> Self:
        """Build from a config, with its language model if it names one."""
        return cls(config, None if config.llm is None else resources.llm(config.llm))

    # -- fitting ------------------------------------------------------------------------
    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Gather the facts: from the file, the catalogue, the sources, and the language model."""
        c = self.config
        self.counts_: dict[str, Any] = {}
        self.exchanges_: list[list[str | None]] = []
        self.before_ = self._before(train)
        titles = catalogue_titles(train)
        rows = train.item_table.drop(ITEM).to_dicts()
        items = [Item(id_, title, row) for id_, title, row in zip(train.items.ids, titles, rows, strict=True)]
        memory = stated(c.memory).add(*self._fields(train))
        for source in self._sources:
            found = source.find(items)
            missed = dict(sorted(found.missed.items()))
            if not found.facts and set(missed) - {"unmatched", "ambiguous"}:
                raise DataError(f"gave nothing at all ({_listed(missed)})", where=f"source {source.name}")
            memory = memory.add(*found.facts)
            self.counts_[source.name] = {"facts": len(found.facts)} | missed
        self.memory_ = self._written(memory, train) if c.write else memory
        late = [f for f in self.memory_.list("item") if not f.known(self.before_)]
        if late:
            self.counts_["later"] = len(late)
            _LOG.warning(
                "item memory: %d of %d facts are dated after the moment that known_before = %r allows, and are not used",
                len(late), len(self.memory_.list("item")), c.known_before,
            )  # fmt: skip
        return self

    def _before(self, train: Dataset) -> int:
        """Return the moment (UTC s) before which a fact must be known."""
        if self.config.known_before not in ("start", "end"):
            at = moment(self.config.known_before)
            assert at is not None
            return at if train.clock == "utc" else _NEVER
        if train.clock != "utc" or not len(train.events):
            return _NEVER
        times = train.events[TIME].to_numpy()
        return int(times.min() if self.config.known_before == "start" else times.max())

    def _fields(self, train: Dataset) -> list[Fact]:
        """Return the catalogue's own fields as facts."""
        facts = []
        for column in self.config.fields:
            if column not in train.item_table.columns:
                known = [name for name in train.item_table.columns if name != ITEM]
                raise SpecError(f"the item table has no column {column!r}", where="fields", todo=did_you_mean(column, known))
            for id_, value in zip(train.items.ids, train.item_table[column].to_list(), strict=True):
                text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
                if text.strip():
                    facts.append(Fact("item", id_, "text", text, "catalogue", column))
        return facts

    def _written(self, memory: Memory, train: Dataset) -> Memory:
        """Return the memory with what the language model makes of what was known in time."""
        c = self.config
        if self._llm is None:
            raise ModelError("was made without a language model", where="ItemMemory", todo="use ItemMemory.create")
        template = c.name or ("{title} ({year})" if "year" in train.item_table.columns else "{title}")
        names = item_names(train.item_table, template, max_chars=200, articles=True)
        chosen = np.sort(np.argsort(-train.item_counts, kind="stable")[: c.write_items]).tolist()
        shown = memory.frozen(self.before_)
        subjects = [writing.Subject(train.items.ids[i], names[i], shown.list("item", train.items.ids[i])) for i in chosen]
        parts = []
        if "summary" in c.write:
            parts.append(("summary", writing.summaries(self._llm, self._summary, subjects, c.max_tokens, c.max_chars)))
        if "attributes" in c.write:
            known = {
                name: dict(zip(train.items.ids, writing.catalogue_values(train, name), strict=True)) for name in c.attributes
            }
            bound = c.max_tokens * max(1, len(c.attributes))
            parts.append(("attributes", writing.attributes(self._llm, self._attributes, subjects, known, bound)))
        for name, part in parts:
            memory = memory.add(*part.facts)
            told = {"asked": len(subjects), "facts": len(part.facts)} | dict(sorted(part.failures.items()))
            self.counts_[f"{self._llm.name}: {name}"] = told
            self.exchanges_ += [[e.prompt, e.answer, e.failure] for e in part.exchanges[: c.exchanges]]
        return memory

    # -- augmenting ---------------------------------------------------------------------
    def shown(self) -> dict[str, tuple[Fact, ...]]:
        """Return by outside id the facts that are shown: in force, known in time, of the kinds of ``show``, in its order."""
        rank = {kind: at for at, kind in enumerate(self.config.show)}
        by_item: dict[str, list[Fact]] = {}
        for fact in self.memory_.frozen(self.before_).list("item"):
            if fact.kind in rank:
                by_item.setdefault(fact.of, []).append(fact)
        return {of: tuple(sorted(facts, key=lambda f: rank[f.kind])) for of, facts in by_item.items()}

    def augment(self, dataset: Dataset) -> Dataset:
        """Return the data set with the memory's columns; raises ``SpecError`` for a name that is taken."""
        c, known = self.config, self.shown()
        known = {of: facts for of, facts in known.items() if of in dataset.items}
        if c.control == "shuffled":
            other = neighbours({of: _draw(c.seed, of) for of in known})
            known = {of: known[other[of]] for of in other}
        names = sorted({f.attribute for facts in known.values() for f in facts if f.kind == "attribute" and f.attribute})
        columns: dict[str, pl.Series] = {}
        texts = [_text(known.get(of, ()), c.max_chars) for of in dataset.items]
        columns[c.column] = pl.Series(c.column, texts, dtype=pl.String)
        for name in names:
            values = [
                [f.text for f in known.get(of, ()) if f.attribute == name and f.kind == "attribute"] or None
                for of in dataset.items
            ]
            columns[f"{c.column}_{name}"] = pl.Series(values, dtype=pl.List(pl.String))
        if taken := [name for name in columns if name in dataset.item_table.columns]:
            raise SpecError(f"the item table has a column {taken[0]!r} already", where="column", todo="choose another name")
        return replace(dataset, item_table=dataset.item_table.with_columns(**columns))

    def enrich(self, queries: Queries) -> Queries:
        """Return the queries as they are; raises ``SpecError`` for one that is asked before a fact that is shown."""
        newest = max((f.time for facts in self.shown().values() for f in facts if f.time is not None), default=None)
        if newest is not None and len(queries) and int(queries.times.min()) <= newest:
            raise SpecError(
                f"a query of time {int(queries.times.min())} is asked before a fact of time {newest} was known",
                where=f"item-memory, known_before = {self.config.known_before!r}",
                todo="use 'start', or an earlier moment",
            )
        return queries


def _text(facts: Sequence[Fact], max_chars: int) -> str | None:
    """Return facts as one line: texts as sentences, values of one attribute together."""
    values: dict[str, list[str]] = {}
    parts: list[str] = []
    for fact in facts:
        if fact.attribute is None:
            parts.append(fact.text)
        elif fact.attribute in values:
            values[fact.attribute].append(fact.text)
        else:
            values[fact.attribute] = [fact.text]
            parts.append(f"\0{fact.attribute}")  # stands where the first value came
    whole = [p if not p.startswith("\0") else f"{p[1:]}: {', '.join(values[p[1:]])}" for p in parts]
    text = " ".join(p if p.rstrip()[-1:] in ".!?…" else f"{p.rstrip()}." for p in whole)
    return shortened(text, max_chars) or None


def _draw(seed: int, of: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {of}".encode(), digest_size=8).digest(), "big")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind}: {n}" for kind, n in Counter(counts).most_common())
