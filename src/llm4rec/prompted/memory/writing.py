"""Facts that a language model writes about items: summaries, and attributes whose values code checks."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from llm4rec.core import Dataset, Exchange
from llm4rec.llm.prompts import plain
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest, Message
from llm4rec.prompted.memory.facts import Evidence, Fact
from llm4rec.prompted.memory.titles import normal
from llm4rec.prompted.wording import spelt

#: Values of an attribute that a prompt lists, and the longest value, in characters.
_LISTED, _LONGEST = 60, 60
#: Lines of facts in a prompt, and characters of each.
_LINES, _LINE = 12, 400
#: Values of one attribute that are taken over.
_VALUES = 5


@dataclass(frozen=True, slots=True)
class Subject:
    """What a model is asked to write about.

    Attributes:
        of: outside id of the item.
        name: as prompts call it.
        facts: what is known of it so far.
    """

    of: str
    name: str
    facts: tuple[Fact, ...]

    @property
    def lines(self) -> list[str]:
        """The facts as lines of a prompt: data, one line each."""
        return [plain(said(fact), _LINE) for fact in self.facts[:_LINES]]

    @property
    def time(self) -> int | None:
        """From when on all that is known of it was known."""
        return max((f.time for f in self.facts if f.time is not None), default=None)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """The item itself, and the pages behind its facts."""
        pages = [e for f in self.facts[:_LINES] for e in f.evidence if e.url is not None]
        return (Evidence(item=self.of), *dict.fromkeys(pages))


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote.

    Attributes:
        facts: that could be taken over.
        failures: kind of failure -> number of subjects or values.
        exchanges: one for each subject.
    """

    facts: tuple[Fact, ...]
    failures: Mapping[str, int]
    exchanges: tuple[Exchange, ...]


def said(fact: Fact) -> str:
    """Return a fact in words: the text, after the name of its attribute."""
    return fact.text if fact.attribute is None else f"{fact.attribute}: {fact.text}"


def sentences(reply: ChatReply, max_chars: int) -> tuple[str, str | None]:
    """Return the usable text of a free answer, one line, and the kind of failure or None.

    An answer that was cut at its bound keeps its whole sentences, and is told as ``truncated``.
    """
    text = plain(reply.text.strip().strip('"'), max_chars)
    if reply.failure not in (None, "truncated"):
        return "", reply.failure
    if reply.failure == "truncated" or len(text) == max_chars:
        ends = [m.end() for m in re.finditer(r"[.!?][\"')\]]?(?=\s|$)", text)]
        text = text[: ends[-1]] if ends else ""
    return text, reply.failure or (None if text else "empty")


def summaries(
    model: ChatModel, messages: Callable[..., tuple[Message, ...]], subjects: Sequence[Subject], max_tokens: int, max_chars: int
) -> Written:
    """Return a summary of each subject, made of its facts and of what the model knows.

    Args:
        messages: renders the prompt from ``name`` and ``facts``.
        max_tokens, max_chars: bounds of the answer and of what is kept of it.
    """
    requests = [ChatRequest(messages(name=s.name, facts=s.lines), max_tokens=max_tokens) for s in subjects]
    facts, exchanges = [], []
    failures: Counter[str] = Counter()
    for subject, request, reply in zip(subjects, requests, model.chat(requests) if requests else [], strict=True):
        text, failure = sentences(reply, max_chars)
        if failure is not None:
            failures[failure] += 1
        if text:
            facts.append(Fact("item", subject.of, "summary", text, model.name, None, subject.time, subject.evidence))
        exchanges.append(Exchange(spelt(request.messages), reply.text or reply.detail, failure))
    return Written(tuple(facts), failures, tuple(exchanges))


def catalogue_values(dataset: Dataset, attribute: str) -> list[set[str]]:
    """Return each item's values in a column, none where the table has no such column."""
    table = dataset.item_table
    if attribute not in table.columns:
        return [set() for _ in range(len(table))]
    column = table[attribute]
    if isinstance(column.dtype, pl.List):
        return [{str(v) for v in row if v is not None} if row is not None else set() for row in column.to_list()]
    return [set() if v is None else {str(v)} for v in column.to_list()]


def attributes(
    model: ChatModel,
    messages: Callable[..., tuple[Message, ...]],
    subjects: Sequence[Subject],
    known: Mapping[str, Mapping[str, set[str]]],
    max_tokens: int,
) -> Written:
    """Return attribute values that a model finds, resolved to those of the catalogue.

    A value that the catalogue knows (whatever its case and form) is written as the catalogue
    writes it; one that the item has already is no new fact; any other is kept as a new value and
    counted as ``new_value``.

    Args:
        messages: renders the prompt from ``name``, ``facts``, ``attributes``, ``most`` and ``form``.
        known: attribute -> the items' values in the catalogue by outside id.
        max_tokens: bound of the answer.
    """
    schema = {
        "type": "object",
        "properties": {name: {"type": "array", "items": {"type": "string"}, "maxItems": _VALUES} for name in known},
        "required": list(known),
        "additionalProperties": False,
    }
    by_count = {
        name: [value for value, _ in Counter(sorted(v for values in of.values() for v in values)).most_common()]
        for name, of in known.items()
    }
    offered = [(name, ", ".join(plain(v, _LONGEST) for v in values[:_LISTED])) for name, values in by_count.items()]
    written = {name: {normal(value): value for value in reversed(values)} for name, values in by_count.items()}
    form = json.dumps({name: ["..."] for name in known})
    requests = [
        ChatRequest(
            messages(name=s.name, facts=s.lines, attributes=offered, most=str(_VALUES), form=form),
            schema=schema,
            max_tokens=max_tokens,
        )
        for s in subjects
    ]
    facts, exchanges = [], []
    failures: Counter[str] = Counter()
    for subject, request, reply in zip(subjects, requests, model.chat(requests) if requests else [], strict=True):
        exchanges.append(Exchange(spelt(request.messages), reply.text or reply.detail, reply.failure))
        if reply.failure is not None:
            failures[reply.failure] += 1
            continue
        told, kinds = _resolved(reply.value, written, {n: of.get(subject.of, set()) for n, of in known.items()})
        failures.update(kinds)
        fact = Fact("item", subject.of, "attribute", "-", model.name, None, subject.time, subject.evidence)
        facts += [replace(fact, attribute=name, text=value) for name, value in told]
    return Written(tuple(facts), failures, tuple(exchanges))


def _resolved(
    answer: Mapping[str, Sequence[Any]], written: Mapping[str, Mapping[str, str]], has: Mapping[str, set[str]]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Return (attribute, value) of what is new about one item, and the kinds of what is to be counted."""
    told: dict[tuple[str, str], None] = {}
    kinds = []
    for name, values in answer.items():
        for raw in values:
            value = plain(str(raw), _LONGEST + 1)
            if not 0 < len(value) <= _LONGEST:
                kinds.append("unusable_value")
                continue
            canonical = written[name].get(normal(value))
            if canonical is None:
                kinds.append("new_value")
            elif canonical in has[name]:
                continue
            told[name, value if canonical is None else canonical] = None
    return list(told), kinds
