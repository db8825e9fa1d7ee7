"""The contract of what adds to what is known of items and users."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from llm4rec.core import Augmenter, Cases, Dataset, Lists, Queries, Ragged
from llm4rec.core.columns import ITEM, TIME, USER
from tests.contracts.component import ComponentContract, snapshot


def _number(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=2).digest(), "big")


class AugmenterContract(ComponentContract):
    """An augmenter: richer tables and queries; the events and histories are the same, and nothing comes from later."""

    n_cases: ClassVar[int] = 12
    #: Does it add columns?  Does it add profiles?
    augments: ClassVar[bool] = True
    enriches: ClassVar[bool] = True

    @property
    def cases(self) -> Cases:
        return self.world.split.test.take(np.arange(self.n_cases))

    def added(self, component: Any, dataset: Dataset | None = None) -> pl.DataFrame:
        """Return the columns of the item table that are new."""
        before = self.world.split.train if dataset is None else dataset
        after = component.augment(before).item_table
        return after.select(ITEM, *[name for name in after.columns if name not in before.item_table.columns])

    def answer(self, component: Any) -> Lists:
        """Return all that is added in the form of lists: a score is the hash of a text."""
        profiles = component.enrich(self.cases.queries).profiles or ()
        texts = [*profiles, *(str(row) for row in self.added(component).rows())]
        scores = np.array([[_number(text)] for text in texts], dtype=np.float32)
        return Lists(np.zeros((len(texts), 1), np.int32), scores)

    # -- the contract -------------------------------------------------------------------
    def test_is_an_augmenter_that_adds(self, fitted: Any) -> None:
        assert isinstance(fitted, Augmenter)
        added = self.added(fitted).drop(ITEM)
        assert bool(added.width) == self.augments
        if self.augments:
            assert any(added[name].drop_nulls().len() for name in added.columns), "columns without any value"
        profiles = fitted.enrich(self.cases.queries).profiles
        assert (profiles is not None) == self.enriches
        if self.enriches:
            assert profiles is not None
            assert len(set(profiles)) > 1, "all users are the same"

    def test_the_rest_of_the_data_is_as_it_was(self, fitted: Any) -> None:
        train = self.world.split.train
        before = snapshot(train)
        after = fitted.augment(train)
        assert snapshot(train) == before
        assert after.item_table.select(train.item_table.columns).equals(train.item_table)
        kept = snapshot(replace(after, item_table=train.item_table))
        assert kept == before

    def test_the_rest_of_the_queries_is_as_it_was(self, fitted: Any) -> None:
        queries = replace(self.cases.queries, profiles=("before",) * self.n_cases, texts=("asked",) * self.n_cases)
        after = fitted.enrich(queries)
        assert np.array_equal(after.history.values, queries.history.values)
        assert np.array_equal(after.history.offsets, queries.history.offsets)
        for name in ("users", "times", "history_times", "history_behaviors"):
            assert np.array_equal(getattr(after, name), getattr(queries, name)), name
        assert after.texts == queries.texts
        assert after.profiles is not None
        assert all(profile.startswith("before") for profile in after.profiles), "what was known before is gone"

    def test_one_at_a_time_equals_the_batch(self, fitted: Any) -> None:
        together = fitted.enrich(self.cases.queries).profiles or ("",) * self.n_cases
        for row in range(self.n_cases):
            alone = fitted.enrich(self.cases.queries.take(np.array([row]))).profiles or ("",)
            assert alone == together[row : row + 1]

    def test_order_of_queries_does_not_matter(self, fitted: Any) -> None:
        order = np.random.default_rng(3).permutation(self.n_cases)
        together = fitted.enrich(self.cases.queries).profiles or ("",) * self.n_cases
        shuffled = fitted.enrich(self.cases.queries.take(order)).profiles or ("",) * self.n_cases
        assert shuffled == tuple(together[int(i)] for i in order)

    def test_nothing_comes_from_the_time_of_the_query_or_later(self) -> None:
        """Events at and after the earliest query asked change nothing of what it says of that query and of the items."""
        train = self.world.split.train
        first = self.cases.queries.take(np.array([int(np.argmin(self.cases.queries.times))]))
        now, rng = int(first.times[0]), np.random.default_rng(11)
        early = train.events.filter(pl.col(TIME) < now)
        late = early.sample(60, with_replacement=True, seed=11).with_columns(
            pl.Series(ITEM, rng.integers(train.n_items, size=60), dtype=pl.Int32),
            pl.Series(TIME, now + np.arange(60), dtype=pl.Int64),
        )
        late = pl.concat([late, late.with_columns(pl.lit(int(first.users[0]), pl.Int32).alias(USER))])
        past, future = self.fit(train=train.with_events(early)), self.fit(train=train.with_events(pl.concat([early, late])))
        assert past.enrich(first).profiles == future.enrich(first).profiles
        assert self.added(past).equals(self.added(future))

    def test_no_queries_and_no_history(self, fitted: Any) -> None:
        nobody = fitted.enrich(self.cases.queries.take(np.arange(0)))
        assert len(nobody) == 0
        late = int(self.cases.queries.times.max())
        empty = fitted.enrich(Queries(np.array([-1]), Ragged.empty(1), np.array([late])))
        assert len(empty) == 1

    def test_what_is_loaded_says_the_same(self, fitted: Any, tmp_path: Path) -> None:
        fitted.save(tmp_path / "saved")
        loaded = self.component.load(tmp_path / "saved", self.resources())
        assert loaded.enrich(self.cases.queries).profiles == fitted.enrich(self.cases.queries).profiles
        assert self.added(loaded).equals(self.added(fitted))
