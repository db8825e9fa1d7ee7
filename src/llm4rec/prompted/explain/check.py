"""Does a sentence say what the evidence says, and nothing else?

The rules are for English and strict: what cannot be traced to the evidence fails the sentence.

- It names the cited history item, says that the user has touched it ("watched"), and names the
  value, or it is ``missing_evidence``.
- It says so of the cited item alone, and names it once, or it is an ``unsupported_claim``.
- An attribute value that the recommended item does not have is an ``unsupported_attribute``; one
  that it has becomes a further claim.
- Whatever else it names (see :mod:`llm4rec.prompted.explain.mentions`), but for the recommended item
  itself, is an ``unsupported_mention``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Claim
from llm4rec.prompted.explain.evidence import Evidence
from llm4rec.prompted.explain.mentions import Finder, Mention, sentence_ends, words

_AT_ONCE = re.compile(r"[\s\"“'’‘]*(?:the\s+)?(?:\w+\s+)?[\s\"“'’‘]*")
_AND = re.compile(r"[\s\"”'’“‘]*(?:,|and|,\s*and|or|as well as)[\s\"“'’‘]*")

_SUBJECT = re.compile(r"[\s\"”'’]*(?:also\s+)?(?:is|are|was|has|may|might|will|would|should|could|can)\b")


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence as far as it is whole, its claims, and the kind of failure if it does not hold.

    Attributes:
        sentence: the first sentence of the answer.
        claims: what it states; empty if it does not hold.
        failure: see the module, or None.
        wrong: the words that nothing supports, where it is for such words that it fails.
    """

    sentence: str
    claims: tuple[Claim, ...] = ()
    failure: str | None = None
    wrong: tuple[str, ...] = ()


def touched(sentence: str, titles: Sequence[Mention], did: re.Pattern[str]) -> list[Mention]:
    """Return the titles that the user is said to have touched, each time a verb says so.

    These are the title that follows the verb at once (watched the movie "X") and those listed with
    it (and "Y"), else the last one before the verb (X, which you watched).
    """
    out: list[Mention] = []
    ordered = sorted(titles, key=lambda m: m.span)
    for match in did.finditer(sentence):
        if any(m.span[0] <= match.start() < m.span[1] for m in ordered):
            continue
        after = [m for m in ordered if m.span[0] >= match.end()]
        if after and _AT_ONCE.fullmatch(sentence[match.end() : after[0].span[0]]):
            out.append(after[0])
            for last, new in pairwise(after):
                joined = _AND.fullmatch(sentence[last.span[1] : new.span[0]])
                if joined is None or _SUBJECT.match(sentence, new.span[1]):  # and "Y" is something else
                    break
                out.append(new)
        else:
            out += [m for m in ordered if m.span[1] <= match.start()][-1:]
    return [m for i, m in enumerate(out) if m not in out[:i]]


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
        self._finder = Finder(names, values)
        self._values = values
        self._offsets, self._codes = has
        self._did = re.compile(rf"\b{re.escape(did)}\b", re.IGNORECASE)

    def check(self, text: str, evidence: Evidence, *, cut: bool = False) -> Finding:
        """Check the first sentence of an answer; ``cut`` says that the answer was cut off at its end."""
        expected = [evidence.item] if evidence.cited is None else [evidence.item, evidence.cited]
        text = " ".join(text.split())
        names = [m.span for m in self._finder.read(text, expected).mentions if m.kind == "title" and m.ids[0] in expected]
        end = next((e for e in sentence_ends(text, names) if text[e - 1] != ":"), None)
        if end is None and cut:
            return Finding(text, failure="truncated")
        sentence = text if end is None else text[:end]
        if not words(sentence):
            return Finding(sentence, failure="empty")
        mentions = self._finder.read(sentence, expected).mentions
        others = [m for m in mentions if evidence.item not in m.ids or m.kind != "title"]
        titles = [m for m in others if m.kind == "title"]
        cited = [m for m in titles if evidence.cited in m.ids]
        if evidence.cited is not None and (not cited or not self._did.search(sentence)):
            return Finding(sentence, failure="missing_evidence")
        named = [m for m in mentions if m.kind == "title"]
        wrong = [m for m in touched(sentence, named, self._did) if m not in cited] + cited[1:]
        if wrong:
            return self._fails(sentence, "unsupported_claim", wrong)
        return self._stated(sentence, evidence, others, cited)

    def _stated(self, sentence: str, evidence: Evidence, others: Sequence[Mention], cited: Sequence[Mention]) -> Finding:
        """Check what is named beside the recommended item; ``cited`` is where the evidence is."""
        held = set(self._codes[self._offsets[evidence.item] : self._offsets[evidence.item + 1]].tolist())
        values = [m for m in others if m.kind == "value"]
        if wrong := [m for m in values if not held.intersection(m.ids)]:
            return self._fails(sentence, "unsupported_attribute", wrong)
        stated, claims = None, []
        for mention in values:
            meant = [list(self._values[code]) for code in mention.ids if code in held]
            if [evidence.attribute, evidence.value] in meant:
                stated = stated or mention.span
            else:
                claims.append(Claim("attribute", attribute=meant[0][0], value=meant[0][1], span=mention.span))
        if evidence.value is not None and stated is None:
            return Finding(sentence, failure="missing_evidence")
        if wrong := [m for m in others if m.kind != "value" and m not in cited]:
            return self._fails(sentence, "unsupported_mention", wrong)
        return Finding(sentence, evidence.claims(cited[0].span if cited else None, stated) + tuple(claims))

    def _fails(self, sentence: str, failure: str, wrong: Sequence[Mention]) -> Finding:
        return Finding(sentence, failure=failure, wrong=tuple(dict.fromkeys(m.text for m in wrong)))
