"""Titles as keys: two titles are the same if they are equal after normalisation, and never because one contains the other."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl

from llm4rec.core import Dataset
from llm4rec.prompted.items import spoken

_YEAR = re.compile(r"^(?P<title>.+?)\s*\((?P<year>(?:1[5-9]|20)\d\d)(?:[-–]\d{2,4})?\)$", re.DOTALL)
_ALSO = re.compile(r"^(?P<title>.+?)\s*\((?P<also>[^()]+)\)$", re.DOTALL)
_QUALIFIED = re.compile(r"^(?P<title>.+?)\s*\((?P<qualifier>[^()]*)\)$", re.DOTALL)
_MARK = re.compile(r"^\s*(?:[-*•]\s+|\d{1,3}[.)]\s+)")
_QUOTED = re.compile(r"^[\"“”«'‘](?P<title>.+)[\"“”»'’](?P<year>\s*\(\d{4}\))?[.,;]?$")
_SIGNS = str.maketrans({"‘": "'", "’": "'", "‚": "'", "´": "'", "`": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
                        "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "−": "-", "…": "...", "_": " "})  # fmt: skip


def normal(title: str) -> str:
    """Return a title in the form in which titles are compared.

    Unicode forms, case, kinds of quotes and dashes, white space, and the place of an article
    ("Godfather, The") do not count; everything else does, so "Alien" is not "Aliens".
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", title).translate(_SIGNS)).strip()
    return " ".join(spoken(" ".join(folded.split())).casefold().split())


@dataclass(frozen=True, slots=True)
class Title:
    """A catalogue title taken apart.

    Attributes:
        names: normal forms of the title and, where it has one in brackets, of its other name
            ("City of Lost Children, The (Cité des enfants perdus, La)"); the whole first.
        year: of release, or None.
        spellings: the names as they are written, articles in front.
    """

    names: tuple[str, ...]
    year: int | None = None
    spellings: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, title: str, year: int | None = None) -> Title:
        """Take a title apart; a year at its end counts where none is given."""
        if (match := _YEAR.match(title.strip())) is not None:
            title, year = match["title"], int(match["year"]) if year is None else year
        written = [title]
        if (also := _ALSO.match(title.strip())) is not None:
            written += [also["title"], also["also"]]
        spoke = [spoken(" ".join(w.split())) for w in written]
        return cls(tuple(dict.fromkeys(filter(None, map(normal, written)))), year, tuple(dict.fromkeys(spoke)))


def qualified(title: str) -> tuple[str, str]:
    """Return an encyclopedia's page title as (normal form, qualifier): "Heat (1995 film)" is ("heat", "1995 film")."""
    match = _QUALIFIED.match(title.strip())
    return (normal(match["title"]), match["qualifier"].strip().casefold()) if match else (normal(title), "")


def catalogue_titles(dataset: Dataset) -> list[Title | None]:
    """Return the title of each item, None for one without; from the columns ``title`` and ``year``."""
    table = dataset.item_table
    if "title" not in table.columns:
        return [None] * len(table)
    titles = table["title"].cast(pl.String, strict=False).to_list()
    years: Sequence[int | None] = [None] * len(table)
    if "year" in table.columns:
        years = table["year"].cast(pl.Float64, strict=False).cast(pl.Int32, strict=False).to_list()
    return [Title.of(t, y) if t and t.strip() else None for t, y in zip(titles, years, strict=True)]


class TitleIndex:
    """From a title in somebody's answer to the one item that bears it.

    Args:
        titles: of each item, by inside id.
    """

    def __init__(self, titles: Sequence[Title | None]) -> None:
        self._titles = titles
        self._items: dict[str, list[int]] = {}
        for item, title in enumerate(titles):
            for name in title.names if title else ():
                self._items.setdefault(name, []).append(item)

    def find(self, answer: str) -> tuple[int, ...]:
        """Return the inside ids of the items with this title: none, one, or several that cannot be told apart.

        A year in the answer has to be the item's, where the catalogue knows it.
        """
        whole = self._items.get(normal(answer), [])
        if whole:  # "2001 (1968)" may be how the catalogue itself writes
            return tuple(whole)
        asked = Title.of(answer)
        found = list(dict.fromkeys(i for name in asked.names for i in self._items.get(name, ())))
        if asked.year is not None:
            found = [i for i in found if self._year(i) in (None, asked.year)]
        return tuple(found)

    def _year(self, item: int) -> int | None:
        title = self._titles[item]
        return None if title is None else title.year


def named(answer: str) -> Iterator[str]:
    """Yield the titles of an answer with one title a line, without list marks and quotes around them."""
    for line in answer.splitlines():
        bare = _MARK.sub("", line).strip(" \t*")
        if (match := _QUOTED.match(bare)) is not None:
            bare = match["title"] + (match["year"] or "")
        if bare:
            yield bare
