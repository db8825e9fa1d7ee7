"""Single-token IDs: every item is a token of its own."""

from __future__ import annotations

from typing import Literal

import numpy as np

from llm4rec.core import Dataset
from llm4rec.features.values import Encoder
from llm4rec.generative.ids.scheme import Scheme, leveled
from llm4rec.generative.ids.values import ItemIDs


class SingleIDs(Scheme):
    """One token for each item, as in SASRec: nothing is shared between items, and nothing known of a cold one.

    Hua et al., *How to Index Item IDs for Recommendation Foundation Models*, SIGIR-AP 2023 (arXiv 2305.06569),
    there "independent indexing".
    """

    scheme: Literal["single"] = "single"

    def assign(self, train: Dataset, *, encoder: Encoder | None, rng: np.random.Generator) -> ItemIDs:
        """Give token i to item i."""
        return leveled(np.arange(train.n_items)[:, None], [train.n_items])
