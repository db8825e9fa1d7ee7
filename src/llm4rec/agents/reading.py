"""What a request in words asks for, found by code: items and attribute values that the catalogue has, years, a number.

The rules are for English and read whole words (see :mod:`llm4rec.prompted.explain.mentions`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from llm4rec.agents.catalogue import Catalogue, Operator
from llm4rec.prompted.explain.mentions import Finder, Mention, Words, folded, names_of
from llm4rec.prompted.items import item_names

Act = Literal["recommend", "explain", "remember", "recall", "forget"]

_ACTS: Sequence[tuple[Act, re.Pattern[str]]] = (
    ("recall", re.compile(r"\bwhat (?:do|did) you (?:know|remember)\b|\bmy memory\b", re.I)),
    ("remember", re.compile(r"^\W*(?:please\s+)?remember\b(?!\s+when)", re.I)),
    ("forget", re.compile(r"^\W*(?:please\s+)?forget\b", re.I)),
    ("explain", re.compile(r"^\W*(?:why\b|explain\b|how come\b)", re.I)),
)
_ALL = re.compile(r"\b(?:everything|all)\b", re.I)
_ABOUT = re.compile(r"\babout\s+(.+)$", re.I | re.S)
_REFUSING = """
no not nor without except excluding never avoid hate dislike nothing neither don't dont doesn't isn't won't can't
"""
_TURNING = "but want like love prefer show give recommend find rather instead only"
_NEGATORS, _TURNS = frozenset(_REFUSING.split()), frozenset(_TURNING.split())
#: Words that a negation may have between it and its verb: "I don't really like ...".
_REACH = 2
_SENTENCE = re.compile(r"[.!?;\n]")
_BEFORE, _AFTER = frozenset({"before", "until"}), frozenset({"after"})
_YEARS = re.compile(r"(?:18|19|20)\d\d")
_MOST = 100  # items of one answer
#: Share of an attribute's values that must be years for it to be the year.
_MOSTLY = 0.8


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that has to be so of an item; see :meth:`Catalogue.where`."""

    attribute: str
    operator: Operator
    value: str


@dataclass(frozen=True, slots=True)
class Request:
    """What was understood.

    Attributes:
        act: what is wanted.
        like: items that were named and not refused, as alternatives of one name each: inside ids.
        unlike: items that were named and refused.
        conditions: what has to be so.
        words: what else to look for, where the catalogue has no such name; else empty.
        k: how many items, if a number was said.
        everything: is all of the memory meant?
        text: what is to be remembered, in the user's words.
    """

    act: Act
    like: tuple[tuple[int, ...], ...] = ()
    unlike: tuple[int, ...] = ()
    conditions: tuple[Condition, ...] = ()
    words: str = ""
    k: int | None = None
    everything: bool = False
    text: str = ""


@dataclass(frozen=True)
class Reader:
    """Reads requests against one catalogue."""

    catalogue: Catalogue

    @cached_property
    def _year(self) -> str | None:
        """The attribute whose values are years."""
        for column in self.catalogue.attributes:
            values = [value for value, _ in self.catalogue.values(column)]
            if sum(bool(_YEARS.fullmatch(v)) for v in values) > _MOSTLY * len(values):
                return column
        return None

    @cached_property
    def _values(self) -> list[tuple[str, str]]:
        columns = [c for c in self.catalogue.grouping if c != self._year]
        return [(column, value) for column in columns for value, _ in self.catalogue.values(column)]

    @cached_property
    def _names(self) -> list[str]:
        if "title" not in self.catalogue.attributes:
            return list(self.catalogue.items.ids)
        return item_names(self.catalogue.table, "{title}", max_chars=200, articles=True)

    @cached_property
    def _finder(self) -> Finder:
        return Finder(self._names, self._values)

    @cached_property
    def _several(self) -> dict[Words, list[int]]:
        """Names of several words, in lower case: they are found however they are written."""
        found: dict[Words, list[int]] = {}
        for item, name in enumerate(self._names):
            for form in names_of(name):
                if len(key := folded(form)) > 1:
                    found.setdefault(key, []).append(item)
        return found

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._several), default=0)

    def mentions(self, text: str) -> tuple[Mention, ...]:
        """Return what a text names, in order; names of several words are found however they are written."""
        low = folded(text)
        spans = (low[i:j] for i in range(len(low)) for j in range(i + 2, min(len(low), i + self._longest) + 1))
        expected = [item for span in spans for item in self._several.get(span, ())]
        return self._finder.read(text, expected).mentions

    def read(self, text: str) -> Request:
        """Return what a request asks for."""
        act: Act = next((act for act, pattern in _ACTS if pattern.search(text)), "recommend")
        like: list[tuple[int, ...]] = []
        unlike: list[int] = []
        conditions: list[Condition] = []
        words: list[str] = []
        k = None
        for mention in self.mentions(text):
            refused = _negated(text[: mention.span[0]])
            if mention.kind == "title":
                unlike += mention.ids if refused else ()
                like += () if refused else (mention.ids,)
            elif mention.kind == "value":
                attribute, value = self._values[mention.ids[0]]
                conditions.append(Condition(attribute, "is not" if refused else "is", value))
            elif mention.kind == "year" and self._year is not None:
                conditions += _of_year(self._year, mention, text)
            elif mention.kind == "number" and k is None and mention.number is not None and 1 <= mention.number <= _MOST:
                k = mention.number
            elif mention.kind in ("person", "name", "quotation") and not refused:
                words.append(mention.text)
        if not (like or conditions or words) and (about := _ABOUT.search(text)):
            words.append(about[1])
        rest = re.sub(r"^\W*(?:please\s+)?remember\s+(?:that\s+)?", "", text, flags=re.I).strip()
        return Request(
            act, tuple(like), tuple(unlike), _each_once(conditions), " ".join(words), k, bool(_ALL.search(text)),
            rest if act == "remember" else "",
        )  # fmt: skip


def _negated(before: str) -> bool:
    """Is what follows these words refused?"""
    clause = folded(_SENTENCE.split(before)[-1])
    refused, last = False, -_REACH - 1
    for at, word in enumerate(clause):
        if word in _NEGATORS:
            refused, last = True, at
        elif word in _TURNS and at - last > _REACH:
            refused = False
    return refused


def _of_year(attribute: str, mention: Mention, text: str) -> list[Condition]:
    """Return the conditions that a year or a decade, and the word before it, put."""
    year = mention.number or 0
    last = year + 9 if mention.text.endswith("s") else year
    before = folded(text[: mention.span[0]])
    word = before[-2] if before[-1:] == ("the",) and len(before) > 1 else (before[-1] if before else "")
    low, high = Condition(attribute, "at least", str(year)), Condition(attribute, "at most", str(last))
    if word in _BEFORE:
        return [Condition(attribute, "at most", str(year - 1))]
    if word in _AFTER:
        return [Condition(attribute, "at least", str(last + 1))]
    if word == "since":
        return [low]
    return [Condition(attribute, "is not", str(year))] if _negated(text[: mention.span[0]]) and last == year else [low, high]


def _each_once(conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    return tuple(dict.fromkeys(conditions))
