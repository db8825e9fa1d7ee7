"""Questions with known answers: queries, cases, and the split that they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llm4rec.core.dataset import Dataset
from llm4rec.core.lists import Note
from llm4rec.core.ragged import Ragged

#: What may not be recommended: all that the user is known to have touched before the query,
#: only what the query's history shows, or nothing.
Mask = Literal["seen", "history", "none"]


@dataclass(frozen=True, slots=True)
class Queries:
    """``n`` requests for recommendations.

    Attributes:
        users: int32[n] inside ids; -1 for a user outside of the vocabulary.
        history: items each user has touched before the query, oldest first.
        times: int64[n], the moment of the query (UTC s).
        history_times: int64[m] in step with ``history.values``, or None.
        history_behaviors: int8[m] likewise, or None.
        history_values: float32[m] likewise (ratings, counts), or None.
        texts: what the user asks for in words, one string a query, or None.
        profiles: what is known of each user in words, made from events before the query, or None.
        profile_notes: what was asked and what failed when the last augmenter made the profiles, or None.
    """

    users: NDArray[np.int32]
    history: Ragged
    times: NDArray[np.int64]
    history_times: NDArray[np.int64] | None = None
    history_behaviors: NDArray[np.int8] | None = None
    texts: tuple[str, ...] | None = None
    profiles: tuple[str, ...] | None = None
    history_values: NDArray[np.float32] | None = None
    profile_notes: tuple[Note, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "users", np.ascontiguousarray(self.users, dtype=np.int32))
        object.__setattr__(self, "times", np.ascontiguousarray(self.times, dtype=np.int64))
        n, m = len(self.users), len(self.history.values)
        for what, length, wanted in (
            ("history", len(self.history), n),
            ("times", len(self.times), n),
            ("history_times", m if self.history_times is None else len(self.history_times), m),
            ("history_behaviors", m if self.history_behaviors is None else len(self.history_behaviors), m),
            ("history_values", m if self.history_values is None else len(self.history_values), m),
            ("texts", n if self.texts is None else len(self.texts), n),
            ("profiles", n if self.profiles is None else len(self.profiles), n),
            ("profile_notes", n if self.profile_notes is None else len(self.profile_notes), n),
        ):
            if length != wanted:
                raise ValueError(f"{what} has {length} entries, not {wanted}")

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of(
        cls, history: Ragged, *, users: NDArray[np.integer] | None = None, times: NDArray[np.integer] | None = None
    ) -> Queries:
        """Make queries of histories; unknown users and time 0 unless given."""
        n = len(history)
        return cls(
            np.full(n, -1, np.int32) if users is None else np.asarray(users, np.int32),
            history,
            np.zeros(n, np.int64) if times is None else np.asarray(times, np.int64),
        )

    def take(self, rows: NDArray[np.integer]) -> Queries:
        """Return the given queries, in the given order."""
        rows = np.asarray(rows)
        at = self.history.positions(rows)
        return Queries(
            self.users[rows],
            self.history.take(rows),
            self.times[rows],
            None if self.history_times is None else self.history_times[at],
            None if self.history_behaviors is None else self.history_behaviors[at],
            None if self.texts is None else tuple(self.texts[int(i)] for i in rows),
            None if self.profiles is None else tuple(self.profiles[int(i)] for i in rows),
            None if self.history_values is None else self.history_values[at],
            None if self.profile_notes is None else tuple(self.profile_notes[int(i)] for i in rows),
        )

    def chunks(self, size: int) -> Iterator[tuple[NDArray[np.int64], Queries]]:
        """Yield (row numbers, queries) in pieces of at most ``size``."""
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)))
            yield rows, self.take(rows)


@dataclass(frozen=True, slots=True)
class Cases:
    """Queries with their known answers.

    Attributes:
        queries: n of them.
        truth: the items that came next; no row is empty.
        seen: all that each user is known to have touched before the query (a superset of the
            history, which a rule may have cut or filtered); of the cases that ``fit`` is given, what no list may show.
        candidates: the items to be ranked, for candidate protocols and impressions; None for
            full ranking.
        values: float32[m] in step with ``truth.values``, what the user gave each true item (a rating, a
            count), or None.
    """

    queries: Queries
    truth: Ragged
    seen: Ragged
    candidates: Ragged | None = None
    values: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for part in (self.truth, self.seen, self.candidates):
            if part is not None and len(part) != len(self.queries):
                raise ValueError(f"{len(part)} rows for {len(self.queries)} queries")
        if (self.truth.lengths == 0).any():
            raise ValueError("a case without truth")
        if self.values is not None and len(self.values) != len(self.truth.values):
            raise ValueError(f"{len(self.values)} values for {len(self.truth.values)} true items")

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, rows: NDArray[np.integer]) -> Cases:
        """Return the given cases, in the given order."""
        rows = np.asarray(rows)
        candidates = None if self.candidates is None else self.candidates.take(rows)
        values = None if self.values is None else self.values[self.truth.positions(rows)]
        return Cases(self.queries.take(rows), self.truth.take(rows), self.seen.take(rows), candidates, values)

    def single(self) -> Cases:
        """Return one case for each true item, with the query of its case: the questions of a prediction."""
        cases = self.take(self.truth.rows)
        one = Ragged.from_lengths(np.ones(len(cases), dtype=np.int64), self.truth.values)
        return Cases(cases.queries, one, cases.seen, cases.candidates, self.values)

    def exclude(self, mask: Mask) -> Ragged:
        """Return the items that no list may show under the masking rule."""
        if mask == "seen":
            return self.seen
        return self.queries.history if mask == "history" else Ragged.empty(len(self))


@dataclass(frozen=True)
class Training:
    """The part of a split that may be looked at while anything is still to be chosen: it has no test cases.

    Attributes:
        train, valid: as in :class:`Split`.
        fingerprint: hash of the training events and of the validation cases.
    """

    train: Dataset
    valid: Cases
    fingerprint: str


@dataclass(frozen=True)
class Split:
    """A training part and the cases that are asked of what was trained on it.

    Attributes:
        train: all that ``fit`` may see, besides ``valid``.
        valid: for early stopping and the choice of parameters.
        test: for figures.
        rules: how the split was made, with counts, as JSON values; part of every result.
        fingerprint: hash of the training events and of both sets of cases, with their values.
    """

    train: Dataset
    valid: Cases
    test: Cases
    rules: Mapping[str, Any]
    fingerprint: str
