"""The decoder over semantic IDs: the contract, exact scores by brute force, beams, causality."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from llm4rec.core import ModelError, Queries, Ragged, Resources
from llm4rec.generative.ids import ItemIDs
from llm4rec.generative.levels import Levels
from llm4rec.generative.semantic_decoder import SemanticDecoder, SemanticDecoderConfig
from tests import worlds
from tests.contracts import RetrieverContract, ScoringContract
from tests.generative.made import Hashed

IDS = {"scheme": "random", "levels": 3, "codebook": 6}
SMALL = {
    "ids": IDS, "width": 16, "length": 8, "epochs": 6, "every": 3, "batch_size": 32, "learning_rate": 2e-2, "dropout": 0.0,
    "smoothing": 0.0,
}  # fmt: skip


class TestSemanticDecoder(ScoringContract):
    component = SemanticDecoder
    configs = SMALL
    world = worlds.cycle()
    uses_valid = True


class TestByBeams(RetrieverContract):
    component = SemanticDecoder
    configs: ClassVar = {**SMALL, "search": "beam", "beams": 8}
    world = worlds.cycle()
    uses_valid = True
    exact = False


class TestWithVectorsOfTheItemsOwn(ScoringContract):
    component = SemanticDecoder
    configs: ClassVar = {**SMALL, "item_init": {"encoder": "hash", "template": "{title}"}}
    world = worlds.cycle()
    uses_valid = True

    def resources(self) -> Resources:
        return Hashed()


def test_items_of_one_id_but_for_the_last_token_are_read_apart_by_their_own_vectors() -> None:
    split = worlds.cycle().split
    config = SemanticDecoderConfig.model_validate(SMALL | {"epochs": 1, "item_init": {"template": "{title}", "scale": 0.5}})
    model = SemanticDecoder.create(config, Hashed()).fit(split.train, valid=None, rng=np.random.default_rng(0))
    network = model.network_
    assert network.items is not None
    everything = torch.arange(split.train.n_items + 1)
    with torch.inference_mode():
        read, own = network.embed(everything), network.items(everything)
        codes = torch.cat([network.tokens.weight[:-1], torch.zeros(1, config.width)])[network.levels.codes].sum(1)
    torch.testing.assert_close(read, codes + own)
    assert not read[-1].any(), "the pad is read as something"
    assert float(own[:-1].std()) > 0.25, "they did not begin from the texts"


def test_texts_without_an_encoder_are_refused() -> None:
    split = worlds.cycle().split
    config = SemanticDecoderConfig.model_validate(SMALL | {"item_init": {}})
    with pytest.raises(ModelError, match=r"SemanticDecoder: needs an encoder; build it with text_encoder=\.\.\. or"):
        SemanticDecoder(config).fit(split.train, valid=None, rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def fitted() -> SemanticDecoder:
    split = worlds.cycle().split
    config = SemanticDecoderConfig.model_validate(SMALL | {"epochs": 3, "ids": {"scheme": "sequential", "digits": 1}})
    return SemanticDecoder(config).fit(split.train, valid=None, rng=np.random.default_rng(0))


def test_scores_are_the_loss_of_each_item(fitted: SemanticDecoder) -> None:
    """What training lowers is, without smoothing, the negative score of the item that came next."""
    queries = worlds.cycle().split.test.queries.take(np.arange(3))
    scores, levels, network = fitted.score(queries), Levels.of(fitted.ids_), fitted.network_
    with torch.inference_mode():
        state = fitted.states(queries)
        for item in range(24):
            items, prefix, total = torch.full((3,), item), torch.zeros(3, 32), np.zeros(3)
            for level in range(levels.depth):
                z = network.after(network.question(level, state), prefix)
                table = network.tokens.weight[levels.starts[level] : levels.starts[level + 1]]
                total -= [float(levels.loss(level, row[None], items[:1], 0.0)) for row in z @ table.T]
                prefix = prefix + network.written(levels.codes[items, level])
            np.testing.assert_allclose(scores[:, item], total, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.exp(scores.astype(np.float64)).sum(axis=1), 1.0, rtol=1e-4)


def test_wide_beams_find_what_exact_scores_say(fitted: SemanticDecoder) -> None:
    queries = worlds.cycle().split.test.queries
    exclude = queries.history
    beams = SemanticDecoder(fitted.config.model_copy(update={"search": "beam", "beams": 24}))
    beams.restore(fitted.state())
    exact, found = (model.retrieve(queries, 10, exclude=exclude) for model in (fitted, beams))
    np.testing.assert_allclose(found.scores, exact.scores, rtol=1e-4, atol=1e-4)
    assert (found.items == exact.items).mean() > 0.99  # but for ties


def test_nothing_later_is_seen_and_pads_are_as_if_they_were_not_there() -> None:
    levels = Levels.of(ItemIDs.of([[i // 4, 4 + i % 4] for i in range(20)], 9))
    torch.manual_seed(0)
    network = SemanticDecoder(SemanticDecoderConfig(width=16, blocks=2)).network(levels).eval()
    history = torch.tensor([[20, 20, 3, 4, 5], [20, 20, 3, 4, 9]])
    with torch.inference_mode():
        padded = network.read(history)
        bare = network.read(history[:1, 2:])
    torch.testing.assert_close(padded[0, 2:], bare[0])
    torch.testing.assert_close(padded[0, 3], padded[1, 3])
    assert not torch.allclose(padded[0, 4], padded[1, 4])


def test_a_query_without_history_gets_what_is_popular(fitted: SemanticDecoder) -> None:
    scores = fitted.score(Queries.of(Ragged.of([[], [3]])))
    assert np.array_equal(np.argsort(-scores[0], kind="stable"), np.argsort(-fitted.popularity_, kind="stable"))
    assert not np.array_equal(scores[0], scores[1])
