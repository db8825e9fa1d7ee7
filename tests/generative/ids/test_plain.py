"""Random, sequential and single-token IDs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import Dataset, SpecError, Split
from llm4rec.data import DataConfig, SplitConfig, load, make_split
from llm4rec.generative.ids import RandomIDs, SequentialIDs, SingleIDs
from llm4rec.generative.ids.sequential import numbers
from tests.generative.ids.contract import SchemeContract
from tests.generative.ids.made import catalogue

RNG = np.random.default_rng


# -- random ---------------------------------------------------------------------------------
class TestRandom(SchemeContract):
    scheme = RandomIDs
    configs: ClassVar[dict[str, Any]] = {"levels": 3, "codebook": 8}


@given(st.integers(1, 3), st.integers(2, 6), st.data())
def test_random_ids_are_valid_in_any_room(levels: int, codebook: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, codebook**levels))
    ids = RandomIDs(levels=levels, codebook=codebook).build(catalogue(n), encoder=None, rng=RNG(0))
    assert ids.n_tokens == levels * codebook
    assert ids.padded().shape == (n, levels if n else 0)
    assert (ids.padded() // codebook == np.arange(ids.depth)).all()  # each level has its own tokens


def test_random_ids_need_room() -> None:
    with pytest.raises(SpecError, match=r"ids.codebook: 2 codes at 3 levels name 8 items, not 9"):
        RandomIDs(levels=3, codebook=2).build(catalogue(9), encoder=None, rng=RNG(0))


def test_random_ids_are_random() -> None:
    train = catalogue(4000)
    codes = RandomIDs(levels=2, codebook=100).build(train, encoder=None, rng=RNG(0)).padded()
    counts = np.bincount(codes[:, 0], minlength=100)
    assert 20 < counts.min() <= counts.max() < 65  # 40 on average, deviation 6
    assert not np.array_equal(codes, RandomIDs(levels=2, codebook=100).build(train, encoder=None, rng=RNG(1)).padded())


# -- single ---------------------------------------------------------------------------------
class TestSingle(SchemeContract):
    scheme = SingleIDs
    drawn = False


def test_single_ids_are_one_token() -> None:
    ids = SingleIDs().build(catalogue(5), encoder=None, rng=RNG(0))
    assert ids.padded().tolist() == [[0], [1], [2], [3], [4]]
    assert ids.written()[2] == "<a_2>"


# -- sequential -----------------------------------------------------------------------------
class TestSequential(SchemeContract):
    scheme = SequentialIDs
    drawn = False


class TestSequentialByTime(SchemeContract):
    scheme = SequentialIDs
    configs: ClassVar[dict[str, Any]] = {"order": "time", "digits": 1}
    drawn = False


def test_numbers_follow_first_appearance() -> None:
    train = catalogue(6, [[4, 2], [2, 5, 4], [0]])
    assert numbers(train, "users")[[4, 2, 5, 0, 1, 3]].tolist() == list(range(6))
    assert numbers(train, "time")[[4, 2, 0, 5, 1, 3]].tolist() == list(range(6))  # 4, 2 and 0 came at once, in file order


def test_tokens_are_groups_of_digits() -> None:
    ids = SequentialIDs(digits=2).build(catalogue(1200, [[7, 3]]), encoder=None, rng=RNG(0))
    words = [[ids.written()[t] for t in row] for row in ids.codes]
    assert words[7] == ["00", "00"]
    assert words[3] == ["00", "01"]
    assert words[1199] == ["11", "99"]
    assert ids.n_tokens == 100
    ids = SequentialIDs(digits=1).build(catalogue(101), encoder=None, rng=RNG(0))
    assert ids.written() == tuple("0123456789")
    assert ids.codes[100].tolist() == [1, 0, 0]


def next_after_the_highest(numbered: Dataset, split: Split) -> float:
    """Return the share of test cases in which the number after the highest of the history is the answer."""
    number = numbers(numbered, "users")
    item = np.argsort(number)
    cases = split.test
    highest = np.maximum.reduceat(number[cases.queries.history.values], cases.queries.history.offsets[:-1])
    guess = np.append(item, -1)[np.minimum(highest + 1, len(item))]
    return float(np.mean(guess == cases.truth.values))


def leaking(split: Split) -> Dataset:
    """Return the training part with the held-out events put back, as P5 numbered its items."""
    assert split.valid is not None
    late = [
        split.train.events.head(len(held)).with_columns(
            user=pl.Series(held.queries.users), item=pl.Series(held.truth.values), time=pl.Series(held.queries.times)
        )
        for held in (split.valid, split.test)
    ]
    return split.train.with_events(pl.concat([split.train.events, *late]))


def test_held_out_events_do_not_number_items(tmp_path: Path) -> None:
    """P5's leak: a rule without any model hits when whole sequences number the items, and never when training does."""
    rng = RNG(0)
    lines = ["user,item,time"]
    for user in range(300):
        lines += [f"u{user},i{i},{t}" for t, i in enumerate(rng.choice(3000, size=8, replace=False), 1_000_000_000)]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    split = make_split(load(DataConfig(path=tmp_path / "log.csv")), SplitConfig(kind="leave-one-out"))
    assert next_after_the_highest(leaking(split), split) > 0.1
    assert next_after_the_highest(split.train, split) < 0.01


def test_no_leak_on_movielens(ml100k_split: Split) -> None:
    """13 of 943 first guesses hit with the leak, none without."""
    assert next_after_the_highest(leaking(ml100k_split), ml100k_split) > 10 / 943
    assert next_after_the_highest(ml100k_split.train, ml100k_split) < 3 / 943
