"""Does a text give away what must not be named?

A simulated user that lets the title slip measures the leak and not the talk: much of the success of published simulators
came from it (Zhu et al., *How reliable is your simulator?*, WWW 2024, arXiv 2403.16416).  So every text
that a simulator writes, and every text that one is shown, passes here.

Looked for are the title as words in any case (with its article before or behind, and without what stands in brackets or
behind a colon), the title run together or spelt apart, what is nearly the title, and the id.  A title of
one short word ("Up") counts where it is spelt as a name; an id of digits alone where it is called one ("#50",
"film 50"): "the 50s" name nothing.  What is said in other words ("the one with the shark") is not found by code; a
simulator does not know it, because it is shown attributes alone.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from llm4rec.prompted.explain.mentions import names_of
from llm4rec.prompted.items import spoken

LeakKind = Literal["title", "near-title", "id"]

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_BRACKETS = re.compile(r"\(([^()]*)\)")
_YEAR = re.compile(r"\d{4}(?:-\d{4})?")
#: Letters from which on a title is looked for with its blanks left out, and near misses of it.
_LONG = 6
#: How alike two texts have to be to be nearly the same, by ``difflib`` (2 * matches / letters).
_NEAR = 0.85
#: Letters of a title of one word from which on it counts in any case.
_WORDY = 4
#: What makes digits an id.
_CALLED = r"(?:#|\b(?:id|item|film|movie|book|product|number|no\.?)\W{0,3}(?:is\W{0,3})?)"


@dataclass(frozen=True)
class Secret:
    """What must not be said.

    Attributes:
        identifier: outside id.
        titles: the names of the item.
    """

    identifier: str
    titles: tuple[str, ...]

    @classmethod
    def of(cls, identifier: str, title: str) -> Secret:
        """Return the secret of an item: its title in all the ways in which it is written."""
        found = []
        for name in (title, spoken(title)):
            for form in names_of(name):
                found += [form, spoken(form)]
        found += [inside for inside in _BRACKETS.findall(title) if not _YEAR.fullmatch(inside.strip())]
        bare = names_of(spoken(names_of(title)[-1]))[-1]
        head, *tails = re.split(r":|\s[-–—]\s", bare)
        found += [head, *(tail for tail in tails if len(_bare(_words(tail))) > 1)]  # "The Movie" is no name
        own = [f.strip() for f in found]
        return cls(identifier, tuple(dict.fromkeys(f for f in own if _words(f))))

    @cached_property
    def forms(self) -> tuple[tuple[str, ...], ...]:
        """The titles as folded words, without a leading article."""
        return tuple(dict.fromkeys(_bare(_words(t)) for t in self.titles))


@dataclass(frozen=True, slots=True)
class Leak:
    """Where a text gives the item away, and how."""

    kind: LeakKind
    span: tuple[int, int]


def scan(text: str, secrets: Sequence[Secret]) -> tuple[Leak, ...]:
    """Return where a text gives one of the items away; empty where it does not."""
    found = []
    for secret in secrets:
        identifier = re.escape(secret.identifier)
        alone = rf"{_CALLED}{identifier}(?!\w)" if secret.identifier.isdecimal() else rf"(?<!\w){identifier}(?!\w)"
        if secret.identifier and (match := re.search(alone, text, re.I)):
            found.append(Leak("id", match.span()))
    spelt = [(m.group(), m.span()) for m in _WORD.finditer(_straight(text))]
    low = [_folded(word) for word, _ in spelt]
    firsts = {i for i, (_, (start, _)) in enumerate(spelt) if i == 0 or re.search(r"[.!?:\n]\W*$", text[:start])}
    for form in dict.fromkeys(form for secret in secrets for form in secret.forms):
        found += _named(form, spelt, low, firsts)
    return tuple(sorted(set(found), key=lambda leak: leak.span))


def redacted(text: str, secrets: Sequence[Secret]) -> str:
    """Return a text in which each line that gives one of the items away has become "[...]"."""
    return "\n".join("[...]" if scan(line, secrets) else line for line in text.split("\n"))


# -- parts ----------------------------------------------------------------------------------
def _named(
    form: tuple[str, ...], spelt: Sequence[tuple[str, tuple[int, int]]], low: Sequence[str], firsts: set[int]
) -> list[Leak]:
    """Return where one title stands among the words of a text."""
    joined = "".join(form)
    if len(form) == 1 and len(joined) < _WORDY:
        return [
            Leak("title", span)
            for i, (word, span) in enumerate(spelt)
            if low[i] == joined and i not in firsts and (word[:1].isupper() or word[:1].isdigit())
        ]
    found = []
    for start in range(len(low)):
        run = ""
        for end in range(start, len(low)):
            run += low[end]
            if len(run) > len(joined) + 2:
                break
            place = spelt[start][1][0], spelt[end][1][1]
            if run == joined:
                found.append(Leak("title", place))
            elif len(joined) >= _LONG and run[:1] == joined[:1] and _alike(run, joined):
                found.append(Leak("near-title", place))
    return found


def _alike(run: str, joined: str) -> bool:
    if abs(len(run) - len(joined)) > 2:
        return False
    return difflib.SequenceMatcher(None, run, joined, autojunk=False).ratio() >= _NEAR


def _words(text: str) -> tuple[str, ...]:
    return tuple(_folded(m.group()) for m in _WORD.finditer(_straight(text)))


def _bare(words: tuple[str, ...]) -> tuple[str, ...]:
    return words[1:] if len(words) > 1 and words[0] in ("the", "a", "an") else words


def _straight(text: str) -> str:
    return text.replace("’", "'").replace("`", "'")


def _folded(word: str) -> str:
    """Return a word in lower case, without accents and apostrophes."""
    plain = unicodedata.normalize("NFKD", word.casefold())
    return "".join(c for c in plain if not unicodedata.combining(c) and c != "'")
