"""How a report writes: names of metrics, what they mean, numbers with sign and interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

METRIC_NAMES: Final[Mapping[str, str]] = {
    "ndcg": "nDCG", "recall": "Recall", "hit": "Hit", "mrr": "MRR", "map": "MAP", "precision": "Precision",
    "rmse": "RMSE", "mae": "MAE", "auc": "AUC", "logloss": "LogLoss", "gauc": "GAUC", "squared_error": "squared error",
    "coverage": "Coverage", "gini": "Gini", "novelty": "Novelty", "diversity": "Diversity", "popularity": "Popularity",
}  # fmt: skip

DEFINITIONS: Final[Mapping[str, str]] = {
    "ndcg": "Discounted gain of the truth's ranks, 1/log2(rank + 1) over the first k, divided by that of a perfect list.",
    "recall": "Share of a case's true items among its first k. With one true item a case, equal to Hit.",
    "hit": "Share of cases with at least one true item among the first k.",
    "mrr": "1/rank of the first true item, 0 where it is not among the first k.",
    "map": "Precision at the ranks of the true items among the first k, over the lesser of k and their number.",
    "precision": "Share of the first k items that are true.",
    "coverage": "Share of the catalogue that appears in at least one list's first k. It grows with the number of lists.",
    "gini": "How unevenly recommendations fall on the catalogue: 0 all items alike, near 1 a few items alone.",
    "novelty": "Mean self-information of the shown items, -log2 of their share of training events, in bits.",
    "diversity": "One less the mean cosine of the pairs of items within a list, over their attributes (genres, tags).",
    "popularity": "Mean popularity percentile of the shown items, 0 to 1; .5 for a random list. High means popularity bias.",
}

#: The metrics of the tasks that predict.
PREDICTED: Final[Mapping[str, str]] = {
    "rmse": "Root of the mean squared difference between what was predicted and the value.",
    "mae": "Mean absolute difference between what was predicted and the value.",
    "auc": "Chance that a positive question was given more than a negative one, ties counted half; .5 for chance.",
    "gauc": "Each user’s own AUC, weighted by the user’s questions; users with one class only are left out.",
    "logloss": "Mean of −ln p for a click and −ln(1 − p) for none, p within 1e-7 of 0 and 1.",
}


def named(metric: str) -> str:
    """``nDCG@10`` for ``ndcg@10``."""
    name, at, k = metric.partition("@")
    return f"{METRIC_NAMES.get(name, name)}{at}{k}"


def signed(value: float, form: str = "{:+.4f}") -> str:
    """Return a number with its sign, a true minus."""
    return form.format(value).replace("-", "−")


def spanned(value: Mapping[str, float | None], form: str = "{:+.4f}") -> str:
    """Return the two ends of an interval, or that there is none."""
    low, high = value["low"], value["high"]
    return "no interval" if low is None or high is None else f"{signed(low, form)} to {signed(high, form)}"


def share(value: float) -> str:
    """Return a share in per cent."""
    return f"{100 * value:.1f} %"


def side(value: Mapping[str, float | None], at: float = 0.0) -> int:
    """Return on which side of a value an interval lies, 1 above and -1 below; 0 where it holds it or is unknown."""
    low, high = value["low"], value["high"]
    return 0 if low is None or high is None else int(low > at) - int(high < at)
