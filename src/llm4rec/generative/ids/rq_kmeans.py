"""Semantic IDs by residual k-means over text vectors."""

from __future__ import annotations

from typing import Literal

import numpy as np

from llm4rec.core import Dataset
from llm4rec.features.values import Encoder
from llm4rec.generative.ids.codebooks import QuantisedScheme
from llm4rec.generative.ids.values import ItemIDs


class RQKMeans(QuantisedScheme):
    """The first code is the cluster of an item's text, the second the cluster of what is left over, and so on.

    Items with near texts so share the first codes.  Cold items have texts as well, and get IDs like any other.

    Luo et al., *QARM: Quantitative Alignment Multi-Modal Recommendation at Kuaishou*, 2024 (arXiv 2411.11739);
    with ``balance = 1`` after the residual balanced k-means of Deng et al., *OneRec*, 2025 (arXiv 2502.18965).
    """

    scheme: Literal["rq-kmeans"] = "rq-kmeans"

    def assign(self, train: Dataset, *, encoder: Encoder | None, rng: np.random.Generator) -> ItemIDs:
        """Cluster the catalogue level by level."""
        self.check_room(train)
        return self.clustered(self.vectors(train, encoder), rng)
