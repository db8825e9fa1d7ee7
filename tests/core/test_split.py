"""Queries and Cases: rows stay together, whatever is taken from them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import Cases, Queries, Ragged


def queries(lengths: list[int]) -> Queries:
    """Make queries in which every number tells its row: item 10 r + j, time 100 r + j, and so on."""
    history = Ragged.of([[10 * r + j for j in range(n)] for r, n in enumerate(lengths)])
    rows, values = history.rows, history.values
    return Queries(
        np.arange(len(lengths)),
        history,
        1000 * np.arange(len(lengths)),
        100 * rows + values % 10,
        (rows % 5).astype(np.int8),
        tuple(f"text {r}" for r in range(len(lengths))),
    )


@given(st.lists(st.integers(0, 5), max_size=7), st.data())
def test_take_keeps_rows_together(lengths: list[int], data: st.DataObject) -> None:
    order = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=9)) if lengths else []
    taken = queries(lengths).take(np.array(order, dtype=np.int64))
    assert taken.users.tolist() == order
    assert taken.history.tolist() == [[10 * r + j for j in range(lengths[r])] for r in order]
    assert taken.times.tolist() == [1000 * r for r in order]
    assert taken.history_times is not None
    assert taken.history_times.tolist() == [100 * r + j for r in order for j in range(lengths[r])]
    assert taken.history_behaviors is not None
    assert taken.history_behaviors.tolist() == [r % 5 for r in order for _ in range(lengths[r])]
    assert taken.texts == tuple(f"text {r}" for r in order)


@given(st.integers(0, 10), st.integers(1, 4))
def test_chunks_are_all_rows_in_order(n: int, size: int) -> None:
    q = queries([1] * n)
    parts = list(q.chunks(size))
    assert np.concatenate([rows for rows, _ in parts] or [np.empty(0)]).tolist() == list(range(n))
    assert all(0 < len(chunk) <= size for _, chunk in parts)
    assert [u for _, chunk in parts for u in chunk.users] == list(range(n))


def test_queries_of_histories() -> None:
    q = Queries.of(Ragged.of([[1], []]))
    assert q.users.tolist() == [-1, -1]
    assert q.times.tolist() == [0, 0]
    assert (q.users.dtype, q.times.dtype) == (np.int32, np.int64)
    assert Queries.of(Ragged.of([[1]]), users=np.array([7]), times=np.array([9])).users.tolist() == [7]
    plain = q.take(np.array([1, 0]))
    assert (plain.history_times, plain.history_behaviors, plain.texts) == (None, None, None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"users": np.arange(3)}, "history has 2 entries, not 3"),
        ({"times": np.arange(3)}, "times has 3 entries, not 2"),
        ({"history_times": np.arange(2)}, "history_times has 2 entries, not 3"),
        ({"history_behaviors": np.zeros(4, np.int8)}, "history_behaviors has 4 entries, not 3"),
        ({"texts": ("one",)}, "texts has 1 entries, not 2"),
    ],
)
def test_refuses_parts_out_of_step(changes: dict[str, object], says: str) -> None:
    parts: dict[str, object] = {"users": np.arange(2), "history": Ragged.of([[1, 2], [3]]), "times": np.arange(2)}
    with pytest.raises(ValueError, match=says):
        Queries(**(parts | changes))  # type: ignore[arg-type]


def test_cases_take_all_parts_along() -> None:
    cases = Cases(
        queries([1, 2, 0]), Ragged.of([[5], [6, 7], [8]]), Ragged.of([[0], [1, 2], []]), Ragged.of([[5], [6], [8, 9]])
    )
    taken = cases.take(np.array([2, 1]))
    assert taken.queries.users.tolist() == [2, 1]
    assert taken.truth.tolist() == [[8], [6, 7]]
    assert taken.seen.tolist() == [[], [1, 2]]
    assert taken.candidates is not None
    assert taken.candidates.tolist() == [[8, 9], [6]]
    assert len(taken) == 2
    assert Cases(cases.queries, cases.truth, cases.seen).take(np.array([0])).candidates is None


def test_masking_rules() -> None:
    cases = Cases(queries([1, 2]), Ragged.of([[5], [6]]), Ragged.of([[0, 4], [10, 11, 3]]))
    assert cases.exclude("seen").tolist() == [[0, 4], [10, 11, 3]]
    assert cases.exclude("history").tolist() == [[0], [10, 11]]
    assert cases.exclude("none").tolist() == [[], []]


def test_cases_refuse_what_does_not_match() -> None:
    q = queries([1, 1])
    with pytest.raises(ValueError, match="a case without truth"):
        Cases(q, Ragged.of([[1], []]), Ragged.empty(2))
    for truth, seen, candidates in ((1, 2, 2), (2, 3, 2), (2, 2, 1)):
        rows = [Ragged.of([[1]] * n) for n in (truth, seen, candidates)]
        with pytest.raises(ValueError, match="rows for 2 queries"):
            Cases(q, *rows)
