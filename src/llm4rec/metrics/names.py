"""Names of metrics: ``ndcg@10`` is the metric ``ndcg`` at the cut-off 10."""

from __future__ import annotations

import re
from collections.abc import Iterable

from llm4rec.core import SpecError, did_you_mean

_NAME = re.compile(r"(?P<metric>[a-z_]+)@(?P<k>[1-9][0-9]*)")


def parse_metric(name: str, known: Iterable[str]) -> tuple[str, int]:
    """Return (metric, k) of a name such as ``ndcg@10``.

    Raises ``SpecError`` for a metric that is not among ``known`` (with the nearest one), and for a
    cut-off that is missing or not a whole number from 1.
    """
    known = list(known)
    metric, at, cutoff = name.partition("@")
    if metric not in known:
        raise SpecError(f"unknown metric {name!r}", where="metrics", todo=did_you_mean(metric.lower(), known))
    match = _NAME.fullmatch(name)
    if match is None:
        wrong = f"cut-off {cutoff!r} of {name!r} is not a whole number from 1" if at else f"metric {name!r} has no cut-off"
        raise SpecError(wrong, where="metrics", todo=f"write for example '{metric}@10'")
    return metric, int(match["k"])
