"""Negative controls: explanations that are made wrong on purpose.  A check that cannot tell is worth nothing.

- ``swapped``: each explanation is held against the history of another case.
- ``flipped``: one attribute value in sentence and claims becomes another of the same column, which the
  recommended item does not have.
- ``foreign``: one cited title becomes that of an item that the user has not touched.

Each changes words and claims alike, so nothing but history and catalogue can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Claim, Explanation, Queries
from llm4rec.metrics import Comparison, paired_test
from llm4rec.prompted.explain.evaluate import Record, judged
from llm4rec.prompted.explain.mentions import within
from llm4rec.prompted.explain.verify import Verifier

Rows = Sequence[Sequence[Explanation]]


@dataclass(frozen=True, slots=True)
class Control:
    """How scores fell under one control, per case and paired.

    Attributes:
        precision: true claims over claims, explanations as they were against those made wrong.
        support: supported mentions over mentions, likewise.
        changed: number of explanations that could be made wrong in this way.
    """

    precision: Comparison
    support: Comparison
    changed: int


def derangement(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a permutation of n >= 2 without a fixed point: a random cycle through all."""
    if n < 2:
        raise ValueError(f"{n} cases cannot be swapped")
    order = rng.permutation(n)
    out = np.empty(n, dtype=np.int64)
    out[order] = np.roll(order, 1)
    return out


def respelt(explanation: Explanation, span: tuple[int, int], words: str, change: Callable[[Claim], Claim]) -> Explanation:
    """Return an explanation with other words at a span; ``change`` is applied to the claims that hold it."""
    start, end = span
    moved = len(words) - (end - start)

    def shifted(claim: Claim) -> Claim:
        if claim.span is None:
            return claim
        if within(span, claim.span):
            return change(replace(claim, span=(claim.span[0], claim.span[1] + moved)))
        return replace(claim, span=(claim.span[0] + moved, claim.span[1] + moved)) if claim.span[0] >= end else claim

    sentence = explanation.sentence[:start] + words + explanation.sentence[end:]
    return replace(explanation, sentence=sentence, claims=tuple(map(shifted, explanation.claims)))


def flipped(
    explanation: Explanation, history: Sequence[int], verifier: Verifier, rng: np.random.Generator
) -> Explanation | None:
    """Return the explanation with one attribute value flipped, or None if it states none that can be."""
    facts = verifier.facts
    for at in rng.permutation(len(explanation.claims)).tolist():
        claim = explanation.claims[at]
        if claim.kind not in ("attribute", "shared") or claim.operator != "=" or claim.span is None:
            continue
        held = facts.values(
            explanation.item if claim.item is None or claim.kind == "shared" else claim.item, claim.attribute or ""
        )
        others = [value for column, value in verifier.values if column == claim.attribute and value not in (held or ())]
        if held and others:
            other = others[int(rng.integers(len(others)))]
            return respelt(explanation, claim.span, other, partial(_revalued, old=claim.value, new=other))
    return None


def _revalued(claim: Claim, old: str | None, new: str) -> Claim:
    return replace(claim, value=new) if claim.value == old else claim


def foreign(
    explanation: Explanation, history: Sequence[int], verifier: Verifier, rng: np.random.Generator
) -> Explanation | None:
    """Return the explanation citing an item that is not in the history, or None if it cites none."""
    cited = [c for c in explanation.claims if c.kind == "history" and c.item in history and c.span is not None]
    if not cited:
        return None
    claim = cited[int(rng.integers(len(cited)))]
    known = {verifier.names[i] for i in history}
    unknown = [i for i, name in enumerate(verifier.names) if name not in known and i != explanation.item]
    if not unknown or claim.span is None:
        return None
    other = unknown[int(rng.integers(len(unknown)))]
    out = respelt(explanation, claim.span, verifier.names[other], lambda c: c)
    return replace(out, claims=tuple(replace(c, item=other) if c.item == claim.item else c for c in out.claims))


_CHANGES: Final[Mapping[str, Callable[..., Explanation | None]]] = MappingProxyType({"flipped": flipped, "foreign": foreign})
CONTROLS: Final = ("swapped", *_CHANGES)


def controls(explanations: Rows, queries: Queries, verifier: Verifier, *, rng: np.random.Generator) -> dict[str, Control]:
    """Return how far the scores of explanations fall under each control.

    Explanations without claims have theirs read first, those without a sentence are left out, and each
    control compares only the explanations that it can change.  Cases are the units of the test.
    """
    right = [r for r in judged(explanations, queries, verifier) if r.explanation.sentence]
    histories = [queries.history[case].tolist() for case in range(len(queries))]
    out = {}
    if len(queries) > 1:
        other = derangement(len(queries), rng)
        pairs = [(r, r.explanation, histories[other[r.case]]) for r in right]
        out["swapped"] = _compared(pairs, verifier, len(queries), rng)
    for name, change in _CHANGES.items():
        changed = [(r, change(r.explanation, histories[r.case], verifier, rng)) for r in right]
        out[name] = _compared([(r, e, histories[r.case]) for r, e in changed if e is not None], verifier, len(queries), rng)
    return out


def _compared(
    pairs: Sequence[tuple[Record, Explanation, list[int]]], verifier: Verifier, n: int, rng: np.random.Generator
) -> Control:
    """Compare records with the same explanations made wrong."""
    case = np.array([record.case for record, _, _ in pairs], dtype=np.int64)
    # [right or wrong, claims or mentions, part or whole, case]
    counts = np.zeros((2, 2, 2, n))
    for at, (record, explanation, history) in enumerate(pairs):
        for which, verdict in enumerate((record.verdict, verifier.verify(explanation, history))):
            counts[which, 0, :, case[at]] += (verdict.true_claims, len(verdict.outcomes))
            supported = len(verdict.mentions) - len(verdict.unsupported)
            counts[which, 1, :, case[at]] += (supported, len(verdict.mentions))
    whole = counts[:, :, 1]
    rates = np.divide(counts[:, :, 0], whole, out=np.full_like(whole, np.nan), where=whole > 0)
    precision, support = (paired_test(rates[0, kind], rates[1, kind], rng=rng) for kind in (0, 1))
    return Control(precision, support, len(pairs))
