"""Item text: one line for each item, written from the columns of the item table by a template.

Item text is data.  Nothing here, and nothing that reads it, takes it for an instruction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from llm4rec.core import SpecError, did_you_mean
from llm4rec.core.columns import ITEM

#: Escaped brace, field, or a brace that is neither.
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
#: A label at the end of a literal, such as ``Genres: ``: it goes when its field is missing.
_LABEL = re.compile(r"[^\W\d_][\w ]*:\s*$")
_BRACKETS = {"(": ")", "[": "]"}


@dataclass(frozen=True)
class _Field:
    """A column with what stands directly around it (its label)."""

    column: str
    label: str


@dataclass(frozen=True)
class _Group:
    """Parts with the literal before each; in brackets or, at the outermost level, without."""

    parts: tuple[tuple[str, _Field | _Group], ...]
    head: str = ""
    tail: str = ""


@dataclass(frozen=True)
class ItemText:
    """A template such as ``"{title} ({year}); {genres}"`` over any columns of an item table.

    A value that is missing takes with it its label (``Genres: ``), the brackets that hold
    nothing else, and the separator before it: without a year the template above gives
    ``"Alien; Horror"``, without genres ``"Alien (1979)"``.  Values are never edited, apart from
    runs of white space and control characters, which become one space.  Lists are joined with ``", "``; whole floats lose
    their ``.0``; nan, infinities, blank strings and empty lists count as missing.  ``{{`` and ``}}``
    stand for braces.  An item without any value gets the empty string.

    Attributes:
        template: as above; at least one field.
        max_chars: longer texts are cut to this many characters.

    Raises:
        SpecError: for a template that cannot be read.
    """

    template: str
    max_chars: int = 1000

    def __post_init__(self) -> None:
        if self.max_chars < 1:
            raise SpecError(f"must be at least 1, not {self.max_chars}", where="max_chars")
        if not self.columns:
            raise self._wrong("it names no column", "write for example '{title}'")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that the template names, each once, in order."""
        return tuple(dict.fromkeys(_columns(self._tree)))

    def render(self, table: pl.DataFrame) -> list[str]:
        """Return the text of each row of ``table``, ``""`` for a row without any value.

        Raises:
            SpecError: for a column that the table lacks or that holds no text, number or list.
        """
        known = [c for c in table.columns if c != ITEM] if ITEM not in self.columns else table.columns
        for column in self.columns:
            if column not in table.columns:
                near = did_you_mean(column, known)
                listed = "" if near.startswith("known") else f" (columns: {', '.join(sorted(known))})"
                raise self._wrong(f"the item table has no column {column!r}", near + listed)
        values = table.select(_value(table.schema[c], c, self._wrong).alias(c) for c in self.columns)
        text = _text(self._tree).fill_null("").str.slice(0, self.max_chars).str.strip_chars().alias("text")
        return values.select(text)["text"].to_list()

    def _wrong(self, what: str, todo: str) -> SpecError:
        return SpecError(what, where=f"template {self.template!r}", todo=todo)

    @cached_property
    def _tree(self) -> _Group:
        """The template as nested groups."""
        tokens = list(self._tokens())
        return _parse(tokens, 0, len(tokens), _pairs(tokens))

    def _tokens(self) -> Iterator[str | _Field]:
        """Yield literals and fields in turn; each bracket of a literal alone."""
        at, literal = 0, ""
        for match in _TOKEN.finditer(self.template):
            literal += self.template[at : match.start()]
            at = match.end()
            if match[0] in ("{{", "}}"):
                literal += match[0][0]
            elif match[1] is None:
                raise self._wrong(f"a single {match[0]!r} at position {match.start()}", f"write {match[0] * 2!r} for a brace")
            else:
                label = _LABEL.search(literal)
                yield from _literals(literal[: label.start()] if label else literal)
                yield _Field(match[1].strip(), label[0] if label else "")
                literal = ""
        yield from _literals(literal + self.template[at:])


def without_text(texts: Sequence[str]) -> int:
    """Return how many of the texts are empty."""
    return sum(not text for text in texts)


# -- reading a template -------------------------------------------------------------------
def _literals(literal: str) -> Iterator[str]:
    """Yield the pieces of a literal, with each bracket alone."""
    yield from (piece for piece in re.split(r"([()\[\]])", literal) if piece)


def _pairs(tokens: Sequence[str | _Field]) -> dict[int, int]:
    """Return where each opening bracket closes; brackets without a partner are plain text."""
    pairs: dict[int, int] = {}
    opened: list[int] = []
    for at, token in enumerate(tokens):
        if token in _BRACKETS:
            opened.append(at)
        elif opened and token == _BRACKETS[str(tokens[opened[-1]])]:
            pairs[opened.pop()] = at
    return pairs


def _parse(tokens: Sequence[str | _Field], at: int, stop: int, pairs: dict[int, int]) -> _Group:
    """Return the tokens from ``at`` up to ``stop`` as a group."""
    parts: list[tuple[str, _Field | _Group]] = []
    literal = ""
    while at < stop:
        token = tokens[at]
        if isinstance(token, _Field):
            parts.append((literal, token))
            literal = ""
        elif at in pairs and any(isinstance(inner, _Field) for inner in tokens[at : pairs[at]]):
            inside = _parse(tokens, at + 1, pairs[at], pairs)
            parts.append((literal, _Group(inside.parts, token + inside.head, inside.tail + _BRACKETS[token])))
            literal, at = "", pairs[at]
        else:
            literal += token
        at += 1
    if not parts:
        return _Group((), head=literal)
    head, first = parts[0]
    return _Group((("", first), *parts[1:]), head=head, tail=literal)


def _columns(part: _Field | _Group) -> Iterator[str]:
    if isinstance(part, _Field):
        yield part.column
    else:
        for _, inner in part.parts:
            yield from _columns(inner)


# -- writing by it ------------------------------------------------------------------------
def _value(kind: pl.DataType, column: str, wrong: Callable[[str, str], SpecError]) -> pl.Expr:
    """Return a column as trimmed strings, null where there is nothing to say."""
    value = pl.col(column)
    if isinstance(kind, (pl.List, pl.Array)):
        inner = kind.inner
        if isinstance(inner, (pl.List, pl.Array, pl.Struct)):
            raise wrong(f"column {column!r} holds {kind}", "use a column of text, numbers or lists of them")
        listed = value if isinstance(kind, pl.List) else value.arr.to_list()
        value = listed.list.eval(_scalar(inner, pl.element()).drop_nulls()).list.join(", ")
        return pl.when(value != "").then(value)
    if isinstance(kind, (pl.Struct, pl.Object, pl.Binary)):
        raise wrong(f"column {column!r} holds {kind}", "use a column of text, numbers or lists of them")
    return _scalar(kind, value)


def _scalar(kind: object, value: pl.Expr) -> pl.Expr:
    if isinstance(kind, (pl.Float32, pl.Float64)):
        whole = value.is_finite() & (value == value.floor()) & (value.abs() < 2**53)
        number = pl.when(whole).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(value.cast(pl.String))
        return pl.when(value.is_finite()).then(number)
    text = value.cast(pl.String).str.replace_all(r"[\s\p{Cc}]+", " ").str.strip_chars()
    return pl.when(text != "").then(text)


def _text(part: _Field | _Group) -> pl.Expr:
    """Return the text of a part, null where all its fields are missing."""
    if isinstance(part, _Field):
        return pl.lit(part.label) + pl.col(part.column)
    written: list[pl.Expr] = []
    before: list[pl.Expr] = []
    for separator, inner in part.parts:
        text = _text(inner)
        if before:
            text = pl.when(pl.any_horizontal(before)).then(pl.lit(separator) + text).otherwise(text)
        written.append(text)
        before.append(pl.any_horizontal([pl.col(c).is_not_null() for c in _columns(inner)]))
    whole = pl.concat_str([pl.lit(part.head), *written, pl.lit(part.tail)], ignore_nulls=True)
    return pl.when(pl.any_horizontal(before)).then(whole)
