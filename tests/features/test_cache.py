"""Tests of vectors kept by content."""

from __future__ import annotations

import multiprocessing
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llm4rec.core import ModelError
from llm4rec.features import CachedEncoder, HashEncoder, VectorCache


class Counting:
    """A hash encoder that remembers what it was asked."""

    def __init__(self, dimension: int = 16, *, fail_after: int | None = None) -> None:
        self.inner = HashEncoder(dimension)
        self.asked: list[str] = []
        self.woken = False
        self.fail_after = fail_after

    name = "counting"

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.inner.identity

    @property
    def dimension(self) -> int:
        self.woken = True
        return self.inner.dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise ModelError("the server is gone")
        self.asked += texts
        return self.inner.encode(texts)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "vectors.sqlite"


def test_each_text_is_encoded_once(path: Path) -> None:
    texts = ["b", "", "a", "b", " ", "c"]
    first = Counting()
    vectors = CachedEncoder(first, VectorCache(path)).encode(texts)
    assert np.array_equal(vectors, HashEncoder(16).encode(texts))
    assert first.asked == ["b", "a", "c"]

    second = Counting()
    cached = CachedEncoder(second, VectorCache(path))
    assert np.array_equal(cached.encode(texts), vectors)
    assert np.array_equal(cached.encode([*texts, "d"]), HashEncoder(16).encode([*texts, "d"]))
    assert second.asked == ["d"]
    assert cached.encoded == 1


def test_a_full_cache_does_not_wake_the_encoder(path: Path) -> None:
    CachedEncoder(Counting(), VectorCache(path)).encode(["a", "b"])
    far = Counting()
    CachedEncoder(far, VectorCache(path)).encode(["b", "", "a"])
    assert not far.woken
    assert not far.asked


def test_nothing_and_blank_texts(path: Path) -> None:
    cached = CachedEncoder(Counting(), VectorCache(path))
    assert cached.encode([]).shape == (0, 16)
    assert not cached.encode(["", "  "]).any()


def test_another_identity_is_another_key(path: Path) -> None:
    CachedEncoder(Counting(16), VectorCache(path)).encode(["a"])
    other = Counting(8)
    assert CachedEncoder(other, VectorCache(path)).encode(["a"]).shape == (1, 8)
    assert other.asked == ["a"]


def test_a_killed_run_loses_one_step_at_most(path: Path) -> None:
    texts = [f"text {i}" for i in range(10)]
    with pytest.raises(ModelError):
        CachedEncoder(Counting(fail_after=6), VectorCache(path), step=3).encode(texts)
    again = Counting()
    CachedEncoder(again, VectorCache(path), step=3).encode(texts)
    assert again.asked == texts[6:]


def test_more_keys_than_one_statement_takes(path: Path) -> None:
    texts = [f"text {i}" for i in range(2000)]
    CachedEncoder(Counting(4), VectorCache(path)).encode(texts)
    again = Counting(4)
    assert np.array_equal(CachedEncoder(again, VectorCache(path)).encode(texts), HashEncoder(4).encode(texts))
    assert not again.asked


@pytest.mark.parametrize("blob", [b"", b"abc", b"\0" * 8, b"\0" * 4000])
def test_a_damaged_vector_is_encoded_again(path: Path, blob: bytes) -> None:
    CachedEncoder(Counting(), VectorCache(path)).encode(["a", "b"])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE vectors SET vector = ? WHERE key = (SELECT min(key) FROM vectors)", [blob])
    again = Counting()
    assert np.array_equal(CachedEncoder(again, VectorCache(path)).encode(["a", "b"]), HashEncoder(16).encode(["a", "b"]))
    assert len(again.asked) == 1


def test_a_file_that_is_no_cache_gives_one_clear_line(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is not a database at all " * 100)
    with pytest.raises(ModelError, match=r"vectors.sqlite: cannot be used .*delete it") as caught:
        CachedEncoder(Counting(), VectorCache(path)).encode(["a"])
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ModelError, match="LLM4REC_HOME"):
        CachedEncoder(Counting(), VectorCache(tmp_path / "file" / "vectors.sqlite")).encode(["a"])


def test_a_full_disk_costs_the_entry_and_not_the_run(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = VectorCache(path)
    CachedEncoder(Counting(), cache).encode(["a"])
    connect = sqlite3.connect

    def small(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        db = connect(*args, **kwargs)
        db.execute("PRAGMA max_page_count = 1")  # SQLite takes it as the present size
        return db

    monkeypatch.setattr(sqlite3, "connect", small)
    texts = [f"text {i}" for i in range(400)]
    assert np.array_equal(CachedEncoder(Counting(), cache).encode(texts), HashEncoder(16).encode(texts))
    assert "400 vectors could not be kept (database or disk is full)" in caplog.text


def _write(path: Path, start: int, gate: Any) -> None:
    gate.wait()
    encoder = CachedEncoder(HashEncoder(16), VectorCache(path), step=5)
    texts = [f"text {i}" for i in range(start, start + 60)]
    assert np.array_equal(encoder.encode(texts), HashEncoder(16).encode(texts))


def test_many_processes_share_one_new_file(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(4)
    workers = [context.Process(target=_write, args=(path, 20 * i, gate)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    again = Counting()
    CachedEncoder(again, VectorCache(path)).encode([f"text {i}" for i in range(120)])
    assert not again.asked
