"""The decoder over semantic IDs on MovieLens-100K over three seeds: its floor.

Minutes long: run by ``make test-slow``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llm4rec.core import Split
from llm4rec.features import EncoderConfig, open_encoder
from llm4rec.generative.semantic_decoder import SemanticDecoder, SemanticDecoderConfig
from tests.contracts.evaluation import mean_metric


@pytest.mark.slow
@pytest.mark.assets
@pytest.mark.timeout(2400)
def test_semantic_decoder_reaches_its_floor(asset: Any, ml100k_split: Split) -> None:
    asset("all-MiniLM-L6-v2")
    split, values = ml100k_split, []
    config = SemanticDecoderConfig.model_validate({"ids": {"scheme": "joint"}})
    for seed in (1, 2, 3):
        model = SemanticDecoder(config, encoder=open_encoder(EncoderConfig(model="all-MiniLM-L6-v2")))
        model.fit(split.train, valid=split.valid, rng=np.random.default_rng(seed))
        values.append(mean_metric(model, split.test, "ndcg@10"))
    assert np.mean(values) >= 0.085, f"{np.mean(values):.4f} ({values})"
