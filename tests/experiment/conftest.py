"""A small log with a catalogue, and experiments on it that run in a second or two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

GENRES = ("crime", "love", "space", "war")

SYSTEMS = """
[encoder.words]
backend = "hash"

[llm.told]
backend = "scripted"
answers = ["2 > 1 > 3 > 5 > 4", "I would rather not say."]

[systems.popular]
component = "popular"

[systems.ease]
component = "ease"
l2 = 5.0

[systems.sasrec]
component = "sasrec"
width = 8
heads = 1
blocks = 1
epochs = 2
length = 10

[systems.text]
component = "text"
encoder = "words"

[systems.both]
retrieve = ["ease", "text"]
explain = { component = "evidence-explainer" }

[systems.told]
label = "Text, a script ranks"
retrieve = ["text"]
depth = 5
rank = [{ component = "llm-ranker", llm = "told", scoring = "generate" }]
explain = { component = "evidence-explainer" }
"""


@pytest.fixture
def log_folder(tmp_path: Path) -> Path:
    """Return a folder with ``events.csv``, ``items.csv`` and ``spec.toml``: 60 users, 40 items in four genres."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(60):
        liked = rng.permutation(np.arange(user % 4, 40, 4))[:8]
        other = rng.permutation(40)[:3]
        for time, item in enumerate(dict.fromkeys([*liked.tolist(), *other.tolist()])):
            rows.append((f"u{user}", f"i{item}", 1_600_000_000 + 86_400 * time + user))
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(tmp_path / "events.csv")
    items = [(f"i{i}", f"A {GENRES[i % 4]} film, part {i}", 1980 + i, GENRES[i % 4]) for i in range(40)]
    pl.DataFrame(items, schema=["item_id", "title", "year", "genres"], orient="row").write_csv(tmp_path / "items.csv")
    head = """
[experiment]
name = "small"
seeds = [1, 2]
ks = [1, 5, 10]
primary = "ndcg@10"
sample = 20
explain = 3

[data]
path = "events.csv"
items = "items.csv"
lists = { genres = "|" }
"""
    (tmp_path / "spec.toml").write_text(head + SYSTEMS)
    return tmp_path
