"""A made log without any leak, and ways to plant one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from llm4rec.core import Cases, Dataset, Ragged, Split, Vocabulary
from llm4rec.data import Log, SplitConfig, make_split
from llm4rec.experiment.audit.audit import audit_split
from llm4rec.experiment.audit.subject import AuditConfig, Finding

QUICK = AuditConfig(quick=True)
_START, _HOUR = 1_000_000_000, 3_600


@cache
def log(n_users: int = 240, n_items: int = 80, seed: int = 0) -> Log:
    """Users of four tastes and a skewed popularity; every event has a time of its own."""
    rng = np.random.default_rng(seed)
    weight = 1.0 / np.arange(1, n_items + 1)
    rows = []
    for user in range(n_users):
        liked = weight * np.where(np.arange(n_items) % 4 == user % 4, 12.0, 1.0)
        walk = rng.choice(n_items, size=int(rng.integers(5, 14)), replace=False, p=liked / liked.sum())
        rows += [(user, item) for item in walk.tolist()]
    user, item = (np.array(column) for column in zip(*rows, strict=True))
    time = _START + _HOUR * rng.permutation(len(user))  # everybody is active all the time
    users, items = (Vocabulary.of([f"{k}{i}" for i in range(n)]) for k, n in (("u", n_users), ("i", n_items)))
    events = pl.DataFrame(
        {
            "user": users.encode([f"u{u}" for u in user]),
            "item": items.encode([f"i{i}" for i in item]),
            "time": time,
            "value": rng.integers(1, 6, len(user)).astype(np.float32),
            "behavior": np.zeros(len(user), np.int8),
        }
    )
    number = np.array([int(i[1:]) for i in items.ids])
    names = [f"{a}{b}{c}" for a in ("Blue", "Red", "Old", "Far") for b in "abcdefghijklm" for c in "nopqrstuvwxyz"]
    words = rng.permutation(names)
    item_table = pl.DataFrame(
        {
            "item": np.arange(n_items, dtype=np.int32),
            "title": [f"The {words[i]} Tale" for i in range(n_items)],
            "genres": [[("crime", "love", "space", "war")[n % 4]] for n in number],
        }
    )
    user_table = pl.DataFrame({"user": np.arange(n_users, dtype=np.int32), "age": rng.integers(18, 70, n_users)})
    return Log("made", users, items, events, item_table, user_table)


def split(kind: str = "leave-one-out", dataset: Dataset | None = None, **options: Any) -> Split:
    """Split the made log."""
    return make_split(dataset or log(), SplitConfig.model_validate({"kind": kind, **options}))


def found(split: Split, *only: str, config: AuditConfig = QUICK) -> list[Finding]:
    """Return what some checks find in a split."""
    return list(audit_split(split, config=config, only=only).findings)


def verdicts(findings: Sequence[Finding]) -> set[str]:
    """Return the verdicts that occur."""
    return {f.verdict for f in findings}


def with_train(split: Split, *rows: tuple[int, int, int]) -> Split:
    """Return the split with more training events: (user, item, time)."""
    more = pl.DataFrame(
        {
            "user": [r[0] for r in rows], "item": [r[1] for r in rows], "time": [r[2] for r in rows],
            "value": [1.0] * len(rows), "behavior": [0] * len(rows),
        }
    ).cast(dict(split.train.events.schema))  # fmt: skip
    return replace(split, train=split.train.with_events(pl.concat([split.train.events, more])))


def with_history(cases: Cases, history: Ragged) -> Cases:
    """Return the cases with other histories, all of it seen, without times."""
    queries = replace(cases.queries, history=history, history_times=None, history_behaviors=None, history_values=None)
    return replace(cases, queries=queries, seen=history)


def with_truth_in_history(cases: Cases) -> Cases:
    """Return the cases with each truth in front of its history."""
    rows = [np.concatenate([t, h]) for t, h in zip(cases.truth, cases.queries.history, strict=True)]
    return with_history(cases, Ragged.of(rows))
