"""DCN-v2: explicit feature crosses of growing order beside a deep network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field as Parameter
from torch import Tensor, nn

from llm4rec.core import Choice, Whole
from llm4rec.features.fields import Field
from llm4rec.models.feature_network import Batch, FeatureConfig, FeaturePredictor, FieldNetwork, hidden_layers


class DCNConfig(FeatureConfig):
    """Parameters of DCN-v2."""

    crosses: int = Parameter(2, ge=1)
    """Cross layers: with so many, features meet in products of up to one more."""
    rank: int | None = Parameter(None, ge=1)
    """Rank of the cross layers' matrices; None: full."""
    hidden: tuple[int, ...] = Parameter((64, 64), min_length=1)
    """Units of each hidden layer of the deep part."""


class Cross(nn.Module):
    """``x_{l+1} = x_0 * (W x_l + b) + x_l``, W of full rank or ``U V'``."""

    def __init__(self, width: int, rank: int | None) -> None:
        super().__init__()
        full = nn.Linear(width, width)
        self.weight = full if rank is None else nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        crossed: Tensor = first * self.weight(x) + x
        return crossed


class _Network(FieldNetwork):
    def __init__(self, given: Sequence[Field], config: DCNConfig) -> None:
        super().__init__(given, config.width, config.dropout)
        inputs = self.n_fields * config.width
        self.crosses = nn.ModuleList(Cross(inputs, config.rank) for _ in range(config.crosses))
        self.deep = hidden_layers(inputs, config.hidden, config.dropout)
        self.out = nn.Linear(inputs + config.hidden[-1], 1, bias=False)

    def forward(self, batch: Batch) -> Tensor:
        embedded, linear = self.embedded(batch)
        x = first = embedded.flatten(1)
        for cross in self.crosses:
            x = cross(first, x)
        both = torch.cat([x, self.deep(first)], dim=1)
        return linear + self.out(both)[:, 0]


class DCN(FeaturePredictor[DCNConfig]):
    """Cross layers and a deep network side by side ("parallel"), over the fields' embeddings, with linear weights.

    Wang, Shivanna, Cheng, Jain, Lin, Hong, Chi: DCN V2: Improved Deep & Cross Network and Practical
    Lessons for Web-scale Learning to Rank Systems, WWW 2021 (arXiv 2008.13535).
    """

    space: ClassVar = {
        **FeaturePredictor.space,
        "hidden": Choice(([32], [64, 64], [128, 64])),
        "crosses": Whole(1, 3),
        "rank": Choice((None, 16, 64)),
    }

    def network(self, given: Sequence[Field]) -> FieldNetwork:
        """Return a new network over the fields."""
        return _Network(given, self.config)
