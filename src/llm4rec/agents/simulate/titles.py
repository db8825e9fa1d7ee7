"""From titles as people and models write them to items: whole names and years, never parts of names.

A near name is no name: "Alien" is not "Aliens", and "The Disaster Artist" is not the nearest thing that a list happens
to hold. What cannot be told apart stays untold, and both are counted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from llm4rec.prompted.explain.mentions import names_of
from llm4rec.prompted.items import spoken

Finding = Literal["mapped", "ambiguous", "unknown"]

_YEAR = re.compile(r"\s*\((\d{4})(?:\s*[-–]\s*(?:\d{4})?)?\)\s*$")
_ENUMERATED = re.compile(r"^\s*(?:\d{1,3}\s*[.):]|[-*•])\s*(.+?)\s*$")
_AFTER = re.compile(r"\s+[-–—]\s+[a-z].*$|\s*\((?!\d{4})[^)]*\)\s*$|\s+by\s+[A-Z].*$")
#: Years by which two catalogues may differ on one film (festival and release).
_SLACK = 1


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a title: the item's inside id where there is exactly one, else -1."""

    item: int
    kind: Finding


def key(title: str) -> str:
    """Return a title without case, accents, punctuation, and article: what makes two spellings one name."""
    plain = unicodedata.normalize("NFKD", spoken(title.strip()).casefold().replace("&", " and "))
    words = re.findall(r"[^\W_]+", re.sub(r"['’`]", "", "".join(c for c in plain if not unicodedata.combining(c))))
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("the", "a", "an") else words)


class TitleMatcher:
    """Finds items by title and year.

    Args:
        titles: of each item; a year in brackets at the end is taken for the year where ``years`` has none.
        years: of each item, None where unknown.
    """

    def __init__(self, titles: Sequence[str | None], years: Sequence[int | None] | None = None) -> None:
        self._items: dict[str, list[int]] = {}
        self._years: list[int | None] = []
        for item, title in enumerate(titles):
            bare, within = split_year(title or "")
            self._years.append((years[item] if years is not None else None) or within)
            for form in dict.fromkeys(key(f) for name in (bare, spoken(bare)) for f in names_of(name)):
                if form:
                    self._items.setdefault(form, []).append(item)

    def find(self, title: str, year: int | None = None) -> Found:
        """Return the item of a title; with a year (given, or in brackets behind it) only one of that year, give or take one."""
        bare, within = split_year(title)
        year = within if year is None else year
        held = self._items.get(key(bare), [])
        if year is not None and held:
            exact = [i for i in held if self._years[i] == year]
            near = [i for i in held if self._years[i] is None or abs((self._years[i] or 0) - year) <= _SLACK]
            held = exact or near
        if not held:
            return Found(-1, "unknown")
        return Found(held[0], "mapped") if len(held) == 1 else Found(-1, "ambiguous")


def split_year(title: str) -> tuple[str, int | None]:
    """Return a title without the year in brackets at its end, and that year."""
    match = _YEAR.search(title)
    return (title[: match.start()].strip(), int(match[1])) if match else (title.strip(), None)


def titles_in(answer: str) -> list[str]:
    """Return the titles that a numbered or bulleted answer lists, in order; empty for prose.

    What follows a title on its line (a note in brackets that is no year, a dash and words) is left out.
    """
    found = []
    for line in answer.splitlines():
        if match := _ENUMERATED.match(line):
            text = match[1].strip().strip("*_").strip()
            quoted = re.match(r"[\"“](.+?)[\"”]", text)
            title = quoted[1] if quoted else _AFTER.sub("", text)
            found.append(title.rstrip(".,; "))
    return [title for title in found if title]
