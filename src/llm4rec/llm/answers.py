"""Read a ranking of labelled candidates from an answer in free text.

Labels are resolved by code; prose and titles are never matched.  What is wrong with an answer is
said by kind, once for each time, so that nothing is repaired without being counted:

- ``unreadable``: no ranking, or two different ones;
- ``out_of_range``: a label that no candidate has;
- ``duplicate``: a candidate named again (its first place counts);
- ``omitted``: a candidate that was not named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm4rec.llm.structured import json_values, without_thoughts

AnswerFailure = Literal["unreadable", "out_of_range", "duplicate", "omitted"]

_LABEL = r"(?:[A-Za-z]|\d{1,6}|\[\s*(?:[A-Za-z]|\d{1,6})\s*\]|\(\s*(?:[A-Za-z]|\d{1,6})\s*\))"
_CHAIN = re.compile(rf"(?<![\w.-]){_LABEL}(?:\s*(?:->|[>≻→])\s*{_LABEL})+(?!\w)")
#: What may follow a chain.  A word may not: the last label could be the beginning of a title.
_CHAIN_END = re.compile(r"[ \t]*(?:[\n\r.,;:!)\]}*\"'`]|$)")
_LIST = re.compile(rf"\s*{_LABEL}(?:(?:\s*[,;]\s*|\s+){_LABEL})*[\s.]*")
_ENUMERATED = re.compile(r"\s*(\d{1,6})\s*[.):]\s*(.*)")
#: A label alone on its line, or in brackets before anything else: "12 Angry Men" is no label.
_ALONE = re.compile(r"(?:[\[(]\s*([A-Za-z]|\d{1,6})\s*[\])].*|([A-Za-z]|\d{1,6})[\s.,;]*)")
_BARE = re.compile(r"[A-Za-z]|\d+")


@dataclass(frozen=True, slots=True)
class Ranking:
    """A ranking as it was read.

    Attributes:
        order: places of the candidates (0 is the first one shown), best first, none twice.
        failures: kind of each thing that is wrong with the answer.
    """

    order: tuple[int, ...]
    failures: tuple[AnswerFailure, ...] = ()


def read_ranking(text: str, labels: int | Sequence[str]) -> Ranking:
    """Read an order of candidates from an answer.

    Understood are JSON (a list of labels, or an object that holds one), a chain (``3 > 1 > 2``)
    anywhere in the text, a text that is nothing but labels, and numbered lines of labels
    (``1. [12]``).  Numbered lines of anything else are unreadable: whether ``1. Heat`` names a
    place or a candidate, only the title could tell.

    Args:
        text: the answer.
        labels: what the candidates were called in the prompt, in order, letters in either case;
            a number n stands for ``1`` to ``n``.
    """
    names = [str(i) for i in range(1, labels + 1)] if isinstance(labels, int) else [label.strip().upper() for label in labels]
    named = _named(without_thoughts(text))
    if not named:
        return Ranking((), ("unreadable",))
    places = {name: at for at, name in enumerate(names)}
    order: list[int] = []
    failures: list[AnswerFailure] = []
    for name in named:
        at = places.get(name.upper(), places.get(name.lstrip("0")))
        if at is None:
            failures.append("out_of_range")
        elif at in order:
            failures.append("duplicate")
        else:
            order.append(at)
    if not order:
        return Ranking((), ("unreadable",))
    failures += ["omitted"] * (len(names) - len(order))
    return Ranking(tuple(order), tuple(failures))


def _named(text: str) -> list[str]:
    """Return the labels that an answer names, in order; empty where there is no one ranking."""
    for found in (_from_json(text), _from_chains(text), _from_lines(text)):
        if found:
            return found[0] if all(other == found[0] for other in found) else []
    return []


def _from_json(text: str) -> list[list[str]]:
    values = list(json_values(text))
    whole = len(values) == 1 and text.strip()[:1] in "[{" and text.strip()[-1:] in "]}"
    # "[3]" in a sentence is a mention, not a ranking.
    return [labels for v in values if (labels := _flat(v)) and (whole or isinstance(v, dict) or len(labels) > 1)]


def _flat(value: Any) -> list[str]:
    """Return the labels of a list, or of the one list that an object holds; empty if it is neither."""
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list)]
        return _flat(lists[0]) if len(lists) == 1 else []
    if not isinstance(value, list):
        return []
    labels = []
    for entry in value:
        if isinstance(entry, bool) or not isinstance(entry, int | str):
            return []
        bare = str(entry).strip().strip("[]()")
        if not _BARE.fullmatch(bare):
            return []
        labels.append(bare)
    return labels


def _from_chains(text: str) -> list[list[str]]:
    found = []
    for chain in _CHAIN.finditer(text):
        before = text[: chain.start()].rstrip()
        # A chain that goes on with something else on either side is not wholly of labels.
        if before.endswith((">", "≻", "→")) or not _CHAIN_END.match(text, chain.end()):
            return [[], []]
        found.append(_BARE.findall(chain.group()))
    return found


def _from_lines(text: str) -> list[list[str]]:
    if _LIST.fullmatch(text):
        return [_BARE.findall(text)]
    lines = [m for line in text.splitlines() if (m := _ENUMERATED.fullmatch(line))]
    if len(lines) < 2 or [int(m.group(1)) for m in lines] != list(range(1, len(lines) + 1)):
        return []
    labels = [_ALONE.fullmatch(m.group(2)) for m in lines]
    return [[m.group(1) or m.group(2) for m in labels if m]] if all(labels) else []
