"""PopularByAttribute: the contract, and probabilities by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from llm4rec.core import Dataset, Queries, Ragged, SpecError
from llm4rec.models.popular_by_attribute import PopularByAttribute, PopularByAttributeConfig
from tests import worlds
from tests.contracts import ScoringContract


class TestPopularByAttribute(ScoringContract):
    """Blocks of items are genres there, so the unseen items of the user's genre are the right answer."""

    component = PopularByAttribute
    configs: ClassVar[dict[str, Any]] = {"smoothing": 1.0}
    world = worlds.checkerboard()
    floor = ("ndcg@10", 0.035)


def made(genres: list[Any]) -> Dataset:
    """Return a training part of 4 items, taken 3, 2, 1 and 0 times, with the given genres."""
    base = worlds.popularity().split.train
    items = [0, 0, 0, 1, 1, 2]
    table = {"user": list(range(6)), "item": items, "time": [1] * 6, "value": [1.0] * 6, "behavior": [0] * 6}
    column = pl.Series("genres", genres + [None] * (base.n_items - len(genres)))
    return replace(
        base,
        events=pl.DataFrame(table, schema=base.events.schema),
        item_table=base.item_table.drop("genres").with_columns(column),
    )


def fitted(train: Dataset, **params: Any) -> PopularByAttribute:
    model = PopularByAttribute(PopularByAttributeConfig.model_validate(params))
    return model.fit(train, valid=None, rng=np.random.default_rng(0))


def test_scores_are_the_formula() -> None:
    model = fitted(made([["a", "b"], ["b"], [], ["a"]]), smoothing=2.0, half_life=1.0)
    a, b, none = 1.5, 3.5, 1.0  # events of each value: item 0 is half a, half b; item 2 has none
    scores = model.score(Queries.of(Ragged.of([[1, 0], []])))[:, :4]
    own = np.array([0.5 + 2 * a / 6, 0.5 + 0.5 + 2 * b / 6, 2 * none / 6]) / 3.5  # item 1 an event earlier: half
    np.testing.assert_allclose(scores[0], [own[0] * 1.5 / a + own[1] * 1.5 / b, own[1] * 2 / b, own[2], 0.0], rtol=1e-5)
    np.testing.assert_allclose(scores[1], [3 / 6, 2 / 6, 1 / 6, 0.0], rtol=1e-5)  # nobody's taste is popularity


def test_one_value_an_item_is_like_a_list_of_one() -> None:
    queries = Queries.of(Ragged.of([[1], [2, 0]]))
    one, lists = fitted(made(["a", "b", "a", ""])), fitted(made([["a"], ["b"], ["a"], []]))
    np.testing.assert_allclose(one.score(queries), lists.score(queries), rtol=1e-6)


def test_scores_are_probabilities() -> None:
    split = worlds.topics().split
    scores = fitted(split.train).score(split.test.queries)
    np.testing.assert_allclose(scores.sum(axis=1), 1.0, rtol=1e-5)


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(SpecError, match="attribute: the item table has no column 'genre'; did you mean 'genres'"):
        fitted(worlds.topics().split.train, attribute="genre")
