"""Sequential IDs: items numbered as they first appear in training, the number cut into groups of digits."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Dataset, Ragged
from llm4rec.core.columns import ITEM, TIME
from llm4rec.core.order import first_of_each, stable_order
from llm4rec.features.values import Encoder
from llm4rec.generative.ids.scheme import Scheme
from llm4rec.generative.ids.values import ItemIDs


class SequentialIDs(Scheme):
    """Items that are met together get numbers that stand together, so they share leading digits.

    Hua et al., *How to Index Item IDs for Recommendation Foundation Models*, SIGIR-AP 2023 (arXiv
    2305.06569), after P5 (Geng et al., RecSys 2022).  There the numbers run over whole sequences, held-out
    items included: the next number after the highest of a history is then often the answer, without any model
    (Rajput et al. 2023, appendix).  Here they run over the training part alone, and items that it lacks
    follow in catalogue order, which says nothing.

    The tokens are the groups of digits with leading zeros: 1042 in groups of two is ``10 42``, 7 is ``00 07``.
    Levels share them: the same digits are the same token, wherever they stand.
    """

    scheme: Literal["sequential"] = "sequential"
    order: Literal["users", "time"] = "users"
    """``users``: one history after the other, each oldest first, as in P5.  ``time``: all events, oldest first."""
    digits: int = Field(2, ge=1, le=6)
    """Digits of a token."""

    def assign(self, train: Dataset, *, encoder: Encoder | None, rng: np.random.Generator) -> ItemIDs:
        """Number the items and cut the numbers."""
        base = 10**self.digits
        levels = max(1, -(-len(str(max(0, train.n_items - 1))) // self.digits))
        codes = numbers(train, self.order)[:, None] // base ** np.arange(levels)[::-1] % base
        words = tuple(f"{group:0{self.digits}d}" for group in range(base))
        return ItemIDs(Ragged.from_lengths(np.full(len(codes), levels), codes.ravel()), base, words)


def numbers(train: Dataset, order: Literal["users", "time"]) -> NDArray[np.int64]:
    """Return int64[n_items], each item's number from 0 on: by first appearance, then those that never appear."""
    if order == "users":
        met = train.histories.items.values  # one user after the other
    else:
        met = train.events[ITEM].to_numpy()[stable_order(train.events[TIME].to_numpy())]
    appeared = met[first_of_each(met)] if len(met) else met
    absent = np.flatnonzero(train.item_counts == 0)
    number = np.empty(train.n_items, dtype=np.int64)
    number[np.concatenate([appeared, absent])] = np.arange(train.n_items)
    return number
