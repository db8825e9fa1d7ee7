"""TIGER: the contract, exact scores by teacher forcing, user tokens, the draw of targets."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from llm4rec.core import Queries
from llm4rec.generative.levels import Levels
from llm4rec.generative.tiger import TIGER, TIGERConfig
from tests import worlds
from tests.contracts import ScoringContract

SMALL = {
    "ids": {"scheme": "random", "levels": 2, "codebook": 6}, "width": 16, "layers": 1, "heads": 2, "head_width": 8,
    "hidden": 32, "length": 3, "epochs": 12, "every": 3, "batch_size": 128, "learning_rate": 1e-2,
    "smoothing": 0.0, "dropout": 0.0,
}  # fmt: skip


class TestTIGER(ScoringContract):
    component = TIGER
    configs = SMALL
    world = worlds.cycle()
    uses_valid = True


class TestTIGERWithUsers(TestTIGER):
    configs: ClassVar = SMALL | {"users": 3, "length": 8}  # longer than most histories: there are pads to stand behind
    expected = 0.6  # more to read, and as few epochs


@pytest.fixture(scope="module")
def fitted() -> TIGER:
    split = worlds.cycle().split
    config = TIGERConfig.model_validate(SMALL | {"epochs": 2, "users": 3})
    return TIGER(config).fit(split.train, valid=None, rng=np.random.default_rng(0))


def test_scores_are_what_the_decoder_says_of_the_whole_id(fitted: TIGER) -> None:
    queries = worlds.cycle().split.test.queries.take(np.arange(2))
    scores, levels, network = fitted.score(queries), Levels.of(fitted.ids_), fitted.network_
    history = torch.from_numpy(queries.history.padded(3, pad=24).astype(np.int64))
    with torch.inference_mode():
        users = torch.from_numpy(levels.n_tokens + 2 + queries.users.astype(np.int64) % 3)
        read = torch.cat([users[:, None], levels.codes[history].flatten(1)], 1)
        memory = network.t5.encode(network.tokens(read), read != levels.n_tokens)
        for item in range(24):
            written = torch.tensor([[levels.n_tokens + 1, *levels.codes[item, :-1]]] * 2)
            states = network.t5.decode(network.tokens(written), memory) / 4  # the root of the width
            total = np.zeros(2)
            for level in range(levels.depth):
                table = network.tokens.weight[levels.starts[level] : levels.starts[level + 1]]
                rows = states[:, level] @ table.T
                total -= [float(levels.loss(level, row[None], torch.tensor([item]), 0.0)) for row in rows]
            np.testing.assert_allclose(scores[:, item], total, rtol=1e-3, atol=1e-4)


def test_wide_beams_find_what_exact_scores_say(fitted: TIGER) -> None:
    queries = worlds.cycle().split.test.queries.take(np.arange(20))
    beams = TIGER(fitted.config.model_copy(update={"search": "beam", "beams": 24}))
    beams.restore(fitted.state())
    exact, found = (model.retrieve(queries, 10, exclude=queries.history) for model in (fitted, beams))
    np.testing.assert_allclose(found.scores, exact.scores, rtol=1e-3, atol=1e-4)
    found.check(24, exclude=queries.history)


def test_a_user_token_tells_users_apart_and_nobody_has_none(fitted: TIGER) -> None:
    history = worlds.cycle().split.test.queries.history.take(np.zeros(4, np.int64))
    scores = fitted.score(Queries.of(history, users=np.array([0, 1, 3, -1])))
    assert np.array_equal(scores[0], scores[2]), "3 and 0 share a token"
    assert not np.allclose(scores[0], scores[1])
    assert not np.allclose(scores[0], scores[3])


@pytest.mark.parametrize("targets", [0, 2])
def test_an_epoch_predicts_each_event_after_the_first_or_some_of_each_history(targets: int) -> None:
    train = worlds.cycle().split.train
    model = TIGER(TIGERConfig.model_validate(SMALL | {"epochs": 1, "targets": targets}))
    model.fit(train, valid=None, rng=np.random.default_rng(0))
    batches, _ = model.training(train, np.random.default_rng(0))
    events = np.sort(np.concatenate(list(batches(1))))
    histories = train.histories.items
    counts = np.bincount(histories.rows[events], minlength=len(histories))
    most = histories.lengths - 1
    assert len(np.unique(events)) == len(events)
    assert not np.isin(histories.offsets[:-1], events).any()
    assert np.array_equal(counts, np.minimum(most, targets) if targets else most)
