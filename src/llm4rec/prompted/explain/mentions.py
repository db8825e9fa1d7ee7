"""What a text names: titles, attribute values, people, years, numbers, quotations.

The rules are for English.  A text is cut into words and read from left to right; the longest match wins.

- ``title``: a name of the catalogue, or the name without what stands in brackets at its end.  Spelt as
  in the catalogue; the names of items that the reader is told to expect in any case.  A name of one
  word counts if it is spelt alike and is not the first word of a sentence (unless it is expected or
  stands in quotation marks).
- ``value``: an attribute value in any case, or its plural ("thrillers").
- ``year``: four digits from 1850 to 2099, or a decade ("1980s", "80s").  ``number``: other digits and
  the words from "two" to "twelve", "dozen", "hundred", "thousand"; not "one", which is mostly a pronoun.
- ``quotation``: what stands in quotation marks and is no title.
- ``person``: two to four capitalised words in a row; ``name``: other capitalised words within a
  sentence.  Nationalities and the like count too: they say something that has to be true.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from llm4rec.prompted.explain.opinion import is_opinion

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_QUOTED = re.compile(r"\"([^\"]*)\"|“([^”]*)”|(?<!\w)'([A-Z0-9][^'\n]*)'(?!\w)|(?<!\w)‘([^’\n]*)’(?!\w)")
_SENTENCE = re.compile(r"[.!?]+[\"”')]*(?=\s|$)|[\n:]")
_POSSESSIVE = re.compile(r"['’]s$")
_DECADE = re.compile(r"(?:18|19|20)?\d0s")
_LONGEST = 14  # words; longer names are looked for by their first words only
_PRONOUNS = frozenset({"i", "i'd", "i'll", "i'm", "i've"})
#: Words that open sentences and are no part of a name that follows them.
_OPENING = """
a additionally after also although an and another as at based because before besides both but by despite due
enjoy even fans finally first for from furthermore given has have he her his how however if in instead it its
just like many more moreover most my no not now of on once one or other our overall readers she similar see since
so some such that the their then there therefore these they this those though to try unlike users viewers
watch we what when where which while who why with you your
"""
_OPENERS = frozenset(_OPENING.split())
NUMBERS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "dozen": 12, "hundred": 100, "thousand": 1000,
}  # fmt: skip

Span = tuple[int, int]
Words = tuple[str, ...]
MentionKind = Literal["title", "value", "year", "number", "quotation", "person", "name"]


def words(text: str) -> Words:
    """Return the words of a text as they are spelt, without punctuation."""
    return tuple(_WORD.findall(text))


def folded(text: str) -> Words:
    """Return the words of a text in lower case, with straight apostrophes."""
    return tuple(w.casefold().replace("’", "'") for w in words(text))


def names_of(name: str) -> tuple[str, ...]:
    """Return a name and, where it ends in brackets (a year, a second title), the name without them."""
    short = re.sub(r"\s*\([^()]*\)$", "", name)
    return (name, short) if short and short != name else (name,)


def forms(value: Words) -> set[Words]:
    """Return a value and its plural: "thriller" and "thrillers", "comedy" and "comedies"."""
    if not value:
        return set()
    last = value[-1]
    plural = last[:-1] + "ies" if last.endswith("y") else last + "s"
    return {value, (*value[:-1], plural)}


def within(inner: Span, outer: Span) -> bool:
    """Does a span lie in another?"""
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def sentence_ends(text: str, protected: Sequence[Span] = ()) -> list[int]:
    """Return where sentences end; full stops in protected spans, or amid quotation marks, end none."""
    quoted = [(m.start(), m.end() - 2) for m in _QUOTED.finditer(text)]  # one that ends the quotation may end both
    ends = (m for m in _SENTENCE.finditer(text) if not any(a <= m.start() < b for a, b in (*protected, *quoted)))
    return [m.end() for m in ends]


@dataclass(frozen=True, slots=True)
class Mention:
    """Something that a text names.

    Attributes:
        kind: see the module.
        span: (start, end) in the text.
        text: what stands there.
        ids: inside ids of the items of that name ("title"), or codes of the values ("value").
    """

    kind: MentionKind
    span: Span
    text: str
    ids: tuple[int, ...] = ()

    @property
    def number(self) -> int | None:
        """The number that a "number" or "year" states (the first year of a decade), or None."""
        digits = re.match(r"\d+", self.text)
        if digits is None:
            return NUMBERS.get(self.text.casefold())
        number = int(digits[0])
        return number + 1900 if self.kind == "year" and number < 100 else number


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found in a text: mentions in order, words of opinion outside of them, number of words."""

    mentions: tuple[Mention, ...]
    opinions: tuple[Span, ...]
    n_words: int


class Finder:
    """Finds what texts name.

    Args:
        names: name of each item.
        values: attribute values as ``[column, value]``.
    """

    def __init__(self, names: Sequence[str], values: Sequence[Sequence[str]] = ()) -> None:
        self._names = names
        self._titles: dict[Words, list[int]] = {}
        self._quotable: dict[Words, list[int]] = {}
        for item, name in enumerate(names):
            for form in names_of(name):
                self._titles.setdefault(words(form)[:_LONGEST], []).append(item)
                self._quotable.setdefault(folded(form)[:_LONGEST], []).append(item)
        self._values: dict[Words, list[int]] = {}
        for code, (_, value) in enumerate(values):
            for spelt in forms(folded(value)):
                self._values.setdefault(spelt, []).append(code)
        self._longest_value = max(map(len, self._values), default=0)

    def read(self, text: str, expected: Sequence[int] = (), known: Collection[int] = ()) -> Reading:
        """Return what a text names.

        Args:
            expected: items whose names of several words are found in any case.
            known: items whose names of one word are found at the beginning of a sentence, too.
        """
        at = [m.span() for m in _WORD.finditer(text)]
        spelt = [text[a:b] for a, b in at]
        low = [w.casefold().replace("’", "'") for w in spelt]
        quotes = self._quotes(text, at)
        near = self._near(expected)
        firsts = self._first_words(text, at)
        mentions: list[Mention] = []
        opinions: list[Span] = []
        i = 0
        while i < len(at):
            found = self._title(spelt, low, at, i, near, firsts, quotes, known) or self._value(low, at, i)
            if found is None and i in quotes and not self._holds_value(low, i, quotes[i]):
                found = quotes[i], "quotation", ()
            if found is None:
                found = self._number(low, i) or self._name(text, spelt, low, at, i, firsts)
            if found is None:
                if is_opinion(low[i]):
                    opinions.append(at[i])
                i += 1
                continue
            n, kind, ids = found
            end = at[i + n - 1][1]
            if _POSSESSIVE.search(low[i + n - 1]) and tuple(low[i : i + n]) not in self._own_forms(kind):
                end -= 2  # "Alien's crew" names Alien
            mentions.append(Mention(kind, (at[i][0], end), text[at[i][0] : end], tuple(ids)))
            i += n
        return Reading(tuple(mentions), tuple(opinions), len(at))

    # -- what a word can begin ----------------------------------------------------------
    def _near(self, expected: Sequence[int]) -> dict[Words, list[int]]:
        near: dict[Words, list[int]] = {}
        for item in expected:
            for form in names_of(self._names[item]):
                # A name of one word has to be spelt alike: "up" is not "Up".
                key = folded(form) if len(words(form)) > 1 else words(form)
                if key and item not in near.setdefault(key[:_LONGEST], []):
                    near[key[:_LONGEST]].append(item)
        return near

    def _title(
        self, spelt: list[str], low: list[str], at: list[Span], i: int,
        near: dict[Words, list[int]], firsts: set[int], quotes: dict[int, int], known: Collection[int],
    ) -> tuple[int, MentionKind, Sequence[int]] | None:  # fmt: skip
        for n in range(min(_LONGEST, len(at) - i), 0, -1):
            if quotes.get(i) == n and (ids := self._quotable.get(tuple(low[i : i + n]))):
                told = {item for several in near.values() for item in several}
                return n, "title", sorted(ids, key=lambda item: item not in told)
            for end in (spelt[i + n - 1], _POSSESSIVE.sub("", spelt[i + n - 1])):
                exact = (*spelt[i : i + n - 1], end)
                held = near.get((*low[i : i + n - 1], end.casefold().replace("’", "'")) if n > 1 else exact)
                if held:
                    return n, "title", [*held, *(item for item in self._titles.get(exact, ()) if item not in held)]
                ids = self._titles.get(exact)
                if ids is None or (n == 1 and not self._is_name(end, i in firsts and not any(item in known for item in ids))):
                    continue
                return n, "title", ids
        return None

    def _is_name(self, word: str, first: bool) -> bool:
        """Can one word be meant as a name?  "Romance" is a genre before it is a film."""
        low = word.casefold()
        return not first and word[:1].isupper() and low not in _PRONOUNS and (low,) not in self._values

    def _value(self, low: list[str], at: list[Span], i: int) -> tuple[int, MentionKind, Sequence[int]] | None:
        for n in range(min(self._longest_value, len(at) - i), 0, -1):
            for end in (low[i + n - 1], _POSSESSIVE.sub("", low[i + n - 1])):
                if codes := self._values.get((*low[i : i + n - 1], end)):
                    return n, "value", codes
        return None

    def _holds_value(self, low: list[str], i: int, n: int) -> bool:
        return any(tuple(low[a:b]) in self._values for a in range(i, i + n) for b in range(a + 1, i + n + 1))

    def _own_forms(self, kind: MentionKind) -> dict[Words, list[int]]:
        """Return the names of a kind that are known, some of which end in "'s" themselves."""
        return {"title": self._quotable, "value": self._values}.get(kind, {})

    def _number(self, low: list[str], i: int) -> tuple[int, MentionKind, Sequence[int]] | None:
        word = low[i]
        if _DECADE.fullmatch(word) or (len(word) == 4 and word.isdecimal() and 1850 <= int(word) <= 2099):
            return 1, "year", ()
        return (1, "number", ()) if word[0].isdigit() or word in NUMBERS else None

    def _name(
        self, text: str, spelt: list[str], low: list[str], at: list[Span], i: int, firsts: set[int]
    ) -> tuple[int, MentionKind, Sequence[int]] | None:
        """Return the capitalised words from ``i`` on; a sentence's first word only if another follows it."""

        def named(j: int) -> bool:
            return spelt[j][0].isupper() and low[j] not in _PRONOUNS and not self._begins(spelt, low, j)

        if not named(i) or (i in firsts and low[i] in _OPENERS):
            return None
        n = 1
        while (
            i + n < len(at)
            and i + n not in firsts
            and named(i + n)
            and text[at[i + n - 1][1] : at[i + n][0]] in (" ", ". ", "-")
        ):
            n += 1
        if n == 1 and i in firsts:
            return None
        return n, "person" if 2 <= n <= 4 else "name", ()

    def _begins(self, spelt: list[str], low: list[str], j: int) -> bool:
        """Does a value or a title of several words begin here, which a name must not swallow?"""
        stop = len(low)
        return any(tuple(low[j:k]) in self._values for k in range(j + 1, min(j + self._longest_value, stop) + 1)) or any(
            tuple(spelt[j:k]) in self._titles for k in range(j + 2, min(j + _LONGEST, stop) + 1)
        )

    # -- the text's shape ---------------------------------------------------------------
    def _quotes(self, text: str, at: list[Span]) -> dict[int, int]:
        """Return first word -> number of words of each quoted phrase."""
        quotes = {}
        for match in _QUOTED.finditer(text):
            inside = [j for j, span in enumerate(at) if within(span, match.span())]
            if inside:
                quotes[inside[0]] = len(inside)
        return quotes

    def _first_words(self, text: str, at: list[Span]) -> set[int]:
        """Return the numbers of the words that begin a sentence or a quotation's sentence."""
        ends = [0, *sentence_ends(text)]
        firsts, j = set(), 0
        for end in ends:
            while j < len(at) and at[j][0] < end:
                j += 1
            if j < len(at):
                firsts.add(j)
        return firsts
