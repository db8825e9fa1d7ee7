"""Small made worlds with known answers, built from core values alone.

Each function returns a :class:`World`.  A correct model of the kind that the world is made for
reaches ``World.expected``; a model that guesses stays near ``World.chance``.  The measure is
recall at ``World.k`` of the test cases, seen items masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import polars as pl

from llm4rec.core import Cases, Dataset, Queries, Ragged, Split, Vocabulary

_START = 1_000_000_000  # seconds; the worlds' clock starts here
_DAY = 86_400

TOPICS: dict[str, tuple[str, ...]] = {
    "space": ("galaxy", "astronaut", "rocket", "planet", "orbit", "comet", "alien", "starship"),
    "cooking": ("kitchen", "recipe", "chef", "bakery", "spice", "dinner", "oven", "flavour"),
    "football": ("goalkeeper", "stadium", "striker", "penalty", "referee", "league", "kickoff", "midfield"),
    "music": ("violin", "concert", "melody", "orchestra", "singer", "rhythm", "piano", "chorus"),
}


@dataclass(frozen=True)
class World:
    """A split whose right answers are known.

    Attributes:
        name: of the world.
        split: its events and cases.
        k: where recall is taken.
        expected: recall@k that a correct model of the fitting kind reaches on the test cases.
        chance: recall@k of a random list of unseen items, about.
    """

    name: str
    split: Split
    k: int
    expected: float
    chance: float

    def __repr__(self) -> str:
        return f"World({self.name!r})"


def _vocabulary(n: int, kind: str) -> tuple[Vocabulary, np.ndarray]:
    """Return a vocabulary of n ids and, for each number, its inside id (in hash order, so without meaning)."""
    names = [f"{kind}{i}" for i in range(n)]
    vocabulary = Vocabulary.of(names, kind=kind)
    return vocabulary, vocabulary.encode(names)


def _dataset(
    name: str, walks: Sequence[Sequence[int]], n_items: int, titles: Sequence[str], genres: Sequence[str]
) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Make a data set of one walk (item numbers, oldest first) a user; also return both maps to inside ids."""
    users, user_at = _vocabulary(len(walks), "user")
    items, item_at = _vocabulary(n_items, "item")
    lengths = [len(w) for w in walks]
    step = np.concatenate([np.arange(n) for n in lengths])
    events = pl.DataFrame(
        {
            "user": user_at[np.repeat(np.arange(len(walks)), lengths)],
            "item": item_at[np.concatenate([np.asarray(w, dtype=np.int64) for w in walks])],
            "time": _START + step * _DAY,
            "value": np.full(len(step), 5.0, dtype=np.float32),
            "behavior": np.zeros(len(step), dtype=np.int8),
        }
    )
    order = np.argsort(item_at)
    item_table = pl.DataFrame(
        {
            "item": np.arange(n_items, dtype=np.int32),
            "title": [titles[i] for i in order],
            "year": [str(1980 + int(i) % 40) for i in order],
            "genres": [genres[i] for i in order],
        }
    )
    user_table = pl.DataFrame({"user": np.arange(len(users), dtype=np.int32)})
    return Dataset(name, users, items, events, item_table, user_table), user_at, item_at


def _cases(users: np.ndarray, histories: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> Cases:
    """Make cases of inside ids; histories with times a day apart, the query a day after the last."""
    history = Ragged.of(histories)
    step = np.concatenate([np.arange(n) for n in history.lengths]) if len(history.values) else np.empty(0, np.int64)
    queries = Queries(
        users,
        history,
        _START + history.lengths * _DAY,
        (_START + step * _DAY).astype(np.int64),
        np.zeros(len(step), np.int8),
    )
    return Cases(queries, Ragged.of(truths), history)


def _split(name: str, train: Dataset, valid: Cases, test: Cases) -> Split:
    rules: dict[str, Any] = {"world": name}
    return Split(train, valid, test, rules, f"{name}-{train.fingerprint()[:12]}")


@cache
def checkerboard(n_blocks: int = 4, users: int = 24, items: int = 8, held: int = 2, seed: int = 0) -> World:
    """Users and items in blocks; each user has touched all items of the own block but ``held``.

    The right answer is the untouched items of the own block, in any order (so recall@held is 1).
    Every item is equally popular, so popularity is chance.  Half of the users are asked for
    validation, the other half for the test.
    """
    rng = np.random.default_rng(seed)
    n_users, n_items = n_blocks * users, n_blocks * items
    walks, truths = [], []
    for user in range(n_users):
        block, number = user % n_blocks, user // n_blocks
        own = block * items + (number + np.arange(items)) % items  # turns by one a user: equal popularity
        truths.append(own[:held])
        walks.append(rng.permutation(own[held:]))
    topics = list(TOPICS)
    genres = [topics[i // items % len(topics)] for i in range(n_items)]
    titles = [f"{TOPICS[g][i % items % len(TOPICS[g])].title()} of the {g} {i // items}" for i, g in enumerate(genres)]
    train, user_at, item_at = _dataset("checkerboard", walks, n_items, titles, genres)
    even = np.arange(n_users) // n_blocks % 2 == 0
    parts = [
        _cases(user_at[chosen], [item_at[walks[u]] for u in chosen], [item_at[truths[u]] for u in chosen])
        for chosen in (np.flatnonzero(even), np.flatnonzero(~even))
    ]
    return World("checkerboard", _split("checkerboard", train, *parts), held, 1.0, held / (n_items - items + held))


@cache
def cycle(n_items: int = 24, users: int = 160, seed: int = 0) -> World:
    """The next item is a function of the last one: items stand in one circle, users walk along it.

    The right answer is the successor of the last item (recall@1 is 1 for a sequential model).  A
    model that ignores order cannot know in which direction the walk goes, and stays near one half.
    Leave-one-out: the last item is the test, the one before it the validation.
    """
    rng = np.random.default_rng(seed)
    circle = rng.permutation(n_items)
    walks = [
        circle[(int(start) + np.arange(int(n))) % n_items]
        for start, n in zip(rng.integers(n_items, size=users), rng.integers(6, 13, size=users), strict=True)
    ]
    names = [f"Station {i}" for i in range(n_items)]
    train, user_at, item_at = _dataset("cycle", [w[:-2] for w in walks], n_items, names, ["transit"] * n_items)
    valid = _cases(user_at, [item_at[w[:-2]] for w in walks], [item_at[w[-2:-1]] for w in walks])
    test = _cases(user_at, [item_at[w[:-1]] for w in walks], [item_at[w[-1:]] for w in walks])
    return World("cycle", _split("cycle", train, valid, test), 1, 1.0, 1 / (n_items - 8))


@cache
def topics(per_topic: int = 10, cold: int = 3, users: int = 48, seed: int = 0) -> World:
    """Item titles are words of a topic, users like one topic, some items have text but no events.

    The test asks for the cold items of the user's topic among the unseen ones; the user has
    touched all others of that topic, so a model that reads text reaches recall@cold of 1 and a
    collaborative one cannot know.  Validation asks for the last warm item.
    """
    rng = np.random.default_rng(seed)
    names = list(TOPICS)
    n_items = per_topic * len(names)
    genres = [names[i // per_topic] for i in range(n_items)]
    titles = [" ".join(rng.choice(TOPICS[g], size=3, replace=False)).capitalize() for g in genres]
    warm = per_topic - cold
    walks = [u % len(names) * per_topic + rng.permutation(warm) for u in range(users)]
    truths = [u % len(names) * per_topic + np.arange(warm, per_topic) for u in range(users)]
    train, user_at, item_at = _dataset("topics", [w[:-1] for w in walks], n_items, titles, genres)
    valid = _cases(user_at, [item_at[w[:-1]] for w in walks], [item_at[w[-1:]] for w in walks])
    test = _cases(user_at, [item_at[w] for w in walks], [item_at[t] for t in truths])
    return World("topics", _split("topics", train, valid, test), cold, 1.0, cold / (n_items - warm))


@cache
def popularity(n_items: int = 30, users: int = 120, seed: int = 0) -> World:
    """One item dominates: nine users in ten have it, the rest of the catalogue is spread evenly.

    The test asks the users without it, and it is the right answer (recall@1 is 1).  It is the
    users' own taste that is random, so nothing else can be learnt.
    """
    rng = np.random.default_rng(seed)
    walks = []
    for user in range(users):
        others = 1 + rng.choice(n_items - 1, size=5, replace=False)
        walks.append(others if user % 10 == 0 else np.append(others, 0))
    names = [f"Product {i}" for i in range(n_items)]
    train, user_at, item_at = _dataset("popularity", walks, n_items, names, ["goods"] * n_items)
    asked = np.arange(0, users, 10)
    test = _cases(user_at[asked], [item_at[walks[u]] for u in asked], [item_at[:1]] * len(asked))
    return World("popularity", _split("popularity", train, test, test), 1, 1.0, 1 / (n_items - 5))


WORLDS = (checkerboard, cycle, topics, popularity)
