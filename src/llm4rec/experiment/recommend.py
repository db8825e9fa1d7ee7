"""Recommendations from a finished run, by the objects that it measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from llm4rec.core import DataError, Dataset, Queries, Ragged, RunError
from llm4rec.core.columns import ITEM, USER
from llm4rec.data import Log
from llm4rec.experiment.opened import OpenRun
from llm4rec.pipeline import Pipeline


def query_of(dataset: Dataset, user: str | None, history: Sequence[str] | None) -> Queries:
    """Return the query of a known user now, or of a history of items."""
    if (user is None) == (history is None):
        raise DataError("give either a user or a history of items", todo="--user ID or --items ID,ID,...")
    if history is not None:
        return Queries.of(Ragged.of([dataset.items.encode(list(history))]), times=np.array([2**62]))
    at = dataset.users.index(str(user))
    events, rows = dataset.histories, np.array([at])
    where = events.items.positions(rows)
    now = np.array([events.times[where].max(initial=0) + 1])
    return Queries(
        np.array([at], np.int32),
        events.items.take(rows),
        now,
        history_times=events.times[where],
        history_behaviors=events.behaviors[where],
        history_values=events.values[where],
    )


def seen(dataset: Log, queries: Queries) -> Ragged:
    """Return all that the query's user is known to have touched: the history, and what a rule hid from it."""
    user = int(queries.users[0])
    hidden = dataset.hidden.filter(pl.col(USER) == user)[ITEM].to_numpy()
    return Ragged.of([np.union1d(queries.history[0], hidden)])


def recommend(
    run: Path,
    *,
    system: str | None = None,
    user: str | None = None,
    history: Sequence[str] | None = None,
    k: int = 10,
    explain: bool = False,
) -> dict[str, Any]:
    """Answer one query with a system of a finished run.

    Returns a mapping with ``system``, ``label``, ``history_length``, ``recent`` (titles, most recent
    first), ``list`` of (item, title, score) and ``why`` (item -> sentence, empty unless asked for).
    """
    opened = OpenRun(run)
    dataset, spec = opened.dataset, opened.spec
    try:
        system = opened.best if system is None else system
        if k > dataset.n_items:
            raise DataError(f"k is {k}, but the catalogue has {dataset.n_items} items", todo="ask for fewer")
        queries = query_of(dataset, user, history)
        component = opened.system(system)
        lists = component.retrieve(queries, k, exclude=seen(dataset, queries))
        why: dict[str, str] = {}
        if explain:
            if not isinstance(component, Pipeline) or component.explainer is None:
                having = [n for n, s in spec.systems.items() if s.explain is not None]
                raise RunError(
                    f"{system} has no explainer", where=str(run), todo=f"systems that have: {', '.join(having) or 'none'}"
                )
            why = {dataset.items.ids[e.item]: e.sentence for e in component.explain(queries, lists)[0]}
    finally:
        opened.close()
    titles = dataset.item_table["title"].to_list() if "title" in dataset.item_table.columns else list(dataset.items.ids)
    held = lists.items[0][lists.items[0] >= 0].tolist()
    recent = queries.history[0][::-1][:3].tolist()
    return {
        "system": system,
        "label": opened.summary[system]["label"],
        "history_length": len(queries.history[0]),
        "recent": [titles[i] or dataset.items.ids[i] for i in recent],
        "list": [
            (dataset.items.ids[i], titles[i] or dataset.items.ids[i], float(s))
            for i, s in zip(held, lists.scores[0], strict=False)
        ],
        "why": why,
    }
