"""The plan of a packed sequence, against the plain reading of its rule."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from llm4rec.llm.packing import packs

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
