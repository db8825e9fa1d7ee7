"""The named sets: where each comes from, its terms, and how its files become tables."""

from __future__ import annotations

from llm4rec import assets
from llm4rec.core import DataError
from llm4rec.core.columns import ITEM
from llm4rec.data.formats import opened
from llm4rec.data.tables import Tables, read_catalogue, read_events


def named(name: str) -> Tables:
    if name != "ml-100k":
        raise DataError(f"unknown data set {name!r}")
    folder = assets.fetch("ml-100k")
    how = {"format": "auto", "encoding": "utf-8", "names": None}
    events, clock, _ = read_events(opened(folder / "ml-100k.inter", "events", **how), {}, "auto")
    items = read_catalogue(opened(folder / "ml-100k.item", "items", **how), ITEM, {}, {})
    users = read_catalogue(opened(folder / "ml-100k.user", "users", **how), "user", {}, {})
    items = items.rename({"movie_title": "title", "release_year": "year", "class": "genres"})
    return Tables("ml-100k", events, items, users, clock, True)
