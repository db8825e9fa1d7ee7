"""What a report says of explanations: one row of figures for each explainer, and sentences marked by what was found in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from llm4rec.experiment.report_files import entries, mapping, number, numbers
from llm4rec.prompted.explain.evaluate import FIGURES

#: Figure -> its name in the table, and the better direction (1 up, -1 down, 0 neither).
COLUMNS: Final[Mapping[str, tuple[str, int]]] = {
    "coverage": ("Coverage", 1),
    "claim_precision": ("Claim precision", 1),
    "unsupported_mentions": ("Unsupported mentions", -1),
    "unsupported_explanations": ("Unsupported explanations", -1),
    "subjective_share": ("Subjective share", -1),
    "usr": ("USR", 1),
    "unique_forms": ("Unique forms", 1),
    "div": ("DIV", -1),
    "fmr": ("FMR", 1),
    "fidelity": ("Fidelity", 1),
    "fallback_rate": ("Fallback rate", -1),
}


def columns(systems: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the columns of the table: those that the page knows and any system has."""
    found = set().union(*(s["explanation"] for s in systems)) if systems else set()
    return [
        {"key": key, "name": name, "better": better, "means": FIGURES.get(key, "")}
        for key, (name, better) in COLUMNS.items()
        if key in found
    ]


def additions(value: Any) -> list[dict[str, Any]]:
    """Return what augmenters added: name, columns with the number of items that have a text there, seconds."""
    return [
        {"name": str(a.get("name") or "?"), "columns": numbers(a.get("columns")), "seconds": number(a.get("seconds"))}
        for a in map(mapping, entries(value))
        if a
    ]


#: What a stretch of a sentence may be, the gravest last; it wins where several meet.
MARKS: Final = ("true", "unstated", "unresolvable", "false", "unsupported")


def marked(sentence: str, claims: Sequence[Mapping[str, Any]], unsupported: Sequence[Any]) -> tuple[list[list[str]], list[str]]:
    """Return a sentence in stretches of [text, mark], and the unsupported mentions that it does not hold.

    Args:
        claims: each with ``span`` (start and end in the sentence) and ``outcome``, where they are known.
        unsupported: mentions that nothing supports, in order: their texts, or mappings with ``text`` and ``span``.
    """
    marks = [0] * len(sentence)  # 0 for no mark, else 1 + the place in MARKS

    def mark(span: tuple[int, int], name: str) -> None:
        for at in range(*span):
            marks[at] = max(marks[at], 1 + MARKS.index(name))

    for claim in claims:
        if (span := _span(claim.get("span"), sentence)) and claim.get("outcome") in MARKS:
            mark(span, claim["outcome"])
    after, missing = 0, []
    for mention in unsupported:
        words = str(mapping(mention).get("text") or "") if isinstance(mention, Mapping) else str(mention)
        span = _span(mapping(mention).get("span"), sentence) or _place(words, sentence, after)
        if span is None:
            missing += [words] if words else []
        else:
            mark(span, "unsupported")
            after = span[1]
    stretches = [
        ["".join(char for char, _ in part), MARKS[code - 1] if code else ""]
        for code, part in groupby(zip(sentence, marks, strict=True), key=lambda pair: pair[1])
    ]
    return stretches, missing


def _span(value: Any, sentence: str) -> tuple[int, int] | None:
    ends = entries(value)
    held = len(ends) == 2 and all(isinstance(end, int) for end in ends) and 0 <= ends[0] < ends[1] <= len(sentence)
    return (ends[0], ends[1]) if held else None


def _place(words: str, sentence: str, after: int) -> tuple[int, int] | None:
    """Return where words stand in a sentence by themselves, first of all behind what was found before."""
    pattern = re.compile(rf"(?<!\w){re.escape(words)}(?!\w)")
    found = (pattern.search(sentence, after) or pattern.search(sentence)) if words else None
    return None if found is None else found.span()
