"""iALS: factors by alternating least squares, with the regularisation that makes them strong."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Config, Dataset, Queries, Ragged, ScoringComponent, Uniform, Whole
from llm4rec.models.history import history_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Numbers of gathered factors held at once while rows are solved for.
_BLOCK = 4_000_000


class IALSConfig(Config):
    """Parameters of iALS."""

    factors: int = Field(64, ge=1)
    """Dimensions of the factors."""
    unobserved: float = Field(40.0, gt=0)
    """Weight of all entries together, in multiples of what the events weigh more: the paper's alpha_0 is this times
    the share of entries that are events, and its best were 27 (ML-20M) and 14 (MSD) in this measure."""
    l2: float = Field(0.003, gt=0)
    """Weight of the squared factors in the loss (lambda), before ``frequency`` scales it."""
    frequency: float = Field(1.0, ge=0)
    """Power (nu) of the total weight of a row's entries by which its ``l2`` grows: 0 as in the original,
    1 as with stochastic gradients over the entries."""
    iterations: int = Field(8, ge=1)
    """Rounds of solving for the users and then for the items."""
    deviation: float = Field(0.1, gt=0)
    """Standard deviation of a first score: that of the first factors times the root of ``factors``."""
    half_life: float = Field(8.0, ge=0)
    """Events of the history after which an older one counts half; 0: all count alike."""


class IALS(ScoringComponent[IALSConfig]):
    """Factorises the binary matrix of users and items, with ``l2`` scaled by frequency.

    With S the pairs that occur in training it minimises

        ``sum over (u, i) in S of (x_u . y_i - 1)^2  +  a sum over all (u, i) of (x_u . y_i)^2
        + l2 (sum over u of (|S_u| + a n_items)^nu |x_u|^2 + sum over i of (|S_i| + a n_users)^nu |y_i|^2)``

    where ``a`` is ``unobserved`` times |S| / (n_users n_items), so that one value suits small and large catalogues, and
    ``nu`` is ``frequency``.  A round solves for all users, with the items
    fixed, and then for all items:  ``x_u = (Y_u'Y_u + a Y'Y + l2_u I)^-1 Y_u'1`` with ``Y_u`` the rows of the
    user's items.

    Only the item factors Y are kept.  A query's user factors are solved for from its history by the
    same equation, with the events' recency in the place of the 1; so an unknown user, and an event
    after training, count like any other.

    Rendle, Krichene, Zhang, Koren: Revisiting the Performance of iALS on Item Recommendation
    Benchmarks, RecSys 2022 (arXiv 2110.14037).  ``half_life=0`` is the paper's.
    """

    space: ClassVar = {
        "factors": Whole(32, 128, log=True),
        "unobserved": Uniform(1.0, 100.0, log=True),
        "l2": Uniform(1e-4, 0.03, log=True),
        "iterations": Whole(4, 16),
        "half_life": Uniform(1.0, 30.0, log=True),
    }

    deterministic = False
    item_factors_: NDArray[np.float32]
    missing_: float

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Factorise the training matrix; the seed sets the first factors."""
        config = self.config
        by_user = train.matrix()
        by_item = by_user.T.tocsr()
        self.missing_ = config.unobserved * by_user.nnz / max(1, train.n_users * train.n_items)
        first = config.deviation / np.sqrt(config.factors)
        y = rng.normal(0.0, first, (train.n_items, config.factors)).astype(np.float32)
        for _ in range(config.iterations):
            x = self._solved(by_user, y)  # [n_users, f]
            y = self._solved(by_item, x)  # [n_items, f]
        self.item_factors_ = y
        return self

    def _solved(self, entries: csr_matrix, fixed: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32[n, f], the factors of the rows of ``entries`` [n, m], given those of its columns [m, f]."""
        config, f = self.config, fixed.shape[1]
        rows = Ragged(entries.indptr, entries.indices)
        wanted = np.asarray(entries @ fixed)  # [n, f]
        everywhere = self.missing_ * (fixed.T @ fixed)  # [f, f]
        weight = rows.lengths + self.missing_ * entries.shape[1]
        ridge = (config.l2 * weight**config.frequency).astype(np.float32)  # [n]
        own = np.vstack([fixed, np.zeros((1, f), np.float32)])  # the last row is the pad's
        out = np.zeros((len(rows), f), dtype=np.float32)
        for some in _blocks(rows.lengths, f):
            taken = own[rows.take(some).padded(int(rows.lengths[some].max()))]  # [b, longest, f]
            systems = everywhere + taken.transpose(0, 2, 1) @ taken  # [b, f, f]
            systems[:, np.arange(f), np.arange(f)] += ridge[some][:, None]
            out[some] = np.linalg.solve(systems, wanted[some][:, :, None])[:, :, 0]
        return out

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items], the inner products of user and item factors."""
        return self.user_factors(queries) @ self.item_factors_.T

    def user_factors(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, f], solved for from the histories; zero for an empty one."""
        y = self.item_factors_
        return self._solved(history_matrix(queries, len(y), self.config.half_life), y)


def _blocks(lengths: NDArray[np.int64], width: int) -> list[NDArray[np.int64]]:
    """Return the rows that are not empty, in blocks of like length that hold at most ``_BLOCK`` numbers when padded."""
    rows = np.argsort(-lengths, kind="stable")
    rows = rows[: int((lengths > 0).sum())]  # the longest first
    blocks = []
    while len(rows):
        size = max(1, _BLOCK // (int(lengths[rows[0]]) * width + width * width))
        blocks.append(rows[:size])
        rows = rows[size:]
    return blocks
