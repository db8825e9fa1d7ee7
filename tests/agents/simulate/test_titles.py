"""Titles are found whole, or not at all."""

from __future__ import annotations

import pytest

from llm4rec.agents.simulate.moments import mapped
from llm4rec.agents.simulate.titles import TitleMatcher, key, titles_in
from llm4rec.data.dialogues import Request, Said

TITLES = [
    "Alien", "Aliens", "Up", "The Matrix", "Star Wars: Episode IV - A New Hope", "It", "It", "Amélie (Le fabuleux destin)",
    "Mission: Impossible", "Love & Friendship", "Se7en",
]  # fmt: skip
YEARS = [1979, 1986, 2009, 1999, 1977, 1990, 2017, 2001, 1996, None, 1995]
MATCHER = TitleMatcher(TITLES, YEARS)


@pytest.mark.parametrize(
    ("title", "item"),
    [
        ("Alien", 0), ("Aliens (1986)", 1), ("alien (1979)", 0), ("Matrix, The (1999)", 3), ("The Matrix (2000)", 3),
        ("Amelie", 7), ("Mission Impossible", 8), ("Love and Friendship (2016)", 9), ("It (2017)", 6), ("It (1990)", 5),
    ],
)  # fmt: skip
def test_found(title: str, item: int) -> None:
    assert MATCHER.find(title).item == item


@pytest.mark.parametrize(
    ("title", "kind"),
    [
        ("It", "ambiguous"), ("Supernatural", "unknown"), ("The Disaster Artist", "unknown"), ("Alien (1995)", "unknown"),
        ("Alien 3", "unknown"), ("", "unknown"), ("Star Wars", "unknown"),
    ],
)  # fmt: skip
def test_near_names_are_none(title: str, kind: str) -> None:
    found = MATCHER.find(title)
    assert (found.item, found.kind) == (-1, kind)


def test_own_titles_are_found() -> None:
    for item, (title, year) in enumerate(zip(TITLES, YEARS, strict=True)):
        assert MATCHER.find(title if year is None else f"{title} ({year})").item == item
    assert key("Godfather, The") == key("The Godfather") == "godfather"


def test_answers_are_read_line_by_line() -> None:
    lines = [
        "Sure!",
        "",
        "1. The Matrix (1999) - a classic",
        '2) "Alien" by Ridley Scott',
        "- Up",
        "3. **It (2017)**",
        "Enjoy Alien!",
    ]
    assert titles_in("\n".join(lines)) == ["The Matrix (1999)", "Alien", "Up", "It (2017)"]
    assert titles_in("I have seen the Matrix. Do you like Alien?") == []


def test_moments() -> None:
    before = (Said("recommender", "Hello"), Said("seeker", "I saw Alien", ("Alien (1979)",)))
    requests = [
        Request(
            "d",
            2,
            before,
            ("Alien (1979)",),
            ("Aliens (1986)", "Alien (1979)"),
            "1. Aliens\n2. Aliens\n3. Alien\n4. Nope\n5. It",
        ),
        Request("d", 4, before, (), ("Nope (2022)",), "no list"),
        Request("e", 1, before[1:], (), ("It",), None),
    ]
    whole = mapped(requests, MATCHER, "made")
    assert (whole.requests, dict(whole.truth), whole.repeated) == (3, {"mapped": 2, "ambiguous": 1, "unknown": 1}, 1)
    (moment,) = whole.moments
    assert (moment.truth, moment.new, moment.mentioned, moment.logged) == ((1, 0), (1,), (0,), (1, 0))
    assert moment.text == "Recommender: Hello\nUser: I saw Alien"
    assert whole.answers == {
        "titles": 5,
        "mapped": 3,
        "repeated": 1,
        "mentioned": 1,
        "unknown": 1,
        "ambiguous": 1,
        "unreadable": 1,
    }
