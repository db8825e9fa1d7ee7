"""Item IDs: what they promise (unique, prefix-free), the way back, the control, saving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import Ragged, RunError
from llm4rec.generative.ids import ItemIDs

rows = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), max_size=12)


def plain_fault(ids: list[list[int]]) -> bool:
    """Is one of the rows the beginning of another, or equal to it?"""
    return any(a == b[: len(a)] for i, a in enumerate(ids) for j, b in enumerate(ids) if i != j)


@given(rows)
def test_refuses_what_is_not_prefix_free_and_nothing_else(ids: list[list[int]]) -> None:
    if plain_fault(ids):
        with pytest.raises(ValueError, match=r"share an ID|begins the other"):
            ItemIDs.of(ids, 4)
    else:
        made = ItemIDs.of(ids, 4)
        assert made.n_items == len(made) == len(ids)
        assert made.depth == max(map(len, ids), default=0)
        assert [[t for t in row if t >= 0] for row in made.padded().tolist()] == ids
        assert made.find(made.padded()).tolist() == list(range(len(ids)))


@given(rows, st.lists(st.lists(st.integers(-2, 5), min_size=5, max_size=5), max_size=10))
def test_finds_these_ids_and_no_other(ids: list[list[int]], asked: list[list[int]]) -> None:
    kept: list[list[int]] = []
    for row in ids:  # the rows that can stand beside those before
        if not plain_fault([*kept, row]):
            kept.append(row)
    made = ItemIDs.of(kept, 4)
    wanted = [next((i for i, row in enumerate(kept) if [*row, *[-1] * (5 - len(row))] == code), -1) for code in asked]
    assert made.find(np.array(asked, np.int32).reshape(-1, 5)).tolist() == wanted


def test_finds_by_arrays_of_any_width() -> None:
    ids = ItemIDs.of([[0, 1], [2], [0, 2]], 3)
    assert ids.find(np.array([[2], [0]])).tolist() == [1, -1]
    assert ids.find(np.array([[2, -1, -1], [0, 2, -1], [0, 2, 0]])).tolist() == [1, 2, -1]
    assert ids.find(np.empty((0, 2), np.int32)).tolist() == []


@pytest.mark.parametrize(
    ("codes", "n_tokens", "words", "says"),
    [
        ([[0], []], 1, None, "item 1 has an empty ID"),
        ([[0], [2]], 2, None, r"tokens must lie in \[0, 2\)"),
        ([[0], [-1]], 2, None, r"tokens must lie in \[0, 2\)"),
        ([[0, 1], [1], [0, 1]], 2, None, "items 0 and 2 share an ID"),
        ([[0, 1], [0]], 2, None, "items 1 and 0 have IDs of which one begins the other"),
        ([[0], [1]], 2, ["a"], "there must be 2 different words"),
        ([[0], [1]], 2, ["a", "a"], "there must be 2 different words"),
    ],
)
def test_says_what_is_wrong(codes: list[list[int]], n_tokens: int, words: list[str] | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ItemIDs.of(codes, n_tokens, words)


def test_shuffled_gives_the_same_ids_to_other_items() -> None:
    ids = ItemIDs.of([[i // 10, 10 + i % 10] for i in range(100)], 20)
    other = ids.shuffled(np.random.default_rng(0))
    assert sorted(map(tuple, other.codes)) == sorted(map(tuple, ids.codes))
    assert (other.padded() == ids.padded()).all(axis=1).mean() < 0.1
    assert np.array_equal(other.padded(), ids.shuffled(np.random.default_rng(0)).padded())


def test_words() -> None:
    assert ItemIDs.of([[0], [1]], 2).written() == ("<0>", "<1>")
    assert ItemIDs.of([[0], [1]], 2, ["the", "end"]).written() == ("the", "end")


@pytest.mark.parametrize("words", [None, ["ä", "b", "c"]])
def test_what_is_loaded_is_what_was_saved(tmp_path: Path, words: list[str] | None) -> None:
    ids = ItemIDs.of([[0, 1], [2], [1, 1, 1]], 3, words)
    ids.save(tmp_path / "ids")
    loaded = ItemIDs.load(tmp_path / "ids")
    assert loaded.words == ids.words
    assert loaded.n_tokens == 3
    assert np.array_equal(loaded.padded(), ids.padded())
    (tmp_path / "ids" / "ids.json").write_text("{}")
    with pytest.raises(RunError, match=r"cannot read item IDs.*build them again"):
        ItemIDs.load(tmp_path / "ids")


def test_a_million_ids_are_checked_and_found_in_seconds() -> None:
    n = 1_000_000
    numbers = np.random.default_rng(0).permutation(n)
    codes = np.column_stack([numbers // 10_000, numbers // 100 % 100, numbers % 100])
    ids = ItemIDs(Ragged.from_lengths(np.full(n, 3), codes.ravel()), 100)
    assert np.array_equal(ids.find(codes), np.arange(n))
