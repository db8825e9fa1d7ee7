"""Users: who they are by what they did, and what is kept of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from llm4rec.agents.engine import Engine
from llm4rec.app.web.cases import Cases
from llm4rec.app.web.drawing import Scale
from llm4rec.core.columns import ITEM, USER

PAGE, EVENTS = 30, 25
#: Values of an attribute that a profile shows, and attributes.
_VALUES, _ATTRIBUTES = 8, 3


def listed(engine: Engine, text: str, page: int) -> dict[str, Any]:
    """Return a page of users whose id holds a text, those with most events first."""
    ids, dataset = engine.users.known(), engine.dataset
    counts = dict(zip(dataset.users.ids, np.bincount(dataset.events[USER].to_numpy(), minlength=dataset.n_users), strict=True))
    wanted = text.strip().lower()
    found = [i for i in ids if wanted in i.lower()]
    found.sort(key=lambda i: (i.lower() != wanted, -int(counts.get(i, 0))))
    shown = found[page * PAGE : (page + 1) * PAGE]
    return {
        "text": text, "page": page, "per": PAGE, "total": len(found), "all": len(ids),
        "people": [(i, len(engine.users.history(i).items), int(counts.get(i, 0))) for i in shown],
    }  # fmt: skip


def profile(engine: Engine, cases: Cases, user: str, page: int) -> dict[str, Any]:
    """Return what is known of a user: events, tastes against the catalogue, the run's cases."""
    history, catalogue, dataset = engine.users.history(user), engine.catalogue, engine.dataset
    n = len(history.items)
    order = np.arange(n)[::-1][page * EVENTS : (page + 1) * EVENTS]
    events = [
        {
            "item": catalogue.items.ids[int(history.items[i])], "name": catalogue.names[int(history.items[i])],
            "time": int(history.times[i]), "value": float(history.values[i]),
            "behavior": dataset.behaviors[history.behaviors[i]],
        }
        for i in order
    ]  # fmt: skip
    before = len(dataset.histories.items[dataset.users.index(user)]) if user in dataset.users else 0
    values = history.values
    return {
        "user": user, "known": user in engine.users, "n": n, "distinct": len(np.unique(history.items)), "events": events,
        "first": int(history.times[0]) if n else None, "last": int(history.times[-1]) if n else None, "since": n - before,
        "mean": float(values.mean()) if n and len(np.unique(dataset.events["value"].to_numpy()[:5_000])) > 1 else None,
        "several": len(dataset.behaviors) > 1, "page": page, "per": EVENTS, "cases": cases.of_user(user),
        "tastes": tastes(engine, history.items),
    }  # fmt: skip


def tastes(engine: Engine, items: Any) -> list[dict[str, Any]]:
    """Return for some attributes the values that the items have most, with the share in the catalogue's own events."""
    catalogue = engine.catalogue
    if not len(items):
        return []
    mine, everybody = np.bincount(items, minlength=len(catalogue)), engine.popularity
    out = []
    for attribute in catalogue.grouping:
        cells = catalogue.cells(attribute)
        if cells["value"].n_unique() > len(catalogue) / 4:
            continue
        at = cells[ITEM].to_numpy()
        counted = cells.with_columns(mine=pl.Series(mine[at]), all=pl.Series(everybody[at])).group_by("value")
        sums = counted.agg(pl.col("mine").sum(), pl.col("all").sum()).sort(["mine", "value"], descending=[True, False])
        top = sums.head(_VALUES).filter(pl.col("mine") > 0)
        if not len(top):
            continue
        rows = [
            (value, own / len(items), whole / max(1, int(everybody.sum())))
            for value, own, whole in top.select("value", "mine", "all").iter_rows()
        ]
        out.append({"attribute": attribute, "rows": rows, "scale": Scale.of([s for row in rows for s in row[1:]])})
        if len(out) == _ATTRIBUTES:
            break
    return out
