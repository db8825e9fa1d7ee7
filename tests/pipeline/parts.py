"""Retrievers and rankers whose behaviour is known, and strategies that make lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from hypothesis import strategies as st

from llm4rec.core import Cases, Component, Config, Dataset, Explanation, Lists, Note, Queries, Ragged
from tests.worlds import checkerboard

SPLIT = checkerboard().split
N_ITEMS = SPLIT.train.n_items


class NoConfig(Config):
    """Nothing to set."""


class Counting(Component[NoConfig]):
    """Scores items by a fixed random order; counts its fits; draws from its generator."""

    deterministic = False

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        self.fits_ = getattr(self, "fits_", 0) + 1 if "fits_" in vars(self) else 1
        self.order_ = rng.permutation(train.n_items)
        return self

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        scores = np.broadcast_to(self.order_.astype(np.float32), (len(queries), len(self.order_)))
        return Lists.from_scores(scores, k, exclude=exclude)

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        return Lists.from_pools(candidates.items, self.order_[candidates.items])


class Ranks:
    """A ranker made of a function from (queries, candidates) to lists; nothing to fit."""

    def __init__(self, answer: Callable[[Queries, Lists], Lists]) -> None:
        self.answer, self.given = answer, [Lists.empty(0, 0)]

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        self.given.append(candidates)
        return self.answer(queries, candidates)


def identity() -> Ranks:
    return Ranks(lambda queries, candidates: candidates)


def reverse() -> Ranks:
    """Turns the candidates round."""
    return Ranks(lambda queries, c: Lists.from_pools(c.items, np.where(c.items < 0, np.nan, np.arange(c.k, dtype=np.float32))))


def oracle(truth_of: Mapping[int, int]) -> Ranks:
    """Knows each user's truth and puts it first."""

    def answer(queries: Queries, c: Lists) -> Lists:
        truth = np.array([truth_of[u] for u in queries.users.tolist()])
        return Lists.from_pools(c.items, np.where(c.items == truth[:, None], 1.0, 0.0))

    return Ranks(answer)


def forgetful(keep: int, *, tell: bool) -> Ranks:
    """Ranks the first ``keep`` candidates and leaves out the rest, with or without a word."""

    def answer(queries: Queries, c: Lists) -> Lists:
        kept = Lists(np.where(np.arange(c.k) < keep, c.items, -1), np.where(np.arange(c.k) < keep, c.scores, np.nan))
        if not tell:
            return kept
        notes = tuple(
            Note(failures=("shy",), dropped={int(i): "could not be read" for i in row[keep:] if i >= 0}) for row in c.items
        )
        return Lists(kept.items, kept.scores, notes)

    return Ranks(answer)


class Explains:
    """An explainer that names the item."""

    def explain(self, queries: Queries, lists: Lists) -> list[tuple[Explanation, ...]]:
        return [tuple(Explanation(int(i), f"Item {i}.") for i in row if i >= 0) for row in lists.items]


@st.composite
def some_lists(draw: Any, n: int | None = None, n_items: int = 12, width: int | None = None) -> Lists:
    """Draw lists by the rules: items once a row, falling scores with ties, pads on the right, empty rows."""
    n = draw(st.integers(0, 4)) if n is None else n
    width = draw(st.integers(0, 6)) if width is None else width
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    items = np.full((n, width), -1, np.int32)
    for row in range(n):
        length = draw(st.integers(0, width))
        items[row, :length] = rng.choice(n_items, length, replace=False)
    scores = np.where(items < 0, np.nan, rng.integers(-3, 4, items.shape) * draw(st.sampled_from([0.0, 0.5, 1e3])))
    return Lists.from_pools(items, scores)
