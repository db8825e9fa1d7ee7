"""A small made world of ratings with a known answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl

from llm4rec.core import Dataset, Split, Vocabulary
from llm4rec.data import SplitConfig, make_split

_START, _DAY = 1_000_000_000, 86_400


@dataclass(frozen=True)
class RatedWorld:
    """A split of ratings ``mean + b_u + b_i + t_u . t_i + noise``.

    Attributes:
        split: its parts.
        noise: deviation of the noise, which no predictor can beat.
        threshold: the value from which on about half of the ratings are.
    """

    split: Split
    noise: float
    threshold: float

    def __repr__(self) -> str:
        return "RatedWorld()"


@cache
def tastes(n_users: int = 160, n_items: int = 80, each: int = 40, noise: float = 0.5, seed: int = 0) -> RatedWorld:
    """Users of two kinds, items of four genres; each kind likes two of the genres and dislikes the others.

    Biases have a deviation of .5 for users and for items, tastes are worth +-.8.  One item has no events.
    Users' kind is a column of the user table, genres are one of the item table, as numbers like years are.
    """
    rng = np.random.default_rng(seed)
    users = Vocabulary.of([f"user{i}" for i in range(n_users)], kind="user")
    items = Vocabulary.of([f"item{i}" for i in range(n_items + 1)], kind="item")
    kind, genre = rng.integers(2, size=n_users), rng.integers(4, size=n_items + 1)
    b_user, b_item = rng.normal(0, 0.5, n_users), rng.normal(0, 0.5, n_items + 1)
    at = np.repeat(np.arange(n_users), each)
    touched = np.concatenate([rng.choice(n_items, size=each, replace=False) for _ in range(n_users)])
    liked = np.where((genre[touched] % 2) == kind[at], 0.8, -0.8)
    values = 3.0 + b_user[at] + b_item[touched] + liked + rng.normal(0, noise, len(at))
    events = pl.DataFrame({
        "user": at, "item": touched, "time": _START + _DAY * np.tile(np.arange(each), n_users),
        "value": values.astype(np.float32), "behavior": np.zeros(len(at), np.int8),
    })  # fmt: skip
    names = np.array(["comedy", "drama", "crime", "war"])
    item_table = pl.DataFrame({
        "item": np.arange(n_items + 1, dtype=np.int32),
        "title": [f"the {i}th" for i in range(n_items + 1)],
        "year": 1950 + rng.integers(70, size=n_items + 1),
        "genres": [[str(names[g]), "film"] if g else [str(names[g])] for g in genre],
    })  # fmt: skip
    user_table = pl.DataFrame({"user": np.arange(n_users, dtype=np.int32), "kind": np.where(kind == 0, "even", "odd")})
    dataset = Dataset("tastes", users, items, events, item_table, user_table)
    return RatedWorld(make_split(dataset, SplitConfig(kind="ratio")), noise, 3.0)
