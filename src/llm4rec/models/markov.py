"""Markov: what came after the user's latest items in other users' histories."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Config, Dataset, Queries, Ragged, ScoringComponent, Uniform, Whole
from llm4rec.models.history import history_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class MarkovConfig(Config):
    """Parameters of Markov."""

    window: int = Field(10, ge=1)
    """A transition goes to any of so many next events, and counts 1 over its distance; 1: the very next alone."""
    smoothing: float = Field(10.0, gt=0)
    """Transitions of which popularity stands for, beside those counted from an item."""
    half_life: float = Field(3.0, ge=0)
    """Events of the history after which an older one counts half; 0: all count alike, 0.05: the last one alone."""


class Markov(ScoringComponent[MarkovConfig]):
    """First-order transitions, smoothed by popularity and mixed over the latest items.

    With ``n(i, j)`` the weighted number of transitions from i to j and ``n(i)`` their sum over j,

        ``P(j | i) = (n(i, j) + smoothing p(j)) / (n(i) + smoothing)``,
        ``score(j) = sum over the latest events k of w_k P(j | i_k)``,

    where p(j) is the share of j in all events and w_k falls with age.  An item without transitions
    backs off to popularity, and so does a user without history.

    ``window=1, half_life=0.05`` is the first-order chain: the event before the last weighs ``2 ** -20``.

    Shani, Heckerman, Brafman: An MDP-Based Recommender System, JMLR 2005, whose skipping is ``window``;
    the smoothing is that of a Dirichlet prior (MacKay, Peto 1995).
    """

    space: ClassVar = {
        "window": Whole(1, 50, log=True),
        "smoothing": Uniform(0.1, 1000.0, log=True),
        "half_life": Uniform(0.5, 30.0, log=True),
    }

    transitions_: csr_matrix
    sums_: NDArray[np.float32]
    popularity_: NDArray[np.float32]

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Count the transitions; memory grows with the events and the window."""
        self.transitions_ = transitions(train.histories.items, train.n_items, self.config.window)
        self.sums_ = np.asarray(self.transitions_.sum(axis=1), dtype=np.float32).ravel()
        self.popularity_ = (train.item_counts / max(1, train.item_counts.sum())).astype(np.float32)
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items], probabilities summed over the history with its weights."""
        from scipy import sparse

        config = self.config
        share = 1.0 / (self.sums_ + config.smoothing)  # [n_items]
        weights = history_matrix(queries, len(self.sums_), config.half_life) @ sparse.diags_array(share)  # [n, n_items]
        backed_off = config.smoothing * np.asarray(weights.sum(axis=1), dtype=np.float32).reshape(-1, 1)  # [n, 1]
        backed_off[queries.history.lengths == 0] = 1.0
        return np.asarray((weights @ self.transitions_).toarray() + backed_off * self.popularity_, dtype=np.float32)


def transitions(histories: Ragged, n_items: int, window: int) -> csr_matrix:
    """Return float32 CSR [n_items, n_items]: how often the column came after the row.

    A pair ``d <= window`` events apart counts ``1 / d``.
    """
    from scipy import sparse

    values, rows = histories.values, histories.rows
    total = sparse.csr_matrix((n_items, n_items), dtype=np.float32)
    for distance in range(1, min(window, int(histories.lengths.max(initial=0)) - 1) + 1):
        same = rows[distance:] == rows[:-distance]
        pair = (values[:-distance][same], values[distance:][same])
        weight = np.full(len(pair[0]), 1.0 / distance, np.float32)
        total = total + sparse.csr_matrix((weight, pair), shape=(n_items, n_items))
    return sparse.csr_matrix(total, dtype=np.float32)
