"""Checks any explanation, whoever wrote it, without a language model.

Every claim is resolved against history and catalogue; every mention that no true claim states is
counted; words of opinion are counted apart.  Where an explanation comes without claims, code first
reads those that its words make (:meth:`Verifier.read`); texts about users and items of whom only
descriptions are known are held against these (:func:`verify_against`).

A mention is *supported* if it is the recommended item's own name, or if it stands in the span of a
claim that is true and is what the claim says.  So a claim cannot be made to cover what it does not say,
and a claim that its sentence does not state counts as ``unstated``, not as true.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from llm4rec.core import Claim, Explanation
from llm4rec.prompted.explain.check import touched
from llm4rec.prompted.explain.evidence import attribute_table
from llm4rec.prompted.explain.facts import Facts, Truth
from llm4rec.prompted.explain.mentions import NUMBERS, Finder, Mention, Span, folded, forms, names_of, sentence_ends, within
from llm4rec.prompted.explain.templated import EvidenceConfig
from llm4rec.prompted.items import item_names

Outcome = Truth | Literal["unstated"]

#: What people say of having touched something, whatever the domain.
TOUCHED = (
    "watched", "seen", "saw", "rewatched", "viewed", "read", "played", "heard", "bought", "purchased", "owned", "tried",
    "rated", "reviewed", "liked", "loved", "enjoyed", "appreciated", "adored", "finished",
)  # fmt: skip
_ALSO = re.compile(r"\b(?:another|also|both|too|as well|likewise|similar(?:ly)?|same|shares?|shared|in common|more)\b", re.I)
_NOT = re.compile(r"(?:\b(?:not|no|without|never|neither)|n['’]t)\s+(?:an?\s+|another\s+|any\s+|really\s+)?[\"“]?$", re.I)
_SEVERAL = re.compile(r"(?P<n>\b\w+)?\s*(?:\b(?:different|other|more|great|good)\s+)?[\"“]?$", re.IGNORECASE)
_VAGUE = frozenset({"many", "several", "some", "lots", "multiple", "various", "numerous", "more"})
_WHEN = (
    (re.compile(r"\b(?:before|prior to|earlier than|older than)\s+(?:the\s+)?$", re.I), "<"),
    (re.compile(r"\b(?:after|later than|newer than)\s+(?:the\s+)?$", re.I), ">"),
    (re.compile(r"\bsince\s+(?:the\s+)?$", re.I), ">="),
    (re.compile(r"\b(?:until|up to|by)\s+(?:the\s+)?$", re.I), "<="),
)
_OF_TITLE = re.compile(r"[\s\"”'’]*(?:\(|,\s*|from\s+|of\s+|in\s+|released in\s+)(?:the\s+)?$", re.I)


@dataclass(frozen=True, slots=True)
class Found:
    """A mention, and whether a true claim (or a description) states it."""

    mention: Mention
    supported: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found in one explanation.

    Attributes:
        outcomes: one for each claim, in order.
        named: everything that the sentence names, in order.
        mentions: the same without the recommended item's own name.
        opinions: spans of the words of opinion.
        n_words: words of the sentence.
    """

    outcomes: tuple[Outcome, ...]
    named: tuple[Mention, ...]
    mentions: tuple[Found, ...]
    opinions: tuple[Span, ...]
    n_words: int

    @property
    def unsupported(self) -> tuple[Mention, ...]:
        """The mentions that nothing supports."""
        return tuple(found.mention for found in self.mentions if not found.supported)

    @property
    def true_claims(self) -> int:
        return self.outcomes.count("true")

    @property
    def subjective_share(self) -> float:
        """Words of opinion over words; 0 without words."""
        return len(self.opinions) / self.n_words if self.n_words else 0.0


class Verifier:
    """Holds explanations against a catalogue and histories.

    Args:
        table: item table, in vocabulary order.
        config: how items are named and which columns are attributes, as the explainer's own config.
        year: column of years of release; mentions of years are unsupported where there is none.
    """

    def __init__(self, table: pl.DataFrame, config: EvidenceConfig | None = None, *, year: str = "year") -> None:
        c = EvidenceConfig() if config is None else config
        self.facts = Facts(table)
        self.names = item_names(table, c.item, max_chars=c.max_chars, articles=c.articles)
        _, self.values = attribute_table(table, c.attributes)
        self.finder = Finder(self.names, self.values)
        self._year = year
        verbs = dict.fromkeys((c.did, *TOUCHED))
        self._did = re.compile(rf"\b(?:{'|'.join(map(re.escape, verbs))})\b", re.IGNORECASE)

    # -- judging ------------------------------------------------------------------------
    def verify(self, explanation: Explanation, history: Collection[int]) -> Verdict:
        """Check an explanation's claims and the mentions that they leave."""
        history = set(map(int, history))
        about = [c.item for c in explanation.claims if c.item is not None and 0 <= c.item < len(self.names)]
        reading = self.finder.read(explanation.sentence, [explanation.item, *about], history)
        outcomes: list[Outcome] = []
        true: list[Claim] = []
        for claim in explanation.claims:
            stated = claim.span is not None and self._states(claim, explanation.sentence[slice(*claim.span)])
            outcome: Outcome = self.facts.truth(claim, explanation.item, history) if stated else "unstated"
            outcomes.append(outcome)
            if outcome == "true":
                true.append(claim)
        named = [m for m in reading.mentions if m.kind != "title" or explanation.item not in m.ids]
        found = tuple(Found(m, any(self._says(claim, m) for claim in true)) for m in named)
        return Verdict(tuple(outcomes), reading.mentions, found, reading.opinions, reading.n_words)

    def _states(self, claim: Claim, text: str) -> bool:
        """Do a claim's words say its item or value (and number)?"""
        spelt = folded(text)
        if claim.kind == "history":
            known = claim.item is not None and 0 <= claim.item < len(self.names)
            return not known or any(_holds(spelt, folded(name)) for name in names_of(self.names[claim.item or 0]))
        if claim.count is not None and claim.kind == "count" and claim.operator == "count=" and not _counts(spelt, claim.count):
            return False
        if claim.value is None:
            return True
        return any(_holds(spelt, form) for form in forms(folded(claim.value))) or _in_decade(claim.value, spelt)

    def _says(self, claim: Claim, mention: Mention) -> bool:
        """Is a mention within a claim's words, and what the claim says?"""
        if claim.span is None or not within(mention.span, claim.span):
            return False
        if mention.kind == "title" and claim.kind in ("history", "shared") and claim.item in mention.ids:
            return True
        if mention.kind == "number" and claim.count is not None:
            return mention.number == claim.count
        if claim.value is None:
            return False
        spelt = folded(mention.text)
        return any(_holds(form, spelt) for form in forms(folded(claim.value))) or _in_decade(claim.value, spelt)

    # -- reading ------------------------------------------------------------------------
    def read(self, sentence: str, item: int, history: Sequence[int]) -> Explanation:
        """Return a text as an explanation of ``item``, with the claims that code can read in it.

        A title is a claim about the history where the user has touched the item or is said to have; a
        value is one about the recommended item, about both ("another", "also" beside such a title), or
        about how many of them the user has touched ("you watched 4 Westerns"); a year is one about the
        release of the title before it, else of the recommended item.  A value that stands after "not"
        or "without" is denied.  What is ambiguous is read as what is true.
        """
        history = list(map(int, history))
        reading = self.finder.read(sentence, [item], set(history))
        titles = [m for m in reading.mentions if m.kind == "title"]
        said = touched(sentence, titles, self._did)
        ends = [0, *sentence_ends(sentence, [m.span for m in titles]), len(sentence)]
        claims: list[Claim] = []
        cited: dict[int, list[int]] = {}  # number of the sentence -> items cited in it so far
        for mention in reading.mentions:
            part = sum(end <= mention.span[0] for end in ends)
            before = sentence[ends[part - 1] : mention.span[0]]
            if mention.kind == "title" and item not in mention.ids:
                known = [i for i in mention.ids if i in history]
                if known or mention in said:
                    cited.setdefault(part, []).append((known or mention.ids)[0])
                    claims.append(Claim("history", item=cited[part][-1], span=mention.span))
            elif mention.kind == "value":
                also = _ALSO.search(sentence, ends[part - 1], ends[part]) is not None
                claims.append(self._of_value(mention, before, item, history, cited.get(part, []) if also else []))
            elif mention.kind == "year" and self._year in self.facts.table.columns:
                claims += self._of_year(mention, sentence, titles, item)
        return Explanation(item, sentence, tuple(claims))

    def _of_value(self, mention: Mention, before: str, item: int, history: Sequence[int], beside: Sequence[int]) -> Claim:
        """Return what is claimed with a value, perhaps of an item ``beside`` too; of several meanings a true one."""
        meanings = []
        count = self._count(mention, before)
        for code in mention.ids:
            column, value = self.values[code]
            if count is not None:
                n, width = count
                span = (mention.span[0] - width, mention.span[1])
                meanings.append(Claim("count", None, column, value, span, "count>=", n))
            elif _NOT.search(before):
                meanings.append(Claim("attribute", None, column, value, mention.span, "!="))
            elif beside:
                meanings += [Claim("shared", cited, column, value, mention.span) for cited in reversed(beside)]
            else:
                meanings.append(Claim("attribute", None, column, value, mention.span))
        return next((c for c in meanings if self.facts.truth(c, item, history) == "true"), meanings[0])

    def _count(self, mention: Mention, before: str) -> tuple[int, int] | None:
        """Return (number, characters of the number's words before the value) if it is said of what was touched."""
        verb = None
        for match in self._did.finditer(before):
            verb = match
        if verb is None:
            return None
        between = before[verb.end() :]
        words = folded(between)
        plural = mention.text.casefold().endswith("s")
        number = _SEVERAL.search(between)
        if len(words) > 3 or any(c in between for c in '"“,;') or number is None:
            return None
        said = (number["n"] or "").casefold()
        if said.isdecimal() or said in NUMBERS:
            return int(said) if said.isdecimal() else NUMBERS[said], len(between) - number.start("n")
        return (2 if plural or _VAGUE & set(words) else 1), 0

    def _of_year(self, mention: Mention, sentence: str, titles: Sequence[Mention], item: int) -> Iterator[Claim]:
        """Yield what a year or decade claims: of a title right before it, else of the recommended item."""
        before = sentence[: mention.span[0]]
        last = next((m for m in reversed(titles) if m.span[1] <= mention.span[0]), None)
        of_title = last is not None and _OF_TITLE.fullmatch(before[last.span[1] :])
        about = last.ids[0] if last is not None and of_title and item not in last.ids else None
        claim = Claim("attribute", about, self._year, str(mention.number), mention.span)
        operator = next((sign for pattern, sign in _WHEN if pattern.search(before)), None)
        if operator is None and mention.text.endswith("s"):
            yield replace(claim, operator=">=")
            yield replace(claim, value=str((mention.number or 0) + 9), operator="<=")
        else:
            yield replace(claim, operator=operator or "=")


def verify_against(finder: Finder, sentence: str, sources: Sequence[str]) -> Verdict:
    """Check a text about a user and an item that only ``sources`` describe.

    There are no claims; a mention is supported if a source has its words, in any case.
    """
    reading = finder.read(sentence)
    known = [folded(source) for source in sources]
    found = []
    for mention in reading.mentions:
        spelt = {folded(mention.text)} | ({form for name in names_of(mention.text) for form in forms(folded(name))})
        found.append(Found(mention, any(_holds(source, form) for source in known for form in spelt)))
    return Verdict((), reading.mentions, tuple(found), reading.opinions, reading.n_words)


def _holds(text: Sequence[str], part: Sequence[str]) -> bool:
    """Do words stand in a text, one after the other?"""
    n = len(part)
    return n > 0 and any(tuple(text[i : i + n]) == tuple(part) for i in range(len(text) - n + 1))


def _counts(spelt: Sequence[str], count: int) -> bool:
    return any((int(w) if w.isdecimal() else NUMBERS.get(w)) == count for w in spelt)


def _in_decade(value: str, spelt: Sequence[str]) -> bool:
    """Is a year the first or last of a decade that the words name?"""
    if not value.isdecimal() or len(spelt) != 1 or not spelt[0].endswith("0s"):
        return False
    return int(spelt[0][:-1]) % 100 in (int(value) % 100, int(value) % 100 - 9)
