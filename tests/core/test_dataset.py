"""Dataset: events by user in time order, counts, refusals."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import Dataset, Vocabulary

N_USERS, N_ITEMS = 4, 5
EVENTS = st.lists(st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.integers(0, 3)), max_size=25)


def dataset(rows: list[tuple[int, int, int]], **changes: object) -> Dataset:
    events = pl.DataFrame(
        {
            "user": [u for u, _, _ in rows],
            "item": [i for _, i, _ in rows],
            "time": [t for _, _, t in rows],
            "value": [float(n) for n in range(len(rows))],
            "behavior": [0] * len(rows),
        },
        schema={"user": pl.Int64, "item": pl.Int64, "time": pl.Int64, "value": pl.Float64, "behavior": pl.Int64},
    )
    parts: dict[str, object] = {
        "name": "made",
        "users": Vocabulary([f"u{i}" for i in range(N_USERS)]),
        "items": Vocabulary([f"i{i}" for i in range(N_ITEMS)]),
        "events": events,
        "item_table": pl.DataFrame({"item": np.arange(N_ITEMS)}),
        "user_table": pl.DataFrame({"user": np.arange(N_USERS)}),
    }
    return Dataset(**(parts | changes))  # type: ignore[arg-type]


@given(EVENTS)
def test_histories_are_in_time_order_and_ties_in_the_order_of_the_source(rows: list[tuple[int, int, int]]) -> None:
    h = dataset(rows).histories
    wanted = [sorted((r for r in enumerate(rows) if r[1][0] == user), key=lambda r: r[1][2]) for user in range(N_USERS)]
    assert h.items.tolist() == [[i for _, (_, i, _) in row] for row in wanted]
    flat = [r for row in wanted for r in row]
    assert h.times.tolist() == [t for _, (_, _, t) in flat]
    assert h.values.tolist() == [n for n, _ in flat]  # the value is the row of the source
    assert len(h.behaviors) == len(rows)


@given(EVENTS)
def test_counts_and_matrix(rows: list[tuple[int, int, int]]) -> None:
    d = dataset(rows)
    assert d.item_counts.tolist() == [sum(i == item for _, i, _ in rows) for item in range(N_ITEMS)]
    m = d.matrix()
    assert m.shape == (N_USERS, N_ITEMS)
    assert m.dtype == np.float32
    wanted = np.zeros((N_USERS, N_ITEMS))
    for user, item, _ in rows:
        wanted[user, item] = 1
    assert (m.toarray() == wanted).all()
    assert m.has_sorted_indices


def test_types_of_the_events() -> None:
    assert dict(dataset([(0, 1, 2)]).events.schema) == {
        "user": pl.Int32, "item": pl.Int32, "time": pl.Int64, "value": pl.Float32, "behavior": pl.Int8,
    }  # fmt: skip


def test_other_events_over_the_same_catalogue() -> None:
    d = dataset([(0, 1, 2), (1, 1, 0)])
    assert d.histories.items.lengths.sum() == 2  # computed once, and not carried over
    less = d.with_events(d.events.head(1))
    assert less.histories.items.tolist() == [[1], [], [], []]
    assert less.items is d.items
    assert d.histories.items.tolist() == [[1], [1], [], []]


def test_fingerprint_changes_with_every_part() -> None:
    rows = [(0, 1, 2), (1, 2, 3)]
    other_ids = Vocabulary([f"x{i}" for i in range(N_ITEMS)])
    different = [
        dataset(rows),
        dataset(rows[::-1]),
        dataset(rows[:1]),
        dataset([(0, 1, 2), (1, 2, 4)]),
        dataset([(0, 1, 2), (1, 3, 3)]),
        dataset(rows, items=other_ids),
    ]
    assert len({d.fingerprint() for d in different}) == len(different)
    assert dataset(rows).fingerprint() == dataset(rows, name="other").fingerprint()


def test_no_events() -> None:
    d = dataset([])
    assert d.histories.items.tolist() == [[]] * N_USERS
    assert d.item_counts.tolist() == [0] * N_ITEMS
    assert d.matrix().nnz == 0


@pytest.mark.parametrize(
    ("rows", "changes", "says"),
    [
        ([(N_USERS, 0, 0)], {}, "events name a user outside"),
        ([(-1, 0, 0)], {}, "events name a user outside"),
        ([(0, N_ITEMS, 0)], {}, "events name a item outside"),
        ([(0, 0, 0)], {"item_table": pl.DataFrame({"item": [0, 1]})}, "item table must have one row"),
        ([(0, 0, 0)], {"item_table": pl.DataFrame({"item": [1, 0, 2, 3, 4]})}, "in vocabulary order"),
        ([(0, 0, 0)], {"user_table": pl.DataFrame({"user": [0]})}, "user table must have one row"),
        ([(0, 0, 0)], {"events": pl.DataFrame({"user": [0], "item": [0]})}, "events must have the columns"),
    ],
)
def test_refuses_what_does_not_match(rows: list[tuple[int, int, int]], changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        dataset(rows, **changes)


def test_shows_its_size() -> None:
    assert repr(dataset([(0, 1, 2)])) == "Dataset('made', 4 users, 5 items, 1 events)"
