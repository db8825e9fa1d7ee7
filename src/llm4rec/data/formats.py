"""The file formats: each turns a path into a ``Source`` of named columns.

``atomic``: RecBole's ``.inter``, ``.item`` and ``.user``: tabs, a header of ``name:type``.
``csv``, ``tsv``: a header line and quotes where needed.  ``movielens``: ``::`` between fields, no
header.  ``parquet``.  Text files may be packed with gzip (``.gz``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import polars as pl

from llm4rec.core import DataError
from llm4rec.data.roles import normal
from llm4rec.data.source import BLANK, ROW, Source, delimited, existing, guarded, lines, text, typed

Format = Literal["auto", "atomic", "csv", "tsv", "movielens", "parquet"]
Table = Literal["events", "items", "users"]

_SUFFIXES: Final = {
    ".inter": "atomic", ".item": "atomic", ".user": "atomic", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
#: Columns of MovieLens' and MovieTweetings' files, by table and number of fields.
_MOVIELENS: Final = {
    "events": {3: "user item rating", 4: "user item rating timestamp"},
    "items": {2: "item title", 3: "item title genres"},
    "users": {2: "user twitter_id", 5: "user gender age occupation zip_code"},
}
#: Words in the name of a ``token_seq`` column that holds prose, not a list.
_PROSE: Final = ("title", "name", "description", "text", "review", "summary", "abstract", "body")


def opened(path: Path, table: Table, *, format: Format, encoding: str, names: tuple[str, ...] | None) -> Source:
    """Open a table file; ``names`` are the columns of a file without a header line.

    Raises:
        DataError: missing, empty, unreadable, or of a format that cannot be told.
    """
    path = existing(path)
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    kind = _SUFFIXES.get(plain.suffix.lower(), "") if format == "auto" else format
    if kind == "parquet":
        return guarded(path, lambda: _parquet(path))
    content = text(path, encoding)
    if not kind:
        kind = _guess(path, content)
    if kind == "movielens":
        return _movielens(path, content, table, names)
    if kind == "atomic":
        return _atomic(path, content)
    return delimited(path, content, "," if kind == "csv" else "\t", quoted=True, names=names)


def _guess(path: Path, content: Path | bytes) -> str:
    with lines(content) as stream:
        first = stream.readline(100_000)
    for mark, kind in (("::", "movielens"), (":token\t", "atomic"), ("\t", "tsv"), (",", "csv")):
        if mark in first:
            return kind
    raise DataError("cannot tell the format from its name or first line", where=str(path), todo='set format = "csv", say')


def _parquet(path: Path) -> Source:
    frame = pl.scan_parquet(path)
    if not frame.collect_schema().names():
        raise DataError("has no columns", where=str(path))
    return typed(path, frame)


def _movielens(path: Path, content: Path | bytes, table: Table, names: tuple[str, ...] | None) -> Source:
    with lines(content) as stream:
        width = stream.readline(100_000).rstrip("\r\n").count("::") + 1
    if names is None:
        known = _MOVIELENS[table]
        if width not in known:
            widths = " or ".join(map(str, known))
            raise DataError(f"has {width} fields, not {widths}", where=f"{path}, line 1", todo="name them: names = [...]")
        names = tuple(known[width].split())
    elif len(names) != width:
        raise DataError(f"has {width} fields for {len(names)} names", where=f"{path}, line 1")
    raw = delimited(path, content, "\x01", quoted=False, names=("line",))
    fields = pl.col("line").str.split("::")
    bad = raw.collect(raw.frame.filter(pl.col("line").is_not_null() & (fields.list.len() != width)).select(ROW).head(1))
    if len(bad):
        raise DataError(f"does not have {width} fields between '::'", where=raw.at(int(bad[ROW][0])), todo="mend the line")
    columns = [fields.list.get(i, null_on_oob=True).replace("", None).alias(name) for i, name in enumerate(names)]
    return Source(path, raw.frame.select(ROW, *columns), raw.line, BLANK)


def _atomic(path: Path, content: Path | bytes) -> Source:
    raw = delimited(path, content, "\t", quoted=False, names=None)
    columns = []
    for header in raw.columns:
        name, colon, kind = header.rpartition(":")
        if not colon or not name:
            raise DataError(f"column {header!r} has no type", where=raw.at(None) + ", line 1", todo=f"write '{header}:token'")
        column = pl.col(header)
        if kind == "token_seq" and not any(word in normal(name) for word in _PROSE):
            column = column.str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
        elif kind == "float_seq":
            parts = column.str.split(" ").list.eval(pl.element().filter(pl.element() != ""))
            _refuse(raw, parts.cast(pl.List(pl.Float32), strict=False).list.eval(pl.element().is_null()).list.any(), header)
            column = parts.cast(pl.List(pl.Float32), strict=False)
        elif kind == "float" and path.suffix != ".inter":
            number = column.str.strip_chars().cast(pl.Float64, strict=False)
            _refuse(raw, column.is_not_null() & number.is_null(), header)
            column = number
        elif kind not in ("token", "token_seq", "float"):
            raise DataError(
                f"column {name!r} has the unknown type {kind!r}",
                where=f"{path}, line 1",
                todo="known: token, token_seq, float, float_seq",
            )
        columns.append(column.alias(name))
    return type(raw)(**{**vars(raw), "frame": raw.frame.select(ROW, *columns)})


def _refuse(source: Source, bad: pl.Expr, column: str) -> None:
    found = source.collect(source.frame.filter(bad).select(ROW, pl.col(column)).head(1))
    if len(found):
        raise DataError(f"{found[column][0]!r} is no number ({column})", where=source.at(int(found[ROW][0])))
