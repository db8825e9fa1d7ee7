"""From raw columns to checked tables of events, items and users, still under outside ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import polars as pl

from llm4rec.core import Clock, DataError
from llm4rec.core.columns import BEHAVIOR, ITEM, TIME, USER, VALUE
from llm4rec.data.roles import assign, normal
from llm4rec.data.source import ROW, Source

TimeUnit = Literal["auto", "s", "ms", "us", "ns", "order"]

_PER_SECOND: Final[Mapping[str, int]] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
#: Year 5138 in seconds; 1973 in milliseconds.  What is larger was not counted in seconds.
_LATEST: Final = 10**11
_MOMENTS: Final = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y/%m/%d %H:%M:%S%.f", "%Y/%m/%d")
_ZONED: Final = ("%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M%z")


@dataclass(frozen=True)
class Tables:
    """A data set under outside ids, before any rule.

    Attributes:
        name: of the set.
        events: ``user``, ``item`` (String, or integers that stand for their decimal digits), ``time``
            (Int64), ``value`` (Float32), ``behavior`` (String or Enum), rows in the order of the source.
        items, users: ``item`` or ``user`` (String, no id twice) and attributes; None if there is none.
        clock: what ``time`` counts.
        has_values: does the source have values?  (``value`` is 1 otherwise.)
        notes: what the reader has to say, as JSON values.
    """

    name: str
    events: pl.DataFrame
    items: pl.DataFrame | None = None
    users: pl.DataFrame | None = None
    clock: Clock = "utc"
    has_values: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)


def read_events(source: Source, columns: Mapping[str, str], time_unit: TimeUnit) -> tuple[pl.DataFrame, Clock, bool]:
    """Return the events (see ``Tables``), the clock, and whether there are values.

    Raises:
        DataError: a column is missing, or a cell is empty or no number, with file and line.
    """
    roles = assign(source.columns, columns, (USER, ITEM, TIME, VALUE, BEHAVIOR), (USER, ITEM), where=str(source.path))
    schema = source.frame.collect_schema()
    # Ids that are whole numbers are read as such: a string takes several times the memory and time of a number.
    frame = _events(source, roles, schema, numbered=True) if _numbered(source, roles, schema) else None
    if frame is None or frame[USER].null_count() or frame[ITEM].null_count():
        frame = _events(source, roles, schema, numbered=False)
    if not len(frame):
        raise DataError("holds a header but no events", where=str(source.path))
    _check(source, frame, roles)
    frame = frame.drop(ROW)
    if TIME in roles:
        frame = frame.with_columns(_seconds(source, frame[TIME], schema[roles[TIME]], roles[TIME], time_unit))
    else:
        frame = frame.with_columns((pl.int_range(pl.len()).over(USER)).cast(pl.Int64).alias(TIME))
    if VALUE not in roles:
        frame = frame.with_columns(pl.lit(1.0, dtype=pl.Float32).alias(VALUE))
    if BEHAVIOR not in roles:
        frame = frame.with_columns(pl.lit("interaction", dtype=pl.Enum(["interaction"])).alias(BEHAVIOR))
    clock: Clock = "order" if TIME not in roles or time_unit == "order" else "utc"
    return frame.select(USER, ITEM, TIME, VALUE, BEHAVIOR), clock, VALUE in roles


def _numbered(source: Source, roles: Mapping[str, str], schema: pl.Schema) -> bool:
    """Do the first rows say that all ids are whole numbers?"""
    exprs = [_number(roles[role], schema[roles[role]], source) for role in (USER, ITEM)]
    if any(expr is None for expr in exprs):
        return False
    head = source.frame.head(100).filter(~source.blank).select(e.alias(str(i)) for i, e in enumerate(exprs) if e is not None)
    return not any(source.collect(head).null_count().row(0))


def _number(name: str, dtype: pl.DataType, source: Source) -> pl.Expr | None:
    """Return ids as Int64, null for one that is no whole number or not written as its decimal digits ("007", "+7")."""
    if dtype.is_integer():
        return pl.col(name).cast(pl.Int64, strict=False)
    if dtype != pl.String:
        return None
    bare = _plain(name, dtype, source)
    plain = bare.str.contains(r"^(0|[1-9][0-9]{0,17})$")
    return pl.when(plain).then(bare.cast(pl.Int64, strict=False))


def _events(source: Source, roles: Mapping[str, str], schema: pl.Schema, *, numbered: bool) -> pl.DataFrame:
    """Return the rows that are not blank with their roles' columns and ``ROW``; what cannot be read is null."""
    picked = []
    for role in (USER, ITEM):
        name = roles[role]
        number = _number(name, schema[name], source) if numbered else None
        picked.append((_identifier(name, schema[name], source) if number is None else number).alias(role))
    if BEHAVIOR in roles:
        picked.append(_plain(roles[BEHAVIOR], schema[roles[BEHAVIOR]], source).cast(pl.String).alias(BEHAVIOR))
    if VALUE in roles:
        column, dtype = pl.col(roles[VALUE]), schema[roles[VALUE]]
        if not (dtype == pl.String or dtype.is_numeric() or dtype == pl.Boolean):
            raise DataError(f"column {roles[VALUE]!r} holds {dtype}, not numbers", where=str(source.path))
        stars = column.str.strip_chars().cast(pl.Float32, strict=False) if dtype == pl.String else column.cast(pl.Float32)
        picked.append(stars.alias(VALUE))
    if TIME in roles:
        picked.append(_moment(source, roles[TIME], schema[roles[TIME]]).alias(TIME))
    frame = source.collect(source.frame.select(ROW, *picked, source.blank.alias("_blank")))
    return frame.filter(~pl.col("_blank")).drop("_blank") if frame["_blank"].any() else frame.drop("_blank")


def read_catalogue(source: Source, role: str, columns: Mapping[str, str], lists: Mapping[str, str]) -> pl.DataFrame:
    """Return a table of items or users: the id column first, then attributes under their own names.

    Text columns of whole or decimal numbers become numbers, and columns named in ``lists`` are
    split at the given mark (``genres`` and ``tags`` at ``|`` without being named).

    Raises:
        DataError: no id column, an empty id, an id twice (with both lines), a missing list column.
    """
    roles = assign(source.columns, {r: c for r, c in columns.items() if r == role and c in source.columns}, (role,), (role,),
                   where=str(source.path))  # fmt: skip
    identifier = roles[role]
    if identifier != role and role in source.columns:
        raise DataError(f"column {role!r} is not the id, {identifier!r} is", where=str(source.path), todo=f"rename {role!r}")
    frame = source.collect(source.frame.rename({identifier: role} if identifier != role else {}))
    attributes = [c for c in frame.columns if c not in (ROW, role)]
    frame = frame.filter(~source.blank)
    frame = frame.with_columns(_identifier(role, frame.schema[role], source))
    if not len(frame):
        raise DataError(f"holds a header but no {role}s", where=str(source.path))
    if empty := _first(frame, pl.col(role).is_null()):
        raise DataError(f"the {role} id is empty ({identifier!r})", where=source.at(empty[ROW]))
    if twice := _first(frame, ~pl.col(role).is_first_distinct()):
        where = frame.filter(pl.col(role) == twice[role])[ROW][0]
        line = source.line(int(where))
        raise DataError(
            f"{role} {twice[role]!r} stands there twice{f' (first in line {line})' if line else ''}",
            where=source.at(twice[ROW]),
            todo="keep one of them",
        )
    for name, mark in lists.items():
        if name not in attributes:
            raise DataError(f"no column {name!r} to split into a list", where=str(source.path))
        frame = _split(frame, name, mark)
    for name in attributes:
        if frame.schema[name] == pl.String and name not in lists:
            frame = _split(frame, name, "|") if normal(name) in ("genres", "tags") else _narrowed(frame, name)
    return frame.select(role, *attributes)


# -- cells ----------------------------------------------------------------------------------
def _plain(name: str, dtype: pl.DataType, source: Source) -> pl.Expr:
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise DataError(f"column {name!r} holds {dtype}, not single values", where=str(source.path))
    column = pl.col(name)
    return column.str.strip_chars() if dtype == pl.String and not source.exact else column


def _identifier(name: str, dtype: pl.DataType, source: Source) -> pl.Expr:
    """Ids are strings; whole numbers that a null has turned into floats lose their '.0', and nan is no id."""
    column = _plain(name, dtype, source)
    if dtype.is_float():
        column = pl.when(column.is_finite()).then(column)
        whole = column.cast(pl.Int64, strict=False)
        column = pl.when(whole.cast(pl.Float64) == column).then(whole.cast(pl.String)).otherwise(column.cast(pl.String))
    column = column.cast(pl.String)
    return pl.when(column != "").then(column).alias(name)


def _moment(source: Source, name: str, dtype: pl.DataType) -> pl.Expr:
    """Numbers stay numbers (Int64 if they can), ISO text and dates become microseconds."""
    column = pl.col(name)
    if dtype.is_integer():
        return column.cast(pl.Int64, strict=False)
    if dtype.is_float():
        return column.floor().cast(pl.Int64, strict=False)
    if dtype == pl.Date or dtype == pl.Datetime:
        return column.dt.epoch("us")
    if dtype != pl.String:
        raise DataError(f"column {name!r} holds {dtype}, not times", where=str(source.path))
    if _is_iso(source, name):
        bare = column.str.strip_chars().str.replace("T", " ", literal=True)
        zoned = bare.str.replace(r"\s*(Z| UTC)$", "+00:00").str.replace(r"([+-]\d\d)$", "${1}:00")
        # the two digits of a bare date's day look like a zone: only a text with a clock time has one
        zoned = pl.when(bare.str.contains(":", literal=True)).then(zoned)
        moments = [bare.str.to_datetime(f, strict=False, time_unit="us").dt.epoch("us") for f in _MOMENTS]
        moments += [zoned.str.to_datetime(f, strict=False, time_unit="us", time_zone="UTC").dt.epoch("us") for f in _ZONED]
        return pl.coalesce(moments)
    bare = column.str.strip_chars()
    return pl.coalesce(
        bare.cast(pl.Int64, strict=False), bare.cast(pl.Float64, strict=False).floor().cast(pl.Int64, strict=False)
    )


def _is_iso(source: Source, name: str) -> bool:
    first = source.collect(source.frame.select(pl.col(name).drop_nulls().head(1)))
    return bool(len(first)) and first[name].str.strip_chars().cast(pl.Float64, strict=False).is_null().all()


def _check(source: Source, frame: pl.DataFrame, roles: Mapping[str, str]) -> None:
    bad = pl.any_horizontal(
        [pl.col(role).is_null() for role in roles] + ([~pl.col(VALUE).is_finite()] if VALUE in roles else [])
    )
    row = _first(frame, bad)
    if row is None:
        return
    raw = source.collect(source.frame.filter(pl.col(ROW) == row[ROW]).select(list(roles.values()))).row(0, named=True)
    for role, name in roles.items():
        cell = raw[name]
        if row[role] is not None and not (role == VALUE and not np.isfinite(row[role])):
            continue
        where = source.at(row[ROW])
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            raise DataError(f"the {role} is empty (column {name!r})", where=where, todo="fill it in or drop the line")
        if role == TIME:
            raise DataError(f"{cell!r} is no time (column {name!r})", where=where, todo="use seconds since 1970 or ISO dates")
        raise DataError(
            f"the {role} is {cell!r}, not a finite number (column {name!r})", where=where, todo="mend or drop the line"
        )


def _first(frame: pl.DataFrame, condition: pl.Expr) -> dict[str, Any] | None:
    found = frame.filter(condition).head(1)
    return found.row(0, named=True) if len(found) else None


def _seconds(source: Source, times: pl.Series, dtype: pl.DataType, name: str, unit: TimeUnit) -> pl.Series:
    if unit == "order":
        return times
    if dtype == pl.Date or dtype == pl.Datetime or (dtype == pl.String and _is_iso(source, name)):
        return times // _PER_SECOND["us"]
    seconds = times // _PER_SECOND[unit] if unit in _PER_SECOND else times
    low, high = int(seconds.min()), int(seconds.max())  # type: ignore[arg-type]
    if unit == "auto" and low >= 19_000_101 and high <= 21_001_231 and _are_dates(times):
        what = f"the times (column {name!r}, such as {times[0]}) look like dates without dashes"
        raise DataError(what, where=str(source.path), todo='write them as 2020-01-31, or set time_unit = "s"')
    size = max(-low, high)
    if size >= _LATEST:
        guess = "ms" if size < _LATEST * 10**3 else "us" if size < _LATEST * 10**6 else "ns"
        asked = f"with time_unit = {unit!r} " if unit in _PER_SECOND else ""
        raise DataError(
            f"{asked}the times (column {name!r}, such as {times[0]}) cannot be seconds since 1970",
            where=str(source.path),
            todo=f'set time_unit = "{guess}"' if unit not in _PER_SECOND else "set the time_unit that fits",
        )
    return seconds


def _are_dates(numbers: pl.Series) -> bool:
    """Is each of these numbers of eight digits a day of the calendar, such as 20200131?"""
    return numbers.cast(pl.String).str.to_date("%Y%m%d", strict=False).null_count() == 0


def _split(frame: pl.DataFrame, name: str, mark: str) -> pl.DataFrame:
    parts = pl.col(name).cast(pl.String).str.split(mark).list.eval(pl.element().str.strip_chars())
    kept = parts.list.eval(pl.element().filter((pl.element() != "") & (pl.element() != "(no genres listed)")))
    return frame.with_columns(kept.alias(name))


def _narrowed(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    column = frame[name]
    if column.null_count() == len(column):
        return frame
    for dtype in (pl.Int64, pl.Float64):
        cast = column.cast(dtype, strict=False)
        if cast.null_count() == column.null_count() and (dtype == pl.Int64 or bool(cast.is_finite().all())):
            leading = column.str.contains(r"^0\d").any()  # zip codes and the like are no numbers
            return frame if leading else frame.with_columns(cast)
    return frame
