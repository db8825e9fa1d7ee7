"""The catalogue as it stands: the items that the systems were fitted on, and those that came since.

Looked at by words, by attributes and by id; never changed by a look.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import DataError, Dataset, Queries, Ragged, Vocabulary, did_you_mean
from llm4rec.core.columns import EVENT_COLUMNS, ITEM, USER
from llm4rec.models.lexical import BM25, TFIDF, BM25Config, LexicalConfig

#: How a cell stands to a value: equal (a list has it among its values), a number's order, or words within a text.
Operator = Literal["is", "is not", "at least", "at most", "contains"]
OPERATORS = get_args(Operator)

#: A column with more distinct values than this share of the items names single items.
_NAMES = 0.5
#: Least cosine of two items' words (TF-IDF) for one to stand in for the other.
_ALIKE = 0.1
_LONGEST_ID, _LONGEST_TEXT = 200, 20_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Catalogue:
    """Items with their attributes.

    Attributes:
        items: outside ids: first the known items, in the order of the run, then the new ones.
        table: one row for each item, in that order.
        known: how many items the systems were fitted on.
    """

    items: Vocabulary
    table: pl.DataFrame
    known: int

    @classmethod
    def of(cls, dataset: Dataset) -> Catalogue:
        """Return the catalogue of a data set, all of it known."""
        table = dataset.item_table
        if table.columns == [ITEM]:  # a log alone: an item is called by its id
            table = table.with_columns(pl.Series("title", dataset.items.ids, dtype=pl.String))
        return cls(dataset.items, table, dataset.n_items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The columns that say something of an item."""
        return tuple(c for c in self.table.columns if c != ITEM)

    @cached_property
    def grouping(self) -> tuple[str, ...]:
        """The attributes with values that items share: genres, a year, a brand; not titles."""
        found = []
        for column in self.attributes:
            values = self.table[column]
            flat = values.explode() if isinstance(values.dtype, pl.List) else values
            if not flat.dtype.is_nested() and 0 < flat.drop_nulls().n_unique() <= _NAMES * len(self):
                found.append(column)
        return tuple(found)

    @cached_property
    def names(self) -> list[str]:
        """What each item is called: its title, or its id."""
        titles = self.table["title"].to_list() if "title" in self.table.columns else [None] * len(self)
        return [str(title) if title else identifier for title, identifier in zip(titles, self.items.ids, strict=True)]

    def index(self, identifier: str) -> int:
        """Return an item's inside id; raises ``DataError`` for one that is not here."""
        return self.items.index(identifier)

    def details(self, item: int) -> dict[str, Any]:
        """Return what is known of an item, as JSON values; what is missing is left out."""
        row = self.table.row(item, named=True)
        told = {c: v for c, v in row.items() if c != ITEM and v is not None and v != [] and v == v}
        return {"item": self.items.ids[item], "name": self.names[item], "attributes": told, "new": item >= self.known}

    # -- by attributes --------------------------------------------------------------------
    def where(self, attribute: str, operator: Operator, value: str) -> NDArray[np.bool_]:
        """Return bool[n]: for which items is it so?  An item without the attribute is never ``at least``, ``is``, ...

        Values are compared as numbers where both are numbers, else in any case.  ``contains`` finds whole words.

        Raises:
            DataError: for an attribute that the catalogue lacks, a value that no item has (``is``, ``is not``),
                or a number that is none (``at least``, ``at most``).
        """
        if attribute not in self.attributes:
            raise DataError(f"items have no attribute {attribute!r}", todo=did_you_mean(attribute, self.attributes))
        cells = self.cells(attribute)
        value = value.strip()
        if operator in ("is", "is not"):
            number = _number(value)
            spelt = pl.col("value").str.to_lowercase() == value.lower()
            told = spelt if number is None else spelt | (pl.col("value").cast(pl.Float64, strict=False) == number)
            held = self._among(cells.filter(told))
            if not held.any():
                near = did_you_mean(value, cells["value"].unique().head(5_000).to_list())
                todo = near if not near.startswith("known") else "look at the attribute's values first"
                raise DataError(f"no item has {attribute} {value!r}", todo=todo)
            return held if operator == "is" else ~held
        if operator == "contains":
            words = r"\W+".join(re.escape(w) for w in re.findall(r"\w+", value))
            if not words:
                raise DataError(f"{value!r} holds no word", where="contains", todo="give words to look for")
            return self._among(cells.filter(pl.col("value").str.contains(rf"(?i)\b{words}\b")))
        wanted = _number(value)
        if wanted is None:
            raise DataError(f"{value!r} is no number", where=operator, todo="give a number")
        number_of = pl.col("value").cast(pl.Float64, strict=False)
        return self._among(cells.filter(number_of >= wanted if operator == "at least" else number_of <= wanted))

    def values(self, attribute: str) -> list[tuple[str, int]]:
        """Return the values of an attribute with the number of items that have each, the most frequent first."""
        if attribute not in self.attributes:
            raise DataError(f"items have no attribute {attribute!r}", todo=did_you_mean(attribute, self.attributes))
        counted = self.cells(attribute).unique().group_by("value").len().sort(["len", "value"], descending=[True, False])
        return list(zip(counted["value"].to_list(), counted["len"].to_list(), strict=True))

    def cells(self, attribute: str) -> pl.DataFrame:
        """Return ``item`` and ``value`` (text) of each value of each item; looked up once for each attribute."""
        if attribute in self._known_cells:
            return self._known_cells[attribute]
        held = self.table.select(ITEM, pl.col(attribute).alias("value"))
        if isinstance(held.schema["value"], pl.List):
            held = held.explode("value")
        text = pl.col("value").cast(pl.String, strict=False).str.strip_chars()
        return self._known_cells.setdefault(attribute, held.with_columns(text).drop_nulls())

    @cached_property
    def _known_cells(self) -> dict[str, pl.DataFrame]:
        return {}

    def _among(self, cells: pl.DataFrame) -> NDArray[np.bool_]:
        held = np.zeros(len(self), dtype=bool)
        held[cells[ITEM].to_numpy()] = True
        return held

    # -- by words ---------------------------------------------------------------------------
    @cached_property
    def _template(self) -> str:
        columns = [c for c in self.attributes if not flat(self.table.schema[c]).is_nested()]
        return "; ".join(f"{{{c}}}" for c in columns)

    @cached_property
    def _dataset(self) -> Dataset:
        nobody = Vocabulary((), kind="user")
        events = pl.DataFrame({c: [] for c in EVENT_COLUMNS})
        return Dataset("catalogue", nobody, self.items, events, self.table, pl.DataFrame({USER: np.empty(0, np.int32)}))

    @cached_property
    def _words(self) -> BM25:
        config = BM25Config.model_validate({"template": self._template, "request_weight": 1.0})
        return BM25(config).fit(self._dataset, valid=None, rng=np.random.default_rng(0))

    def found(self, words: str) -> NDArray[np.float32]:
        """Return float32[n], the BM25 score of each item's attributes for some words; -inf where they share none."""
        query = Queries(np.array([-1]), Ragged.empty(1), np.zeros(1, np.int64), texts=(words,))
        scores = self._words.score(query)[0]
        return np.where(scores > 0, scores, -np.inf).astype(np.float32)

    def ready(self) -> Catalogue:
        """Return the catalogue with all that is looked up in it made already."""
        self.found("anything")
        len(self.names), len(self.stand_ins)
        return self

    # -- new items ----------------------------------------------------------------------------
    @cached_property
    def stand_ins(self) -> NDArray[np.int32]:
        """int32[n - known]: for each new item the known one whose words are most like its own, or -1.

        Until the systems are fitted again they take a new item for its stand-in (content-based
        treatment of cold items: Schein et al., *Methods and Metrics for Cold-Start Recommendations*, SIGIR 2002).
        """
        new = np.arange(self.known, len(self))
        if not len(new):
            return np.empty(0, np.int32)
        config = LexicalConfig.model_validate({"template": self._template})
        likeness = TFIDF(config).fit(self._dataset, valid=None, rng=np.random.default_rng(0))
        scores = likeness.score(Queries.of(Ragged.from_lengths(np.ones(len(new), np.int64), new)))
        own = np.maximum(scores[np.arange(len(new)), new], 1e-12)[:, None]  # an item is as like itself as can be
        cosines = scores[:, : self.known] / own
        return np.where(cosines.max(axis=1) >= _ALIKE, cosines.argmax(axis=1), -1).astype(np.int32)

    def checked(self, identifier: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the attributes of a new item as the table's own types; raises ``DataError`` for what does not fit."""
        where = f"item {identifier[:50]!r}"
        if not identifier or len(identifier) > _LONGEST_ID or _CONTROL.search(identifier):
            raise DataError("its id must be 1 to 200 characters, none of them a control character", where=where)
        row: dict[str, Any] = {}
        for column, value in attributes.items():
            if column not in self.attributes:
                raise DataError(f"items have no attribute {column!r}", where=where, todo=did_you_mean(column, self.attributes))
            kind = self.table.schema[column]
            cells = value if isinstance(value, list) else [value]
            if any(isinstance(c, bool) != (flat(kind) == pl.Boolean) or len(str(c)) > _LONGEST_TEXT for c in cells):
                raise DataError(f"{column!r} must hold {kind}", where=where)
            try:
                pl.Series([value], dtype=kind, strict=True)
            except (pl.exceptions.PolarsError, TypeError, OverflowError, ValueError):
                raise DataError(f"{column!r} must hold {kind}", where=where) from None
            row[column] = value
        if "title" in self.attributes and not str(row.get("title") or "").strip():
            raise DataError("it has no title", where=where, todo="give it one")
        return row

    def with_items(self, new: Sequence[tuple[str, Mapping[str, Any]]]) -> Catalogue:
        """Return the catalogue with further items, each an id and its attributes (see :meth:`checked`)."""
        rows = [{ITEM: len(self) + at, **{c: row.get(c) for c in self.attributes}} for at, (_, row) in enumerate(new)]
        added = pl.DataFrame(rows, schema={c: self.table.schema[c] for c in (ITEM, *self.attributes)})
        table = pl.concat([self.table.select(added.columns), added])
        return Catalogue(Vocabulary((*self.items.ids, *(i for i, _ in new)), kind="item"), table, self.known)


def flat(kind: pl.DataType) -> pl.DataType:
    """Return what a list holds, or the kind itself."""
    return cast("pl.DataType", kind.inner) if isinstance(kind, pl.List) else kind  # in a schema it is no bare class


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None
