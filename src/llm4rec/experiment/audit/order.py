"""Does the numbering of the items tell what comes next?

Items numbered by first appearance over whole sequences, the test item included, give the answer away:
in "the highest number of the history, plus one" every item that nobody had before is right.  P5's data
(Geng et al., RecSys 2022) are numbered so; Rajput et al. (TIGER, NeurIPS 2023) and OpenP5 describe the leak.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import AssetError, Cases, DataError, Dataset
from llm4rec.core.columns import ITEM
from llm4rec.data import catalogue_order
from llm4rec.experiment.audit.finding import Finding, Verdict
from llm4rec.experiment.audit.subject import Subject

_NUMBER = re.compile(r"\D*(\d{1,18})$")
#: Events of the histories that are looked at; cases beyond are left out, by seed.
_EVENTS = 200_000
#: Hit@1 above its expectation that makes a leak of what is not due to chance.
_MATTERS = 0.005
#: The rules: from a history of item numbers to one guess.
RULES = {"max plus one": np.maximum.reduceat, "last plus one": None}


def order_rules(subject: Subject) -> Iterator[Finding]:
    """Hit@1 of one guess by an item's number, against the same rule under shuffled numbers.

    The numbers are the inside ids, the outside ids where they end in a number, the order of the catalogue's
    file, and that of first appearance in the log.  Under the null hypothesis the numbers say nothing, so
    that every renumbering is as likely: ``p = (1 + #{hit of shuffled >= hit}) / (1 + permutations)``.
    """
    cases = _some(subject.split.test, subject.rng())
    n_items = subject.train.n_items
    if not len(cases):
        yield Finding("order", "", "Hit@1", None, "not applicable", "no test case has a history")
        return
    rng = subject.rng()
    shuffled = [rng.permutation(n_items).astype(np.int32) for _ in range(subject.config.permutations)]
    for rule in RULES:
        null = np.array([_hit(cases, number, rule) for number in shuffled])
        for names, number in _orders(subject).items():
            hit = _hit(cases, number, rule)
            p = float((1 + (null >= hit - 1e-12).sum()) / (1 + len(null)))
            expected = float(null.mean())
            details = {"expected": expected, "p": p, "cases": len(cases)}
            verdict, line = _judge(subject, names, hit, expected, p)
            yield Finding("order", f"{', '.join(names)}: {rule}", "Hit@1 of one guess", hit, verdict, line, details)


def _judge(subject: Subject, names: tuple[str, ...], hit: float, expected: float, p: float) -> tuple[Verdict, str]:
    if p > subject.config.level:
        return "ok", f"shuffled numbers give {expected:.4f} (p = {p:.3f}): the order says nothing"
    against = f"shuffled numbers give {expected:.4f} (p = {p:.3f})"
    if "inside ids" in names:
        verdict: Verdict = "leak" if hit - expected >= _MATTERS else "warning"
        return verdict, f"{against}: the vocabulary's order tells the answer; number items without regard to the log"
    carried = _carried(subject.train) if "outside ids" in names else None
    if carried is not None and hit - expected >= _MATTERS:
        return "leak", f"{against}, and the item table's {carried!r} shows these ids to every text model: leave it out"
    return "warning", f"{against}: never show this order to a model, and do not number items by it"


def _some(cases: Cases, rng: np.random.Generator) -> Cases:
    """Return cases with a history, as many as fit the bound."""
    rows = rng.permutation(np.flatnonzero(cases.queries.history.lengths))
    within = np.cumsum(cases.queries.history.lengths[rows]) <= _EVENTS
    return cases.take(np.sort(rows[within]))


def _hit(cases: Cases, number: NDArray[np.integer], rule: str) -> float:
    """Return the share of cases in which the item after the rule's one is true.

    Args:
        number: of each item, a permutation of ``0 ... n_items - 1``.
    """
    history, reduce = cases.queries.history, RULES[rule]
    if reduce is None:
        told = number[history.values[history.offsets[1:] - 1]]
    else:
        told = reduce(number[history.values], history.offsets[:-1])
    right = number[cases.truth.values] == told[cases.truth.rows] + 1
    return float(right.sum() / len(cases))


def _orders(subject: Subject) -> dict[tuple[str, ...], NDArray[np.int64]]:
    """Return the orders that are known, each once, under all of its names."""
    found: dict[bytes, tuple[tuple[str, ...], NDArray[np.int64]]] = {}
    train, n_items = subject.train, subject.train.n_items

    def add(name: str, order: NDArray[np.integer]) -> None:
        number = np.empty(n_items, dtype=np.int64)
        number[order] = np.arange(n_items)
        key = number.tobytes()
        found[key] = ((*found[key][0], name) if key in found else (name,)), number

    add("inside ids", np.arange(n_items))
    matches = [_NUMBER.fullmatch(i) for i in train.items.ids]
    if all(matches):
        add("outside ids", np.argsort([int(m[1]) for m in matches if m is not None], kind="stable"))
    if (ids := _catalogue(subject)) is not None:
        add("catalogue file", _listed(train.items.encode(ids, missing=-1), n_items))
    if subject.dataset is not None:
        add("first appearance in the log", _listed(subject.dataset.events[ITEM].to_numpy(), n_items))
    return dict(found.values())


def _catalogue(subject: Subject) -> pl.Series | None:
    """Return the outside ids in the order of the catalogue's file; None without one, or where a run has outlived it."""
    if subject.spec is None:
        return None
    try:
        return catalogue_order(subject.spec.data)
    except (AssetError, DataError):
        if subject.run is None:
            raise
        return None  # the check ``fingerprint`` says that the source is gone


def _listed(items: NDArray[np.integer], n_items: int) -> NDArray[np.int64]:
    """Return all items, those of ``items`` first in order of first appearance."""
    distinct, first = np.unique(items[items >= 0], return_index=True)
    listed = distinct[np.argsort(first)]
    return np.concatenate([listed, np.setdiff1d(np.arange(n_items), listed)]).astype(np.int64)


def _carried(train: Dataset) -> str | None:
    """Return the column of the item table that repeats the outside ids, or None."""
    ids = np.array(train.items.ids)
    for column in train.item_table.columns:
        if column != ITEM and not train.item_table.schema[column].is_nested():
            values = train.item_table[column].cast(str, strict=False).fill_null("").to_numpy()
            if np.mean(values == ids) > 0.5:
                return column
    return None
