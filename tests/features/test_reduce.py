"""Tests of initial item embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llm4rec.features import HashEncoder, ItemInit, initial_embeddings, item_vectors, reduce
from tests import worlds

TRAIN = worlds.topics().split.train
ENCODER = HashEncoder(64)


def some_vectors(n: int = 200, d: int = 12, rank: int | None = None, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n, rank or d)) @ (rng.normal(size=(rank or d, d)) * np.linspace(3, 0.2, d))
    return (base + 5).astype(np.float32)


def test_whitened_directions_are_uncorrelated_and_equal() -> None:
    y = reduce(some_vectors(), 5, scale=0.06).astype(np.float64)
    assert y.shape == (200, 5)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-7)
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(5) * 0.06**2, atol=1e-8)


def test_unwhitened_keeps_likeness_and_the_largest_directions() -> None:
    x = some_vectors().astype(np.float64)
    y = reduce(x, 12, whiten=False)
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(y @ y.T, centred @ centred.T, atol=1e-3)
    assert (np.diff(y.std(axis=0)) <= 1e-9).all()
    np.testing.assert_allclose(reduce(x, 3, whiten=False), y[:, :3], rtol=1e-5)
    assert reduce(x, 3, whiten=False, scale=0.5).std() == pytest.approx(0.5, rel=1e-5)


def test_signs_are_fixed() -> None:
    x = some_vectors().astype(np.float64)
    turned = reduce(x, 6, whiten=False)
    directions = np.linalg.lstsq(x - x.mean(axis=0), turned, rcond=None)[0]  # [12, 6]
    assert (directions[np.abs(directions).argmax(axis=0), np.arange(6)] > 0).all()
    order = np.random.default_rng(1).permutation(len(x))
    np.testing.assert_allclose(reduce(x[order], 6, whiten=False), turned[order], atol=1e-4)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 10))
def test_missing_directions_are_zero_columns(n: int, rank: int, dimension: int) -> None:
    y = reduce(some_vectors(n, 8, rank), dimension, scale=1.0)
    kept = min(rank, max(n - 1, 0), dimension)
    assert y.shape == (n, dimension)
    assert np.isfinite(y).all()
    assert not y[:, kept:].any()
    assert (np.abs(y[:, :kept]).sum(axis=0) > 0).all()


def test_rows_without_text_take_no_part() -> None:
    x = some_vectors()
    holes = x.copy()
    holes[[3, 7]] = 0
    y = reduce(holes, 4)
    assert not y[[3, 7]].any()
    rest = np.setdiff1d(np.arange(len(x)), [3, 7])
    np.testing.assert_allclose(y[rest], reduce(x[rest], 4), atol=1e-6)


def test_nothing_to_reduce() -> None:
    assert not reduce(np.zeros((3, 4)), 2, scale=0.1).any()
    assert reduce(np.zeros((0, 4)), 2).shape == (0, 2)


def start(dimension: int = 8, seed: int = 0, **init: object) -> np.ndarray:
    return initial_embeddings(TRAIN, ItemInit.model_validate(init), ENCODER, dimension, np.random.default_rng(seed))


def test_items_with_like_texts_start_near_each_other() -> None:
    y = start(whiten=False)
    genres = TRAIN.item_table["genres"].to_numpy()
    same = genres[:, None] == genres[None, :]
    likeness = (y @ y.T) / np.linalg.norm(y, axis=1) / np.linalg.norm(y, axis=1)[:, None]
    np.fill_diagonal(same, False)
    assert likeness[same].mean() > likeness[genres[:, None] != genres[None, :]].mean() + 0.5


def test_scale_and_type() -> None:
    y = start(scale=0.06)
    assert y.dtype == np.float32
    assert y.std() == pytest.approx(0.06, rel=1e-3)
    assert np.array_equal(y, start(scale=0.06, seed=1)), "text settles all of it, whatever the seed"


def test_shuffled_control_has_the_same_rows_elsewhere() -> None:
    plain, shuffled = start(), start(control="shuffled")
    assert not np.array_equal(plain, shuffled)
    assert sorted(map(tuple, plain.tolist())) == sorted(map(tuple, shuffled.tolist()))
    assert np.array_equal(shuffled, start(control="shuffled"))
    assert not np.array_equal(shuffled, start(control="shuffled", seed=1))


def test_random_control_has_the_same_moments_and_no_text() -> None:
    big = np.concatenate([start(whiten=False, control="random", seed=s) for s in range(200)])
    plain = start(whiten=False)
    np.testing.assert_allclose(big.mean(axis=0), plain.mean(axis=0), atol=0.003)
    np.testing.assert_allclose(big.std(axis=0), plain.std(axis=0), rtol=0.05)


def test_more_dimensions_than_the_text_spans_are_drawn() -> None:
    y = start(dimension=100)  # 40 items span 39 directions at most
    spanned = reduce(item_vectors(TRAIN, ENCODER), 100).any(axis=0)
    assert spanned.sum() < 40
    assert y[:, ~spanned].std() == pytest.approx(0.06, rel=0.1)
    assert np.array_equal(y, start(dimension=100))
    assert not np.array_equal(y, start(dimension=100, seed=1))


def test_items_without_text_are_drawn_and_told(caplog: pytest.LogCaptureFixture) -> None:
    table = TRAIN.item_table.with_columns(title=TRAIN.item_table["title"].scatter([2, 5], None))
    holes = type(TRAIN)(TRAIN.name, TRAIN.users, TRAIN.items, TRAIN.events, table, TRAIN.user_table)
    y = initial_embeddings(holes, ItemInit(template="{title}"), ENCODER, 8, np.random.default_rng(0))
    assert (np.abs(y[[2, 5]]) > 0).all()
    assert np.abs(y[[2, 5]]).max() < 0.3
    assert "2 of 40 items have no text" in caplog.text


def test_config_refuses_nonsense() -> None:
    for wrong in ({"scale": 0}, {"control": "perhaps"}, {"dimension": 4}):
        with pytest.raises(ValidationError):
            ItemInit.model_validate(wrong)
