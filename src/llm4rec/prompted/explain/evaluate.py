"""One row of a table for each explainer: what its explanations are worth, with intervals, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Claim, Dataset, Explanation, Queries
from llm4rec.metrics import Interval, bootstrap_interval
from llm4rec.metrics.explanation import (
    feature_coverage,
    feature_diversity,
    feature_matching,
    ratio_interval,
    unique_sentence_ratio,
)
from llm4rec.prompted.explain.fidelity import Fidelity, System, fidelity
from llm4rec.prompted.explain.templated import EvidenceConfig
from llm4rec.prompted.explain.verify import Verdict, Verifier


@dataclass(frozen=True, slots=True)
class Record:
    """One explanation and what was found in it, for the reader who doubts a figure.

    Attributes:
        case: row of the query; rank: place in the list, from 1.
        explanation: as it was judged (with the claims that were read, if it came without).
        verdict: of its claims and mentions.
        fidelity: :attr:`Fidelity.gap`, nan where it was not or could not be measured.
    """

    case: int
    rank: int
    explanation: Explanation
    verdict: Verdict
    fidelity: float = float("nan")

    def as_json(self) -> dict[str, Any]:
        """Return what a report shows, as JSON values (inside ids)."""
        e, v = self.explanation, self.verdict
        return {
            "case": self.case, "rank": self.rank, "item": e.item, "sentence": e.sentence, "failure": e.failure,
            "drafts": list(e.drafts),
            "claims": [
                {
                    "kind": c.kind, "item": c.item, "attribute": c.attribute, "operator": c.operator, "value": c.value,
                    "count": c.count, "span": None if c.span is None else list(c.span), "outcome": outcome,
                }
                for c, outcome in zip(e.claims, v.outcomes, strict=True)
            ],
            "mentions": [
                {"kind": f.mention.kind, "text": f.mention.text, "span": list(f.mention.span), "supported": f.supported}
                for f in v.mentions
            ],
            "opinions": [list(span) for span in v.opinions], "words": v.n_words,
            "fidelity": None if np.isnan(self.fidelity) else round(self.fidelity, 4),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExplanationMetrics:
    """What :func:`explanation_metrics` returns: figures by name (see ``FIGURES``), and the record of each explanation."""

    row: Mapping[str, Interval]
    records: tuple[Record, ...]


#: Every figure by its name, and what it is.  Rates are pooled over all explanations; intervals draw cases.
FIGURES: Final[Mapping[str, str]] = {
    "coverage": "items explained without a failure, of all items that were to be explained",
    "fallback_rate": "items for which the fixed sentence stands in for one that did not hold",
    "claim_precision": "true claims of all claims (false, unresolvable and unstated ones are not true)",
    "unsupported_mentions": "mentions that no true claim states, of all mentions but the item's own name",
    "unsupported_explanations": "explanations with at least one unsupported mention",
    "subjective_share": "words of opinion of all words",
    "usr": "unique sentence ratio",
    "unique_forms": "unique sentence ratio with every title and value masked: how many templates there are",
    "div": "feature diversity: claimed items and values that two explanations share; lower is more diverse",
    "fmr": "explanations that name an attribute value of the recommended item, of those whose item has any",
    "fcr": "attribute values named in any explanation, of all in the catalogue",
    "fidelity": "log2 fall in rank without the cited items, less that without as many random ones",
}

#: Figures of the whole set of explanations: they have no cases to draw, and so no interval.
CORPUS = ("usr", "unique_forms", "div", "fcr")


def explanation_metrics(
    explanations: Sequence[Sequence[Explanation]],
    queries: Queries,
    train: Dataset,
    *,
    config: EvidenceConfig | None = None,
    system: System | None = None,
    window: int | None = 10,
    draws: int = 10,
    year: str = "year",
    rng: np.random.Generator,
) -> ExplanationMetrics:
    """Return the figures of one explainer and a record of each explanation.

    Args:
        explanations: n rows, as an explainer gave them (or a text model: explanations without claims have
            their claims read by code).
        queries: n, those that were explained, with their whole histories.
        train: its item table says what is true.
        config: the explainer's own (names, attributes); by default that of ``EvidenceExplainer``.
        system: ranks again for ``fidelity`` (see :func:`llm4rec.prompted.explain.fidelity.by_retrieving`);
            without it the figure is left out.
        window, draws: see :func:`llm4rec.prompted.explain.fidelity.fidelity`.
        year: column of years of release.
    """
    if len(explanations) != len(queries):
        raise ValueError(f"{len(explanations)} rows of explanations for {len(queries)} queries")
    verifier = Verifier(train.item_table, config, year=year)
    records = judged(explanations, queries, verifier)
    fell = None
    if system is not None:
        rows: list[list[Explanation]] = [[] for _ in explanations]
        for record in records:
            rows[record.case].append(record.explanation)
        fell = fidelity(system, queries, rows, window=window, draws=draws, rng=rng)
        records = tuple(replace(r, fidelity=float(gap)) for r, gap in zip(records, fell.gap, strict=True))
    return ExplanationMetrics(_row(records, len(queries), verifier, fell, rng), records)


def judged(explanations: Sequence[Sequence[Explanation]], queries: Queries, verifier: Verifier) -> tuple[Record, ...]:
    """Return the record of each explanation; one without claims is read first."""
    records = []
    for case, several in enumerate(explanations):
        history = queries.history[case].tolist()
        for rank, explanation in enumerate(several, 1):
            if explanation.sentence and not explanation.claims:
                read = verifier.read(explanation.sentence, explanation.item, history)
                explanation = replace(explanation, claims=read.claims)
            records.append(Record(case, rank, explanation, verifier.verify(explanation, history)))
    return tuple(records)


def _row(
    records: Sequence[Record], n: int, verifier: Verifier, fell: Fidelity | None, rng: np.random.Generator
) -> dict[str, Interval]:
    said = [r for r in records if r.explanation.sentence]

    def pooled(part: Callable[[Record], float], whole: Callable[[Record], float], among: Sequence[Record]) -> Interval:
        case = np.array([r.case for r in among], dtype=np.int64)
        return ratio_interval(
            np.bincount(case, weights=[part(r) for r in among], minlength=n),
            np.bincount(case, weights=[whole(r) for r in among], minlength=n),
            rng=rng,
        )

    def one(record: Record) -> float:
        return 1.0

    def alone(value: float) -> Interval:
        return Interval(value, float("nan"), float("nan"), len(said))

    features = [_features(r.explanation.claims) for r in said]
    values = [{f for f in several if f[0] != "item"} for several in features]
    wanted = [
        {
            (column, value)
            for column in dict(verifier.values)
            for value in verifier.facts.values(r.explanation.item, column) or ()
        }
        for r in said
    ]
    matched = dict(zip(map(id, said), feature_matching(values, wanted), strict=True))
    row = {
        "coverage": pooled(lambda r: r.explanation.failure is None, one, records),
        "fallback_rate": pooled(lambda r: bool(r.explanation.failure and r.explanation.sentence), one, records),
        "claim_precision": pooled(lambda r: r.verdict.true_claims, lambda r: len(r.verdict.outcomes), said),
        "unsupported_mentions": pooled(lambda r: len(r.verdict.unsupported), lambda r: len(r.verdict.mentions), said),
        "unsupported_explanations": pooled(lambda r: bool(r.verdict.unsupported), one, said),
        "subjective_share": pooled(lambda r: len(r.verdict.opinions), lambda r: r.verdict.n_words, said),
        "usr": alone(unique_sentence_ratio([r.explanation.sentence for r in said])),
        "unique_forms": alone(unique_sentence_ratio([_form(r) for r in said])),
        "div": alone(feature_diversity(features)),
        "fmr": pooled(lambda r: float(np.nan_to_num(matched[id(r)])), lambda r: float(not np.isnan(matched[id(r)])), said),
        "fcr": alone(feature_coverage(values, len(verifier.values))),
    }
    if fell is not None:
        row["fidelity"] = _over_cases(fell, rng)
    return row


def _over_cases(fell: Fidelity, rng: np.random.Generator) -> Interval:
    gap: NDArray[np.float64] = fell.gap
    cases = np.unique(fell.case)
    means = [gap[fell.case == c] for c in cases]
    return bootstrap_interval(np.array([np.nanmean(m) if (~np.isnan(m)).any() else np.nan for m in means]), rng=rng)


def _features(claims: Sequence[Claim]) -> set[tuple[str, Any]]:
    """Return what claims speak of: history items, and attribute values."""
    items: set[tuple[str, Any]] = {("item", c.item) for c in claims if c.kind in ("history", "shared")}
    return items | {(c.attribute, c.value) for c in claims if c.attribute is not None}


def _form(record: Record) -> str:
    """Return the sentence with what it names replaced by the kind of name."""
    sentence = record.explanation.sentence
    out, at = [], 0
    for found in record.verdict.named:
        out += [sentence[at : found.span[0]], f"<{found.kind}>"]
        at = found.span[1]
    return "".join(out) + sentence[at:]
