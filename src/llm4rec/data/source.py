"""One table file: opened, decoded, and able to say on which line a row stands.

Text is checked before polars sees it, so that a wrong encoding, a binary file, a folder or a
missing file each give one clear line.  Plain UTF-8 is scanned in place; compressed files and
other encodings are turned into UTF-8 in memory.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import polars as pl

from llm4rec.core import DataError, did_you_mean

T = TypeVar("T")
_BLOCK = 1 << 22

#: Name of the column of row numbers; no text file has it, as it holds a NUL.
ROW = "\0row"
#: The blank lines of a text.
BLANK = pl.all_horizontal(pl.all().exclude(ROW).is_null())
_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)


@dataclass(frozen=True)
class Source:
    """A table on its way in.

    Attributes:
        path: of the file, for messages.
        frame: rows as they stand in the file; column ``ROW`` numbers them from 0.
        line: row number -> line of the file, or None where the format has no lines.
        blank: is the row a blank line?  In a text this looks at every column, which also makes
            polars check every line's number of fields: it does not where it skips columns.
        exact: do strings stand as they were meant?  In a text, blanks around a cell are none of it.
    """

    path: Path
    frame: pl.LazyFrame
    line: Callable[[int], int | None]
    blank: pl.Expr
    exact: bool = field(default=False, kw_only=True)

    @property
    def columns(self) -> list[str]:
        return [c for c in self.frame.collect_schema().names() if c != ROW]

    def at(self, row: int | None) -> str:
        """Return the file, and the line if it is known, for ``where=`` of an error."""
        line = None if row is None else self.line(row)
        return str(self.path) if line is None else f"{self.path}, line {line}"

    def collect(self, frame: pl.LazyFrame) -> pl.DataFrame:
        """Run a query on this file; what polars cannot read becomes a ``DataError``."""
        return guarded(self.path, lambda: frame.collect(engine="streaming"))


def guarded(path: Path, work: Callable[[], T]) -> T:
    """Return what ``work`` returns; what polars throws becomes one line about the file."""
    try:
        return work()
    except _UNREADABLE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot be read ({reason[:200]})", where=str(path)) from None


def existing(path: Path) -> Path:
    """Return the path of an existing file, or raise ``DataError`` with the nearest file name."""
    try:
        if path.is_dir():
            names = sorted(p.name for p in path.iterdir() if p.is_file())[:6]
            raise DataError(
                "is a folder, not a file", where=str(path), todo=f"name one file in it: {', '.join(names) or 'none'}"
            )
        if path.is_file():
            return path
        near = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be opened ({error})", where=str(path)) from None
    if near is None:
        raise DataError("no such file, and no such folder", where=str(path))
    raise DataError("no such file", where=str(path), todo=did_you_mean(path.name, near))


def text(path: Path, encoding: str) -> Path | bytes:
    """Return a UTF-8 text: the path itself if the file is one, else its content in memory.

    Raises:
        DataError: empty, not in the encoding (with the line), not text at all, or not gzip.
    """
    try:
        codec = codecs.lookup(encoding)
    except LookupError:
        raise DataError(f"unknown encoding {encoding!r}", todo='try "utf-8" or "latin-1"') from None
    packed = path.suffix.lower() == ".gz"
    in_memory = packed or codec.name != "utf-8"
    decoder = codec.incrementaldecoder()
    parts: list[bytes] = []
    lines = size = 0
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            while True:
                block = file.read(_BLOCK)
                try:
                    decoded = decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    line = lines + error.object[: error.start].count(b"\n") + 1
                    raise DataError(
                        f"is not {codec.name} text (byte 0x{error.object[error.start]:02x})",
                        where=f"{path}, line {line}",
                        todo='save it as UTF-8 or set encoding, such as encoding = "latin-1"',
                    ) from None
                if "\0" in decoded:
                    raise DataError(
                        "is not a text file (it holds NUL bytes)", where=str(path), todo="set format if it is a table"
                    )
                if in_memory:
                    parts.append(decoded.encode())
                lines += block.count(b"\n")
                size += len(decoded)
                if not block:
                    break
    except (OSError, EOFError, zlib.error) as error:
        kind = "gzip file" if packed else "file"
        raise DataError(f"cannot be read as a {kind} ({error})", where=str(path)) from None
    if not size:
        raise DataError("is empty", where=str(path))
    return b"".join(parts) if in_memory else path


def lines(content: Path | bytes) -> io.TextIOBase:
    """Open the text for reading line by line (on the way to an error message)."""
    return open(content, encoding="utf-8-sig", newline="") if isinstance(content, Path) else io.TextIOWrapper(
        io.BytesIO(content), encoding="utf-8-sig", newline=""
    )  # fmt: skip


def records(content: Path | bytes, separator: str, *, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its first line, fields) of each record; blank lines are records without fields."""
    with lines(content) as stream:
        if not quoted:
            for number, line in enumerate(stream, 1):
                bare = line.rstrip("\r\n")
                yield number, bare.split(separator) if bare else []
            return
        reader = csv.reader(stream, delimiter=separator)
        start = 1
        try:
            for fields in reader:
                yield start, fields
                start = reader.line_num + 1
        except csv.Error:
            return


def delimited(path: Path, content: Path | bytes, separator: str, *, quoted: bool, names: tuple[str, ...] | None) -> Source:
    """Scan a delimited text; every column is a String, empty fields are null.

    Raises:
        DataError: no header, another separator, a column named twice, names for more or fewer columns than
            there are, a line with more fields than the header has, or a stray quote.
    """

    def scan() -> pl.LazyFrame:
        return pl.scan_csv(
            content,
            separator=separator,
            quote_char='"' if quoted else None,
            has_header=names is None,
            infer_schema=False,
        )

    def line(row: int) -> int | None:
        header = 0 if names else 1
        found = 0
        for number, fields in records(content, separator, quoted=quoted):
            if not found and not any(fields):
                continue  # polars skips blank lines at the start
            if found == row + header:
                return number
            found += 1
        return None

    def ragged() -> DataError | None:
        width = len(names) if names else None
        for number, fields in records(content, separator, quoted=quoted):
            if width is None and any(fields):
                width = len(fields)
            elif width is not None and len(fields) > width:
                return DataError(f"has {len(fields)} fields, not {width}", where=f"{path}, line {number}", todo="mend the line")
        return None

    def opened() -> tuple[pl.LazyFrame, list[str]]:
        frame = scan()
        return frame, frame.collect_schema().names()

    def stray() -> DataError | None:
        found = _stray_quote(content) if quoted else None
        if found is None:
            return None
        todo = "within a cell write it twice, and the cell in quotes, or leave it out"
        return DataError('a quote (") stands alone', where=f"{path}, line {found}", todo=todo)

    frame, columns = guarded(path, opened)
    if names is not None and len(columns) != len(names):
        raise DataError(
            f"has {len(columns)} columns for {len(names)} names", where=str(path), todo="name every column in order"
        )
    if names is None:
        _check_header(path, columns, separator)
    bare = frame.rename(dict(zip(columns, map(str.strip, names or columns), strict=True)))
    return _Delimited(path, bare.with_row_index(ROW), line, BLANK, lambda: ragged() or stray())


@dataclass(frozen=True)
class _Delimited(Source):
    """A delimited text, which can look for the line that polars stumbled over."""

    fault: Callable[[], DataError | None]

    def collect(self, frame: pl.LazyFrame) -> pl.DataFrame:
        try:
            return super().collect(frame)
        except DataError as error:
            raise (self.fault() or error) from None


def _stray_quote(content: Path | bytes) -> int | None:
    """Return the first line with a quote that has no other: of a text that cannot be read, most likely the reason."""
    with lines(content) as stream:
        return next((number for number, line in enumerate(stream, 1) if line.count('"') % 2), None)


def _check_header(path: Path, columns: list[str], separator: str) -> None:
    bare = [c.strip() for c in columns]
    if any("\r" in c for c in bare):
        raise DataError("its lines end in CR alone", where=str(path), todo="save it with the usual line ends")
    other = next((mark for mark in "\t,;|" if len(bare) == 1 and mark != separator and mark in bare[0]), None)
    if other is not None:
        way = {"\t": 'set format = "tsv"', ",": 'set format = "csv"'}.get(other, "save it with commas or tabs")
        raise DataError(f"its columns are parted by {other!r}, not {separator!r}", where=f"{path}, line 1", todo=way)
    for column in bare:
        original = column.rsplit("_duplicated_", 1)[0]
        if bare.count(column) > 1 or (original != column and original in bare):
            raise DataError(f"two columns are named {original!r}", where=f"{path}, line 1")


def typed(path: Path, frame: pl.LazyFrame) -> Source:
    """Wrap a table that has types of its own (Parquet)."""
    if ROW in frame.collect_schema():
        raise DataError(f"has a column named {ROW!r}", where=str(path))
    return Source(path, frame.with_row_index(ROW), lambda row: None, pl.lit(False), exact=True)
