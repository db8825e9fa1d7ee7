"""What must hold between accuracy metrics of the same lists, whatever the system."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from llm4rec.metrics.accuracy import ACCURACY, Values
from llm4rec.metrics.names import parse_metric

_SLACK = 1e-9


def _demand(holds: NDArray[np.bool_], law: str) -> None:
    broken = np.flatnonzero(~holds)
    if len(broken):
        raise ValueError(f"the law {law} is broken for {len(broken)} cases, the first is case {broken[0]}")


#: What cannot fall when the list grows.  NDCG and MAP may: their ideal grows with k.
_GROWING: Mapping[str, Callable[[Values, int], Values]] = {
    "hit": lambda v, k: v,
    "recall": lambda v, k: v,
    "mrr": lambda v, k: v,
    "precision": lambda v, k: v * k,  # the number of hits
}


def check_invariants(results: Mapping[str, Values]) -> None:
    """Raise ``ValueError`` that names the law and the first case if results contradict each other.

    For each case: every metric lies in [0, 1]; hit, recall, mrr and k times precision do not fall
    as k grows; at one k, every metric is above 0 exactly where hit is, and none but hit exceeds it.

    Args:
        results: float64[n] by name (``"ndcg@10"``); names that are no accuracy metrics are ignored.
    """
    by_metric: dict[str, dict[int, Values]] = defaultdict(dict)
    for name, values in results.items():
        if name.partition("@")[0] in ACCURACY:
            metric, k = parse_metric(name, ACCURACY)
            by_metric[metric][k] = values
            _demand((values >= 0) & (values <= 1 + _SLACK), f"0 <= {name} <= 1")
    for metric, measure in _GROWING.items():
        cutoffs = sorted(by_metric[metric])
        for small, large in pairwise(cutoffs):
            less, more = measure(by_metric[metric][small], small), measure(by_metric[metric][large], large)
            _demand(less <= more + _SLACK, f"{metric}@{small} <= {metric}@{large}")
    for k, hit in by_metric["hit"].items():
        for metric in by_metric.keys() - {"hit"}:
            if k in by_metric[metric]:
                values = by_metric[metric][k]
                _demand((values > 0) == (hit > 0), f"{metric}@{k} > 0 exactly where hit@{k} is")
                _demand(values <= hit + _SLACK, f"{metric}@{k} <= hit@{k}")
