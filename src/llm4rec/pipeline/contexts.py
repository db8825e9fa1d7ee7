"""What is known of a request before anything is retrieved for it: numbers for a bandit, words for a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Cases, Component, Config, Dataset, Queries

#: What is measured of each request, in order; logarithms are natural, of 1 + the number.
FEATURES = (
    "log of the history's length",
    "mean popularity of the history's items, as a percentile",
    "popularity of the last item, as a percentile",
    "log of the time since the last event",
    "log of the mean time between events",
    "asked in words",
)


class ContextsConfig(Config):
    """Nothing to set."""


@dataclass(frozen=True, slots=True)
class Context:
    """Requests as a chooser sees them.

    Attributes:
        features: float64[n, 1 + 6]: 1, then :data:`FEATURES`, each with mean 0 and deviation 1 over the requests that
            were learnt from (0 where it never varied).
        raw: float64[n, 6], the same as they were measured.
    """

    features: NDArray[np.float64]
    raw: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def short(self) -> NDArray[np.bool_]:
        """bool[n]: is the history shorter than the mean (of logarithms)?"""
        return self.features[:, 1] < 0

    def words(self, row: int) -> str:
        """Return a request in words, so coarse that many requests read alike."""
        length, popular, last, gap, _, asked = self.raw[row]
        n = round(float(np.expm1(length)))
        if n == 0:
            return "nothing is known of the user" + (", who asks in words" if asked else "")
        scale = 1 if n < 5 else 5 if n < 50 else 50
        days = float(np.expm1(gap)) / 86_400
        told = [
            f"about {max(scale, n // scale * scale)} interactions",
            f"items of the {_band(popular)} popularity on average",
            f"the last one of the {_band(last)} popularity",
            "a day or less since then" if days <= 1 else "a month or less since then" if days <= 30 else "longer since then",
        ]
        return ", ".join(told + (["asks in words"] if asked else []))

    def take(self, rows: NDArray[np.integer]) -> Context:
        """Return the given requests."""
        return Context(self.features[rows], self.raw[rows])


class Contexts(Component[ContextsConfig]):
    """Measures requests by what the training part knows of items.

    ``fit`` learns the items' popularity, :meth:`settle` the scale of the numbers.
    """

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Learn each item's share of items that are less popular (half of those that are as popular)."""
        counts = np.sort(train.item_counts)
        below, above = (np.searchsorted(counts, train.item_counts, side=side) for side in ("left", "right"))
        self.percentiles_ = ((below + above) / (2 * max(1, len(counts)))).astype(np.float64)
        self.centre_, self.spread_ = np.zeros(len(FEATURES)), np.ones(len(FEATURES))
        return self

    def settle(self, queries: Queries) -> Self:
        """Learn mean and deviation of the features from the requests that a chooser learns from."""
        raw = self._measured(queries)
        self.centre_, spread = raw.mean(axis=0), raw.std(axis=0)
        self.spread_ = np.where(spread > 1e-9, spread, np.inf)
        return self

    def of(self, queries: Queries) -> Context:
        """Return the requests as choosers see them."""
        raw = self._measured(queries)
        return Context(np.column_stack([np.ones(len(raw)), (raw - self.centre_) / self.spread_]), raw)

    def _measured(self, queries: Queries) -> NDArray[np.float64]:
        """Return float64[n, 6], :data:`FEATURES` of each request; 0 where there is no history."""
        history, n = queries.history, len(queries)
        lengths, some = history.lengths, np.maximum(history.lengths, 1)
        known = self.percentiles_[history.values]
        sums = np.bincount(history.rows, weights=known, minlength=n)
        ends, full = np.maximum(history.offsets[1:] - 1, 0), lengths > 0
        last, gap, pace = np.zeros(n), np.zeros(n), np.zeros(n)
        last[full] = known[ends[full]]
        if queries.history_times is not None:
            times, starts = queries.history_times, history.offsets[:-1]
            gap[full] = np.maximum(queries.times[full] - times[ends[full]], 0)
            pace[full] = (times[ends[full]] - times[starts[full]]) / np.maximum(lengths[full] - 1, 1)
        asked = np.zeros(n) if queries.texts is None else np.array([bool(text) for text in queries.texts], np.float64)
        return np.column_stack([np.log1p(lengths), sums / some, last, np.log1p(gap), np.log1p(np.maximum(pace, 0)), asked])


def _band(percentile: float) -> str:
    return "lowest" if percentile < 1 / 3 else "middle" if percentile < 2 / 3 else "highest"
