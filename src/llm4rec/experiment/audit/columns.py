"""Is a column of users or items computed with the events that are asked for?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import AssetError, DataError, Dataset
from llm4rec.core.columns import EVENT_COLUMNS, ITEM, TIME, USER, VALUE
from llm4rec.data import load
from llm4rec.experiment.audit.finding import Finding
from llm4rec.experiment.audit.subject import Subject
from llm4rec.experiment.plan import as_published

#: Rows in which the whole log and training must differ for a column to be judged.
_ROWS = 10
#: Users whose favourite the held-out events change that make a column suspect; few events change few.
_MOVED = 5
#: Share of these rows that must agree with the whole log, and may agree with training.
_AGREE, _OTHER = 0.9, 0.5


def computed_columns(subject: Subject) -> Iterator[Finding]:
    """Columns that agree with a figure of the whole log where that of the training part differs.

    Figures: number of events, mean value, first and last time; for a user also the commonest value of each
    attribute of the items.  The whole log is that of the experiment, and the file's before the rules of [data] took
    events out: who wrote the column had the file.
    """
    measure = "columns computed with the held-out events"
    if subject.dataset is None:
        yield Finding("columns", "", measure, None, "not applicable", "the whole log is not known")
        return
    logs = {"whole log": (subject.dataset, subject.train)}
    unread = ""
    try:
        logs |= _before_filters(subject, subject.dataset)
    except (AssetError, DataError) as error:
        if subject.run is None:
            raise
        unread = f"; the file was not compared, it cannot be read again ({error})"
    for key, table in ((USER, subject.train.user_table), (ITEM, subject.train.item_table)):
        found: dict[str, str] = {}
        for log, (whole, rest) in logs.items():
            ids = (subject.train.users if key == USER else subject.train.items).ids
            at = (whole.users if key == USER else whole.items).encode(ids)  # the file knows more users and items
            rows = table.with_columns(pl.Series(key, at))
            figures = _numbers(key, rows, whole, rest) | (_favourites(rows, whole, rest) if key == USER else {})
            found = {c: f"{what} of the {log}" for c, what in figures.items()} | found
        line = (
            "; ".join(f"{column!r} is the {what}, test included" for column, what in found.items())
            + ": compute it from training alone, or leave it out"
            if found
            else f"no column of the {key}s is a figure of the whole log{unread}"
        )
        yield Finding(
            "columns", f"{key} table", measure, len(found), "leak" if found else "ok", line, {"columns": sorted(found)}
        )  # fmt: skip


def _before_filters(subject: Subject, dataset: Dataset) -> dict[str, tuple[Dataset, Dataset]]:
    """Return the file's log without the rules of [data], and what it is without the held-out events.

    Nothing where the rules took no event out, or there is no specification.
    """
    if subject.spec is None:
        return {}
    published = as_published(subject.spec.data).model_copy(update={"duplicates": "keep"})
    file = load(published) if published != subject.spec.data else dataset
    if len(file.events) == len(dataset.events):
        return {}
    users, items = file.users.encode(dataset.users.ids), file.items.encode(dataset.items.ids)
    held = dataset.events.join(subject.train.events, on=EVENT_COLUMNS, how="anti")
    held = held.with_columns(
        pl.Series(USER, users[held[USER].to_numpy()]), pl.Series(ITEM, items[held[ITEM].to_numpy()])
    )  # in the file's ids
    rest = file.events.join(held, on=[USER, ITEM, TIME], how="anti", maintain_order="left")
    return {"file before its filters": (file, file.with_events(rest))}


def _numbers(key: str, table: pl.DataFrame, whole: Dataset, train: Dataset) -> dict[str, str]:
    """Return column -> the figure of the whole log that it is."""
    figures = {
        "number of events": (pl.len().cast(pl.Float64), 0.0),
        "mean value": (pl.col(VALUE).cast(pl.Float64).mean(), 0.006),  # columns are rounded to two digits
        "first time": (pl.col(TIME).min().cast(pl.Float64), 0.5),
        "last time": (pl.col(TIME).max().cast(pl.Float64), 0.5),
    }
    n, at = (whole.n_users if key == USER else whole.n_items), table[key].to_numpy()
    numbers = {c: table[c].cast(pl.Float64).to_numpy() for c, t in table.schema.items() if c != key and t.is_numeric()}
    found = {}
    for what, (figure, tolerance) in figures.items():
        with_all, without = (_per(key, figure, d.events, n)[at] for d in (whole, train))
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
