"""FM: a factorisation machine over the fields of user, item and history."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from llm4rec.features.fields import Field
from llm4rec.models.feature_network import Batch, FeatureConfig, FeaturePredictor, FieldNetwork, interactions


class FMConfig(FeatureConfig):
    """Parameters of FM."""


class _Network(FieldNetwork):
    def forward(self, batch: Batch) -> Tensor:
        embedded, linear = self.embedded(batch)
        return linear + interactions(embedded)


class FM(FeaturePredictor[FMConfig]):
    """Predicts ``w_0 + sum_i w_i x_i + sum_{i<j} <v_i, v_j> x_i x_j`` over the values of all fields.

    With the ids of user and item alone it is a factorisation with biases; fields of the tables and
    the history add what is known of users and items with few events.

    Rendle: Factorization Machines, ICDM 2010.
    """

    def network(self, given: Sequence[Field]) -> FieldNetwork:
        """Return a new network over the fields."""
        return _Network(given, self.config.width, self.config.dropout)
