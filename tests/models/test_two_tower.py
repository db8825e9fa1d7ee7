"""The two towers: the contract, the decay of the history, text as features, the popularity correction."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

from typing import Any

import numpy as np
import torch

from llm4rec.core import Resources
from llm4rec.features import Encoder, HashEncoder
from llm4rec.models.two_tower import TwoTower, TwoTowerConfig
from tests import worlds
from tests.contracts import ScoringContract

SMALL = {"width": 16, "hidden": 16, "length": 8, "epochs": 30, "batch_size": 32, "learning_rate": 2e-2, "dropout": 0.1}


class TestTwoTower(ScoringContract):
    component = TwoTower
    configs = SMALL
    uses_valid = True


class Hashed:
    """Resources whose every encoder hashes words."""

    def llm(self, name: str) -> Any:
        raise AssertionError("TwoTower asked for an LLM")

    def encoder(self, name: str) -> Encoder:
        return HashEncoder(256)


class TestTextTwoTower(ScoringContract):
    """Items without events are found by their text: only features can do that."""

    component = TwoTower
    configs = {**SMALL, "item_init": {"encoder": "hash", "template": "{title} {genres}"}}
    world = worlds.topics()
    uses_valid = True
    expected = 0.75

    def resources(self) -> Resources:
        return Hashed()


def test_text_is_a_feature_that_stays_or_a_start_that_moves() -> None:
    split = worlds.topics().split

    def fitted(text: str, epochs: int) -> Any:
        config = TwoTowerConfig.model_validate(TestTextTwoTower.configs | {"text": text, "epochs": epochs})
        return TwoTower(config, encoder=HashEncoder(256)).fit(split.train, valid=None, rng=np.random.default_rng(0)).network_

    features = [fitted("features", epochs) for epochs in (1, 2)]
    assert torch.equal(features[0].texts, features[1].texts)
    assert features[0].texts.any()
    start = [fitted("start", epochs) for epochs in (1, 2)]
    assert start[0].features is None
    assert not torch.equal(start[0].items.weight, start[1].items.weight)


def test_the_newest_event_weighs_most() -> None:
    torch.manual_seed(0)
    network = TwoTower(TwoTowerConfig(width=16, half_life=1.0, deviation=0.5)).network(20).eval()
    with torch.inference_mode():
        network.of_history[2].weight.zero_()
        network.of_history[2].bias.zero_()
        state = network(torch.tensor([[20, 3, 4]]))[0, -1]
        x = network.items.weight
        mean = (0.5 * x[3] + x[4]) / 1.5
    torch.testing.assert_close(state, torch.nn.functional.normalize(mean, dim=0) / 0.1)


def test_pads_are_as_if_they_were_not_there_and_nothing_later_is_seen() -> None:
    torch.manual_seed(0)
    network = TwoTower(TwoTowerConfig(width=16, deviation=0.5)).network(20).eval()
    with torch.inference_mode():
        padded, bare = network(torch.tensor([[20, 20, 3, 4, 5]])), network(torch.tensor([[3, 4, 9]]))
    torch.testing.assert_close(padded[0, 2:4], bare[0, :2])
    assert not torch.allclose(padded[0, 4], bare[0, 2])
