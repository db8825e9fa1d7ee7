"""Tests of text retrieval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from llm4rec.core import Dataset, ModelError, NotFittedError, Queries, Ragged, Resources, SpecError, Split
from llm4rec.features import Encoder, EncoderConfig, HashEncoder, open_encoder
from llm4rec.metrics import evaluate
from llm4rec.models.text import TextRetriever, TextRetrieverConfig
from tests import worlds
from tests.contracts.scoring import ScoringContract

WORLD = worlds.topics()
TRAIN = WORLD.split.train


class Hashed:
    """Resources whose every encoder hashes words."""

    def llm(self, name: str) -> Any:
        raise AssertionError("text retrieval asked for an LLM")

    def encoder(self, name: str) -> Encoder:
        return HashEncoder(256)


class TextContract(ScoringContract):
    component = TextRetriever
    configs: ClassVar[dict[str, Any]] = {"encoder": "hash"}
    world = WORLD

    def resources(self) -> Resources:
        return Hashed()


class TestFlat(TextContract):
    pass


class TestDays(TextContract):
    configs: ClassVar[dict[str, Any]] = {"half_life": 2.0, "half_life_unit": "days"}


class TestMean(TextContract):
    configs: ClassVar[dict[str, Any]] = {"profile": "mean", "last": 5}


class TestUncentred(TextContract):
    configs: ClassVar[dict[str, Any]] = {"center": False, "template": "{genres}: {title}"}


class TestHNSW(TextContract):
    configs: ClassVar[dict[str, Any]] = {"index": {"kind": "hnsw", "neighbors": 4}}
    exact = False


class TestIVF(TextContract):
    configs: ClassVar[dict[str, Any]] = {"index": {"kind": "ivf", "cells": 4, "probes": 2}}
    exact = False


def fitted(train: Dataset = TRAIN, **config: Any) -> TextRetriever:
    retriever = TextRetriever(TextRetrieverConfig.model_validate(config), encoder=HashEncoder(256))
    return retriever.fit(train, valid=None, rng=np.random.default_rng(0))


def item_units(retriever: TextRetriever, items: Sequence[int]) -> np.ndarray:
    texts = TRAIN.item_table["title"].to_list()
    v = HashEncoder(256).encode([texts[i] for i in items]).astype(np.float64) - retriever.mean_
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def test_user_vector_is_the_mean_of_the_last_items() -> None:
    retriever = fitted(template="{title}", profile="mean", last=3)
    profile = retriever.profiles(Queries.of(Ragged.of([[9, 1, 2, 3]])))[0]
    np.testing.assert_allclose(profile, unit(item_units(retriever, [1, 2, 3]).mean(axis=0)), atol=1e-6)
    every = fitted(template="{title}", profile="mean", last=0).profiles(Queries.of(Ragged.of([[9, 1, 2, 3]])))[0]
    np.testing.assert_allclose(every, unit(item_units(retriever, [9, 1, 2, 3]).mean(axis=0)), atol=1e-6)


def test_how_many_items_unless_said() -> None:
    old, new = Ragged.of([[9, *range(10)]]), Ragged.of([[8, *range(10)]])
    mean, decay = fitted(profile="mean"), fitted(profile="decay")
    assert np.array_equal(mean.profiles(Queries.of(old)), mean.profiles(Queries.of(new)))
    assert not np.array_equal(decay.profiles(Queries.of(old)), decay.profiles(Queries.of(new)))


def test_decay_by_items_and_by_days() -> None:
    history = Ragged.of([[1, 2, 3], [4, 5]])
    by_item = fitted(template="{title}", profile="decay", half_life=2, last=0)
    wanted = unit(np.array([0.5, 0.5**0.5, 1]) @ item_units(by_item, [1, 2, 3]))
    np.testing.assert_allclose(by_item.profiles(Queries.of(history))[0], wanted, atol=1e-6)

    day = 86_400
    by_day = fitted(template="{title}", profile="decay", half_life=2, half_life_unit="days", last=2)
    queries = replace(Queries.of(history), history_times=np.array([0, 4, 10, 7, 7]) * day)
    profiles = by_day.profiles(queries)
    np.testing.assert_allclose(profiles[0], unit(np.array([0.5**3, 1]) @ item_units(by_day, [2, 3])), atol=1e-6)
    np.testing.assert_allclose(profiles[1], unit(np.array([1, 1]) @ item_units(by_day, [4, 5])), atol=1e-6)


def test_very_old_events_do_not_vanish_altogether() -> None:
    retriever = fitted(profile="decay", half_life=1, half_life_unit="days")
    queries = replace(Queries.of(Ragged.of([[1, 2]])), history_times=np.array([0, 0]), times=np.array([10**10]))
    assert np.linalg.norm(retriever.profiles(queries)) == pytest.approx(1)
    assert not np.allclose(retriever.profiles(queries)[0], retriever.average_)


def test_days_need_times() -> None:
    retriever = fitted(profile="decay", half_life_unit="days")
    with pytest.raises(ModelError, match=r"half_life_unit = 'days': the history has no times; use 'items'"):
        retriever.profiles(Queries.of(Ragged.of([[1, 2]])))
    with pytest.raises(SpecError, match="no real times"):
        fitted(replace(TRAIN, clock="order"), profile="decay", half_life_unit="days")


def test_without_history_the_average_user_is_asked_for() -> None:
    retriever = fitted()
    units = retriever.score(Queries.of(Ragged.empty(1)))[0]
    v = np.stack([retriever.profiles(Queries.of(Ragged.of([[i]])))[0] for i in range(TRAIN.n_items)])
    np.testing.assert_allclose(units, v @ unit(TRAIN.item_counts @ v), atol=1e-5)


def test_without_any_events_lists_are_still_full() -> None:
    empty = TRAIN.with_events(TRAIN.events.clear())
    lists = fitted(empty).retrieve(Queries.of(Ragged.empty(2)), 4, exclude=Ragged.of([[], [0]]))
    assert lists.items.tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]


def asking(*texts: str, history: Ragged | None = None) -> Queries:
    return replace(Queries.of(Ragged.empty(len(texts)) if history is None else history), texts=texts)


def test_a_request_in_words_finds_its_topic() -> None:
    retriever = fitted()
    topics = list(worlds.TOPICS)
    lists = retriever.retrieve(asking(*topics), 10, exclude=Ragged.empty(len(topics)))
    genres = np.array(TRAIN.item_table["genres"].to_list())
    assert (genres[lists.items] == np.array(topics)[:, None]).all()


def test_request_and_history_are_weighed() -> None:
    history = Ragged.of([[1, 2], [1, 2], []])
    words = ("violin melody", "  ", "violin melody")
    plain = fitted().profiles(Queries.of(history))
    alone = fitted().profiles(asking("violin melody"))[0]
    for weight in (0.0, 0.3, 1.0):
        profiles = fitted(request_weight=weight).profiles(asking(*words, history=history))
        np.testing.assert_allclose(profiles[0], unit((1 - weight) * plain[0] + weight * alone), atol=1e-6)
        np.testing.assert_allclose(profiles[1], plain[1], atol=1e-12)
        np.testing.assert_allclose(profiles[2], alone, atol=1e-6)


def test_prefix_of_requests() -> None:
    plain, prefixed = fitted(), fitted(request_prefix="violin ")
    np.testing.assert_allclose(prefixed.profiles(asking("melody")), plain.profiles(asking("violin melody")), atol=1e-12)


def test_items_without_text_are_never_found(caplog: pytest.LogCaptureFixture) -> None:
    table = TRAIN.item_table.with_columns(title=TRAIN.item_table["title"].scatter([2, 5], None))
    retriever = fitted(replace(TRAIN, item_table=table), template="{title}")
    scores = retriever.score(Queries.of(Ragged.of([[1], [2], []])))
    assert np.flatnonzero(np.isneginf(scores).any(axis=0)).tolist() == [2, 5]
    lists = retriever.retrieve(Queries.of(Ragged.of([[1], [2]])), 40, exclude=Ragged.empty(2))
    assert (lists.lengths == 38).all()
    np.testing.assert_allclose(scores[1], scores[2], atol=1e-6)  # a history without text says nothing
    assert "2 of 40 items have no text" in caplog.text


def test_a_catalogue_without_text() -> None:
    table = TRAIN.item_table.with_columns(title=None)
    with pytest.raises(SpecError, match="no item has any text"):
        fitted(replace(TRAIN, item_table=table), template="{title}")


def test_a_misspelt_column() -> None:
    with pytest.raises(SpecError, match="did you mean 'title'"):
        fitted(template="{tilte}")


def test_without_encoder_or_fit() -> None:
    with pytest.raises(ModelError, match="no encoder"):
        TextRetriever().fit(TRAIN, valid=None, rng=np.random.default_rng(0))
    with pytest.raises(NotFittedError):
        TextRetriever(encoder=HashEncoder()).score(Queries.of(Ragged.empty(1)))


def test_loaded_without_encoder_it_answers_all_but_words(tmp_path: Path) -> None:
    fitted().save(tmp_path)
    loaded = TextRetriever.load(tmp_path)
    queries = Queries.of(Ragged.of([[1, 2], []]))
    assert np.array_equal(loaded.score(queries), fitted().score(queries))
    with pytest.raises(ModelError, match="no encoder"):
        loaded.score(asking("violin"))


@pytest.mark.assets
def test_floor_on_movielens(ml100k_whole_split: Split, asset: Callable[[str], Path], tmp_path: Path) -> None:
    """MiniLM on title, year and genres; user vector from the last 10 items, seen masked."""
    encoder = open_encoder(EncoderConfig(model=str(asset("all-MiniLM-L6-v2"))), cache=tmp_path / "vectors.sqlite")
    cases, names = ml100k_whole_split.test, ("recall@20", "recall@50", "recall@100")
    assert (len(cases), ml100k_whole_split.train.n_items) == (943, 1682)
    systems = (
        ({"profile": "mean", "center": False}, (0.060, 0.130, 0.215)),
        ({"profile": "mean"}, (0.095, 0.200, 0.315)),
        ({}, (0.105, 0.205, 0.330)),
    )
    for config, floors in systems:
        retriever = TextRetriever(TextRetrieverConfig.model_validate(config), encoder=encoder)
        retriever.fit(ml100k_whole_split.train, valid=None, rng=np.random.default_rng(0))
        lists = retriever.retrieve(cases.queries, 100, exclude=cases.exclude("seen"))
        values = {name: float(v.mean()) for name, v in evaluate(lists, cases.truth, names).items()}
        assert all(values[name] >= floor for name, floor in zip(names, floors, strict=True)), (config, values)
