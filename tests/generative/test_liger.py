"""LIGER: the contracts of both searches, new items found by their text, proposals kept in bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from llm4rec.core import Lists, ModelError, Resources
from llm4rec.generative.liger import LIGER, LIGERConfig
from tests import worlds
from tests.contracts import RetrieverContract
from tests.generative.made import Hashed

SMALL = {
    "ids": {"scheme": "rq-kmeans", "levels": 2, "codebook": 8, "template": "{title} {genres}"},
    "text": {"encoder": "hash", "template": "{title} {genres}"},
    "width": 16, "length": 8, "epochs": 8, "every": 4, "batch_size": 16, "learning_rate": 1e-2, "dropout": 0.1,
    "candidates": 10,
}  # fmt: skip


class TestLIGER(RetrieverContract):
    """In this world all answers are items without events."""

    component = LIGER
    configs = SMALL
    world = worlds.topics()
    uses_valid = True
    expected = 0.7
    exact = False

    def resources(self) -> Resources:
        return Hashed()


def test_without_beams_it_is_dense_retrieval() -> None:
    split = worlds.topics().split
    config = LIGERConfig.model_validate(SMALL | {"search": "exact", "epochs": 2})
    model = LIGER.create(config, Hashed()).fit(split.train, valid=None, rng=np.random.default_rng(0))
    queries, exclude = split.test.queries, split.test.exclude("seen")
    wanted = Lists.from_scores(model.score(queries), 10, exclude=exclude)
    assert np.array_equal(model.retrieve(queries, 10, exclude=exclude).items, wanted.items)


def test_lists_hold_what_the_beams_find_and_new_items_in_order_of_their_vectors() -> None:
    split = worlds.topics().split
    config = LIGERConfig.model_validate(SMALL | {"candidates": 5, "epochs": 2})
    model = LIGER.create(config, Hashed()).fit(split.train, valid=None, rng=np.random.default_rng(0))
    queries, exclude = split.test.queries, split.test.exclude("seen")
    lists = model.retrieve(queries, 5, exclude=exclude)
    proposed = super(LIGER, model).retrieve(queries, 5, exclude=exclude)
    new = np.flatnonzero(split.train.item_counts == 0)
    scores = model.score(queries)
    for row in range(len(queries)):
        pool = np.union1d(proposed.items[row], new)
        wanted = pool[np.argsort(-scores[row, pool], kind="stable")][:5]
        np.testing.assert_allclose(scores[row, lists.items[row]], scores[row, wanted])


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_items_without_events_are_read_by_their_text_alone(share: float) -> None:
    split = worlds.topics().split
    config = LIGERConfig.model_validate(SMALL | {"item_dropout": share, "epochs": 2})
    network = LIGER.create(config, Hashed()).fit(split.train, valid=None, rng=np.random.default_rng(0)).network_
    touched = torch.from_numpy(split.train.item_counts > 0)
    items = torch.arange(len(touched))
    with torch.inference_mode():
        by_text = torch.isclose(network.embed(items), network.features(network.texts[:-1]), atol=1e-6).all(1)
        assert not by_text[touched].any()
        assert by_text[~touched].all() == bool(share)
        # While it trains, a share of the others is read so too, another one each time.
        network.train()
        first, second = network.embed(items), network.embed(items)
        assert torch.equal(first, second) == (not share)


def test_says_what_it_lacks() -> None:
    split = worlds.topics().split
    with pytest.raises(ModelError, match="text_encoder"):
        LIGER(LIGERConfig.model_validate(SMALL)).fit(split.train, valid=None, rng=np.random.default_rng(0))


def test_texts_are_read_once() -> None:
    with pytest.raises(ValueError, match="item_init: LIGER reads the items' texts by itself"):
        LIGERConfig.model_validate(SMALL | {"item_init": {}})
