"""GRU4Rec: the contract, causality, pads."""

from __future__ import annotations

import torch

from llm4rec.models.gru4rec import GRU4Rec, GRU4RecConfig
from tests import worlds
from tests.contracts import ScoringContract

SMALL = {"width": 16, "length": 8, "epochs": 40, "batch_size": 32, "learning_rate": 2e-2, "dropout": 0.1}


class TestGRU4Rec(ScoringContract):
    component = GRU4Rec
    configs = SMALL
    world = worlds.cycle()
    uses_valid = True


def test_pads_are_as_if_they_were_not_there_and_nothing_later_is_seen() -> None:
    torch.manual_seed(0)
    network = GRU4Rec(GRU4RecConfig(width=16, layers=2)).network(20).eval()
    with torch.inference_mode():
        padded = network(torch.tensor([[20, 20, 3, 4, 5], [7, 8, 3, 4, 5]]))
        bare = network(torch.tensor([[3, 4, 9]]))
    torch.testing.assert_close(padded[0, 2:4], bare[0, :2])
    assert not torch.allclose(padded[0, 4], bare[0, 2])
    assert not torch.allclose(padded[1, 4], padded[0, 4]), "the state carries what came first"
