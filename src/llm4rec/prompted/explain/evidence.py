"""What could support a recommendation: history items, and what the catalogue says they share with it.

All of it is enumerated by code from the query's history and the item table.  A model may choose
among it and put it into words; it cannot add to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import Claim, Lists, Queries, SpecError, did_you_mean
from llm4rec.core.columns import ITEM
from llm4rec.llm.prompts import plain

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_LONGEST_VALUE = 60  # characters; a longer value is a description, not an attribute


@dataclass(frozen=True, slots=True)
class Evidence:
    """What supports one recommended item, or could.

    Attributes:
        item: inside id of the recommended item.
        cited: inside id of a history item, or None.
        attribute, value: column and value that ``item`` has (and ``cited`` as well, if there is one), or None.
    """

    item: int
    cited: int | None = None
    attribute: str | None = None
    value: str | None = None

    def claims(self, title: tuple[int, int] | None, value: tuple[int, int] | None) -> tuple[Claim, ...]:
        """Return the claims of a sentence that names the cited title and the value at these spans."""
        out = []
        if self.cited is not None:
            out.append(Claim("history", item=self.cited, span=title))
        if self.value is not None:
            kind = "attribute" if self.cited is None else "shared"
            out.append(Claim(kind, item=self.cited, attribute=self.attribute, value=self.value, span=value))
        return tuple(out)


def attribute_table(table: pl.DataFrame, columns: Sequence[str]) -> tuple[csr_matrix, list[list[str]]]:
    """Return which item has which attribute value.

    Args:
        table: item table, in vocabulary order.
        columns: whose values are attributes: lists of text, or text or numbers (one value an item).

    Returns:
        float32 CSR [n_items, n_values] of ones, and each value as ``[column, value]``.

    Raises:
        SpecError: for a column that the table lacks or that holds something else.
    """
    from scipy import sparse

    rows: list[NDArray[Any]] = [np.empty(0, np.int64)]
    codes: list[NDArray[Any]] = [np.empty(0, np.int64)]
    values: list[list[str]] = []
    for column in columns:
        if column not in table.columns:
            known = [c for c in table.columns if c != ITEM]
            raise SpecError(f"the item table has no column {column!r}", where="attributes", todo=did_you_mean(column, known))
        held = table.select(ITEM, pl.col(column).alias("value"))
        if isinstance(held.schema["value"], pl.List):
            held = held.explode("value")
        if held.schema["value"].is_nested():
            raise SpecError(
                f"column {column!r} holds {table.schema[column]}",
                where="attributes",
                todo="name columns of text, numbers or lists",
            )
        held = held.select(ITEM, pl.col("value").cast(pl.String).str.strip_chars()).drop_nulls().unique(maintain_order=True)
        held = held.filter(pl.col("value").str.len_chars().is_between(1, _LONGEST_VALUE))
        names = sorted(value for value in held["value"].unique() if plain(value, _LONGEST_VALUE) == value)
        at = {value: len(values) + i for i, value in enumerate(names)}
        held = held.filter(pl.col("value").is_in(names))
        rows.append(held[ITEM].to_numpy())
        codes.append(held["value"].replace_strict(at, return_dtype=pl.Int64).to_numpy() if len(held) else rows[0])
        values += [[column, value] for value in names]
    row, code = np.concatenate(rows), np.concatenate(codes)
    matrix = sparse.csr_matrix((np.ones(len(row), np.float32), (row, code)), shape=(len(table), len(values)))
    return matrix, values


@dataclass(frozen=True, slots=True)
class Pairs:
    """Each listed item beside each history item of its query.

    Attributes:
        place: int64[p], number of the (query, listed item) that the pair belongs to; never falls.
        item, cited: int64[p] inside ids.
        shared: float32 CSR [p, n_values], ones where both have the value.
    """

    place: NDArray[np.int64]
    item: NDArray[np.int64]
    cited: NDArray[np.int64]
    shared: csr_matrix

    @classmethod
    def of(cls, queries: Queries, lists: Lists, history: int, attributes: csr_matrix) -> Pairs:
        """Return all pairs of the listed items with the last ``history`` items, the newest first."""
        listed = lists.to_ragged()
        last = queries.history.last(history)
        counts = last.lengths[listed.rows]
        place = np.repeat(np.arange(len(listed.values)), counts)
        within = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
        cited = last.values[np.repeat(last.offsets[listed.rows + 1] - 1, counts) - within].astype(np.int64)
        item = np.repeat(listed.values, counts).astype(np.int64)
        keep = cited != item  # a repeated purchase does not support itself
        place, item, cited = place[keep], item[keep], cited[keep]
        shared = attributes[item].multiply(attributes[cited]).tocsr()
        return cls(place, item, cited, shared)

    def values(self, pair: int) -> NDArray[np.int32]:
        """Return the codes of the values that a pair shares."""
        return np.asarray(self.shared.indices[self.shared.indptr[pair] : self.shared.indptr[pair + 1]])


def rarity(attributes: csr_matrix) -> NDArray[np.float64]:
    """Return float64[n_values], log(n_items / items with the value): how much it says to share it."""
    counts = np.bincount(attributes.indices, minlength=attributes.shape[1])
    return np.asarray(np.log(attributes.shape[0] / np.maximum(counts, 1)), dtype=np.float64)
