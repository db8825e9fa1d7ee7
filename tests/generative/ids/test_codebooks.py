"""Residual quantisation: known clusters are found, limits are kept, and nobody is moved without need."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import ModelError, SpecError
from llm4rec.features.values import unit
from llm4rec.generative.ids import RQKMeans
from llm4rec.generative.ids.codebooks import kmeans, occurrence, place, quantise
from tests.generative.ids.contract import SchemeContract
from tests.generative.ids.made import Given, catalogue, grid, purity

RNG = np.random.default_rng


class TestRQKMeans(SchemeContract):
    scheme = RQKMeans
    configs: ClassVar[dict[str, Any]] = {"levels": 3, "codebook": 8, "template": "{title}"}


class TestRQKMeansBalanced(SchemeContract):
    scheme = RQKMeans
    configs: ClassVar[dict[str, Any]] = {"levels": 2, "codebook": 8, "template": "{title}", "balance": 1.5}


class TestRQKMeansWithToken(SchemeContract):
    scheme = RQKMeans
    configs: ClassVar[dict[str, Any]] = {"levels": 2, "codebook": 4, "template": "{title}", "collisions": "token"}


def built(vectors: np.ndarray, seed: int = 0, **params: Any) -> Any:
    scheme = RQKMeans.model_validate({"template": "{title}", **params})
    return scheme.build(catalogue(len(vectors)), encoder=Given(vectors), rng=RNG(seed))


@pytest.mark.parametrize("params", [{}, {"balance": 1.0}, {"collisions": "token"}])
def test_levels_recover_a_grid(params: dict[str, Any]) -> None:
    """Vectors that are a sum of two parts: the first codebook finds the large one, the second the small one."""
    vectors, labels = grid(8, 8, 4)
    codes = built(vectors, levels=3, codebook=8, **params).padded()
    assert purity(codes[:, 0], labels[:, 0]) == 1.0
    assert purity(codes[:, 1] - 8, labels[:, 1]) == 1.0


def test_equal_texts_get_a_number_or_the_next_code() -> None:
    vectors = np.repeat(np.eye(4), [5, 1, 1, 1], axis=0)
    by_token = built(vectors, levels=1, codebook=4, collisions="token")
    assert by_token.depth == 2
    assert by_token.collisions == 4
    assert (by_token.padded()[:, 1] - 4).tolist() == [0, 1, 2, 3, 4, 0, 0, 0]
    moved = built(vectors, levels=2, codebook=4)
    assert moved.depth == 2
    assert len(set(moved.padded()[:5, 0])) == 2  # four have room below the first code, one goes elsewhere
    assert moved.collisions == 1 + 3  # one at the first level; of the four that stay, three at the second
    assert built(np.eye(4), levels=1, codebook=4, collisions="token").depth == 1  # nothing to resolve


def test_needs_room_and_an_encoder() -> None:
    with pytest.raises(SpecError, match=r"ids.codebook: 2 codes at 2 levels name 4 items, not 5; raise it, or set"):
        built(np.eye(5), levels=2, codebook=2)
    with pytest.raises(ModelError, match="RQKMeans: needs an encoder"):
        RQKMeans().build(catalogue(5), encoder=None, rng=RNG(0))
    assert built(np.ones((4, 2)), levels=2, codebook=2).n_items == 4  # as many as there is room for, all alike


def test_balance_limits_codes() -> None:
    vectors, _ = grid(2, 2, 100)
    crowd = np.vstack([vectors, np.tile(vectors[:1], (400, 1)) + 0.001 * RNG(1).normal(size=(400, 16)).astype(np.float32)])
    free, even = (built(crowd, levels=3, codebook=16, balance=b).padded() for b in (None, 1.0))
    assert np.bincount(free[:, 0]).max() > 100
    for level in (0, 1):
        assert np.bincount(even[:, level] - 16 * level).max() == 50  # 800 items, 16 codes


# -- codes under limits ---------------------------------------------------------------------
@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 6), st.integers(1, 3), st.integers(0, 10**6))
def test_codes_are_unique_and_stay_in_their_limits(n: int, k: int, levels: int, seed: int) -> None:
    n = min(n, k**levels)
    rng = RNG(seed)
    vectors = rng.integers(0, 3, size=(n, 2)).astype(np.float32)  # many alike
    books = [rng.normal(size=(k, 2)).astype(np.float32) for _ in range(levels)]
    codes, moved = quantise(vectors, [k] * levels, lambda level, _: books[level], unique=True, balance=None)
    assert len(np.unique(codes, axis=0)) == n
    free, none = quantise(vectors, [k] * levels, lambda level, _: books[level], unique=False, balance=None)
    assert none == 0
    if len(np.unique(free, axis=0)) == n:  # nothing in the way
        assert np.array_equal(codes, free)
        assert moved == 0


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_nobody_is_moved_without_need(n: int, k: int, groups: int, room: int, seed: int) -> None:
    """A vector away from a nearer code: that code is full, of vectors at least as near to it."""
    rng = RNG(seed)
    prefix = rng.integers(groups, size=n)
    keep = np.concatenate([np.flatnonzero(prefix == g)[: room * k] for g in range(groups)])
    prefix, n = prefix[keep].astype(np.int64), len(keep)
    vectors, book = rng.normal(size=(n, 2)).astype(np.float32), rng.normal(size=(k, 2)).astype(np.float32)
    code, _ = place(vectors, book, prefix, room=room, most=n)
    far = ((vectors[:, None] - book) ** 2).sum(-1)
    loads = np.zeros((groups, k), int)
    np.add.at(loads, (prefix, code), 1)
    assert loads.max(initial=0) <= room
    for i in range(n):
        for c in np.flatnonzero(far[i] < far[i, code[i]] - 1e-5):
            there = np.flatnonzero((prefix == prefix[i]) & (code == c))
            assert len(there) == room


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 10**6))
def test_even_shares_fit_exactly(n: int, k: int, seed: int) -> None:
    rng = RNG(seed)
    vectors, book = rng.normal(size=(n, 2)).astype(np.float32), rng.normal(size=(k, 2)).astype(np.float32)
    code, _ = place(vectors, book, np.zeros(n, np.int64), room=n, most=-(-n // k))
    assert np.bincount(code, minlength=k).max() <= -(-n // k)


def test_past_the_limit_only_where_nothing_else_is_left() -> None:
    """Two prefixes of two items, two codes, room for one item of a prefix at a code, one item at a code in all."""
    code, moved = place(
        np.zeros((4, 1), np.float32), np.array([[0.0], [1.0]], np.float32), np.array([0, 0, 1, 1]), room=1, most=1
    )
    assert code.tolist()[:2] in ([0, 1], [1, 0])
    assert sorted(code[2:]) == [0, 1]
    assert moved == 2


def test_occurrence() -> None:
    assert occurrence(np.array([[1, 2], [0, 2], [1, 2], [1, 2], [0, 2]])).tolist() == [0, 0, 1, 2, 1]
    assert occurrence(np.empty((0, 2), np.int64)).tolist() == []


def test_k_means_of_few_vectors_are_the_vectors() -> None:
    vectors = RNG(0).normal(size=(3, 2)).astype(np.float32)
    book = kmeans(vectors, 5, iterations=3, balance=None, rng=RNG(0))
    assert np.array_equal(book, vectors[[0, 1, 2, 0, 1]])


@pytest.mark.slow
def test_twelve_thousand_items_in_seconds() -> None:
    """12,000 items of 384 dimensions, three codebooks of 256: at most a minute of the processor on a slow, busy machine."""
    vectors = unit(RNG(0).normal(size=(12_000, 384)) + 2 * RNG(1).normal(size=(60, 384))[RNG(2).integers(60, size=12_000)])
    start = time.process_time()
    ids = built(vectors)
    assert time.process_time() - start < 60
    assert ids.padded().shape == (12_000, 3)
    assert len(np.unique(ids.padded()[:, 0])) > 200
