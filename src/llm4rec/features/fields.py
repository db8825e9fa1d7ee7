"""Categorical fields of users and items: what factorisation machines and their kin read.

A field gives each user, or each item, one value or several; every value has a row of an embedding
table.  Code 0 is the spare row: the value is unknown, or was not seen in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import Dataset
from llm4rec.core.columns import ITEM, USER

#: A column with more different values than this share of its rows names single users or items (titles, postcodes).
_NAMES = 0.5
#: Numbers with more different values than this become buckets of like size.
_BUCKETS = 10


@dataclass(frozen=True, slots=True)
class Field:
    """One field.

    Attributes:
        name: ``user``, ``item``, or the table's column as ``user.age``.
        side: whose it is.
        codes: int64[n + 1, m] for the n users or items; in a column of lists a row is padded with
            ``size``.  The last row stands for those outside of the vocabulary (inside id -1).
        size: number of codes, without the pad.
    """

    name: str
    side: Literal["user", "item"]
    codes: NDArray[np.int64]
    size: int


def fields(train: Dataset) -> list[Field]:
    """Return the fields of a training part: the ids, then every column of the tables that groups users or items.

    Text and numbers become one value each (numbers with many values, ten buckets of like size by
    the users or items that have events), lists become several.  A column that names nearly every row
    apart is left out.  Users and items without events have the unknown id.
    """
    out = []
    for side, table, n in ((USER, train.user_table, train.n_users), (ITEM, train.item_table, train.n_items)):
        known = np.bincount(train.events[side].to_numpy(), minlength=n) > 0
        ids = np.zeros(n, dtype=np.int64)
        ids[known] = 1 + np.arange(known.sum())
        out.append(_field(side, side, ids[:, None], int(known.sum()) + 1))
        told = (_of_column(f"{side}.{column}", side, table[column], known) for column in table.columns if column != side)
        out += [field for field in told if field is not None]
    return out


def _of_column(name: str, side: str, column: pl.Series, known: NDArray[np.bool_]) -> Field | None:
    """Return a column's field, None if it groups nothing."""
    if isinstance(column.dtype, pl.List):
        rows = pl.DataFrame({"row": np.arange(len(column)), "value": column.cast(pl.List(pl.String))}).explode("value")
        rows = rows.drop_nulls().unique(maintain_order=True)
        values = rows.filter(pl.Series(known).gather(rows["row"]))["value"].unique().sort()
        if not len(values):
            return None
        rows = rows.with_columns(code=_codes(rows["value"], values)).with_columns(nth=pl.int_range(pl.len()).over("row"))
        size = len(values) + 1
        codes = np.full((len(column), int(rows["nth"].max()) + 1), size, dtype=np.int64)  # type: ignore[arg-type]
        codes[rows["row"].to_numpy(), rows["nth"].to_numpy()] = rows["code"].to_numpy()
        codes[(codes == size).all(axis=1), 0] = 0  # nothing known
        return _field(name, side, codes, size)
    if column.dtype.is_numeric() and column.filter(pl.Series(known)).n_unique() > _BUCKETS:
        seen = column.filter(pl.Series(known)).drop_nulls().cast(pl.Float64).drop_nans().to_numpy()
        edges = np.unique(np.quantile(seen, np.arange(1, _BUCKETS) / _BUCKETS))
        numbers = column.cast(pl.Float64).to_numpy()
        codes = np.where(np.isnan(numbers), 0, 1 + np.searchsorted(edges, numbers, side="right"))
        return _field(name, side, codes[:, None], len(edges) + 2)
    words = column.cast(pl.String)
    values = words.filter(pl.Series(known)).drop_nulls().unique().sort()
    if len(values) < 2 or len(values) > _NAMES * known.sum():
        return None
    return _field(name, side, _codes(words, values).to_numpy()[:, None], len(values) + 1)


def _codes(column: pl.Series, values: pl.Series) -> pl.Series:
    """Return 1 + the place of each value, 0 for one that is not there."""
    return column.replace_strict(values, pl.Series(np.arange(1, len(values) + 1)), default=0, return_dtype=pl.Int64)


def _field(name: str, side: str, codes: NDArray[np.int64], size: int) -> Field:
    nobody = np.full((1, codes.shape[1]), size, dtype=np.int64)
    nobody[0, 0] = 0
    return Field(name, "user" if side == USER else "item", np.concatenate([codes.astype(np.int64), nobody]), size)
