"""The tables of a run, from what flows to what is written: inside ids become outside ids here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import Cases, Dataset, Note, Ragged
from llm4rec.core.columns import (
    CANDIDATES,
    CASE,
    ITEM,
    METRIC,
    RANK,
    SCORE,
    SEED,
    SLICES,
    STAGE,
    SYSTEM,
    TIME,
    TRUTH,
    USER,
    VALUE,
)
from llm4rec.experiment.directory import TABLES
from llm4rec.metrics import slice_cases
from llm4rec.pipeline import Trace
from llm4rec.prompted.explain.evaluate import ExplanationMetrics

#: Items of a user's history that the table of cases shows.
_HISTORY_SHOWN = 50
#: Characters of an item's text that the catalogue's table shows.
_TEXT_SHOWN = 500


def cases_table(cases: Cases, train: Dataset, sample: NDArray[np.int64]) -> pl.DataFrame:
    """Return one row for each case: user, truth, time, slices, the end of the history."""
    masks = slice_cases(cases, train)
    slices = [[name for name, mask in masks.items() if mask[i]] for i in range(len(cases))]
    table = pl.DataFrame(
        {
            CASE: np.arange(len(cases)),
            USER: [train.users.ids[u] if u >= 0 else None for u in cases.queries.users.tolist()],
            TRUTH: _outside(cases.truth, train),
            TIME: cases.queries.times,
            SLICES: pl.Series(slices, dtype=pl.List(pl.String)),
            "history": _outside(cases.queries.history.last(_HISTORY_SHOWN), train),
            "history_length": cases.queries.history.lengths,
            "sampled": np.isin(np.arange(len(cases)), sample),
        }
    )
    return table if cases.candidates is None else table.with_columns(_outside(cases.candidates, train).alias(CANDIDATES))


def catalog_table(train: Dataset) -> pl.DataFrame:
    """Return one row for each item: title, all its text, training events."""
    schema = {c: t for c, t in train.item_table.schema.items() if c != ITEM}
    words = [
        (pl.col(c).cast(pl.List(pl.String)).list.join(", ") if isinstance(t, pl.List) else pl.col(c).cast(pl.String))
        for c, t in schema.items()
    ]
    text = pl.concat_str(words or [pl.lit("")], separator=" · ", ignore_nulls=True).str.slice(0, _TEXT_SHOWN)
    ids = pl.Series(ITEM, train.items.ids, pl.String)
    title = pl.col("title").cast(pl.String).fill_null(ids) if "title" in schema else ids
    return train.item_table.select(ids, title.alias("title"), text.alias("text"), pl.Series("popularity", train.item_counts))


def lists_table(trace: Trace, rows: NDArray[np.int64], train: Dataset) -> pl.DataFrame:
    """Return the lists of every stage; ``rows`` are the case numbers."""
    pieces = []
    for stage in trace.stages:
        held = stage.lists.items >= 0
        row, column = np.nonzero(held)
        values = {
            STAGE: stage.name,
            CASE: rows[row],
            RANK: column + 1,
            ITEM: stage.lists.items[held],
            SCORE: stage.lists.scores[held],
        }
        pieces.append(pl.DataFrame(values).with_columns(_named(ITEM, train)))
    return pl.concat(pieces)


def results_table(results: Mapping[str, NDArray[np.float64]], rows: NDArray[np.int64]) -> pl.DataFrame:
    """Return each metric's value for each case."""
    return pl.concat([pl.DataFrame({CASE: rows, METRIC: name, VALUE: values}) for name, values in results.items()])


def notes_table(trace: Trace, rows: NDArray[np.int64], train: Dataset) -> pl.DataFrame:
    """Return what augmenters and stages had to say: failures, dropped items, prompts and answers, listings."""
    found = []
    for name, notes in trace.noted():
        for case, note in zip(rows.tolist(), notes, strict=True):
            if note != Note():
                found.append(
                    {
                        STAGE: name,
                        CASE: case,
                        "failures": list(note.failures),
                        "dropped": [{ITEM: train.items.ids[i], "reason": why} for i, why in note.dropped.items()],
                        "exchanges": [{"prompt": e.prompt, "answer": e.answer, "failure": e.failure} for e in note.exchanges],
                        "trials": [{"items": [train.items.ids[i] for i in t.items], "scores": t.scores} for t in note.trials],
                    }
                )
    return _framed("notes", found)


def profiles_table(trace: Trace, rows: NDArray[np.int64]) -> pl.DataFrame:
    """Return what augmenters made known of each query's user."""
    found = [
        {STAGE: addition.name, CASE: case, "profile": profile}
        for addition in trace.additions
        for case, profile in zip(rows.tolist(), addition.profiles or (), strict=addition.profiles is not None)
        if profile
    ]
    return _framed("profiles", found)


def explanations_table(judged: ExplanationMetrics | None, rows: NDArray[np.int64], train: Dataset) -> pl.DataFrame:
    """Return one row for each explained item: sentence, claims with their outcomes, mentions that nothing supports."""
    ids, found = train.items.ids, []
    for record in judged.records if judged is not None else ():
        told, explanation = record.as_json(), record.explanation
        claims = [
            {
                **{k: c[k] for k in ("kind", "attribute", "operator", VALUE, "count", "span", "outcome")},
                ITEM: None if c["item"] is None else ids[c["item"]],
            }
            for c in told["claims"]
        ]
        found.append(
            {
                CASE: int(rows[record.case]),
                RANK: record.rank,
                ITEM: ids[explanation.item],
                "sentence": explanation.sentence,
                "claims": claims,
                "unsupported": [{k: m[k] for k in ("text", "span")} for m in told["mentions"] if not m["supported"]],
                "fidelity": told["fidelity"],
                "failure": explanation.failure,
                "drafts": list(explanation.drafts),
                "prompt": explanation.exchange_prompt,
                "answer": explanation.exchange_answer,
            }
        )
    return _framed("explanations", found)


def _framed(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={k: v for k, v in TABLES[name].items() if k not in (SYSTEM, SEED)})


def _named(column: str, train: Dataset) -> pl.Expr:
    """Return the expression that turns a column of inside ids into outside ids."""
    ids = pl.Series(train.items.ids, dtype=pl.String)
    return pl.col(column).map_batches(lambda inside: ids.gather(inside.cast(pl.Int64)), return_dtype=pl.String)


def _outside(ragged: Ragged, train: Dataset) -> pl.Series:
    """Return rows of inside ids as one list column of outside ids."""
    flat = pl.DataFrame({"row": ragged.rows, ITEM: ragged.values}).with_columns(_named(ITEM, train))
    lists = flat.group_by("row", maintain_order=True).agg(ITEM)
    every = pl.DataFrame({"row": np.arange(len(ragged))}).join(lists, on="row", how="left", maintain_order="left")
    return every[ITEM].fill_null(pl.Series([[]], dtype=pl.List(pl.String)))
