"""GRU4Rec, LightGCN and the two towers on MovieLens-100K over three seeds, default parameters: their floors.

Minutes long: run by ``make test-slow``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llm4rec.core import ScoringComponent, Split
from llm4rec.models.gru4rec import GRU4Rec
from llm4rec.models.lightgcn import LightGCN
from llm4rec.models.two_tower import TwoTower
from tests.contracts.evaluation import mean_metric


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("component", "floor"), [(GRU4Rec, 0.105), (LightGCN, 0.098), (TwoTower, 0.105)])
def test_reaches_its_floor(component: type[ScoringComponent[Any]], floor: float, ml100k_split: Split) -> None:
    split, values = ml100k_split, []
    for seed in (1, 2, 3):
        model = component().fit(split.train, valid=split.valid, rng=np.random.default_rng(seed))
        values.append(mean_metric(model, split.test, "ndcg@10"))
    assert np.mean(values) >= floor, f"{np.mean(values):.4f} ({values})"
