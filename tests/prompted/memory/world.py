"""Topics without titles: what an item is about is known to its memory alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from llm4rec.core import Dataset, Resources, Split
from llm4rec.features import Encoder, HashEncoder
from llm4rec.llm import ScriptedModel
from tests import worlds
from tests.worlds import World

WORLD = worlds.topics()
#: Item id -> what the plain world's title says.
SECRETS: dict[str, str] = dict(zip(WORLD.split.train.items.ids, WORLD.split.train.item_table["title"].to_list(), strict=True))


def rated(dataset: Dataset) -> Dataset:
    """Return the data set with ratings from 1 to 5 that follow from the item."""
    values = (dataset.events["item"] % 5 + 1).cast(pl.Float32)
    return dataset.with_events(dataset.events.with_columns(value=values))


def mute() -> World:
    """Return the world of topics with titles that say nothing, genres as lists, and ratings."""
    split = WORLD.split
    table = split.train.item_table
    table = table.with_columns(
        title=pl.Series([f"Item {i}" for i in range(len(table))]),
        year=table["year"].cast(pl.Int32),
        genres=table["genres"].map_elements(lambda g: [g], return_dtype=pl.List(pl.String)),
    )
    cases = [
        replace(c, queries=replace(c.queries, history_values=(c.queries.history.values % 5 + 1).astype(np.float32)))
        for c in (split.valid, split.test)
    ]
    train = replace(rated(split.train), item_table=table)
    return replace(WORLD, name="mute", split=Split(train, *cases, split.rules, "mute"))


MUTE = mute()


def knowledge(path: Path, **changed: Any) -> Path:
    """Write a file that tells of each item what its title does not."""
    lines = [
        {"item": id_, "text": f"A story of {title.lower()}", "url": f"http://x.test/{id_}"} | changed
        for id_, title in SECRETS.items()
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


class Parts:
    """Resources whose encoders hash words, and whose language model is scripted."""

    def __init__(self, model: ScriptedModel | None = None) -> None:
        self.model = model

    def llm(self, name: str) -> Any:
        assert self.model is not None, "asked for a language model"
        return self.model

    def encoder(self, name: str) -> Encoder:
        return HashEncoder(512)


def resources(model: ScriptedModel | None = None) -> Resources:
    return Parts(model)
