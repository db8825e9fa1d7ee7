"""Is a column of users or items computed with the events that are asked for?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import Dataset
from llm4rec.core.columns import ITEM, TIME, USER, VALUE
from llm4rec.experiment.audit.finding import Finding
from llm4rec.experiment.audit.subject import Subject

#: Rows in which the whole log and training must differ for a column to be judged.
_ROWS = 10
#: Users whose favourite the held-out events change that make a column suspect; few events change few.
_MOVED = 5
#: Share of these rows that must agree with the whole log, and may agree with training.
_AGREE, _OTHER = 0.9, 0.5


def computed_columns(subject: Subject) -> Iterator[Finding]:
    """Columns that agree with a figure of the whole log where that of the training part differs.

    Figures: number of events, mean value, first and last time; for a user also the commonest value of each
    attribute of the items.
    """
    measure = "columns computed with the held-out events"
    if subject.dataset is None:
        yield Finding("columns", "", measure, None, "not applicable", "the whole log is not known")
        return
    for key, table in ((USER, subject.train.user_table), (ITEM, subject.train.item_table)):
        found = _numbers(key, table, subject.dataset, subject.train)
        if key == USER:
            found |= _favourites(table, subject.dataset, subject.train)
        line = (
            "; ".join(f"{column!r} is the {what} of the whole log, test included" for column, what in found.items())
            + ": compute it from training alone, or leave it out"
            if found
            else f"no column of the {key}s is a figure of the whole log"
        )
        yield Finding(
            "columns", f"{key} table", measure, len(found), "leak" if found else "ok", line, {"columns": sorted(found)}
        )  # fmt: skip


def _numbers(key: str, table: pl.DataFrame, whole: Dataset, train: Dataset) -> dict[str, str]:
    """Return column -> the figure of the whole log that it is."""
    figures = {
        "number of events": (pl.len().cast(pl.Float64), 0.0),
        "mean value": (pl.col(VALUE).cast(pl.Float64).mean(), 0.006),  # columns are rounded to two digits
        "first time": (pl.col(TIME).min().cast(pl.Float64), 0.5),
        "last time": (pl.col(TIME).max().cast(pl.Float64), 0.5),
    }
    numbers = {c: table[c].cast(pl.Float64).to_numpy() for c, t in table.schema.items() if c != key and t.is_numeric()}
    found = {}
    for what, (figure, tolerance) in figures.items():
        with_all, without = (_per(key, figure, d.events, len(table)) for d in (whole, train))
        differ = np.isfinite(with_all) & ~(np.abs(with_all - without) <= 2 * tolerance)
        for column, values in numbers.items():
            judged = differ & np.isfinite(values)
            if judged.sum() >= _ROWS:
                agree, other = (np.mean(np.abs(values - f)[judged] <= tolerance) for f in (with_all, np.nan_to_num(without)))
                if agree >= _AGREE and other < _OTHER:
                    found[column] = what
    return found


def _per(key: str, figure: pl.Expr, events: pl.DataFrame, n: int) -> NDArray[np.float64]:
    """Return float64[n], a figure of each user's or item's events; nan without any."""
    per = events.group_by(key).agg(figure.alias("figure"))
    out = np.full(n, np.nan)
    out[per[key].to_numpy()] = per["figure"].to_numpy()
    return out


def _favourites(table: pl.DataFrame, whole: Dataset, train: Dataset) -> dict[str, str]:
    """Return column -> "commonest ..." where it names the commonest attribute value with the held-out events.

    Such a column is a commonest value of the whole log in nearly all rows, and where training says otherwise
    it goes with the whole log.
    """
    items, found = whole.item_table, {}
    texts = {c: t for c, t in table.schema.items() if t == pl.String}
    for attribute, kind in items.schema.items():
        if attribute == ITEM or not (kind == pl.String or kind == pl.List(pl.String)):
            continue
        values = items.select(ITEM, pl.col(attribute).alias("value"))
        values = values.explode("value").drop_nulls() if kind != pl.String else values.drop_nulls()
        tops = [_commonest(d.events, values) for d in (whole, train)]
        for column in texts:
            said = table.select(USER, pl.col(column).alias("value")).drop_nulls()
            in_whole, in_train = (
                said.join(top, on=[USER, "value"], how="left", maintain_order="left")["top"].fill_null(False).to_numpy()
                for top in tops
            )
            moved, kept = int((in_whole & ~in_train).sum()), int((in_train & ~in_whole).sum())
            if len(said) and in_whole.mean() >= _AGREE and moved >= _MOVED and kept <= moved * (1 - _AGREE):
                found[column] = f"commonest {attribute}"
    return found


def _commonest(events: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
    """Return each user's commonest attribute values: ``user``, ``value``, ``top`` (always true)."""
    counts = events.select(USER, ITEM).join(values, on=ITEM).group_by(USER, "value").len()
    return counts.filter(pl.col("len") == pl.col("len").max().over(USER)).select(USER, "value", pl.lit(True).alias("top"))
