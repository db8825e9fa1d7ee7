"""The Pareto front: known answers, and what must hold of any."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm4rec.metrics import dominators

NUMBERS = st.sampled_from([0.0, 1.0, 2.0, 3.0])
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, st.one_of(st.none(), NUMBERS), st.booleans()), min_size=0, max_size=8)


def test_known_answers() -> None:
    gain = [0.10, 0.12, 0.12, 0.11, 0.20]
    costs = [(1.0, 0.0), (2.0, 0.0), (2.0, 0.0), (3.0, 0.0), (900.0, 0.01)]
    assert dominators(gain, costs, [True] * 5) == [[], [], [], [1, 2], []], "equals do not dominate each other"
    assert dominators(gain, costs, [True, True, False, True, True])[3] == [1], "a control dominates nobody"


def test_unknown_money_is_no_less_than_none() -> None:
    gain, costs = [0.2, 0.1, 0.1], [(1.0, 0.0), (1.0, None), (5.0, None)]
    assert dominators(gain, costs, [True] * 3) == [[], [0], [0]]
    assert dominators([0.2, 0.1], [(1.0, None), (5.0, 0.5)], [True] * 2) == [[], []], "it may have cost more"
    assert dominators([0.2, 0.1], [(1.0, None), (5.0, None)], [True] * 2) == [[], []]


@given(ROWS)
def test_what_holds_of_any(rows: list[tuple[float, float, float | None, bool]]) -> None:
    gain, able = [r[0] for r in rows], [r[3] for r in rows]
    found = dominators(gain, [(r[1], r[2]) for r in rows], able)
    best = max((g for g, a in zip(gain, able, strict=True) if a), default=None)
    for j, over in enumerate(found):
        assert j not in over
        assert all(able[i] and gain[i] >= gain[j] for i in over)
        for i in over:
            assert j not in found[i]
            assert rows[i][2] is not None
            assert set(found[i]) <= set(over), "what dominates a dominator dominates too"
    if best is not None and all(r[2] is not None for r in rows):
        assert any(not over for over, a in zip(found, able, strict=True) if a)


def test_of_no_systems_none_is_dominated() -> None:
    assert dominators([], [], []) == []
