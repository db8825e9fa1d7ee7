"""The evaluation of one scored system stays fast; the exact figure comes from the benchmark."""

from __future__ import annotations

from benchmarks.evaluation import measure


def test_one_system_in_less_than_a_second() -> None:
    """The target on an idle machine is 0.3 s; the bound here leaves room for a busy one."""
    assert measure(repeats=3)["all"] <= 1.0
