"""From values to clicks: 1 and 0 in place of ratings, for every system alike."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import polars as pl

from llm4rec.core import Cases, DataError, SpecError, Split, Training
from llm4rec.core.columns import VALUE

S = TypeVar("S", Split, Training)


def as_clicks(split: S, threshold: float | None) -> S:
    """Return the split with every value, of training, histories and questions, 1 from ``threshold`` on and 0 below.

    No system sees more than the click: a rating in the history would tell some of them more than others.

    Args:
        threshold: None if the values are 0 and 1 already.

    Raises:
        SpecError: without a threshold for other values.
        DataError: if training knows one class only.
    """
    values = split.train.events[VALUE].to_numpy()
    if threshold is None and not np.isin(values, (0.0, 1.0)).all():
        what = f"{split.train.name} has values from {values.min():g} to {values.max():g}, which are no clicks"
        raise SpecError(what, where="protocol.threshold", todo="say from which value on an event is a click")
    at = 1.0 if threshold is None else threshold
    share = float((values >= at).mean())
    if share in (0.0, 1.0):
        what = f"{'every' if share else 'no'} training event of {split.train.name} is a click (value {at:g} or more)"
        raise DataError(what, where="protocol.threshold", todo="take another threshold, or data with both")

    def cases(given: Cases) -> Cases:
        q = given.queries
        history = None if q.history_values is None else (q.history_values >= at).astype(np.float32)
        truth = None if given.values is None else (given.values >= at).astype(np.float32)
        return replace(given, queries=replace(q, history_values=history), values=truth)

    events = split.train.events.with_columns((pl.col(VALUE) >= at).cast(pl.Float32))
    fingerprint = hashlib.sha256(f"{split.fingerprint} clicks {at!r}".encode()).hexdigest()
    train, valid = split.train.with_events(events), cases(split.valid)
    changes: dict[str, Any] = {"train": train, "valid": valid, "fingerprint": fingerprint}
    if isinstance(split, Split):
        rules = {**split.rules, "clicks": {"threshold": at, "share_of_training_events": share}}
        changes |= {"test": cases(split.test), "rules": rules}
    return replace(split, **changes)
