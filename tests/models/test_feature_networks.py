"""FM, DeepFM and DCN-v2: the contract, what each computes, and that no question sees its own answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import torch

from llm4rec.core import Queries, Ragged
from llm4rec.features.fields import Field, fields
from llm4rec.models.dcn import DCN, Cross
from llm4rec.models.deepfm import DeepFM
from llm4rec.models.feature_network import Batch, interactions
from llm4rec.models.fm import FM, FMConfig
from tests import rated
from tests.contracts import PredictorContract

SMALL = {"width": 8, "length": 20, "epochs": 20, "batch_size": 256, "learning_rate": 1e-2, "weight_decay": 0.1, "dropout": 0.1}


class TestFM(PredictorContract):
    component = FM
    configs = SMALL
    uses_valid = True


class TestDeepFM(PredictorContract):
    component = DeepFM
    configs: ClassVar = SMALL | {"hidden": (16,)}
    uses_valid = True


class TestDCN(PredictorContract):
    component = DCN
    configs: ClassVar = SMALL | {"hidden": (16,), "rank": 8}
    uses_valid = True


def test_interactions_are_the_inner_products_of_every_two() -> None:
    v = torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(0))
    slow = sum((v[:, i] * v[:, j]).sum(1) for i in range(6) for j in range(i))
    torch.testing.assert_close(interactions(v), slow)


@pytest.mark.parametrize("rank", [None, 2])
def test_a_cross_multiplies_by_the_first_features(rank: int | None) -> None:
    cross = Cross(4, rank)
    x0, x = torch.randn(3, 4), torch.randn(3, 4)
    w = torch.stack([cross.weight(e) - cross.weight(torch.zeros(4)) for e in torch.eye(4)], dim=1)  # W
    wanted = x0 * (x @ w.T + cross.weight(torch.zeros(4))) + x
    torch.testing.assert_close(cross(x0, x), wanted)
    if rank is not None:
        assert torch.linalg.matrix_rank(w) <= rank


def test_fields_are_the_ids_and_what_groups_users_and_items() -> None:
    train = rated.tastes().split.train
    found = {f.name: f for f in fields(train)}
    assert list(found) == ["user", "user.kind", "item", "item.year", "item.genres"], "titles name single items"
    kinds = train.user_table["kind"].to_list()
    codes = found["user.kind"].codes[:-1, 0]
    assert {(k, int(c)) for k, c in zip(kinds, codes, strict=True)} == {("even", 1), ("odd", 2)}
    cold = int(np.flatnonzero(train.item_counts == 0)[0])
    assert found["item"].codes[cold, 0] == 0
    genres = found["item.genres"]
    assert [(row < genres.size).sum() for row in genres.codes[:-1]] == train.item_table["genres"].list.len().to_list()
    for field in found.values():
        assert field.codes[-1, 0] == 0, "nobody's values are unknown"
        assert field.codes.min() >= 0
        assert field.codes.max() <= field.size


def test_missing_and_unseen_values_are_unknown() -> None:
    train = rated.tastes().split.train
    cold = np.flatnonzero(train.item_counts == 0)
    years = train.item_table["year"].to_list()
    genres = train.item_table["genres"].to_list()
    years[0], genres[1], genres[2], genres[int(cold[0])] = None, None, [], ["unheard"]
    table = train.item_table.with_columns(
        year=pl.Series(years), genres=pl.Series(genres, dtype=pl.List(pl.String)), nothing=pl.lit(None, pl.String)
    )
    found: dict[str, Field] = {f.name: f for f in fields(replace(train, item_table=table))}
    assert found["item.year"].codes[0, 0] == 0
    assert [found["item.genres"].codes[i, 0] for i in (1, 2, int(cold[0]))] == [0, 0, 0]
    assert "item.nothing" not in found


def test_a_number_that_is_none_is_unknown_and_moves_no_bucket() -> None:
    train = rated.tastes().split.train
    prices = np.arange(train.n_items, dtype=np.float64)
    whole, odd = (pl.Series("price", prices), pl.Series("price", np.where(prices == 3, np.nan, prices)))
    codes = [
        next(
            f for f in fields(replace(train, item_table=train.item_table.with_columns(column))) if f.name == "item.price"
        ).codes
        for column in (whole, odd)
    ]
    assert codes[1][3, 0] == 0
    assert codes[0].max() == codes[1].max() == 10
    assert (codes[0] != codes[1]).sum() <= 10, "an edge moves by a part of one item"


def test_no_training_question_sees_its_own_value_or_a_later_one() -> None:
    """The network is handed, for each training event, the events before it alone."""
    train = rated.tastes(n_users=20, n_items=30, each=12).split.train
    seen: list[Batch] = []

    class Watched(FM):
        def network(self, given: Any) -> Any:
            network = super().network(given)
            network.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
            return network

    Watched(FMConfig(length=5, epochs=1, batch_size=7, unknown=0.0)).fit(train, valid=None, rng=np.random.default_rng(0))
    events = {(u, i): n for u in range(20) for n, i in enumerate(train.histories.items[u].tolist())}
    asked = 0
    for batch in seen:
        for user, item, history in zip(batch.users.tolist(), batch.items.tolist(), batch.history.tolist(), strict=True):
            place = events[user, item]
            assert [i for i in history if i >= 0] == train.histories.items[user][max(0, place - 5) : place].tolist()
            asked += 1
    assert asked == len(train.events)


def test_a_likes_history_moves_what_is_expected() -> None:
    world = rated.tastes()
    model = FM(FMConfig.model_validate(SMALL)).fit(world.split.train, valid=None, rng=np.random.default_rng(0))
    item = np.full(2, 3, np.int32)
    values = np.repeat(np.array([5.0, 1.0], np.float32), 6)
    queries = Queries(np.full(2, -1), Ragged.of([list(range(10, 16))] * 2), np.zeros(2), history_values=values)
    high, low = model.predict(queries, item)
    assert high > low + 0.5
