"""Tests of the vector index against full sorting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llm4rec.core import Lists, Ragged, RunError
from llm4rec.features import index as room
from llm4rec.features.index import IndexConfig, VectorIndex

N, D = 3000, 24
KINDS = ("flat", "hnsw", "ivf")


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def clustered(n: int = N, seed: int = 0, copies: int = 0) -> np.ndarray:
    """Return n unit vectors around 40 centres; the last ``copies`` of them repeat one and the same."""
    rng = np.random.default_rng(seed)
    v = unit(rng.normal(size=(40, D))[rng.integers(40, size=n)] + 0.7 * rng.normal(size=(n, D)))
    if copies:
        v[-copies:] = v[0]
    return v


def some_queries(v: np.ndarray, n: int = 40, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return unit(v[rng.integers(len(v), size=n)] + 0.2 * rng.normal(size=(n, v.shape[1])))


def some_exclusions(n: int, n_items: int, most: int, seed: int = 2) -> Ragged:
    rng = np.random.default_rng(seed)
    return Ragged.of([rng.integers(n_items, size=rng.integers(0, most + 1)) for _ in range(n)])


def slow(v: np.ndarray, q: np.ndarray, k: int, exclude: Ragged, items: np.ndarray | None = None) -> Lists:
    """Sort the whole catalogue, one query at a time."""
    rows, scores = [], []
    held = np.arange(len(v)) if items is None else items
    for one, gone in zip(q.astype(np.float64), exclude, strict=True):
        s = (v.astype(np.float64) @ one).astype(np.float32)
        left = np.setdiff1d(held, gone)
        best = left[np.lexsort((left, -s[left]))][:k]
        rows.append(np.pad(best, (0, k - len(best)), constant_values=-1))
        scores.append(np.pad(s[best], (0, k - len(best)), constant_values=np.nan))
    return Lists(np.array(rows), np.array(scores))


def overlap(a: Lists, b: Lists) -> float:
    return float(np.mean([len(np.intersect1d(x, y)) / len(y) for x, y in zip(a.items, b.items, strict=True)]))


@pytest.mark.parametrize(("k", "most"), [(1, 0), (10, 50), (100, 700), (10, 2990)])
@pytest.mark.parametrize("copies", [0, 200])
def test_flat_is_full_sorting(k: int, most: int, copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_GATHERED", 0)  # or FAISS would not be asked about so few items
    v = clustered(copies=copies)
    q = np.concatenate([some_queries(v), v[:1], 1e-3 * v[1:2], np.zeros((1, D))])
    exclude = some_exclusions(len(q), N, most)
    lists = VectorIndex(v).search(q, k, exclude=exclude)
    wanted = slow(v, q, k, exclude)
    lists.check(N, exclude=exclude)
    assert np.array_equal(lists.items, wanted.items)
    np.testing.assert_allclose(lists.scores, wanted.scores, rtol=1e-6, atol=1e-7)


def test_the_short_cut_for_small_catalogues_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    v = clustered(copies=50)
    q, exclude = some_queries(v), some_exclusions(40, N, 300)
    direct = VectorIndex(v).search(q, 20, exclude=exclude)
    monkeypatch.setattr(room, "_GATHERED", 0)
    asked: list[int] = []
    index = VectorIndex(v)
    search = index._index.search
    index._index.search = lambda *a, **kw: asked.append(1) or search(*a, **kw)
    through = index.search(q, 20, exclude=exclude)
    assert asked
    assert np.array_equal(direct.items, through.items)


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_approximate_search_finds_nearly_all(kind: Any) -> None:
    v = clustered()
    q, exclude = some_queries(v, 100), some_exclusions(100, N, 100)
    lists = VectorIndex(v, config=IndexConfig(kind=kind)).search(q, 20, exclude=exclude)
    lists.check(N, exclude=exclude)
    assert overlap(lists, slow(v, q, 20, exclude)) >= {"hnsw": 0.99, "ivf": 0.9}[kind]


def test_what_is_excluded_is_fetched_besides() -> None:
    """Each query excludes its 120 nearest: the search itself has to find what comes after them."""
    v = clustered()
    q = some_queries(v)
    exclude = Ragged.of(list(slow(v, q, 120, Ragged.empty(40)).items))
    index = VectorIndex(v, config=IndexConfig(kind="hnsw"))
    lists = index.search(q, 20, exclude=exclude)
    assert index.fallbacks == 0
    assert overlap(lists, slow(v, q, 20, exclude)) >= 0.99


def test_more_probes_find_more() -> None:
    v = unit(np.random.default_rng(0).normal(size=(N, D)))  # no clusters: the hard case
    q, none = some_queries(v, 100), Ragged.empty(100)
    wanted = slow(v, q, 20, none)
    found = [
        overlap(VectorIndex(v, config=IndexConfig(kind="ivf", cells=60, probes=p)).search(q, 20, exclude=none), wanted)
        for p in (1, 8, 60)
    ]
    assert found[0] < found[1] < found[2] == 1.0


@pytest.mark.parametrize("kind", ["hnsw", "ivf"])
def test_what_comes_up_short_is_answered_exactly_and_counted(kind: Any) -> None:
    """Each query excludes all of its own neighbourhood, so that the approximate search finds too little."""
    v = clustered()
    q = some_queries(v, 6)
    index = VectorIndex(v, config=IndexConfig(kind=kind, cells=40, probes=1))
    near = slow(v, q, 400, Ragged.empty(6))
    exclude = Ragged.of(list(near.items))
    lists = index.search(q, 300, exclude=exclude)
    lists.check(N, exclude=exclude)
    assert (lists.lengths == 300).all()
    if kind == "ivf":
        assert index.fallbacks > 0
        assert np.array_equal(lists.items, slow(v, q, 300, exclude).items)


@pytest.mark.parametrize("kind", KINDS)
def test_one_at_a_time_equals_the_batch(kind: Any) -> None:
    v = clustered(copies=30)
    q, exclude = some_queries(v), some_exclusions(40, N, 400)
    index = VectorIndex(v, config=IndexConfig(kind=kind))
    together = index.search(q, 15, exclude=exclude)
    for row in range(0, 40, 7):
        alone = index.search(q[row : row + 1], 15, exclude=exclude.take(np.array([row])))
        assert np.array_equal(alone.items[0], together.items[row])


@pytest.mark.parametrize("kind", KINDS)
def test_building_twice_gives_the_same(kind: Any) -> None:
    v = clustered()
    q = some_queries(v)
    a, b = (VectorIndex(v, config=IndexConfig(kind=kind)).search(q, 10, exclude=Ragged.empty(40)) for _ in range(2))
    assert np.array_equal(a.items, b.items)


@pytest.mark.parametrize("kind", KINDS)
def test_items_outside_of_the_index_are_never_found(kind: Any) -> None:
    v = clustered()
    items = np.flatnonzero(np.arange(N) % 3 == 1).astype(np.int32)
    q, exclude = some_queries(v), some_exclusions(40, N, 300)
    index = VectorIndex(v, items, IndexConfig(kind=kind))
    lists = index.search(q, 20, exclude=exclude)
    lists.check(N, exclude=exclude)
    assert np.isin(lists.items, items).all()
    assert overlap(lists, slow(v, q, 20, exclude, items)) > 0.9
    scores = index.scores(q)
    assert np.isneginf(scores[:, 0]).all()
    assert np.isfinite(scores[:, 1]).all()
    assert (index.search(q, N, exclude=Ragged.empty(40)).lengths == len(items)).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_tiny_catalogues(kind: Any, n: int) -> None:
    v = clustered(n)
    index = VectorIndex(v, config=IndexConfig(kind=kind))
    lists = index.search(unit(np.ones((2, D))), 3, exclude=Ragged.of([[], [0]] if n else [[], []]))
    assert lists.items.shape == (2, 3)
    assert lists.lengths.tolist() == [min(3, n), min(3, max(n - 1, 0))]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_asked(kind: Any) -> None:
    index = VectorIndex(clustered(50), config=IndexConfig(kind=kind))
    assert index.search(np.empty((0, D)), 3, exclude=Ragged.empty(0)).items.shape == (0, 3)
    assert index.search(unit(np.ones((2, D))), 0, exclude=Ragged.empty(2)).items.shape == (2, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load(kind: Any, tmp_path: Path) -> None:
    v = clustered()
    index = VectorIndex(v, np.arange(0, N, 2, dtype=np.int32), IndexConfig(kind=kind, probes=3))
    index.save(tmp_path / "index")
    loaded = VectorIndex.load(tmp_path / "index")
    q, exclude = some_queries(v), some_exclusions(40, N, 50)
    assert loaded.config == index.config
    assert np.array_equal(loaded.search(q, 9, exclude=exclude).items, index.search(q, 9, exclude=exclude).items)


@pytest.mark.parametrize("damage", ["missing", "cut", "config"])
def test_a_damaged_index_gives_one_line(damage: str, tmp_path: Path) -> None:
    VectorIndex(clustered(100), config=IndexConfig(kind="hnsw")).save(tmp_path)
    if damage == "missing":
        (tmp_path / "built.npy").unlink()
    elif damage == "cut":
        np.save(tmp_path / "built.npy", np.load(tmp_path / "built.npy")[:200])
    else:
        (tmp_path / "index.json").write_text('{"kind": "magic"}')
    with pytest.raises(RunError, match=r"cannot read an index.*build it again") as caught:
        VectorIndex.load(tmp_path)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**31))
def test_small_random_catalogues_with_many_ties(n: int, values: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    v = np.eye(max(values, 2), dtype=np.float32)[rng.integers(0, values, size=n)]
    q = np.eye(max(values, 2))[rng.integers(0, values, size=4)]
    exclude = some_exclusions(4, n, n, seed)
    assert np.array_equal(VectorIndex(v).search(q, k, exclude=exclude).items, slow(v, q, k, exclude).items)


def test_building_leaves_the_threads_of_faiss_alone() -> None:
    before = faiss.omp_get_max_threads()
    VectorIndex(clustered(50), config=IndexConfig(kind="hnsw"))
    assert faiss.omp_get_max_threads() == before


def test_config_refuses_nonsense() -> None:
    for wrong in ({"kind": "lsh"}, {"neighbors": 1}, {"probes": 0}, {"cells": -1}, {"nprobe": 3}):
        with pytest.raises(ValidationError):
            IndexConfig.model_validate(wrong)
