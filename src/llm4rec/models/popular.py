"""Popular: everybody gets what most others took, ever or of late."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Choice, Config, DataError, Dataset, Queries, ScoringComponent
from llm4rec.core.columns import ITEM, TIME

_DAY = 86_400.0  # seconds


class PopularConfig(Config):
    """Parameters of Popular."""

    half_life_days: float | None = Field(None, gt=0)
    """Days after which an event counts half; without it every training event counts 1."""


class Popular(ScoringComponent[PopularConfig]):
    """Ranks items by the number of their training events; of two with as many, the one last taken later.

    The second half of the rule matters: the tail of a catalogue is one large tie, and an arbitrary
    order there moves a figure by a case or two (without real times it is the inside id's).

    With a half-life ``h`` an item is scored at the time ``t`` of the query, by what happened
    before it:  ``score(i, t) = sum over events (i, s) with s < t of 2 ** (-(t - s) / h)``.
    A query with time 0 has none, and is asked at the end of the training part.

    Decayed counts are "recently popular" of Ji, Sun, Zhang, Li: A Re-visit of the Popularity
    Baseline in Recommender Systems, SIGIR 2020.
    """

    space: ClassVar = {"half_life_days": Choice((None, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0))}
    counts_: NDArray[np.float32]
    items_: NDArray[np.int32]
    times_: NDArray[np.int64]

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Count each item's events; raises ``DataError`` for a decay without real times."""
        if self.config.half_life_days is not None and train.clock != "utc":
            raise DataError(
                "popularity cannot decay without the time of events", where=train.name, todo="leave out half_life_days"
            )
        self.counts_ = (train.item_counts + _recency(train) / 2).astype(np.float32)
        decays = self.config.half_life_days is not None
        events = train.events.sort(TIME, maintain_order=True) if decays else train.events.head(0)
        self.items_ = events[ITEM].to_numpy().copy()
        self.times_ = events[TIME].to_numpy().copy()
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items], the (decayed) number of events, and less than 1/2 for a late last one."""
        if self.config.half_life_days is None:
            return np.broadcast_to(self.counts_, (len(queries), len(self.counts_)))
        return self._decayed(queries.times, self.config.half_life_days * _DAY)

    def _decayed(self, asked: NDArray[np.int64], half_life: float) -> NDArray[np.float32]:
        """Return float32[n, n_items], the decayed counts at the times asked int64[n]."""
        from scipy import sparse

        end = int(self.times_[-1]) + 1 if len(self.times_) else 0
        moments, row = np.unique(np.where(asked == 0, end, asked), return_inverse=True)  # b distinct moments
        # An event first counts at the next moment after it, and decays from there on with all
        # that counted before: moments [b, b] @ events between two moments [b, n_items].
        first = np.searchsorted(moments, self.times_, side="right")
        counts = first < len(moments)
        at, items, times = first[counts], self.items_[counts], self.times_[counts]
        weight = np.exp2(-(moments[at] - times) / half_life)
        new = sparse.csr_matrix((weight, (at, items)), shape=(len(moments), len(self.counts_)))
        lag = moments[:, None] - moments[None, :]
        decay = np.where(lag < 0, 0.0, np.exp2(-np.maximum(lag, 0) / half_life))
        return np.asarray(decay @ new, dtype=np.float32)[row]


def _recency(train: Dataset) -> NDArray[np.float64]:
    """Return float64[n_items] from 0 to below 1 in order of each item's last event; 0 without real times."""
    last = np.zeros(train.n_items, dtype=np.int64)
    if train.clock == "utc":
        np.maximum.at(last, train.events[ITEM].to_numpy(), train.events[TIME].to_numpy())
    _, order = np.unique(last, return_inverse=True)
    return np.asarray(order / (order.max(initial=0) + 1))
