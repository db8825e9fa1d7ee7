"""The plan of a packed sequence, against the plain reading of its rule."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llm4rec.llm.packing import packs, runs, shared, whole

_continuations = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=12)


@given(_continuations, st.integers(1, 20), st.integers(1, 5), st.booleans())
def test_each_token_sees_the_prompt_and_its_own_past(
    continuations: list[list[int]], room: int, n: int, with_prompt: bool
) -> None:
    own = n if with_prompt else 0
    rows = []
    for pack in packs(continuations, room):
        assert len(pack.tokens) <= room or len(pack.rows) == 1
        rows += pack.rows.tolist()
        positions, sees = pack.positions(n, own).tolist(), pack.sees(n, own)
        assert positions[:own] == list(range(own))
        for i in range(own):
            assert sees[i].nonzero()[0].tolist() == list(range(i + 1))
        at = 0
        for row, head in zip(pack.rows, pack.heads, strict=True):
            continuation = continuations[row]
            assert head == continuation[0]
            for step, (token, target) in enumerate(pairwise(continuation)):
                assert (pack.tokens[at], pack.targets[at], positions[own + at]) == (token, target, n + step)
                assert sees[own + at].nonzero()[0].tolist() == [*range(n), *range(n + at - step, n + at + 1)]
                at += 1
        assert at == len(pack.tokens)
    assert rows == list(range(len(continuations)))


def test_nothing_to_pack() -> None:
    assert packs([], 5) == []


def test_a_window_hides_what_is_too_far() -> None:
    (pack,) = packs([[1, 2, 3], [4, 5]], 9)  # two tokens and one, after a prompt of four
    sees = pack.sees(4, 2, 3)
    assert [row.nonzero()[0].tolist() for row in sees] == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [2, 3, 6]]


_prompts = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=9), min_size=1, max_size=9)


@given(_prompts, st.integers(1, 4), st.integers(1, 3))
def test_runs_hold_every_prompt_once_and_neighbours_share_most(prompts: list[list[int]], cores: int, block: int) -> None:
    found = runs(prompts, [len(p) for p in prompts], cores, block)
    assert sorted(i for run in found for i in run) == list(range(len(prompts)))
    for run in found:
        for at, i in enumerate(run):
            for before in run[:at]:  # what any prompt before it shares, the last one shares too
                assert shared(prompts[before], prompts[i], block) <= shared(prompts[run[at - 1]], prompts[i], block)


def test_runs_are_cut_between_groups() -> None:
    groups = [[g] * 8 + [i] * 2 for g in range(4) for i in range(3)]
    assert sorted(map(sorted, runs(groups, [10] * 12, 2, 4))) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    one_group = [[0] * 8 + [i] * 2 for i in range(12)]
    assert [len(run) for run in runs(one_group, [10] * 12, 2, 4)] == [6, 6]
    assert len(runs(one_group, [10] * 12, 1, 4)) == 1
    assert runs([], [], 4, 4) == []


@given(st.lists(st.integers(0, 1), max_size=9), st.lists(st.integers(0, 1), max_size=9), st.integers(1, 3))
def test_shared_blocks_are_whole_and_leave_a_token(one: list[int], other: list[int], block: int) -> None:
    n = shared(one, other, block)
    assert n % block == 0
    assert one[:n] == other[:n]
    assert n <= max(0, min(len(one), len(other)) - 1)
    assert n + block > whole(one, block) or n + block > whole(other, block) or one[: n + block] != other[: n + block]
