"""RepeatVisited: what the user has touched before, the likeliest to return first."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Config, Dataset, Queries, ScoringComponent, Uniform


class RepeatVisitedConfig(Config):
    """Parameters of RepeatVisited."""

    half_life: float = Field(10.0, ge=0)
    """Events after which a visit counts half; 0: all count alike (how often), near 0 the latest decides (how recently)."""


class RepeatVisited(ScoringComponent[RepeatVisitedConfig]):
    """The user's own items by ``sum over visits of 2 ** (-age / half_life)``, ages in events; then the most popular.

    Of two items with the same sum the one touched later comes first.  It is a floor for sets in
    which people return to songs, shops or groceries: a model that does not beat it there has learnt
    nothing beside habit.  It needs a protocol that lets seen items be recommended (``mask = "none"``,
    or ``"history"`` with a cut history); under ``mask = "seen"`` it is popularity.

    Ren, Chen, Li, Ren, Ma, de Rijke: RepeatNet, AAAI 2019, on repeated consumption; the decayed sum is the
    recency and frequency of Anderson et al.: The Dynamics of Repeat Consumption, WWW 2014.
    """

    space: ClassVar = {"half_life": Uniform(0.2, 100.0, log=True)}

    popularity_: NDArray[np.float32]

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Count each item's events."""
        self.popularity_ = (train.item_counts / (1.0 + train.item_counts.max(initial=0))).astype(np.float32)
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items]: 1 for the lowest of the user's own items, 2 for the next; less than 1 for the others."""
        history, n_items = queries.history, len(self.popularity_)
        scores = np.tile(self.popularity_, (len(queries), 1))
        if not len(history.values):
            return scores
        age = np.repeat(history.offsets[1:], history.lengths) - 1 - np.arange(len(history.values))
        pair, at = np.unique(history.rows * n_items + history.values, return_inverse=True)
        newest = np.full(len(pair), age.max(initial=0))
        np.minimum.at(newest, at, age)
        # Ages count from the item's newest visit, so that no sum underflows however long the history is.
        half_life = self.config.half_life
        visits = np.bincount(at, weights=np.exp2(-(age - newest[at]) / half_life) if half_life else None)
        strength = np.log2(visits) - (newest / half_life if half_life else 0.0)
        row = pair // n_items
        order = np.lexsort((-newest, strength, row))  # by row, the weakest first
        first = np.searchsorted(row, row[order])  # where the row begins, in pair as in order
        scores[row[order], pair[order] % n_items] = 1.0 + np.arange(len(pair)) - first
        return scores
