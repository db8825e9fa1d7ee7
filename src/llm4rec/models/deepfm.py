"""DeepFM: a factorisation machine and a deep network over the same embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field as Parameter
from torch import Tensor, nn

from llm4rec.core import Choice
from llm4rec.features.fields import Field
from llm4rec.models.feature_network import (
    Batch,
    FeatureConfig,
    FeaturePredictor,
    FieldNetwork,
    hidden_layers,
    interactions,
)


class DeepFMConfig(FeatureConfig):
    """Parameters of DeepFM."""

    hidden: tuple[int, ...] = Parameter((64, 64), min_length=1)
    """Units of each hidden layer."""


class _Network(FieldNetwork):
    def __init__(self, given: Sequence[Field], config: DeepFMConfig) -> None:
        super().__init__(given, config.width, config.dropout)
        self.deep = hidden_layers(self.n_fields * config.width, config.hidden, config.dropout)
        self.out = nn.Linear(config.hidden[-1], 1, bias=False)

    def forward(self, batch: Batch) -> Tensor:
        embedded, linear = self.embedded(batch)
        return linear + interactions(embedded) + self.out(self.deep(embedded.flatten(1)))[:, 0]


class DeepFM(FeaturePredictor[DeepFMConfig]):
    """The sum of a factorisation machine and of a network of rectified units over the fields' embeddings.

    Guo, Tang, Ye, Li, He: DeepFM: A Factorization-Machine based Neural Network for CTR Prediction,
    IJCAI 2017 (arXiv 1703.04247).
    """

    space: ClassVar = {**FeaturePredictor.space, "hidden": Choice(([32], [64, 64], [128, 64]))}

    def network(self, given: Sequence[Field]) -> FieldNetwork:
        """Return a new network over the fields."""
        return _Network(given, self.config)
