"""SASRec: the contract, windows, causality, text initialisation and its controls."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import ModelError, Queries, Ragged, Resources
from llm4rec.features import Encoder, HashEncoder
from llm4rec.models.sasrec import SASRec, SASRecConfig, cut
from tests import worlds
from tests.contracts import ScoringContract

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


class TestLastWindowSASRec(ScoringContract):
    component = SASRec
    configs = {**SMALL, "windows": "last"}
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


@given(st.lists(st.integers(0, 23), max_size=6), st.integers(2, 9))
def test_windows_predict_every_event_but_the_first_exactly_once(lengths: list[int], width: int) -> None:
    values = np.arange(sum(lengths))  # every event has a name of its own
    sequences = Ragged.from_lengths(np.array(lengths, dtype=np.int64), values)
    windows = cut(sequences, width, pad=-1)
    inputs, targets = windows[:, :-1], windows[:, 1:]
    asked = inputs >= 0
    pairs = sorted(zip(inputs[asked].tolist(), targets[asked].tolist(), strict=True))
    assert pairs == [(v, v + 1) for row in sequences for v in row[:-1].tolist()]
    for window in windows:  # padded on the left alone, in order
        held = window[window >= 0]
        assert (window[len(window) - len(held) :] == held).all()


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


def test_windows_of_the_end_alone_leave_the_rest_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import llm4rec.models.sasrec as module

    split, targets = worlds.cycle().split, {}
    lengths = split.train.histories.items.lengths
    for windows in ("all", "last"):

        def count(sequences: Ragged, width: int, pad: int, windows: str = windows) -> Any:
            targets[windows] = int(np.maximum(sequences.lengths - 1, 0).sum())
            return cut(sequences, width, pad)

        monkeypatch.setattr(module, "cut", count)
        config = SASRecConfig(**SMALL | {"epochs": 1, "length": 3, "windows": windows})
        SASRec(config).fit(split.train, valid=None, rng=np.random.default_rng(0))
    assert targets == {"all": int((lengths - 1).sum()), "last": int(np.minimum(lengths - 1, 3).sum())}
    assert targets["last"] < targets["all"]
