"""Events, users and items of one data set, under inside ids."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core.columns import BEHAVIOR, EVENT_COLUMNS, ITEM, TIME, USER, VALUE
from llm4rec.core.order import stable_order
from llm4rec.core.ragged import Ragged
from llm4rec.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_EVENT_TYPES: Mapping[Any, Any] = {
    USER: pl.Int32, ITEM: pl.Int32, TIME: pl.Int64, VALUE: pl.Float32, BEHAVIOR: pl.Int8,
}  # fmt: skip

#: What ``time`` counts: real seconds, or only the order of a user's events.
Clock = Literal["utc", "order"]


@dataclass(frozen=True)
class Histories:
    """Each user's events, oldest first, equal times in the order of the source file.

    Attributes:
        items: Ragged over users (all of the vocabulary, also those without events).
        times: int64[m], in step with ``items.values``.
        behaviors: int8[m], likewise.
        values: float32[m], likewise.
    """

    items: Ragged
    times: NDArray[np.int64]
    behaviors: NDArray[np.int8]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Dataset:
    """Events over a catalogue.

    The item vocabulary spans the catalogue, so that text models can rank items that nobody has
    touched; it may be longer than the set of items with events.

    Attributes:
        name: of the set, for people.
        users, items: outside ids.
        events: ``user`` int32, ``item`` int32, ``time`` int64 (UTC s, or order), ``value`` float32,
            ``behavior`` int8; rows in the order of the source.
        item_table: one row for each item, in vocabulary order; the column ``item`` holds inside ids.
        user_table: likewise for users, column ``user``.
        behaviors: names of the behaviour codes.
        clock: ``"utc"`` if ``time`` is real time, ``"order"`` if it only orders a user's events.
    """

    name: str
    users: Vocabulary
    items: Vocabulary
    events: pl.DataFrame
    item_table: pl.DataFrame
    user_table: pl.DataFrame
    behaviors: tuple[str, ...] = ("interaction",)
    clock: Clock = "utc"

    def __post_init__(self) -> None:
        if tuple(self.events.columns) != EVENT_COLUMNS:
            raise ValueError(f"events must have the columns {EVENT_COLUMNS}, not {self.events.columns}")
        object.__setattr__(self, "events", self.events.cast(dict(_EVENT_TYPES)))
        for column, vocabulary, table in ((USER, self.users, self.user_table), (ITEM, self.items, self.item_table)):
            ids = self.events[column]
            if len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= len(vocabulary)):  # type: ignore[arg-type]
                raise ValueError(f"events name a {column} outside of the vocabulary")
            if not np.array_equal(table[column].to_numpy(), np.arange(len(vocabulary))):
                raise ValueError(f"the {column} table must have one row for each {column}, in vocabulary order")

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}, {len(self.users)} users, {len(self.items)} items, {len(self.events)} events)"

    @property
    def n_users(self) -> int:
        return len(self.users)

    @property
    def n_items(self) -> int:
        return len(self.items)

    def with_events(self, events: pl.DataFrame) -> Dataset:
        """Return the same users and items with other events."""
        return replace(self, events=events)

    @cached_property
    def histories(self) -> Histories:
        """Each user's events in time order (see :class:`Histories`)."""
        user, item, time, behavior, value = (self.events[c].to_numpy() for c in (USER, ITEM, TIME, BEHAVIOR, VALUE))
        order = stable_order(user, time)
        lengths = np.bincount(user, minlength=self.n_users)
        return Histories(Ragged.from_lengths(lengths, item[order]), time[order], behavior[order], value[order])

    @cached_property
    def item_counts(self) -> NDArray[np.int64]:
        """int64[n_items], the number of events of each item."""
        return np.bincount(self.events[ITEM].to_numpy(), minlength=self.n_items)

    def matrix(self) -> csr_matrix:
        """Return float32 CSR [n_users, n_items]: 1 where a user has touched an item."""
        from scipy import sparse

        users, items = self.events[USER].to_numpy(), self.events[ITEM].to_numpy()
        m = sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=(self.n_users, self.n_items))
        m.sum_duplicates()
        m.data[:] = 1.0
        return m

    def fingerprint(self) -> str:
        """Return a hash of the vocabularies and the events (not of the tables)."""
        digest = hashlib.sha256(f"{self.users.fingerprint()}{self.items.fingerprint()}".encode())
        for column in EVENT_COLUMNS:
            digest.update(np.ascontiguousarray(self.events[column].to_numpy()).data)
        return digest.hexdigest()
