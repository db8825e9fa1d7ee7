"""Long-term facts about users, counted by code from what they have touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import Queries
from llm4rec.prompted.explain.evidence import rarity

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

DECADE = "decade"


def attribute_columns(table: pl.DataFrame) -> tuple[str, ...]:
    """Return what tells items apart for their users: columns of lists, and the decade where there is a year."""
    lists = [name for name, dtype in table.schema.items() if isinstance(dtype, pl.List)]
    return (*lists, DECADE) if "year" in table.columns else tuple(lists)


def with_decade(table: pl.DataFrame) -> pl.DataFrame:
    """Return an item table with a column of decades ("1990s") beside the year, null where the year is unknown."""
    if "year" not in table.columns or DECADE in table.columns:
        return table
    year = pl.col("year").cast(pl.Float64, strict=False).cast(pl.Int32, strict=False)
    return table.with_columns(pl.format("{}s", year // 10 * 10).alias(DECADE))


def favourites(
    queries: Queries,
    attributes: csr_matrix,
    column: NDArray[np.int64],
    *,
    rated: bool,
    most: int,
    at_least: int,
    evidence: int,
) -> pl.DataFrame:
    """Return the attribute values that stand out in each query's history.

    A value's weight is tf-idf: the number of its events (with ratings, of those that the user
    rated at least as high as his mean) times log(items / items with the value).

    Args:
        attributes: float32 CSR [n_items, n_values] of ones.
        column: int64[n_values], number of the column that a value belongs to.
        rated: take ``queries.history_values`` for ratings.
        most: values of one column.
        at_least: events that a value needs.
        evidence: newest events of a value that are named.

    Returns:
        Columns ``row``, ``value`` (code), ``count``, ``rating`` (mean, null without ratings) and ``at``
        (list of places in ``queries.history.values``, oldest first), by row, column, falling weight and rating.
    """
    history, ratings = queries.history, queries.history_values
    events = pl.DataFrame({"row": history.rows, "item": history.values.astype(np.int64), "at": np.arange(len(history.values))})
    known = rated and ratings is not None
    events = events.with_columns(rating=pl.Series(ratings, dtype=pl.Float64) if known else pl.lit(None, pl.Float64))
    liked = (pl.col("rating") >= pl.col("rating").mean().over("row")) if known else pl.lit(True)
    events = events.with_columns(liked=liked)
    coo = attributes.tocoo()
    has = pl.DataFrame({"item": coo.row.astype(np.int64), "value": coo.col.astype(np.int64)})
    worth = pl.DataFrame({"value": np.arange(attributes.shape[1]), "column": column, "worth": rarity(attributes)})
    return (
        events.join(has, on="item")
        .sort("row", "at")
        .group_by("row", "value", maintain_order=True)
        .agg(pl.len().alias("count"), pl.col("liked").sum(), pl.col("rating").mean(), pl.col("at").tail(evidence))
        .filter(pl.col("liked") >= at_least)
        .join(worth, on="value")
        .with_columns(weight=pl.col("liked") * pl.col("worth"))
        .sort("row", "column", "weight", "rating", "value", descending=[False, False, True, True, False], nulls_last=True)
        .group_by("row", "column", maintain_order=True)
        .head(most)
        .select("row", "value", "count", "rating", "at")
    )
