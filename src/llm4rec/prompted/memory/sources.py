"""Where knowledge about items comes from: one protocol, and the sources that are a file, a service or a function."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, Self
from urllib.parse import quote

from pydantic import Field, field_validator, model_validator

from llm4rec.core import Config, DataError, FilePath
from llm4rec.prompted.memory.facts import Evidence, Fact, FactError, FactKind, moment
from llm4rec.prompted.memory.memory import json_lines
from llm4rec.prompted.memory.titles import Title, TitleIndex
from llm4rec.prompted.memory.web import USER_AGENT, Web, at_path, web_address

_NONE: Mapping[str, int] = MappingProxyType({})
#: Characters of one text of knowledge that are kept.
KEPT = 2_000


@dataclass(frozen=True, slots=True)
class Item:
    """An item as sources are asked about it.

    Attributes:
        id: outside id.
        title: taken apart, or None.
        row: the item table's values by column.
    """

    id: str
    title: Title | None
    row: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """What a source knows.

    Attributes:
        facts: about any of the items.
        missed: kind of failure (``unmatched``, ``ambiguous``, ``timeout``, ...) -> number of items.
    """

    facts: tuple[Fact, ...]
    missed: Mapping[str, int] = field(default_factory=lambda: _NONE)


class Source(Protocol):
    """Something that knows about items."""

    @property
    def name(self) -> str:
        """What facts name as their source."""

    def find(self, items: Sequence[Item]) -> Found:
        """Return facts about the items; which facts one item gets does not depend on the others."""


class SourceConfig(Config):
    """What every source has."""

    name: str = ""
    """What its facts name as their source; by default where it lies."""

    timeless: bool = False
    """Count its facts as always known, whatever time they state: you vouch that they hold nothing
    from after the queries."""


class JSONLConfig(SourceConfig):
    """A file of facts, one JSON object a line.

    A line names its item by ``item`` (outside id), or by ``title`` and perhaps ``year``, and has a
    ``text``.  It may have ``kind``, ``attribute``, ``time`` (UTC s or ISO 8601; without one the fact
    was always known) and ``url``.
    """

    kind: Literal["jsonl"] = "jsonl"
    """The kind of source."""

    path: FilePath
    """The file."""


class HTTPConfig(SourceConfig):
    """Any service that answers with JSON."""

    kind: Literal["http"] = "http"
    """The kind of source."""

    url: str
    """Address with columns of the item table, ``{id}``, ``{title}`` or ``{year}`` in braces."""

    path: str = ""
    """Where the text, or the list of texts, stands in the answer: keys and indices with dots between."""

    time_path: str | None = None
    """Where it says from when on that is known (UTC s or ISO 8601)."""

    per_second: float = Field(default=5.0, gt=0)
    """Most requests a second."""

    timeout: float = Field(default=20.0, gt=0)
    """Seconds for one whole request."""

    retries: int = Field(default=2, ge=0, le=10)
    """Further attempts after a lost connection, a time-out, 429 or 5xx."""

    user_agent: str = USER_AGENT
    """Says who asks."""

    key_env: str | None = Field(default=None, pattern=r"^[A-Z_][A-Z0-9_]{0,63}$")
    """Environment variable with a bearer token; the token itself stands nowhere."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not [name for _, name, _, _ in string.Formatter().parse(value) if name]:
            raise ValueError("must name the item, for example .../items/{id}")
        return web_address(value)

    @model_validator(mode="after")
    def _dated(self) -> Self:
        if self.time_path is None and not self.timeless:
            raise ValueError("says nothing of when its facts are known: set time_path, or timeless = true")
        return self

    def web(self, cache: Path | None = None) -> Web:
        """Return the client that the settings describe."""
        return Web(
            user_agent=self.user_agent, per_second=self.per_second, timeout=self.timeout, retries=self.retries,
            cache=cache, key_env=self.key_env,
        )  # fmt: skip


class JSONLSource:
    """Reads a file of facts (see :class:`JSONLConfig`).

    Raises ``DataError`` with the line's number for a line that cannot be read.
    """

    def __init__(self, config: JSONLConfig) -> None:
        self._config = config
        self.name = config.name or config.path.name

    def find(self, items: Sequence[Item]) -> Found:
        """Return the facts of the lines whose item is here; a line about another item is ``unmatched``."""
        at = {item.id: i for i, item in enumerate(items)}
        titles = TitleIndex([item.title for item in items])
        missed: Counter[str] = Counter()
        facts = []
        for number, line in json_lines(self._config.path):
            try:
                if "item" in line:
                    fitting: tuple[int, ...] = (at[line["item"]],) if line["item"] in at else ()
                elif isinstance(title := line.get("title"), str):
                    year = line.get("year")
                    fitting = titles.find(title if year is None else f"{title} ({year})")
                else:
                    raise FactError("names no item: give 'item' or 'title'")
                fact = self._fact(line)
            except (FactError, TypeError) as error:
                raise DataError(str(error), where=f"{self._config.path}, line {number}") from None
            same = {items[i].title for i in fitting}
            if len(fitting) and len(same) == 1:  # one film that the catalogue lists twice has one title and one year
                facts += [replace(fact, of=items[i].id) for i in fitting]
            else:
                missed["ambiguous" if len(same) > 1 else "unmatched"] += 1
        return Found(tuple(facts), missed)

    def _fact(self, line: Mapping[str, Any]) -> Fact:
        known = ("item", "title", "year", "text", "kind", "attribute", "time", "url")
        if unknown := sorted(set(line) - set(known)):
            raise FactError(f"unknown field {unknown[0]!r} (known: {', '.join(known)})")
        url, kind = line.get("url"), line.get("kind", "knowledge")
        values = {"subject": "item:?", "kind": kind, "text": line.get("text"), "source": self.name,
                  "attribute": line.get("attribute"), "time": None if self._config.timeless else line.get("time"),
                  "evidence": [{"url": url}] if url is not None else []}  # fmt: skip
        return Fact.from_dict(values)


class HTTPSource:
    """Asks a service about each item (see :class:`HTTPConfig`)."""

    def __init__(self, config: HTTPConfig, web: Web | None = None) -> None:
        self._config = config
        self._web = config.web() if web is None else web
        self.name = config.name or config.url.partition("{")[0]

    def find(self, items: Sequence[Item]) -> Found:
        """Return what the service says; an item that it does not know, or that lacks a column, is ``unmatched``."""
        missed: Counter[str] = Counter()
        facts: list[Fact] = []
        for item in items:
            url = self._url(item)
            page = None if url is None else self._web.get(url)
            if url is None or page is None or page.failure is not None:
                missed[page.failure if page is not None and page.failure is not None else "unmatched"] += 1
                continue
            told = at_path(page.value, self._config.path)
            texts = [str(t) for t in (told if isinstance(told, list) else [told]) if isinstance(t, str | int | float)]
            texts = [text[:KEPT] for text in texts if text.strip()]
            try:
                stamp = None if self._config.timeless else moment(at_path(page.value, self._config.time_path or ""))
            except FactError:
                missed["undated"] += 1
                continue
            if stamp is None and not self._config.timeless:
                missed["undated" if texts else "unmatched"] += 1
                continue
            if not texts:
                missed["unmatched"] += 1
            facts += [Fact("item", item.id, "knowledge", t, self.name, None, stamp, (Evidence(url=url),)) for t in texts]
        return Found(tuple(facts), missed)

    def _url(self, item: Item) -> str | None:
        """Return the item's address, every value quoted; None where a value is missing."""
        values = {**item.row, "id": item.id}
        if item.title is not None and item.row.get("year") is None:
            values["year"] = item.title.year
        names = [name for _, name, _, _ in string.Formatter().parse(self._config.url) if name]
        if unknown := [name for name in names if name not in values]:
            raise DataError(f"the items have no {unknown[0]!r}", where=f"url {self._config.url!r}")
        if any(values[name] is None for name in names):
            return None
        return self._config.url.format(**{name: quote(str(values[name]), safe="") for name in names})


class FunctionSource:
    """A Python function as a source.

    Args:
        name: what its facts name as their source.
        function: gets the items, and returns for each the texts (always known) or whole facts that it has.
        kind: of the facts made of texts.
    """

    def __init__(
        self, name: str, function: Callable[[Sequence[Item]], Sequence[Iterable[str | Fact]]], kind: FactKind = "knowledge"
    ) -> None:
        self.name, self._function, self._kind = name, function, kind

    def find(self, items: Sequence[Item]) -> Found:
        """Return the function's facts; an item without any is ``unmatched``."""
        facts: list[Fact] = []
        missed = 0
        for item, told in zip(items, self._function(items), strict=True):
            texts = list(told)
            missed += not texts
            facts += [t if isinstance(t, Fact) else Fact("item", item.id, self._kind, t, self.name) for t in texts]
        return Found(tuple(facts), {"unmatched": missed} if missed else {})
