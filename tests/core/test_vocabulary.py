"""Vocabulary: outside ids to inside ids and back."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import DataError, Vocabulary

IDS = st.lists(st.text(max_size=8).filter(lambda s: s.isprintable()), max_size=20)


@given(IDS)
def test_there_and_back(ids: list[str]) -> None:
    vocabulary = Vocabulary.of(ids)
    assert set(vocabulary) == set(ids)
    assert len(vocabulary) == len(set(ids))
    inside = vocabulary.encode(ids)
    assert inside.dtype == np.int32
    assert vocabulary.decode(inside) == ids
    assert [vocabulary.index(i) for i in ids] == inside.tolist()


@given(IDS, st.randoms())
def test_the_order_of_the_source_does_not_matter(ids: list[str], random: object) -> None:
    shuffled = ids * 2
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Vocabulary.of(shuffled) == Vocabulary.of(ids)
    assert Vocabulary.of(shuffled).fingerprint() == Vocabulary.of(ids).fingerprint()


def test_inside_ids_say_nothing_about_the_order_of_outside_ids() -> None:
    """The leak of sequential ids: with numbers as ids, inside and outside order are unrelated."""
    inside = Vocabulary.of(map(str, range(2000))).encode([str(i) for i in range(2000)])
    assert abs(np.corrcoef(inside, np.arange(2000))[0, 1]) < 0.1


def test_order_is_kept_when_it_is_given() -> None:
    vocabulary = Vocabulary(["b", "a"])
    assert vocabulary.ids == ("b", "a")
    assert vocabulary.index("a") == 1
    assert "a" in vocabulary
    assert "c" not in vocabulary


def test_unknown_ids() -> None:
    vocabulary = Vocabulary(["alien", "aliens", "up"], kind="item")
    assert vocabulary.encode(["up", "down"], missing=-1).tolist() == [2, -1]
    assert vocabulary.encode(pl.Series([None, "up"], dtype=pl.String), missing=-1).tolist() == [-1, 2]
    with pytest.raises(DataError, match="unknown item 'alein'; did you mean 'alien'"):
        vocabulary.encode(["up", "alein"])
    with pytest.raises(DataError, match="there are 3 known ones"):
        vocabulary.index("zzzzzz")
    with pytest.raises(DataError):
        Vocabulary([]).index("x")
    with pytest.raises(DataError):
        vocabulary.encode(pl.Series([None], dtype=pl.String))


def test_numbers_are_encoded_as_text() -> None:
    assert Vocabulary(["1", "2"]).encode(pl.Series([2, 1])).tolist() == [1, 0]


def test_refuses_repetition_and_pads() -> None:
    with pytest.raises(DataError, match="duplicate item ids"):
        Vocabulary(["a", "a"], kind="item")
    with pytest.raises(IndexError):
        Vocabulary(["a", "b"]).decode([-1])
    with pytest.raises(IndexError):
        Vocabulary(["a", "b"]).decode([2])


def test_fingerprint_tells_order_and_borders_apart() -> None:
    prints = {Vocabulary(ids).fingerprint() for ids in (["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""], [])}
    assert len(prints) == 5


def test_equality_and_hash() -> None:
    assert Vocabulary(["a"]) == Vocabulary(["a"])
    assert hash(Vocabulary(["a"])) == hash(Vocabulary(["a"]))
    assert Vocabulary(["a"]) != Vocabulary(["b"])
    assert Vocabulary(["a"]) != ("a",)


def test_encodes_nothing() -> None:
    assert Vocabulary(["a"]).encode([]).shape == (0,)
    assert Vocabulary([]).encode([]).shape == (0,)
