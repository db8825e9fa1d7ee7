"""IDs by levels: the same IDs, each token in one level, and a loss that is the items' own distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.generative.ids import ItemIDs, SequentialIDs
from llm4rec.generative.levels import Levels
from tests import worlds

#: Prefix-free, of different lengths, with tokens that stand at several levels.
MIXED = ItemIDs.of([[0, 1, 2], [0, 2], [1, 0], [1, 1, 1], [1, 1, 3], [3]], 4)


def test_tokens_belong_to_one_level_and_tell_the_same_items_apart() -> None:
    levels = Levels.of(MIXED)
    assert levels.starts == (0, 3, 6, 9)  # 0, 1, 3; then 0, 1, 2; then 1, 2, 3
    assert levels.ids.codes.tolist() == [[0, 4, 7], [0, 5], [1, 3], [1, 4, 6], [1, 4, 8], [2]]
    assert levels.codes[-1].tolist() == [9, 9, 9]
    assert levels.codes[1].tolist() == [0, 5, 9]


def test_what_an_id_leaves_open_is_all_that_is_asked() -> None:
    levels, items = Levels.of(MIXED), torch.arange(6)
    assert levels.undecided(0, items).tolist() == [0, 1, 2, 3, 4, 5]
    assert levels.undecided(1, items).tolist() == [0, 1, 2, 3, 4]
    assert levels.undecided(2, items).tolist() == [3, 4], "nothing but 2 can follow 0 1"


@given(st.integers(0, 2**31))
@settings(deadline=None, max_examples=30)
def test_cut_ids_are_the_shortest_that_tell_the_items_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.permutation(27)[: int(rng.integers(1, 27))]
    levels = Levels.of(ItemIDs.of(np.stack([rows // 9, rows // 3 % 3, rows % 3], axis=1).tolist(), 3))
    whole, cut = levels.ids.codes.tolist(), levels.shortest.codes.tolist()
    for item, (own, short) in enumerate(zip(whole, cut, strict=True)):
        others = [other for at, other in enumerate(whole) if at != item]
        shared = [n for n in range(1, 4) if not any(other[:n] == own[:n] for other in others)]
        assert short == own[: min(shared)]


@settings(deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.1]))
def test_losses_are_those_of_the_tokens_that_can_follow(seed: int, smoothing: float) -> None:
    levels = Levels.of(MIXED)
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 3)))
    found = levels.loss(2, logits, torch.tensor([3, 4]), smoothing)
    log_p = logits[:, [0, 2]].log_softmax(1)  # 1 1 goes on with 1 or 3, never with 2
    wanted = -(1 - smoothing) * (log_p[0, 0] + log_p[1, 1]) - smoothing * log_p.mean(1).sum()
    torch.testing.assert_close(found, wanted)


def test_probabilities_of_all_items_sum_to_one() -> None:
    levels = Levels.of(SequentialIDs(digits=1).build(worlds.cycle().split.train, encoder=None, rng=np.random.default_rng(0)))
    torch.manual_seed(0)
    logits = torch.randn(levels.n_tokens)  # whatever the prefix
    total = 0.0
    for item in range(levels.ids.n_items):
        here, log_p = torch.tensor([item]), 0.0
        for level in range(levels.depth):
            own = logits[levels.starts[level] : levels.starts[level + 1]]
            if len(levels.undecided(level, here)):
                log_p -= float(levels.loss(level, own[None], here, 0.0))
        total += np.exp(log_p)
    assert total == pytest.approx(1.0, abs=1e-5)
