"""Ragged against lists of lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import Ragged

N_VALUES = 12
ROWS = st.lists(st.lists(st.integers(0, N_VALUES - 1), max_size=6), max_size=8)


@given(ROWS)
def test_holds_the_rows(rows: list[list[int]]) -> None:
    r = Ragged.of(rows)
    assert len(r) == len(rows)
    assert r.tolist() == rows
    assert [row.tolist() for row in r] == rows
    assert r.lengths.tolist() == [len(row) for row in rows]
    assert r.rows.tolist() == [i for i, row in enumerate(rows) for _ in row]
    assert (r.offsets.dtype, r.values.dtype) == (np.int64, np.int32)
    assert Ragged.from_lengths(r.lengths, r.values).tolist() == rows


@given(ROWS, st.data())
def test_take(rows: list[list[int]], data: st.DataObject) -> None:
    order = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10)) if rows else []
    taken = Ragged.of(rows).take(np.array(order, dtype=np.int64))
    assert taken.tolist() == [rows[i] for i in order]


@given(ROWS, st.integers(0, 8))
def test_last(rows: list[list[int]], n: int) -> None:
    assert Ragged.of(rows).last(n).tolist() == [row[-n:] if n else [] for row in rows]


@given(ROWS, st.integers(0, 8), st.sampled_from(["left", "right"]))
def test_padded(rows: list[list[int]], length: int, align: str) -> None:
    got = Ragged.of(rows).padded(length, pad=-7, align=align)
    wanted = []
    for row in rows:
        kept = row[-length:] if length else []
        pad = [-7] * (length - len(kept))
        wanted.append(pad + kept if align == "right" else kept + pad)
    assert got.shape == (len(rows), length)
    assert got.dtype == np.int32
    assert got.tolist() == wanted


@given(ROWS, st.data())
def test_contains(rows: list[list[int]], data: st.DataObject) -> None:
    width = data.draw(st.integers(0, 5))
    item = st.integers(-1, N_VALUES - 1)
    asked = [data.draw(st.lists(item, min_size=width, max_size=width)) for _ in rows]
    got = Ragged.of(rows).contains(np.array(asked, dtype=np.int32).reshape(len(rows), width), N_VALUES)
    assert got.tolist() == [[i in row for i in line] for row, line in zip(rows, asked, strict=True)]


def test_positions_point_into_the_values() -> None:
    r = Ragged.of([[5, 6, 7], [], [8]])
    assert r.values[r.positions(np.array([2, 0]))].tolist() == [8, 5, 6, 7]
    assert r.values[r.positions(np.array([0, 1, 2]), 2)].tolist() == [6, 7, 8]


def test_single_rows() -> None:
    r = Ragged.of([[5, 6], [7]])
    assert r[0].tolist() == [5, 6]
    assert r[-1].tolist() == [7]
    for row in (2, -3):
        with pytest.raises(IndexError):
            r[row]


def test_empty() -> None:
    assert Ragged.empty(3).tolist() == [[], [], []]
    assert Ragged.of([]).tolist() == []
    assert Ragged.empty(0).contains(np.empty((0, 4), np.int32), 5).shape == (0, 4)
    assert not Ragged.empty(2).contains(np.zeros((2, 4), np.int32), 5).any()


@pytest.mark.parametrize(
    ("offsets", "values"),
    [([], []), ([1, 2], [5, 6]), ([0, 1], [5, 6]), ([0, 2, 1, 3], [5, 6, 7]), ([[0, 1]], [5]), ([0, 1], [[5]])],
)
def test_refuses_broken_offsets(offsets: list[int], values: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets"):
        Ragged(np.array(offsets, dtype=np.int64), np.array(values, dtype=np.int32))


def test_refuses_what_does_not_match() -> None:
    with pytest.raises(ValueError, match="align"):
        Ragged.of([[1]]).padded(2, align="middle")
    with pytest.raises(ValueError, match="2 rows of items for 1 rows"):
        Ragged.of([[1]]).contains(np.zeros((2, 1), np.int32), 3)
