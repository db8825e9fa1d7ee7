"""What explanations are worth, from counts and sentences: rates with intervals, diversity, overlap.

What is true in a sentence is decided in ``llm4rec.prompted.explain.verify``; here it is added up.

``text_overlap`` is for comparison with the literature and leads no table: BERTScore F1 of .81 to .90
goes together with .04 to .33 of true statements (arXiv 2512.24366).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import SpecError
from llm4rec.metrics.statistics import Interval


def ratio_interval(
    parts: NDArray[Any],
    wholes: NDArray[Any],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    rng: np.random.Generator,
) -> Interval:
    """Return ``sum(parts) / sum(wholes)`` and its bootstrap interval over cases.

    What is counted several times in one case (claims, mentions, explanations) depends on that case, so
    cases are drawn, not counts.  Without any whole the ratio is nan; ``n`` counts the cases that have one.

    Args:
        parts, wholes: numbers [n], such as the unsupported mentions and all mentions of each case.
    """
    parts, wholes = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)
    if parts.shape != wholes.shape or parts.ndim != 1:
        raise ValueError(f"parts {parts.shape} and wholes {wholes.shape} must be one row each, equally long")
    held = wholes > 0
    parts, wholes = parts[held], wholes[held]
    n = len(parts)
    if n == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    drawn = rng.integers(n, size=(resamples, n))
    ratios = parts[drawn].sum(axis=1) / wholes[drawn].sum(axis=1)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(parts.sum() / wholes.sum()), float(low), float(high), n)


def unique_sentence_ratio(sentences: Sequence[str]) -> float:
    """USR: different sentences over sentences; nan without any.

    Two sentences are one if their words are.  Source: Li, Zhang, Chen, Generate neural template
    explanations for recommendation (NETE), CIKM 2020.
    """
    return len({" ".join(s.split()) for s in sentences}) / len(sentences) if sentences else float("nan")


def feature_diversity(features: Sequence[Collection[Hashable]]) -> float:
    """DIV: features that two explanations have in common, on average over all pairs; lower is more diverse.

    ``DIV = 2 / (N (N - 1)) sum_{u < v} |F_u & F_v|``, taken as a sum over features of the pairs that share
    each.  nan below two explanations.  Source: Li et al., NETE, CIKM 2020; Li, Zhang, Chen, Personalized
    transformer for explainable recommendation (PETER), ACL 2021, arXiv 2105.11601.
    """
    n = len(features)
    if n < 2:
        return float("nan")
    counts = Counter(f for several in features for f in set(several))
    return sum(c * (c - 1) for c in counts.values()) / (n * (n - 1))


def feature_coverage(features: Sequence[Collection[Hashable]], n_features: int) -> float:
    """FCR: different features in all explanations over the features that there are; nan if there are none.

    Source: as :func:`feature_diversity`.
    """
    return len({f for several in features for f in several}) / n_features if n_features else float("nan")


def feature_matching(features: Sequence[Collection[Hashable]], wanted: Sequence[Collection[Hashable]]) -> NDArray[np.float64]:
    """FMR of each explanation: 1 if it has a feature of those wanted, else 0; nan where none is wanted.

    In the literature the wanted feature is the one of the user's review.  Source: as
    :func:`feature_diversity`.
    """
    return np.array(
        [float(bool(set(f) & set(w))) if w else float("nan") for f, w in zip(features, wanted, strict=True)], dtype=np.float64
    )


def text_overlap(sentences: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Return BLEU and ROUGE of sentences against one reference each, all in [0, 100].

    ``bleu``: of the corpus, sacrebleu's defaults (BLEU-4, 13a tokens, exponential smoothing).
    ``rouge1``, ``rouge2``, ``rougeL``: mean F1 over sentences, stemmed (rouge-score).
    They say how alike the wording is, not whether it is true; see the module.

    Raises:
        SpecError: if the libraries are not installed.
    """
    if len(sentences) != len(references) or not sentences:
        raise ValueError(f"{len(sentences)} sentences for {len(references)} references")
    try:
        from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
        from sacrebleu.metrics import BLEU  # type: ignore[import-not-found, attr-defined, unused-ignore]
    except ImportError as error:
        raise SpecError(f"{error.name} is not installed", todo="pip install 'llm4rec[text-metrics]'") from None
    bleu = BLEU().corpus_score(list(sentences), [list(references)])
    kinds = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(list(kinds), use_stemmer=True)
    scores = [scorer.score(reference, sentence) for sentence, reference in zip(sentences, references, strict=True)]
    return {"bleu": float(bleu.score)} | {k: float(100 * np.mean([s[k].fmeasure for s in scores])) for k in kinds}
