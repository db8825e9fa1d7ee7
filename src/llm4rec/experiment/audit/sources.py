"""Does the same source give the same split, and does the catalogue name each thing once?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from llm4rec.core import AssetError, DataError, Split
from llm4rec.data import load, make_split
from llm4rec.experiment.audit.finding import Finding, Verdict
from llm4rec.experiment.audit.subject import Subject
from llm4rec.experiment.predict import prepare
from llm4rec.prompted.explain.mentions import folded

#: Columns that tell two things of one title apart.
_APART = ("year", "release_year", "author", "authors", "artist", "brand")


def fingerprint(subject: Subject) -> Iterator[Finding]:
    """Does reading and splitting again give the split with the same fingerprint?"""
    measure = "fingerprints of one specification"
    if subject.spec is None:
        yield Finding("fingerprint", "", measure, None, "not applicable", "there is no specification to read again")
        return
    try:
        again = _fingerprint(make_split(load(subject.spec.data), subject.spec.split), subject)
    except (AssetError, DataError) as error:
        if subject.run is None:
            raise
        line = f"the source cannot be read again ({error}): keep it beside its runs"
        yield Finding("fingerprint", "", measure, None, "warning", line)
        return
    found = {_fingerprint(subject.split, subject), again}
    if subject.run is not None:
        found.add(str(subject.run.read_json("environment.json")["split"]["fingerprint"]))
    same = len(found) == 1
    line = (
        f"every reading gives {again[:12]}"
        if same
        else "the source or the code has changed since: compare figures of one fingerprint alone"
    )
    yield Finding("fingerprint", "", measure, len(found), "ok" if same else "warning", line, {"fingerprints": sorted(found)})


def _fingerprint(split: Split, subject: Subject) -> str:
    """Return the fingerprint that a run writes down: of the split with the values that its task is about."""
    return prepare(split, subject.protocol).fingerprint


def twin_items(subject: Subject) -> Iterator[Finding]:
    """Items of one title (and year, author or brand, where these are told): the answer may hide behind its twin."""
    train, cases = subject.train, subject.split.test
    measure = "share of items that share their title"
    if "title" not in train.item_table.columns:
        yield Finding("twins", "", measure, None, "not applicable", "the items have no titles")
        return
    titles = train.item_table["title"].cast(pl.String).fill_null("").to_list()
    apart = [c for c in _APART if c in train.item_table.columns]
    title = pl.Series("title", [" ".join(folded(t)) for t in titles], dtype=pl.String)
    named = train.item_table.select(title, *(pl.col(c).cast(pl.String, strict=False).fill_null("") for c in apart))
    codes = named.select(pl.struct(pl.all()).rank("dense")).to_series().to_numpy().astype(np.int64)
    codes = np.where(named["title"].to_numpy() == "", codes.max(initial=0) + 1 + np.arange(len(codes)), codes)
    _, code, counts = np.unique(codes, return_inverse=True, return_counts=True)
    twins = counts[code] > 1
    rows = cases.seen.rows
    had = np.unique(rows * (len(counts) + 1) + code[cases.seen.values])
    again = np.isin(cases.truth.rows * (len(counts) + 1) + code[cases.truth.values], had)
    value, n = float(twins.mean()) if len(twins) else 0.0, int(again.sum())
    verdict: Verdict = "warning" if n else "ok"
    line = (
        f"{int(twins.sum())} items; in {n} test cases the user has had the answer's twin: merge what is one thing"
        if n
        else f"{int(twins.sum())} items; no user has had the answer's twin"
    )
    examples = [titles[i] for i in np.flatnonzero(twins)[:6].tolist()]
    yield Finding("twins", "", measure, value, verdict, line, {"cases": n, "titles": examples})
