"""What is known of users as it stands: the histories of the run, and the events since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Dataset, Queries, Ragged
from llm4rec.core.columns import ITEM, USER
from llm4rec.core.order import stable_order
from llm4rec.data import Log


class History(NamedTuple):
    """One user's events, oldest first: items int32[m], times int64[m], behaviours int8[m], values float32[m]."""

    items: NDArray[np.int32]
    times: NDArray[np.int64]
    behaviors: NDArray[np.int8]
    values: NDArray[np.float32]

    @classmethod
    def empty(cls) -> History:
        """Return a history without events."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int8), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a user did.

    Attributes:
        user: outside id, known to the run or new.
        item: inside id.
        time: UTC s, or the order of the data set.
        value, behavior: as in :class:`llm4rec.core.Dataset`.
    """

    user: str
    item: int
    time: int
    value: float = 1.0
    behavior: int = 0


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: a user by outside id, or a history that is given.

    Attributes:
        user: None for a history alone.
        items: inside ids, oldest first, or None to take the user's own history.
        text: what is asked for in words, or None.
    """

    user: str | None = None
    items: tuple[int, ...] | None = None
    text: str | None = None


@dataclass(slots=True)
class Users:
    """Histories by outside id; :meth:`add` takes in new events, everything else looks.

    Args:
        dataset: the events of the run.
    """

    dataset: Dataset
    _since: dict[str, History] = field(default_factory=dict)
    _hidden: Ragged | None = None

    def __post_init__(self) -> None:
        if isinstance(self.dataset, Log) and len(self.dataset.hidden):
            users, items = self.dataset.hidden[USER].to_numpy(), self.dataset.hidden[ITEM].to_numpy()
            order = stable_order(users)
            self._hidden = Ragged.from_lengths(np.bincount(users, minlength=self.dataset.n_users), items[order])

    def __contains__(self, user: object) -> bool:
        return user in self.dataset.users or user in self._since

    def known(self) -> list[str]:
        """Return the outside ids of all users: those of the run, then the new ones."""
        return [*self.dataset.users.ids, *(u for u in self._since if u not in self.dataset.users)]

    def add(self, events: Sequence[Event]) -> None:
        """Take in events; those of one time stand in the order given, behind what was known."""
        by_user: dict[str, list[Event]] = {}
        for event in events:
            by_user.setdefault(event.user, []).append(event)
        for user, own in by_user.items():
            before = self.history(user)
            columns = (
                np.array([e.item for e in own], np.int32), np.array([e.time for e in own], np.int64),
                np.array([e.behavior for e in own], np.int8), np.array([e.value for e in own], np.float32),
            )  # fmt: skip
            joined = [np.concatenate([a, b]) for a, b in zip(before, columns, strict=True)]
            order = np.argsort(joined[1], kind="stable")
            self._since[user] = History(*(column[order] for column in joined))

    def history(self, user: str) -> History:
        """Return all that is known of a user in order of time; empty for a stranger."""
        if user in self._since:
            return self._since[user]
        if user not in self.dataset.users:
            return History.empty()
        events, at = self.dataset.histories, self.dataset.users.index(user)
        rows = slice(int(events.items.offsets[at]), int(events.items.offsets[at + 1]))
        return History(events.items.values[rows], events.times[rows], events.behaviors[rows], events.values[rows])

    def next_time(self, user: str) -> int:
        """Return the moment right after a user's last event, 1 without any."""
        return int(self.history(user).times.max(initial=0)) + 1

    def queries(self, askers: Sequence[Asker]) -> tuple[Queries, Ragged]:
        """Return the queries of those who ask, right after their last events, and what each is known to have touched.

        Either all of them give a history or none does; a given one has no times, and its moment is after everything.
        """
        given = [a.items is not None for a in askers]
        if any(given) and not all(given):
            raise ValueError("given histories and users' own are asked apart")
        histories, users, seen = [], [], []
        for asker in askers:
            user = -1
            own = History.empty() if asker.user is None else self.history(asker.user)
            touched = own.items
            if asker.user is not None and asker.user in self.dataset.users:
                user = self.dataset.users.index(asker.user)
                if self._hidden is not None:
                    touched = np.concatenate([touched, self._hidden[user]])
            if asker.items is not None:
                own = History.empty()._replace(items=np.array(asker.items, np.int32))
                touched = np.concatenate([touched, own.items])
                user = -1  # what was learnt of the user stands for the user's own history, which is not the question
            histories.append(own)
            users.append(user)
            seen.append(np.unique(touched))
        items = Ragged.of(h.items for h in histories)
        texts = tuple(a.text or "" for a in askers) if any(a.text for a in askers) else None
        if any(given):
            return Queries(np.array(users), items, np.full(len(items), 2**62), texts=texts), Ragged.of(seen)
        now = np.array([int(h.times.max(initial=0)) + 1 for h in histories], np.int64)
        none = History.empty()
        queries = Queries(
            np.array(users),
            items,
            now,
            history_times=np.concatenate([none.times, *(h.times for h in histories)]),
            history_behaviors=np.concatenate([none.behaviors, *(h.behaviors for h in histories)]),
            history_values=np.concatenate([none.values, *(h.values for h in histories)]),
            texts=texts,
        )
        return queries, Ragged.of(seen)
