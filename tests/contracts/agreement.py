"""When two sets of lists are the same."""

from __future__ import annotations

import numpy as np

from llm4rec.core import Lists


def assert_same_lists(got: Lists, wanted: Lists, *, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Assert equal lists, allowing swaps of items whose scores differ by rounding alone.

    A matrix product of one row and of a thousand rows round differently in the last bits, so two
    items may change places if their scores agree within the tolerance; nothing else may differ.
    """
    assert got.items.shape == wanted.items.shape
    assert np.array_equal(got.lengths, wanted.lengths), "lists of different lengths"
    np.testing.assert_allclose(got.scores, wanted.scores, rtol=rtol, atol=atol, err_msg="scores differ")
    for row, at in zip(*np.nonzero(got.items != wanted.items), strict=True):
        item, score = got.items[row, at], got.scores[row, at]
        elsewhere = np.flatnonzero(wanted.items[row] == item)
        other = wanted.scores[row, elsewhere[0] if len(elsewhere) else wanted.lengths[row] - 1]
        assert np.isclose(score, other, rtol=rtol, atol=atol), (
            f"row {row}, rank {at}: item {item} (score {score}) where {wanted.items[row, at]} was expected"
        )
