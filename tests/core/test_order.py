"""Orders by packed words, against numpy's own."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm4rec.core.order import dense, first_of_each, stable_order

WIDE = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1))


@given(st.lists(st.tuples(st.integers(-2, 2), WIDE, st.integers(0, 2**40)), max_size=30))
@example([(0, -(2**63), 0), (0, 2**63 - 1, 0), (0, -(2**63), 0)])
@settings(max_examples=300, deadline=None)
def test_is_the_order_of_lexsort(rows: list[tuple[int, int, int]]) -> None:
    table = np.array(rows, dtype=np.int64).reshape(len(rows), 3)
    a, b, c = np.ascontiguousarray(table.T)
    for keys in ((a,), (b,), (a, b), (a, c), (b, a, c), (c, c, c), (a.astype(np.int8), c)):
        before = [k.copy() for k in keys]
        assert np.array_equal(stable_order(*keys), np.lexsort(keys[::-1]))
        assert all(np.array_equal(k, was) for k, was in zip(keys, before, strict=True)), "a key was written to"


@given(st.lists(WIDE, max_size=30))
@settings(max_examples=200, deadline=None)
def test_distinct_values_and_first_rows(values: list[int]) -> None:
    key = np.array(values, dtype=np.int64)
    distinct, place = dense(key)
    wanted, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    assert np.array_equal(distinct, wanted)
    assert place.dtype == np.int32
    assert np.array_equal(place, inverse)
    assert np.array_equal(np.flatnonzero(first_of_each(key)), np.sort(first))
