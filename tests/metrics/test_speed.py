"""The evaluation of one scored system stays fast; the exact figure comes from the benchmark."""

from __future__ import annotations

from benchmarks.evaluation import measure, measure_large


def test_one_system_in_less_than_a_second() -> None:
    """The target on an idle machine is 0.3 s; the bound here leaves room for a busy one."""
    assert measure(repeats=3)["all"] <= 1.0


def test_ten_metrics_at_five_cut_offs_cost_little_more_than_sorting_the_lists() -> None:
    """The target is twice the time of reading and sorting; the bound leaves room for a busy machine."""
    assert measure_large(repeats=3, n=20_000)["times_read_and_sort"] <= 5.0
