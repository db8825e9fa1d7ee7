"""SASRec: the contract, windows, causality, text initialisation and its controls."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from llm4rec.core import Cases, Dataset, ModelError, Queries, Ragged, Resources, SpecError, Vocabulary
from llm4rec.features import Encoder, HashEncoder
from llm4rec.models.sasrec import SASRec, SASRecConfig
from tests import worlds
from tests.contracts import ScoringContract
from tests.contracts.evaluation import recall

SMALL = {
    "width": 16,
    "heads": 2,
    "blocks": 1,
    "length": 8,
    "epochs": 30,
    "batch_size": 32,
    "learning_rate": 1e-2,
    "dropout": 0.1,
}


class TestSASRec(ScoringContract):
    component = SASRec
    configs = SMALL
    world = worlds.cycle()
    uses_valid = True


class TestSampledSASRec(ScoringContract):
    """Everything that is not the default, so that each is fitted, saved and asked once."""

    component = SASRec
    configs = {**SMALL, "windows": "last", "loss": "sampled-softmax", "negatives": 16, "time_gaps": True, "positions": "none"}
    world = worlds.cycle()
    uses_valid = True


class Hashed:
    """Resources whose every encoder hashes words."""

    def llm(self, name: str) -> Any:
        raise AssertionError("SASRec asked for an LLM")

    def encoder(self, name: str) -> Encoder:
        return HashEncoder(256)


class TestTextSASRec(ScoringContract):
    component = SASRec
    configs = {**SMALL, "item_init": {"encoder": "hash", "template": "{title}"}}
    world = worlds.cycle()
    uses_valid = True

    def resources(self) -> Resources:
        return Hashed()


def test_a_position_sees_nothing_that_comes_later() -> None:
    from llm4rec.models.sasrec import _Network

    torch.manual_seed(0)
    network = _Network(20, SASRecConfig(width=16, length=6)).eval()
    one = torch.tensor([[20, 20, 3, 4, 5, 6]])
    two = torch.tensor([[20, 20, 3, 4, 9, 1]])
    with torch.inference_mode():
        a, b = network(one), network(two)
    torch.testing.assert_close(a[:, :4], b[:, :4])
    assert not torch.allclose(a[:, 4:], b[:, 4:])


def test_padding_is_as_if_it_were_not_there() -> None:
    from llm4rec.models.sasrec import _Network

    torch.manual_seed(0)
    network = _Network(20, SASRecConfig(width=16, length=6)).eval()
    with torch.inference_mode():
        padded, bare = network(torch.tensor([[20, 20, 20, 3, 4, 5]])), network(torch.tensor([[3, 4, 5]]))
    torch.testing.assert_close(padded[:, -1], bare[:, -1])


def test_without_history_popularity_answers() -> None:
    world = worlds.cycle()
    model = SASRec(SASRecConfig(**SMALL | {"epochs": 1})).fit(world.split.train, valid=None, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(model.score(Queries.of(Ragged.empty(2)))[1], world.split.train.item_counts)


def test_early_stopping_keeps_the_best_weights() -> None:
    split = worlds.cycle().split
    config = SASRecConfig(**SMALL | {"epochs": 12, "every": 1, "patience": 2, "learning_rate": 0.2})
    model = SASRec(config).fit(split.train, valid=split.valid, rng=np.random.default_rng(0))
    from llm4rec.metrics import evaluate

    lists = model.retrieve(split.valid.queries, 10, exclude=split.valid.seen)
    now = evaluate(lists, split.valid.truth, ["ndcg@10"])["ndcg@10"].mean()
    assert now == pytest.approx(max(record["valid"] for record in model.training_), abs=1e-3)


def test_text_initialisation_needs_its_encoder() -> None:
    config = SASRecConfig(**SMALL | {"item_init": {"encoder": "x", "template": "{title}"}})
    with pytest.raises(ModelError, match="needs an encoder"):
        SASRec(config).fit(worlds.cycle().split.train, valid=None, rng=np.random.default_rng(0))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="no multiple of 3 heads"):
        SASRec(SASRecConfig(width=16, heads=3)).fit(worlds.cycle().split.train, valid=None, rng=np.random.default_rng(0))


def test_saved_network_is_the_same_network(tmp_path: Any) -> None:
    split = worlds.cycle().split
    model = SASRec(SASRecConfig(**SMALL | {"epochs": 2})).fit(split.train, valid=None, rng=np.random.default_rng(0))
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(SASRec.load(tmp_path / "m").score(split.test.queries), model.score(split.test.queries))


@pytest.mark.parametrize(
    "loss",
    [
        {"loss": "softmax", "smoothing": 0.0},
        {"loss": "sampled-softmax", "negatives": 8, "correct": True},
        {"loss": "bce", "negatives": 1, "share_negatives": False},
        {"loss": "gbce", "negatives": 8, "share_negatives": False},
    ],
    ids=str,
)
def test_every_loss_learns_the_cycle(loss: dict[str, Any]) -> None:
    world = worlds.cycle()
    model = SASRec(SASRecConfig(**SMALL | {"epochs": 40} | loss)).fit(
        world.split.train, valid=None, rng=np.random.default_rng(0)
    )
    assert recall(model.retrieve(world.split.test.queries, 1, exclude=world.split.test.seen), world.split.test, 1) >= 0.95


def _an_hour_later(users: int = 240, seed: int = 0) -> tuple[Dataset, Cases]:
    """A world where only the time tells: an hour after an item it is taken again, whatever came between.

    Each user took some of five items, 16 s, 256 s, an hour, a day and twelve days before the last
    event, always one an hour before; the place in the history does not say which.
    """
    rng = np.random.default_rng(seed)
    ages, n_items = np.array([1_048_576, 65_536, 4_096, 256, 16]), 10
    held = rng.random((2 * users, 5)) < 0.5
    held[:, 2] = True
    items = rng.permuted(np.tile(np.arange(n_items), (2 * users, 1)), axis=1)[:, :5]
    rows = [(items[u][held[u]], 1_000_000_000 - ages[held[u]], items[u, 2]) for u in range(2 * users)]
    known, asked = rows[:users], rows[users:]
    events = pl.DataFrame(
        {
            "user": np.concatenate([np.full(len(i) + 1, u) for u, (i, _, _) in enumerate(known)]),
            "item": np.concatenate([np.append(i, again) for i, _, again in known]),
            "time": np.concatenate([np.append(t, 1_000_000_000) for _, t, _ in known]),
            "value": 1.0,
            "behavior": 0,
        }
    )
    names = Vocabulary.of([str(i) for i in range(users)]), Vocabulary.of([str(i) for i in range(n_items)])
    tables = [pl.DataFrame({c: np.arange(len(v), dtype=np.int32)}) for c, v in zip(("user", "item"), names, strict=True)]
    dataset = Dataset("an hour later", *names, events, tables[1], tables[0])
    now = np.full(users, 1_000_000_000)
    queries = Queries(np.full(users, -1), Ragged.of([i for i, _, _ in asked]), now, np.concatenate([t for _, t, _ in asked]))
    return dataset, Cases(queries, Ragged.of([[again] for _, _, again in asked]), Ragged.empty(users))


def test_time_gaps_are_seen() -> None:
    dataset, cases = _an_hour_later()

    def reached(time_gaps: bool) -> float:
        config = SASRecConfig(**SMALL | {"epochs": 40, "dropout": 0.0, "smoothing": 0.0}, time_gaps=time_gaps)
        model = SASRec(config).fit(dataset, valid=None, rng=np.random.default_rng(0))
        return recall(model.retrieve(cases.queries, 1, exclude=cases.seen), cases, 1)

    assert reached(True) >= 0.9
    assert reached(False) <= 0.75


def test_time_gaps_need_times() -> None:
    dataset = dataclasses.replace(_an_hour_later()[0], clock="order")
    with pytest.raises(SpecError, match="no real times"):
        SASRec(SASRecConfig(**SMALL, time_gaps=True)).fit(dataset, valid=None, rng=np.random.default_rng(0))
