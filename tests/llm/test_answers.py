"""Rankings read from free text: every form, every kind of fault, and titles that look like labels."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.llm import Ranking, read_ranking


@pytest.mark.parametrize(
    "text",
    [
        "3 > 1 > 2",
        "3>1>2",
        "[3] > [1] > [2]",
        "Here is the ranking: 3 > 1 > 2.\nI hope you like all 3 of them!",
        "**3 > 1 > 2**",
        "3 -> 1 -> 2",
        "3, 1, 2",
        "3 1 2",
        "3\n1\n2\n",
        "[3, 1, 2]",
        '["3", "1", "2"]',
        '{"order": [3, 1, 2]}',
        '```json\n{"ranking": ["[3]", "[1]", "[2]"], "note": "done"}\n```',
        "1. 3\n2. 1\n3. 2",
        "1) [3] Alien\n2) [1] 12 Angry Men\n3) [2] Up",
        "<think>perhaps 1 > 2 > 3</think>\n3 > 1 > 2",
        "3 > 1 > 2\n\nAgain: 3 > 1 > 2",
        "03 > 01 > 02",
    ],
)
def test_forms(text: str) -> None:
    assert read_ranking(text, 3) == Ranking((2, 0, 1))


def test_letters_in_either_case() -> None:
    assert read_ranking("c > A > b", "ABC") == Ranking((2, 0, 1))
    assert read_ranking('["C", "A", "B"]', "ABC") == Ranking((2, 0, 1))
    assert read_ranking("2 > 1", "ABC").failures == ("unreadable",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot rank these.",
        "I like number 3",
        "as said in [3]",
        "1. Alien\n2. Up\n3. Heat",  # places or candidates? only the titles could tell
        "3. Alien\n1. Up\n2. Heat",
        "1. 12 Angry Men\n2. 3 Idiots\n3. 8 Mile",
        "1. A Bug's Life\n2. M\n3. I, Robot",
        "Alien > 3 > 1",
        "3 > 1 > 12 Angry Men",
        "3 > 1 > Alien",
        "3 > 1 > 2 or 1 > 3 > 2",
        "[1, 2] or [2, 1]",
        "the year 1994",
        "true",
        "[true, false]",
        "[1.5, 2.5]",
        "7 > 8 > 9",  # none of them a candidate
    ],
)
def test_unreadable(text: str) -> None:
    assert read_ranking(text, 3) == Ranking((), ("unreadable",))


@pytest.mark.parametrize(
    ("text", "order", "failures"),
    [
        ("3 > 1", (2, 0), ("omitted",)),
        ("3 > 3 > 1 > 2", (2, 0, 1), ("duplicate",)),
        ("3 > 4 > 1 > 2", (2, 0, 1), ("out_of_range",)),
        ("0 > 3 > 3 > 99", (2,), ("out_of_range", "duplicate", "out_of_range", "omitted", "omitted")),
        ("[2]", (1,), ("omitted", "omitted")),
        ("1 > -2 > 3", (), ("unreadable",)),
    ],
)
def test_faults_are_counted_each_time(text: str, order: tuple[int, ...], failures: tuple[str, ...]) -> None:
    assert read_ranking(text, 3) == Ranking(order, failures)  # type: ignore[arg-type]


@given(st.data(), st.integers(1, 30), st.sampled_from([" > ", ">", ", ", "\n", "json"]))
def test_what_was_meant_is_read(data: st.DataObject, n: int, between: str) -> None:
    named = data.draw(st.lists(st.integers(0, n + 3), min_size=1, max_size=40))
    text = f"[{', '.join(map(str, named))}]" if between == "json" else between.join(map(str, named))
    ranking = read_ranking(text, n)
    inside = list(dict.fromkeys(i - 1 for i in named if 1 <= i <= n))
    if not inside:
        assert ranking == Ranking((), ("unreadable",))
        return
    assert list(ranking.order) == inside
    assert ranking.failures.count("out_of_range") == sum(not 1 <= i <= n for i in named)
    assert ranking.failures.count("duplicate") == sum(1 <= i <= n for i in named) - len(inside)
    assert ranking.failures.count("omitted") == n - len(inside)


@given(st.text(max_size=300) | st.text(alphabet="123AB>,.[]() \n-{}\"'", max_size=80), st.integers(1, 12))
def test_any_text_gives_a_true_order(text: str, n: int) -> None:
    ranking = read_ranking(text, n)
    assert len(set(ranking.order)) == len(ranking.order)
    assert all(0 <= at < n for at in ranking.order)
    if ranking.failures == ("unreadable",):
        assert not ranking.order
    else:
        assert len(ranking.order) + ranking.failures.count("omitted") == n


@pytest.mark.parametrize("piece", ["1 > ", "1 ", "[", "1. 2\n", "1, ", " ", "{", "(1) ", "1->", ". "])
def test_long_answers_are_read_in_no_time(piece: str) -> None:
    began = time.perf_counter()
    read_ranking(piece * 20_000, 20)
    read_ranking(piece * 20_000 + "x", 20)
    assert time.perf_counter() - began < 5
