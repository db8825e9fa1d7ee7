"""Wikipedia and every other MediaWiki as a source: from a dump on disk, or through its API.

A page belongs to an item if its title is the item's, exactly after normalisation, with a qualifier
that fits: "Heat (1995 film)" before "Heat (film)" before "Heat".  A page whose title does not name
the year has to name it in its lead, and a page without a qualifier has to say that it is about
such a thing ("film").  Nothing is matched because one title contains another.
"""

from __future__ import annotations

import bz2
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

from pydantic import Field, field_validator

from llm4rec.core import DataError, FilePath
from llm4rec.prompted.memory.facts import Evidence, Fact, FactError, moment
from llm4rec.prompted.memory.sources import (
    KEPT,
    Found,
    HTTPConfig,
    HTTPSource,
    Item,
    JSONLConfig,
    JSONLSource,
    Source,
    SourceConfig,
)
from llm4rec.prompted.memory.titles import normal, qualified
from llm4rec.prompted.memory.web import USER_AGENT, Web, at_path, web_address
from llm4rec.prompted.memory.wikitext import categories, is_disambiguation, lead

_TITLES = 20  # in one request; the API allows 50, but leads are long
#: How well a page's title fits; the smaller the better.
_YEAR, _NOUN, _PLAIN = 0, 1, 2


class EncyclopediaConfig(SourceConfig):
    """What dump and API have in common."""

    nouns: tuple[str, ...] = ("film", "movie")
    """What the items are, as qualifiers and leads of pages say it; empty takes pages about anything."""

    before: str | None = None
    """Take pages as they stood before this moment (ISO 8601), where the source has old revisions."""

    max_chars: int = Field(default=600, ge=40, le=KEPT)
    """Characters of a lead that are kept."""

    @field_validator("before")
    @classmethod
    def _is_a_moment(cls, value: str | None) -> str | None:
        moment(value)
        return value


class DumpConfig(EncyclopediaConfig):
    """A MediaWiki XML dump (``pages-articles.xml``, plain or ``.bz2``), read as a stream."""

    kind: Literal["wikipedia-dump"] = "wikipedia-dump"
    """The kind of source."""

    path: FilePath
    """The file."""


class MediaWikiConfig(EncyclopediaConfig):
    """The API of a MediaWiki, asked for current pages or, with ``before``, for old ones."""

    kind: Literal["mediawiki"] = "mediawiki"
    """The kind of source."""

    url: str = "https://en.wikipedia.org/w/api.php"
    """Address of its ``api.php``."""

    per_second: float = Field(default=2.0, gt=0)
    """Most requests a second."""

    timeout: float = Field(default=20.0, gt=0)
    """Seconds for one whole request."""

    retries: int = Field(default=2, ge=0, le=10)
    """Further attempts after a lost connection, a time-out, 429 or 5xx."""

    user_agent: str = USER_AGENT
    """Says who asks; Wikipedia wants an address in it."""

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return web_address(value)


AnySourceConfig = Annotated[JSONLConfig | DumpConfig | MediaWikiConfig | HTTPConfig, Field(discriminator="kind")]


def open_source(config: JSONLConfig | DumpConfig | MediaWikiConfig | HTTPConfig) -> Source:
    """Return the source that a config describes; nothing is read or asked yet."""
    if isinstance(config, JSONLConfig):
        return JSONLSource(config)
    if isinstance(config, HTTPConfig):
        return HTTPSource(config)
    return Dump(config) if isinstance(config, DumpConfig) else MediaWiki(config)


# -- which page belongs to which item -------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Article:
    """A page.

    Attributes:
        title: as the encyclopedia writes it.
        text: its lead, plain.
        kinds: its categories.
        time: of the revision (UTC s).
        url: where it can be read.
    """

    title: str
    text: str
    kinds: tuple[str, ...]
    time: int | None
    url: str

    def fits(self, rank: int, year: int | None, nouns: Sequence[str]) -> bool:
        """Is it about an item of that year and kind, as far as its title left that open?"""
        said = " ".join((self.text[:KEPT], *self.kinds)).casefold()
        if rank > _YEAR and year is not None and not re.search(rf"(?<!\d){year}(?!\d)", said):
            return False
        return rank < _PLAIN or not nouns or any(re.search(rf"\b{re.escape(n.casefold())}", said) for n in nouns)


class _Matches:
    """The best page of each item so far."""

    def __init__(self, items: Sequence[Item], config: EncyclopediaConfig) -> None:
        self._items, self._config = items, config
        self._wanted: dict[tuple[str, str], list[tuple[int, int]]] = {}
        self.titles: dict[str, None] = {}
        for at, item in enumerate(items):
            for rank, name, qualifier in self._forms(item):
                self._wanted.setdefault((name, qualifier), []).append((at, rank))
        self._best: dict[int, tuple[int, Article]] = {}
        self._ambiguous: set[int] = set()

    def _forms(self, item: Item) -> Iterator[tuple[int, str, str]]:
        """Yield (rank, name, qualifier) of each page title that may be the item's."""
        if item.title is None:
            return
        nouns = [noun.casefold() for noun in self._config.nouns]
        for name in item.title.names:
            if item.title.year is not None:
                yield from ((_YEAR, name, f"{item.title.year} {noun}") for noun in nouns)
            yield from ((_NOUN, name, noun) for noun in nouns)
            yield _PLAIN, name, ""

    def asked(self, title: str) -> list[tuple[int, int]]:
        """Return (item, rank) of each item that a page of this title may belong to."""
        name, qualifier = qualified(title)
        whole = [] if not qualifier else self._wanted.get((normal(title), ""), [])
        return self._wanted.get((name, qualifier), []) + whole

    def offer(self, article: Article, asked: Sequence[tuple[int, int]]) -> None:
        """Take an article for the items that it fits better than what they have."""
        for at, rank in asked:
            title = self._items[at].title
            if title is None or not article.fits(rank, title.year, self._config.nouns):
                continue
            known = self._best.get(at)
            if known is None or rank < known[0]:
                self._best[at] = rank, article
                self._ambiguous.discard(at)
            elif rank == known[0] and article.title != known[1].title:
                self._ambiguous.add(at)

    def found(self, source: str) -> Found:
        """Return the facts, and how many items have none."""
        facts = []
        missed: Counter[str] = Counter()
        for at, item in enumerate(self._items):
            if at in self._ambiguous or at not in self._best:
                missed["ambiguous" if at in self._ambiguous else "unmatched"] += 1
                continue
            article = self._best[at][1]
            time = None if self._config.timeless else article.time
            text = shortened(article.text, self._config.max_chars)
            facts.append(Fact("item", item.id, "knowledge", text, source, None, time, (Evidence(url=article.url),)))
        return Found(tuple(facts), missed)


def shortened(text: str, max_chars: int) -> str:
    """Return the sentences of a text that fit into ``max_chars``, or the words where not one does."""
    text = " ".join(text.split())
    if len(text) <= max_chars:
        return text
    cut = text[: max_chars + 1]
    ends = [m.end() for m in re.finditer(r"[.!?][\"')\]]?(?= )", cut) if m.end() <= max_chars]
    if ends and ends[-1] >= max_chars // 3:
        return cut[: ends[-1]]
    return cut[: max_chars - 1].rpartition(" ")[0].rstrip(" ,;:") + "…" if " " in cut[: max_chars - 1] else cut[:max_chars]


# -- the dump -------------------------------------------------------------------------------
class Dump:
    """Reads a dump once, and a second time only if a redirect leads to a page that came before it."""

    def __init__(self, config: DumpConfig) -> None:
        self._config = config
        self.name = config.name or config.path.name

    def find(self, items: Sequence[Item]) -> Found:
        """Return each item's page; raises ``DataError`` for a file that is no dump."""
        matches = _Matches(items, self._config)
        redirects: dict[str, list[tuple[int, int]]] = {}
        pending: set[str] = set()
        empty = True
        for page in self._pages():
            empty = False
            asked = matches.asked(page["title"])
            if page["redirect"]:
                if asked:
                    redirects.setdefault(page["redirect"], []).extend(asked)
                    pending.add(page["redirect"])
                continue
            self._offer(matches, page, asked + redirects.get(page["title"], []))
            pending.discard(page["title"])
        if empty:
            raise DataError("holds no page", where=str(self._config.path), todo="give a pages-articles dump of a MediaWiki")
        if pending:
            for page in self._pages():
                if not page["redirect"]:
                    self._offer(matches, page, redirects.get(page["title"], []))
        return matches.found(self.name)

    def _offer(self, matches: _Matches, page: Mapping[str, Any], asked: Sequence[tuple[int, int]]) -> None:
        if asked and page["text"] and not is_disambiguation(page["text"]):
            url = f"{page['site']}{quote(page['title'].replace(' ', '_'))}"
            article = Article(page["title"], lead(page["text"]), tuple(categories(page["text"])), page["time"], url)
            if article.text:
                matches.offer(article, asked)

    def _pages(self) -> Iterator[dict[str, Any]]:
        """Yield the pages of the main namespace: title, redirect, text, time, site."""
        path, before = self._config.path, moment(self._config.before)
        page: dict[str, Any] = {}
        site = ""
        root: ElementTree.Element | None = None
        try:
            with bz2.open(path, "rb") if path.suffix == ".bz2" else open(path, "rb") as file:
                for event, node in ElementTree.iterparse(file, events=("start", "end")):
                    root = node if root is None else root
                    tag = node.tag.rpartition("}")[2]
                    if event == "start":
                        if tag == "page":
                            page = {"title": "", "ns": "0", "redirect": "", "text": "", "time": None}
                        continue
                    if tag in ("title", "ns"):
                        page[tag] = (node.text or "").strip()
                    elif tag == "base":
                        site = (node.text or "").rpartition("/")[0] + "/"
                    elif tag == "redirect":
                        page["redirect"] = node.get("title", "")
                    elif tag == "revision":
                        self._revision(page, node, before)
                        node.clear()  # a page with its whole history would not fit into memory
                    elif tag == "page":
                        if page["ns"] == "0" and page["title"]:
                            yield page | {"site": site}
                        root.clear()
        except (OSError, EOFError, ElementTree.ParseError) as error:
            raise DataError(f"cannot be read as a MediaWiki dump ({error})", where=str(path)) from None

    @staticmethod
    def _revision(page: dict[str, Any], node: ElementTree.Element, before: int | None) -> None:
        """Keep a page's latest revision, before a moment where one is given."""
        parts = {child.tag.rpartition("}")[2]: child.text or "" for child in node}
        try:
            time = moment(parts.get("timestamp") or None)
        except FactError:
            time = None
        late = before is not None and (time is None or time >= before)
        if not late and (page["time"] is None or time is None or time >= page["time"]):
            page["text"], page["time"] = parts.get("text", ""), time


# -- the API --------------------------------------------------------------------------------
class MediaWiki:
    """Asks a MediaWiki for the leads of the pages that may be an item's, twenty titles at a time."""

    def __init__(self, config: MediaWikiConfig, web: Web | None = None) -> None:
        self._config = config
        self._web = web or Web(
            user_agent=config.user_agent, per_second=config.per_second, timeout=config.timeout, retries=config.retries
        )
        self.name = config.name or config.url

    def find(self, items: Sequence[Item]) -> Found:
        """Return each item's page; where one of its pages could not be fetched, an item counts as that kind of failure."""
        facts: list[Fact] = []
        missed: Counter[str] = Counter()
        at_once = 1 if self._config.before else _TITLES  # old revisions are given for one page at a time
        for some in _blocks(items, self._spellings, at_once):
            matches = _Matches(some, self._config)
            titles = list(dict.fromkeys(title for item in some for title in self._spellings(item)))
            failures = [self._offer(matches, titles[at : at + at_once]) for at in range(0, len(titles), at_once)]
            failure = next((f for f in failures if f is not None), None)
            found = Found((), {failure: len(some)}) if failure is not None else matches.found(self.name)
            facts += found.facts
            missed.update(found.missed)
        return Found(tuple(facts), missed)

    def _spellings(self, item: Item) -> list[str]:
        """Return the page titles that may be the item's, as people write them."""
        out = []
        for name in item.title.spellings if item.title else ():
            if any(sign in name for sign in "#<>[]{}|"):
                continue  # no page can have it
            if item.title is not None and item.title.year is not None:
                out += [f"{name} ({item.title.year} {noun})" for noun in self._config.nouns]
            out += [*(f"{name} ({noun})" for noun in self._config.nouns), name]
        return out

    def _offer(self, matches: _Matches, titles: Sequence[str]) -> str | None:
        """Fetch the titles' pages and offer them; return the kind of failure, or None."""
        page = self._web.get(self._url(titles))
        if page.failure is not None:
            return page.failure
        answer = at_path(page.value, "query")
        if not isinstance(answer, dict) or not isinstance(answer.get("pages"), list):
            return "garbage"
        asked: dict[str, list[tuple[int, int]]] = {}
        for title in titles:  # follow what the wiki made of each title
            final, direct = title, matches.asked(title)
            for step in ("normalized", "redirects"):
                for move in answer.get(step) or []:
                    if isinstance(move, dict) and move.get("from") == final and not move.get("tofragment"):
                        final = str(move.get("to"))
            asked.setdefault(final, []).extend(direct)
        for entry in answer["pages"]:
            self._take(matches, entry, asked)
        return None

    def _take(self, matches: _Matches, entry: Any, asked: Mapping[str, list[tuple[int, int]]]) -> None:
        source = at_path(entry, "revisions.0.slots.main.content")
        title = at_path(entry, "title")
        if not isinstance(source, str) or not isinstance(title, str) or is_disambiguation(source):
            return
        try:
            time = moment(at_path(entry, "revisions.0.timestamp"))
        except FactError:
            time = None
        site = self._config.url.removesuffix("w/api.php").removesuffix("api.php") + "wiki/"
        article = Article(title, lead(source), tuple(categories(source)), time, site + quote(title.replace(" ", "_")))
        if article.text and (time is not None or self._config.timeless):
            matches.offer(article, list(dict.fromkeys(asked.get(title, []))))

    def _url(self, titles: Sequence[str]) -> str:
        values = {
            "action": "query", "format": "json", "formatversion": "2", "redirects": "1", "prop": "revisions",
            "rvprop": "timestamp|content", "rvslots": "main", "rvsection": "0", "titles": "|".join(titles),
        }  # fmt: skip
        if (before := moment(self._config.before)) is not None:
            # The API counts revisions back from rvstart, that one included.
            values |= {"rvstart": datetime.fromtimestamp(before - 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "rvlimit": "1"}
        return f"{self._config.url}?{urlencode(values)}"


def _blocks(items: Sequence[Item], titles: Callable[[Item], Sequence[str]], at_most: int) -> Iterator[list[Item]]:
    """Yield items together as long as they have at most so many titles, at least one a time."""
    block: list[Item] = []
    n = 0
    for item in items:
        more = len(titles(item))
        if block and n + more > at_most:
            yield block
            block, n = [], 0
        block.append(item)
        n += more
    if block:
        yield block
