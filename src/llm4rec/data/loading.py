"""The one way into a data set: ``DataConfig`` -> ``load`` -> ``Log``.

The rules act in this order: unknown items, minimum value, duplicates, core; each one's effect is
counted in ``Log.rules``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from llm4rec.core import Config, DataError, FilePath, Vocabulary
from llm4rec.core.columns import BEHAVIOR, EVENT_COLUMNS, ITEM, TIME, USER, VALUE
from llm4rec.core.order import dense
from llm4rec.data import made, rules
from llm4rec.data.formats import Format, opened
from llm4rec.data.log import BEFORE, Log
from llm4rec.data.roles import Role
from llm4rec.data.sets import named
from llm4rec.data.tables import Tables, TimeUnit, read_catalogue, read_events
from llm4rec.data.world import World, WorldConfig

log = logging.getLogger("llm4rec.data")


class DataConfig(Config):
    """The ``[data]`` table of an experiment: where the log is, and the rules it passes."""

    set: str | None = None
    """Name of a known set (``llm4rec data list``); or give ``path`` or ``make``."""
    make: WorldConfig | None = None
    """Parameters of a made world, whose right answers are known."""
    path: FilePath | None = None
    """File of events: RecBole atomic (.inter), CSV, TSV, Parquet, MovieLens ``::``; .gz allowed."""
    items: FilePath | None = None
    """File of the catalogue, in any of these formats."""
    users: FilePath | None = None
    """File of user attributes, likewise."""
    name: str | None = None
    """Name in reports; the set's or the file's unless given."""
    format: Format = "auto"
    """Format of the files; ``auto`` tells it from the name, else from the first line."""
    columns: Mapping[Role, str] = Field(default_factory=dict)
    """Column of the ``user``, ``item``, ``time``, ``value``, ``behavior`` where its name is not a
    common one; ``""`` says that there is none."""
    names: tuple[str, ...] | None = None
    """Column names of an events file without header line, in order."""
    lists: Mapping[str, str] = Field(default_factory=dict)
    """Catalogue columns that hold lists, and the mark between the parts: ``{categories = ";"}``."""
    encoding: str = "utf-8"
    """Encoding of the text files."""
    time_unit: TimeUnit = "auto"
    """What times count: ``s``, ``ms``, ``us``, ``ns`` since 1970 UTC; ``order`` if they only order
    events.  ``auto`` takes ISO dates and seconds, and refuses numbers that cannot be seconds."""
    unknown_items: Literal["add", "error"] = "add"
    """Items in the log that the catalogue does not know: add them without attributes, or refuse."""
    min_value: float | None = None
    """Events with a lower value are hidden: not trained on, not in histories, but known as seen."""
    duplicates: rules.Duplicates = "first"
    """Several events of one user and item: keep the first in time, the last, or all."""
    user_core: int = Field(default=0, ge=0)
    """Users with fewer events go, repeatedly with ``item_core`` until both hold."""
    item_core: int = Field(default=0, ge=0)
    """Items with fewer events go, from the catalogue too.  At 0 the whole catalogue stays."""

    @model_validator(mode="after")
    def _one_place(self) -> DataConfig:
        if sum(place is not None for place in (self.set, self.path, self.make)) != 1:
            raise ValueError("give either set, path or make")
        if self.path is None and (self.items is not None or self.users is not None or self.columns or self.names):
            raise ValueError("items, users, columns and names go with path alone")
        return self


def load(config: DataConfig) -> Log:
    """Read a data set and apply the rules.

    Raises:
        DataError: anything that is wrong with the files, in one line with file and line number.
        AssetError: the set has to be downloaded and cannot be.
    """
    if config.make is not None:
        return assemble(made.tables(World(config.make)), config)
    tables = named(config.set) if config.set is not None else _read(config)
    return assemble(tables, config)


def make(**parameters: Any) -> tuple[Log, World]:
    """Return a made world's data set and what is true of it; ``parameters`` are fields of ``WorldConfig``.

    The data set is that of ``DataConfig(make=parameters)``; with ``repeats`` every event counts.
    """
    config = WorldConfig.model_validate(parameters)
    world = World(config)
    rules = DataConfig(make=config, duplicates="keep" if config.repeats else "first")
    return assemble(made.tables(world), rules), world


def load_set(name: str, **options: Any) -> Log:
    """Return a named set; ``options`` are fields of ``DataConfig``."""
    return load(DataConfig.model_validate({"set": name, **options}))


def read(path: str | Path, items: str | Path | None = None, users: str | Path | None = None, **options: Any) -> Log:
    """Return the data set in one's own files; ``options`` are fields of ``DataConfig``."""
    return load(DataConfig.model_validate({"path": path, "items": items, "users": users, **options}))


def _read(config: DataConfig) -> Tables:
    assert config.path is not None
    how: dict[str, Any] = {"format": config.format, "encoding": config.encoding}
    columns: dict[str, str] = dict(config.columns)  # type: ignore[arg-type]  # roles are strings
    events, clock, has_values = read_events(opened(config.path, "events", names=config.names, **how), columns, config.time_unit)
    items, users = _read_items(config), None
    if config.users is not None:
        how["format"] = "auto" if config.users.suffix != config.path.suffix else config.format
        users = read_catalogue(opened(config.users, "users", names=None, **how), USER, columns, {})
    name = config.path.name.split(".")[0]
    return Tables(name, events, items, users, clock, has_values, {"source": config.path.name})


def _read_items(config: DataConfig) -> pl.DataFrame | None:
    """Return the catalogue's table as it is read from its own file, or None without one."""
    if config.items is None or config.path is None:
        return None
    form: Format = "auto" if config.items.suffix != config.path.suffix else config.format
    source = opened(config.items, "items", names=None, format=form, encoding=config.encoding)
    return read_catalogue(source, ITEM, dict(config.columns), config.lists)  # type: ignore[arg-type]  # roles are strings


def catalogue_order(config: DataConfig) -> pl.Series | None:
    """Return the items' outside ids in the order of the catalogue's source, or None without a catalogue."""
    items = named(config.set).items if config.set is not None else _read_items(config)
    return None if items is None else items[ITEM]


def assemble(tables: Tables, config: DataConfig) -> Log:
    """Apply the rules to checked tables and put everything under inside ids."""
    name = config.name or tables.name
    events = tables.events
    done: dict[str, Any] = {"events_read": len(events)}
    user_ids, user = _codes(events[USER])
    item_ids, item = _codes(events[ITEM])
    for ids, whose in ((user_ids, USER), (item_ids, ITEM)):
        if broken := int(ids.str.contains(r"[\r\n]").sum()):
            told = "%s: %d %s ids hold line breaks; if they should not, a quote stands alone in the file, and lines are lost"
            log.warning(told, name, broken, whose)
    catalogue = item_ids if tables.items is None else tables.items[ITEM]
    if tables.items is not None:
        unknown = item_ids.filter(~item_ids.is_in(catalogue.implode()))
        if len(unknown) and config.unknown_items == "error":
            raise DataError(
                f"{len(unknown)} items of the log are not in the catalogue, such as {', '.join(unknown.head(3).to_list())}",
                where=name,
                todo='mend the catalogue or set unknown_items = "add"',
            )
        if len(unknown):
            log.warning("%s: %d items of the log are not in the catalogue and have no attributes", name, len(unknown))
        done["unknown_items"] = len(unknown)
        catalogue = pl.concat([catalogue, unknown])

    time, value = events[TIME].to_numpy(), events[VALUE].to_numpy()
    high = np.ones(len(events), dtype=bool)
    if config.min_value is not None:
        if not tables.has_values:
            raise DataError("min_value needs a column of values, and there is none", where=name, todo="name it in columns")
        high = value >= config.min_value
        done["below_min_value"] = int((~high).sum())
    kept = high.copy()
    kept[high] = rules.one_per_pair(user[high], item[high], time[high], config.duplicates)
    done["duplicates"] = int(high.sum() - kept.sum())
    if config.user_core > 1 or config.item_core > 1:
        before = int(kept.sum())
        kept[kept], done["core_rounds"] = rules.core(user[kept], item[kept], config.user_core, config.item_core)
        done["outside_core"] = before - int(kept.sum())
    if not kept.any():
        raise DataError(f"the rules leave none of {len(events)} events", where=name, todo="loosen min_value or the cores")

    has_events = [np.bincount(code[kept], minlength=len(ids)) > 0 for code, ids in ((user, user_ids), (item, item_ids))]
    users = Vocabulary.of(user_ids.filter(has_events[0]), kind="user")
    items = Vocabulary.of(item_ids.filter(has_events[1]) if config.item_core > 0 else catalogue, kind="item")
    user_code, item_code = (v.encode(ids, missing=-1) for v, ids in ((users, user_ids), (items, item_ids)))
    behaviors = tuple(events[BEHAVIOR].unique().cast(pl.String).sort().to_list())
    if len(behaviors) > 127:
        raise DataError(f"{len(behaviors)} kinds of events, more than 127", where=name, todo='set columns = {behavior = ""}')
    coded = events.select(
        pl.Series(USER, user_code[user]),
        pl.Series(ITEM, item_code[item]),
        TIME,
        VALUE,
        pl.col(BEHAVIOR).cast(pl.Enum(behaviors)).to_physical().cast(pl.Int8),
    ).select(EVENT_COLUMNS)
    low = np.flatnonzero(~high)
    low = low[(user_code[user[low]] >= 0) & (item_code[item[low]] >= 0)]
    in_front = np.cumsum(kept)[low]  # kept events in front of each hidden one
    done |= {"users": len(users), "items": len(items), "events": int(kept.sum()), "hidden": len(low)}
    return Log(
        name,
        users,
        items,
        coded if kept.all() else coded.filter(kept),
        _aligned(tables.items, items, ITEM),
        _aligned(tables.users, users, USER),
        behaviors,
        tables.clock,
        {**tables.notes, "data": config.model_dump(mode="json", exclude={"path", "items", "users"}), **done},
        coded.select(USER, ITEM, TIME)[low].with_columns(pl.Series(BEFORE, in_front, dtype=pl.Int64)),
    )


def _codes(ids: pl.Series) -> tuple[pl.Series, np.ndarray[Any, np.dtype[np.int32]]]:
    """Return the distinct ids as strings and, for each id of the column, its place among them (int32)."""
    if ids.dtype.is_integer():
        numbers, place = dense(ids.to_numpy())
        return pl.Series("id", numbers).cast(pl.String), place
    distinct = ids.unique(maintain_order=True)
    places = pl.DataFrame({"id": distinct, "at": np.arange(len(distinct), dtype=np.int32)})
    return distinct, ids.to_frame("id").join(places, on="id", how="left", maintain_order="left")["at"].to_numpy()


def _aligned(table: pl.DataFrame | None, vocabulary: Vocabulary, column: str) -> pl.DataFrame:
    """Return the table in vocabulary order under inside ids; who is not in it has nulls."""
    ids = pl.DataFrame({column: pl.Series(vocabulary.ids, dtype=pl.String)})
    if table is not None:
        ids = ids.join(table, on=column, how="left", maintain_order="left")
    return ids.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias(column))
