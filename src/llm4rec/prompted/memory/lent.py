"""The control of user memory: the history of somebody else, as it was before the query."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Dataset, Queries, Ragged

_TRIES = 64  # users who are looked at for one with a history before the query


@dataclass(frozen=True, slots=True)
class Lent:
    """Training histories, from which each query gets another user's.

    Attributes:
        histories: items of each user, oldest first.
        times: int64[m] in step with ``histories.values``.
        values: float32[m] likewise.
        place: int64[n_users], the place of each user in a circle; who follows lends first.
        real: are the times real, so that those of two users can be compared?
    """

    histories: Ragged
    times: NDArray[np.int64]
    values: NDArray[np.float32]
    place: NDArray[np.int64]
    real: bool

    @classmethod
    def of(cls, train: Dataset, seed: int) -> Self:
        """Take the histories of a training part, and draw the circle by hash of the outside ids."""
        draws = [hashlib.blake2b(f"{seed} {user}".encode(), digest_size=8).digest() for user in train.users]
        place = np.empty(train.n_users, np.int64)
        place[sorted(range(train.n_users), key=lambda user: draws[user])] = np.arange(train.n_users)
        h = train.histories
        return cls(h.items, h.times, h.values, place, train.clock == "utc")

    def exchange(self, queries: Queries) -> Queries:
        """Return the queries with another user's id and history, cut before the moment of the query.

        The next user in the circle who has a history then lends it; where none of 64 has one, it is
        empty.  A user outside of the vocabulary borrows from one chosen by the query's time.
        """
        n = len(self.place)
        around = np.argsort(self.place)
        own = np.where(queries.users >= 0, self.place[queries.users] if n else 0, queries.times % max(n, 1))
        lender = np.full(len(queries), -1, np.int64)
        length = np.zeros(len(queries), np.int64)
        for step in range(1, min(_TRIES + 1, n)):
            open_ = np.flatnonzero(lender < 0)
            if not len(open_):
                break
            candidate = around[(own[open_] + step) % n]
            lengths = self._before(candidate, queries.times[open_])
            good = lengths > 0
            lender[open_[good]], length[open_[good]] = candidate[good], lengths[good]
        starts = self.histories.offsets[np.maximum(lender, 0)]
        first = np.cumsum(length) - length
        at = np.arange(int(length.sum())) + np.repeat(starts - first, length)
        return replace(
            queries, users=lender.astype(np.int32), history=Ragged.from_lengths(length, self.histories.values[at]),
            history_times=self.times[at], history_values=self.values[at], history_behaviors=None,
        )  # fmt: skip

    def _before(self, users: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return int64[n], how many events of each user lie before each time."""
        if not self.real:
            return self.histories.lengths[users]
        # A user's times never fall, so (user, rank of time) is one sorted sequence.
        distinct, rank = np.unique(self.times, return_inverse=True)
        keys = self.histories.rows * (len(distinct) + 1) + rank
        asked = users * (len(distinct) + 1) + np.searchsorted(distinct, times)
        return np.asarray(np.searchsorted(keys, asked) - self.histories.offsets[users])
