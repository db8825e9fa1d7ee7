"""What a run finds out about its language-model rankers beside their accuracy."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Cases
from llm4rec.pipeline import Pipeline, Trace
from llm4rec.prompted import LLMRanker
from llm4rec.prompted.rank.diagnose import (
    agreement,
    answer_failures,
    history_sensitivity,
    json_values,
    popularity_bias,
    position_bias,
)

#: Scorings that show candidates side by side, so that a slot can matter.
_LISTED = frozenset({"choice", "generate", "pairs"})


def diagnose(
    pipeline: Pipeline, trace: Trace, cases: Cases, counts: NDArray[np.int64], *, controls: int, metric: str, seed: int
) -> dict[str, Any]:
    """Return for each stage of a language-model ranker what is wrong with it, as JSON values.

    From the listings of all cases: ``answers`` (failures), ``position`` (bias by slot) and
    ``agreement`` (between listings in different orders).  From asking again about the first
    ``controls`` cases: ``popularity`` and ``history`` (with shuffled and with fake histories).

    Args:
        trace: of the cases' queries.
        counts: int[n_items], training events of each item.
        controls: cases that are asked again; fewer than 2 leave that out.
        metric: of the history controls.
    """
    found: dict[str, Any] = {}
    for stage, ranker, queries, candidates in pipeline.asked(cases.queries, trace):
        if not isinstance(ranker, LLMRanker):
            continue
        rng = np.random.default_rng(seed)
        facts: dict[str, Any] = {"scoring": ranker.config.scoring, "answers": answer_failures(stage.notes)}
        if ranker.config.scoring in _LISTED:
            facts["position"] = position_bias(stage.notes, cases.truth, rng=rng).to_json()
            facts["agreement"] = json_values(asdict(agreement(stage.notes, rng=rng)))
        first = np.arange(min(controls, len(cases)))
        if len(first) > 1:
            few, pools, truth = queries.take(first), candidates.take(first), cases.truth.take(first)
            ranked = ranker.rank(few, pools)
            facts["controls"] = len(first)
            facts["popularity"] = popularity_bias(ranked, counts, truth, rng=rng).to_json()
            last = ranker.config.history
            facts["history"] = history_sensitivity(ranker, few, pools, truth, rng=rng, metric=metric, last=last).to_json()
        found[stage.name] = facts
    return found
