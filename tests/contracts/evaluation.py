"""Figures for known answers and floors."""

from __future__ import annotations

import numpy as np

from llm4rec.core import Cases, Lists, Retriever
from llm4rec.metrics import evaluate


def mean_metric(component: Retriever, cases: Cases, metric: str, *, k: int = 100) -> float:
    """Return a metric's mean over the cases: full ranking, seen items masked."""
    lists = component.retrieve(cases.queries, k, exclude=cases.exclude("seen"))
    return float(evaluate(lists, cases.truth, [metric])[metric].mean())


def recall(lists: Lists, cases: Cases, k: int) -> float:
    """Return mean recall@k of given lists."""
    metric = f"recall@{k}"
    return float(np.mean(evaluate(lists, cases.truth, [metric])[metric]))
