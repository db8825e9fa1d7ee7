"""The report on item IDs: figures that can be told in made catalogues, and the control in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from llm4rec.generative.ids import ItemIDs, RandomIDs, SequentialIDs, leveled
from llm4rec.generative.ids.report import inspect
from tests.generative.ids.made import blocks, catalogue

RNG = np.random.default_rng


def test_counts_of_a_known_catalogue() -> None:
    ids = ItemIDs.of([[0, 2], [0, 3], [1, 2, 4], [1, 2, 5]], 7)
    report = inspect(ids, catalogue(4), rng=RNG(0))
    assert (report.n_items, report.n_tokens, report.used, report.depth) == (4, 7, 6, 3)
    assert report.mean_depth == 2.5
    first, second, third = report.levels
    assert (first.items, first.used, first.prefixes, first.largest) == (4, 2, 2, 2)
    assert first.entropy == pytest.approx(1.0)
    assert first.perplexity == pytest.approx(2.0)
    assert first.chance == pytest.approx(4 / 12)
    assert (second.items, second.used, second.prefixes, second.largest) == (4, 2, 3, 2)
    assert second.entropy == pytest.approx(-(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)))
    assert (third.items, third.used, third.prefixes, third.largest, third.chance) == (2, 2, 2, 1, 0.0)
    assert first.text is None
    assert first.events is None


def test_neighbours_share_the_prefixes_that_they_should() -> None:
    train = blocks(4, 30, users=400, cold=2)
    block, topic = np.arange(120) % 4, RNG(0).integers(3, size=120)
    vectors = np.eye(3, dtype=np.float32)[topic]
    vectors[5] = 0
    ids = leveled(np.column_stack([block, np.arange(120)]), [4, 120])
    first, second = inspect(ids, train, vectors, rng=RNG(0)).levels
    assert first.events == 1.0
    assert first.text == pytest.approx(0.25, abs=0.1)  # topics have nothing to do with the prefix
    assert first.chance == pytest.approx(29 / 119)
    assert second.events == second.text == second.chance == 0.0
    (first, _) = inspect(leveled(np.column_stack([topic, np.arange(120)]), [3, 120]), train, vectors, rng=RNG(0)).levels
    assert first.text == 1.0


def test_chance_is_what_shuffling_gives() -> None:
    train = blocks(4, 30, users=400)
    ids = leveled(np.column_stack([np.arange(120) % 4, np.arange(120) // 4]), [4, 30])
    chance = inspect(ids, train, rng=RNG(0)).levels[0].chance
    shuffled = [inspect(ids.shuffled(RNG(s)), train, rng=RNG(0)).levels[0].events or 0.0 for s in range(10)]
    assert np.mean(shuffled) == pytest.approx(chance, abs=0.02)


def test_pads_of_ended_ids_are_no_prefix() -> None:
    report = inspect(ItemIDs.of([[0], [1], [2, 0], [2, 1]], 3), catalogue(4), rng=RNG(0))
    assert report.levels[1].items == 2
    assert report.levels[1].largest == 1


def test_the_smallest_catalogues() -> None:
    assert inspect(RandomIDs().build(catalogue(1), encoder=None, rng=RNG(0)), catalogue(1), rng=RNG(0)).levels[0].chance == 0.0
    assert inspect(SequentialIDs().build(catalogue(0), encoder=None, rng=RNG(0)), catalogue(0), rng=RNG(0)).levels == ()
