"""FM, DeepFM and DCN-v2 on real ratings: minutes each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llm4rec.core import Split
from llm4rec.data import as_clicks
from llm4rec.models.dcn import DCN
from llm4rec.models.deepfm import DeepFM
from llm4rec.models.fm import FM
from tests.contracts import area, rmse

pytestmark = [pytest.mark.slow, pytest.mark.assets]


@pytest.mark.parametrize(("component", "floor"), [(FM, 1.0), (DeepFM, 1.0), (DCN, 1.01)])
def test_rmse_on_each_user_s_last_tenth(component: Any, floor: float, ml100k_ratings: Split) -> None:
    model = component().fit(ml100k_ratings.train, valid=ml100k_ratings.valid, rng=np.random.default_rng(0))
    assert rmse(model, ml100k_ratings.test) <= floor


@pytest.mark.parametrize("component", [FM, DeepFM, DCN])
def test_auc_of_ratings_from_four_on(component: Any, ml100k_ratings: Split) -> None:
    split = as_clicks(ml100k_ratings, 4.0)
    model = component().fit(split.train, valid=split.valid, rng=np.random.default_rng(0))
    assert area(model, split.test) >= 0.78
