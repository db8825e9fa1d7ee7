"""What a run finds out about its explanations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from llm4rec.core import Cases, Dataset, Explanation, Ragged
from llm4rec.pipeline import Pipeline
from llm4rec.prompted.explain.evaluate import ExplanationMetrics, explanation_metrics
from llm4rec.prompted.explain.fidelity import by_retrieving
from llm4rec.prompted.explain.templated import EvidenceConfig
from llm4rec.prompted.rank.diagnose import json_values


def judge(
    explanations: Sequence[tuple[Explanation, ...]],
    pipeline: Pipeline,
    cases: Cases,
    exclude: Ragged,
    train: Dataset,
    *,
    draws: int,
    seed: int,
) -> ExplanationMetrics:
    """Return the figures of a pipeline's explanations, claims and mentions checked by code.

    Args:
        explanations: one row for each of ``cases``.
        exclude: what the cases' lists may not hold.
        draws: of random history items that are deleted beside the cited ones, for ``fidelity``; 0
            leaves it out.
    """
    config = getattr(pipeline.explainer, "config", None)
    if not isinstance(config, EvidenceConfig):
        known = [column for column in ("genres",) if column in train.item_table.columns]
        config = EvidenceConfig.model_validate({"attributes": known})
    return explanation_metrics(
        explanations,
        cases.queries,
        train,
        config=config,
        system=by_retrieving(pipeline, exclude, train.n_items) if draws else None,
        draws=max(1, draws),
        rng=np.random.default_rng(seed),
    )


def figures(metrics: ExplanationMetrics) -> dict[str, Any]:
    """Return the figures as JSON values: each with mean, low, high, n."""
    return {name: json_values(asdict(interval)) for name, interval in metrics.row.items()}
