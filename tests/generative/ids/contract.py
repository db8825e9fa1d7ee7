"""The contract of every scheme of item IDs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from pydantic import TypeAdapter, ValidationError

from llm4rec.core import Dataset
from llm4rec.core.columns import ITEM
from llm4rec.features import HashEncoder
from llm4rec.generative.ids import IdScheme, ItemIDs, Scheme
from tests import worlds
from tests.contracts.component import snapshot
from tests.worlds import World

ENCODER = HashEncoder(64)


class SchemeContract:
    """Unique, prefix-free IDs of the whole catalogue, from the training part alone, the same under a seed.

    Set ``scheme`` to the class and ``configs`` to what the small worlds need.
    """

    scheme: ClassVar[type[Scheme]]
    configs: ClassVar[dict[str, Any]] = {}
    #: Does the rng matter?
    drawn: ClassVar[bool] = True

    def make(self, **changes: Any) -> Scheme:
        return self.scheme.model_validate({**self.configs, **changes})

    def build(self, train: Dataset, seed: int = 0, **changes: Any) -> ItemIDs:
        return self.make(**changes).build(train, encoder=ENCODER, rng=np.random.default_rng(seed))

    @pytest.mark.parametrize("world", [world() for world in worlds.WORLDS], ids=lambda w: w.name)
    def test_every_item_has_its_id(self, world: World) -> None:
        train = world.split.train
        before = snapshot(train)
        ids = self.build(train)
        assert snapshot(train) == before
        assert ids.n_items == train.n_items
        assert ids.find(ids.padded()).tolist() == list(range(train.n_items))
        assert len(set(ids.written())) == ids.n_tokens

    def test_the_same_seed_gives_the_same_ids(self) -> None:
        train = worlds.topics().split.train
        first, again, other = self.build(train), self.build(train), self.build(train, seed=1)
        assert np.array_equal(first.padded(), again.padded())
        assert first.words == again.words
        if not self.drawn:
            assert np.array_equal(first.padded(), other.padded())

    def test_the_control_shuffles(self) -> None:
        train = worlds.topics().split.train
        true, control = self.build(train), self.build(train, control="shuffled")
        assert not np.array_equal(true.padded(), control.padded())
        assert control.n_tokens == true.n_tokens
        assert np.array_equal(np.sort(control.codes.lengths), np.sort(true.codes.lengths))

    def test_a_catalogue_that_nobody_has_touched(self) -> None:
        train = worlds.topics().split.train
        assert self.build(train.with_events(train.events.head(0))).n_items == train.n_items

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_the_smallest_catalogues(self, n: int) -> None:
        train = worlds.topics().split.train
        small = replace(
            train, items=type(train.items)(train.items.ids[:n]), item_table=train.item_table.head(n),
            events=train.events.filter(pl.col(ITEM) < n),
        )  # fmt: skip
        assert self.build(small).n_items == n

    def test_is_told_by_its_name(self) -> None:
        scheme = self.make()
        read: Any = TypeAdapter(IdScheme).validate_python(scheme.model_dump(mode="json"))
        assert read == scheme
        with pytest.raises(ValidationError):
            self.make(nonsense=1)
