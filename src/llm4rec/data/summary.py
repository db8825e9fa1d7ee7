"""What a data set looks like, for a screen or a report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from llm4rec.core import Dataset
from llm4rec.core.columns import ITEM, VALUE
from llm4rec.data.log import Log


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return figures on a data set as JSON values.

    Among them: ``density`` (share of the user-item grid with an event), ``history`` (quantiles of
    the events of a user with any), ``untouched_items``, ``tied_last`` (share of users with at least
    two events whose last two have one time), ``columns`` (of the item table: type and share filled).
    """
    histories = dataset.histories
    lengths = histories.items.lengths
    last = histories.items.offsets[1:][lengths >= 2] - 1
    tied = histories.times[last] == histories.times[last - 1]
    active = lengths[lengths > 0]
    span = (
        [_date(int(t)) for t in (histories.times.min(), histories.times.max())]
        if dataset.clock == "utc" and len(histories.times)
        else None
    )
    values = dataset.events[VALUE]
    return {
        "name": dataset.name,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "events": len(dataset.events),
        "hidden_events": len(dataset.hidden) if isinstance(dataset, Log) else 0,
        "untouched_items": int((dataset.item_counts == 0).sum()),
        "density": len(dataset.events) / max(1, dataset.n_users * dataset.n_items),
        "clock": dataset.clock,
        "time_span": span,
        "values": [float(values.min()), float(values.max())] if len(values) else None,  # type: ignore[arg-type]
        "behaviors": list(dataset.behaviors),
        "history": {
            name: float(np.quantile(active, q)) if len(active) else 0.0
            for name, q in (("min", 0), ("q25", 0.25), ("median", 0.5), ("q75", 0.75), ("max", 1))
        },
        "tied_last": float(tied.mean()) if len(tied) else 0.0,
        "columns": [
            {"column": c, "type": str(dataset.item_table.schema[c]), "filled": _filled(dataset.item_table[c])}
            for c in dataset.item_table.columns
            if c != ITEM
        ],
    }


def _date(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return str(seconds)


def _filled(column: pl.Series) -> float:
    if not len(column):
        return 0.0
    empty = column.is_null() | (column.list.len() == 0).fill_null(True) if column.dtype == pl.List else column.is_null()
    return 1.0 - float(empty.sum()) / len(column)
