"""IDs of words: titles and attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import ModelError, SpecError
from llm4rec.generative.ids import AttributeIDs, ItemIDs, Pieces, TitleIDs
from tests import worlds
from tests.generative.ids.contract import SchemeContract
from tests.generative.ids.made import catalogue, titled

RNG = np.random.default_rng


def written(ids: ItemIDs) -> list[str]:
    """Return each ID as text."""
    words = ids.written()
    return ["".join(words[t] for t in row).replace("▁", " ").strip() for row in ids.codes]


def of(titles: Sequence[str], pieces: Pieces | None = None, **params: Any) -> ItemIDs:
    return TitleIDs.model_validate(params).build(titled(titles), encoder=None, rng=RNG(0), pieces=pieces)


# -- titles ---------------------------------------------------------------------------------
class TestTitle(SchemeContract):
    scheme = TitleIDs
    drawn = False


def test_an_id_is_the_title_and_an_end() -> None:
    titles = ["Toy Story", "Toy Story 2", "Amélie", "WALL·E"]
    ids = of(titles)
    assert written(ids) == [f"{title}</s>" for title in titles]
    assert all(row[-1] == 0 and 0 not in row[:-1] for row in ids.codes)
    assert ids.collisions == 0


def test_frequent_words_are_one_token_and_rare_ones_several() -> None:
    ids = of([f"The {chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(400)], vocabulary=80)
    assert ids.n_tokens == 80
    assert ids.codes[0][0] == ids.codes[7][0]
    assert ids.written()[int(ids.codes[0][0])] == "▁The"
    assert ids.depth >= 3


def test_equal_titles_get_numbers() -> None:
    ids = of(["Hamlet", "Hamlet", "Hamlet (2)", "Hamlet", "", ""])
    assert written(ids) == ["Hamlet</s>", "Hamlet (3)</s>", "Hamlet (2)</s>", "Hamlet (4)</s>", "</s>", "(2)</s>"] or written(
        ids
    ) == ["Hamlet</s>", "Hamlet (2)</s>", "Hamlet (2) (2)</s>", "Hamlet (3)</s>", "</s>", "(2)</s>"]
    assert ids.collisions == 3


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(max_size=6), max_size=8))
def test_any_titles_give_ids(titles: list[str]) -> None:
    ids = of([*titles, *titles])
    assert ids.find(ids.padded()).tolist() == list(range(2 * len(titles)))


def test_long_titles_are_cut_and_still_differ() -> None:
    ids = of([f"A very long title, part {i}" for i in range(3)], max_pieces=2, vocabulary=200)
    assert len(ids.codes[0]) == 3
    assert ids.collisions == 2


def characters(titles: Sequence[str]) -> Pieces:
    alphabet = sorted({*"".join(titles), *" (0123456789)"})
    place = {c: i for i, c in enumerate(alphabet)}
    return Pieces(lambda texts: [[place[c] for c in text] for text in texts], len(alphabet) + 1, len(alphabet))


def test_a_model_s_own_tokenizer_writes_the_titles() -> None:
    titles = ["Up", "Up", "Up in the Air"]
    pieces = characters(titles)
    ids = of(titles, pieces)
    assert ids.n_tokens == pieces.n_tokens
    assert ids.words is None
    assert [len(row) for row in ids.codes] == [3, 7, 14]
    assert all(row[-1] == pieces.end for row in ids.codes)
    deaf = replace(pieces, encode=lambda texts: [[0] for _ in texts])
    with pytest.raises(ModelError, match="title IDs: its tokenizer does not tell numbers apart"):
        of(titles, deaf)


def test_the_control_of_titles_shuffles_with_a_tokenizer_too() -> None:
    titles = [f"t{i}" for i in range(20)]
    true, control = of(titles, characters(titles)), of(titles, characters(titles), control="shuffled")
    assert sorted(map(tuple, true.codes)) == sorted(map(tuple, control.codes))
    assert not np.array_equal(true.codes.values, control.codes.values)


def test_real_titles_are_told_apart(ml100k_whole_split: Any) -> None:
    """22 of the 1,682 titles are not unique, some only in another year."""
    ids = TitleIDs().build(ml100k_whole_split.train, encoder=None, rng=RNG(0))
    titles = ml100k_whole_split.train.item_table["title"]
    assert ids.collisions == len(titles) - titles.n_unique()
    assert ids.collisions > 10


# -- attributes -----------------------------------------------------------------------------
class TestAttributes(SchemeContract):
    scheme = AttributeIDs
    configs: ClassVar[dict[str, Any]] = {"columns": ("genres", "year"), "codebook": 4}
    drawn = False


def table(**columns: list[Any]) -> Any:
    made = catalogue(len(next(iter(columns.values()))))
    return replace(made, item_table=made.item_table.with_columns(**{k: pl.Series(v) for k, v in columns.items()}))


def test_a_path_through_the_columns_and_a_number() -> None:
    train = table(brand=["A", "A", None, "A", " "], genres=[["x", "y"], ["x"], None, ["x", "y"], []])
    ids = AttributeIDs(columns=("brand", "genres"), codebook=2).build(train, encoder=None, rng=RNG(0))
    words = ids.written()
    assert ["".join(words[t] for t in row) for row in ids.codes] == [
        "<a_A><b_x><c_y><d_0>", "<a_A><b_x><c_><d_0>", "<a_><b_><c_><d_0>", "<a_A><b_x><c_y><d_1>", "<a_><b_><c_><d_1>",
    ]  # fmt: skip
    assert ids.collisions == 2


def test_numbers_take_as_many_levels_as_they_need() -> None:
    many = table(genres=["x"] * 9)
    assert AttributeIDs(codebook=2).build(many, encoder=None, rng=RNG(0)).depth == 1 + 4
    assert AttributeIDs(codebook=3).build(many, encoder=None, rng=RNG(0)).depth == 1 + 2
    assert AttributeIDs(codebook=9).build(many, encoder=None, rng=RNG(0)).depth == 1 + 1
    assert AttributeIDs().build(table(genres=["x", "y"]), encoder=None, rng=RNG(0)).depth == 1


def test_says_which_column_there_is_not() -> None:
    with pytest.raises(SpecError, match=r"ids.columns: the item table has no column 'genre'; did you mean 'genres'"):
        AttributeIDs(columns=("genre",)).build(table(genres=["x"]), encoder=None, rng=RNG(0))


def test_items_of_a_topic_share_the_first_code() -> None:
    train = worlds.topics().split.train
    first = AttributeIDs().build(train, encoder=None, rng=RNG(0)).padded()[:, 0]
    pairs = set(zip(first.tolist(), train.item_table["genres"].to_list(), strict=True))
    assert len(pairs) == len(set(first.tolist())) == train.item_table["genres"].n_unique()
