"""A data set as it was read: with the rules that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from llm4rec.core import Dataset
from llm4rec.core.columns import ITEM, TIME, USER

#: Column of ``Log.hidden``: how many rows of ``events`` stand before this event in the source.
BEFORE = "before"


@dataclass(frozen=True, repr=False, eq=False)
class Log(Dataset):
    """What ``load`` returns.

    Attributes:
        rules: what was asked for and what each rule did, with counts, as JSON values.
        hidden: events that ``min_value`` took out of ``events``, whose user and item are still in
            the vocabularies: ``user``, ``item``, ``time``, ``before``.  Nothing is trained on them
            and no history shows them, but the user has touched these items, so a split puts them
            into ``Cases.seen``.
    """

    rules: Mapping[str, Any] = field(default_factory=dict)
    hidden: pl.DataFrame = field(
        default_factory=lambda: pl.DataFrame(schema={USER: pl.Int32, ITEM: pl.Int32, TIME: pl.Int64, BEFORE: pl.Int64})
    )

    def with_events(self, events: pl.DataFrame) -> Dataset:
        """Return a plain data set of other events, without the hidden ones."""
        return Dataset(self.name, self.users, self.items, events, self.item_table, self.user_table, self.behaviors, self.clock)
