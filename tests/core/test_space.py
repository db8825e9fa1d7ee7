"""Ranges that cannot be drawn from are refused."""

from __future__ import annotations

import math

import pytest

from llm4rec.core import Choice, Uniform, Whole


@pytest.mark.parametrize(("low", "high", "log"), [(1, 1, False), (2, 1, False), (0, 1, True), (0, math.inf, False)])
def test_no_range(low: float, high: float, log: bool) -> None:
    for space in (Uniform, Whole):
        with pytest.raises(ValueError, match="no range"):
            space(low, high, log)  # type: ignore[arg-type]


def test_a_choice_of_one_is_none() -> None:
    with pytest.raises(ValueError, match="two values"):
        Choice((1,))
