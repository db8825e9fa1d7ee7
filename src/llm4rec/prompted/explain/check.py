"""Does a sentence say what the evidence says, and nothing else?

The rules are for English and strict: what cannot be traced to the evidence fails the sentence.

- It names the cited history item, says that the user has touched it ("watched"), and names the
  value, or it is ``missing_evidence``.
- It says so of the cited item alone, and names it once, or it is an ``unsupported_claim``.
- Every other capitalised word, number, quoted phrase or catalogue title in it (but for the
  recommended item's own name) is an ``unsupported_mention``.
- An attribute value that the recommended item does not have is an ``unsupported_attribute``; one
  that it has becomes a further claim.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Claim
from llm4rec.prompted.explain.evidence import Evidence

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”')
_END = re.compile(r"[.!?]+[\"”')]*(?=\s|$)")
_AT_ONCE = re.compile(r"[\s\"“'’]*(?:the\s+)?(?:\w+\s+)?[\s\"“'’]*")
_LONGEST = 14  # words; longer names are looked for by their own tokens only
_PRONOUNS = frozenset({"I", "I'd", "I'll", "I'm", "I've", "I’d", "I’ll", "I’m", "I’ve"})

Span = tuple[int, int]
Words = tuple[str, ...]


def words(text: str) -> Words:
    """Return the words of a text as they are spelt, without punctuation."""
    return tuple(_WORD.findall(text))


def _folded(text: str) -> Words:
    return tuple(w.casefold().replace("’", "'") for w in words(text))


def names_of(name: str) -> tuple[str, ...]:
    """Return a name and, where it ends in brackets (a year, a second title), the name without them."""
    short = re.sub(r"\s*\([^()]*\)$", "", name)
    return (name, short) if short and short != name else (name,)


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence as far as it is whole, its claims, and the kind of failure if it does not hold."""

    sentence: str
    claims: tuple[Claim, ...] = ()
    failure: str | None = None


class Checker:
    """Checks sentences against evidence.

    Args:
        names: name of each item.
        values: attribute values as ``[column, value]``.
        has: for each item the codes of its values, as offsets and codes (CSR rows).
        did: the word for what users do with items, such as "watched".
    """

    def __init__(
        self,
        names: Sequence[str],
        values: Sequence[Sequence[str]],
        has: tuple[NDArray[np.integer], NDArray[np.integer]],
        did: str,
    ) -> None:
        self._names = names
        self._values = values
        self._offsets, self._codes = has
        self._did = re.compile(rf"\b{re.escape(did)}\b", re.IGNORECASE)
        self._titles = {words(short) for name in names for short in names_of(name)}
        self._meanings: dict[Words, list[int]] = {}
        for code, (_, value) in enumerate(values):
            for form in _forms(_folded(value)):
                self._meanings.setdefault(form, []).append(code)

    def check(self, text: str, evidence: Evidence, *, cut: bool = False) -> Finding:
        """Check the first sentence of an answer; ``cut`` says that the answer was cut off at its end."""
        text = " ".join(text.split())
        masked = self._spans(text, evidence.item)
        cited = [] if evidence.cited is None else self._spans(text, evidence.cited)
        end = next((m.end() for m in _END.finditer(text) if not _within(m.start(), masked + cited)), None)
        if end is None and cut:
            return Finding(text, failure="truncated")
        sentence = text if end is None else text[:end]
        if not words(sentence):
            return Finding(sentence, failure="empty")
        masked, cited = ([s for s in spans if s[1] <= len(sentence)] for spans in (masked, cited))
        if evidence.cited is not None and (not cited or not self._did.search(sentence)):
            return Finding(sentence, failure="missing_evidence")
        if len(cited) > 1 or not self._touched(sentence, masked + cited) <= set(cited):
            return Finding(sentence, failure="unsupported_claim")
        free = [m.span() for m in _WORD.finditer(sentence) if not _within(m.start(), masked + cited)]
        mentions, rest = self._mentions(sentence, free)
        stated = None
        claims = []
        for span, codes in mentions:
            true = [code for code in codes if code in self._held(evidence.item)]
            if not true:
                return Finding(sentence, failure="unsupported_attribute")
            column, value = self._values[true[0]]
            if [evidence.attribute, evidence.value] in [list(self._values[code]) for code in true]:
                stated = stated or span
            else:
                claims.append(Claim("attribute", attribute=column, value=value, span=span))
        if evidence.value is not None and stated is None:
            return Finding(sentence, failure="missing_evidence")
        if self._unsupported(sentence, free, rest, masked + cited):
            return Finding(sentence, failure="unsupported_mention")
        return Finding(sentence, evidence.claims(cited[0] if cited else None, stated) + tuple(claims))

    def _held(self, item: int) -> set[int]:
        return set(self._codes[self._offsets[item] : self._offsets[item + 1]].tolist())

    def _spans(self, text: str, item: int) -> list[Span]:
        """Return where an item's name stands in a text, its longest form first; one word must be spelt alike."""
        found: list[Span] = []
        at = [m.span() for m in _WORD.finditer(text)]
        for name in names_of(self._names[item]):
            spell = _folded if len(words(name)) > 1 else words
            spelt, wanted = spell(text), spell(name)
            for i in range(len(spelt) - len(wanted) + 1) if wanted else ():
                span = (at[i][0], at[i + len(wanted) - 1][1])
                if spelt[i : i + len(wanted)] == wanted and not _within(span[0], found):
                    found.append(span)
        return found

    def _touched(self, sentence: str, named: list[Span]) -> set[Span]:
        """Return the names that the user is said to have touched.

        That is the name which follows the verb at once (watched the movie "X"), else the last one
        before it (X, which you watched).
        """
        out = set()
        for match in self._did.finditer(sentence):
            if _within(match.start(), named):
                continue
            after = [s for s in named if s[0] >= match.end() and _AT_ONCE.fullmatch(sentence[match.end() : s[0]])]
            before = [s for s in named if s[1] <= match.start()]
            out |= {min(after)} if after else {max(before)} if before else set()
        return out

    def _mentions(self, sentence: str, free: list[Span]) -> tuple[list[tuple[Span, list[int]]], list[Span]]:
        """Return the attribute values in the free words, the longest first, and the words that are left."""
        longest = max(map(len, self._meanings), default=0)
        found, rest, at = [], [], 0
        while at < len(free):
            for n in range(min(longest, len(free) - at), 0, -1):
                span = (free[at][0], free[at + n - 1][1])
                codes = self._meanings.get(_folded(sentence[slice(*span)]))
                if codes:
                    found.append((span, codes))
                    at += n
                    break
            else:
                rest.append(free[at])
                at += 1
        return found, rest

    def _unsupported(self, sentence: str, free: list[Span], rest: list[Span], masked: list[Span]) -> bool:
        """Is anything named that is neither evidence nor plain prose?"""
        for match in _QUOTED.finditer(sentence):
            if any(span in rest for span in (m.span() for m in _WORD.finditer(sentence, *match.span()))):
                return True
        for start, end in rest:
            word = sentence[start:end]
            first = not words(sentence[:start])
            if word[0].isdigit() or (word[0].isupper() and not first and word not in _PRONOUNS):
                return True
        for at in range(len(free)):
            for n in range(2, min(_LONGEST, len(free) - at) + 1):
                span = (free[at][0], free[at + n - 1][1])
                if words(sentence[slice(*span)]) in self._titles and not any(span[0] <= s < span[1] for s, _ in masked):
                    return True
        return False


def _within(at: int, spans: Sequence[Span]) -> bool:
    return any(start <= at < end for start, end in spans)


def _forms(value: Words) -> set[Words]:
    """Return a value and its plural: "thriller" and "thrillers", "comedy" and "comedies"."""
    if not value:
        return set()
    last = value[-1]
    plural = last[:-1] + "ies" if last.endswith("y") else last + "s"
    return {value, (*value[:-1], plural)}
