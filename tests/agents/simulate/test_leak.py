"""What gives an item away is found however it is written, and what does not is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.agents.simulate.leak import Secret, redacted, scan

MATRIX = Secret.of("m-17", "Matrix, The (1999)")
STORY = Secret.of("50", "Toy Story (1995)")
UP = Secret.of("7", "Up")
HEAT = Secret.of("8", "Heat (1995)")
WARS = Secret.of("9", "Star Wars: Episode IV - A New Hope (1977)")
LOLA = Secret.of("10", "Run Lola Run (Lola rennt) (1998)")
AMELIE = Secret.of("11", "Amélie")


@pytest.mark.parametrize(
    ("text", "secret", "kind"),
    [
        ("I want The Matrix", MATRIX, "title"),
        ("something like matrix, please", MATRIX, "title"),
        ("Matrix, The", MATRIX, "title"),
        ("the one they call MATRIX!", MATRIX, "title"),
        ("it is m-17", MATRIX, "id"),
        ("ToyStory would do", STORY, "title"),
        ("T o y  S t o r y", STORY, "title"),
        ("toy-story", STORY, "title"),
        ("Toy Storey", STORY, "near-title"),
        ("Toi Story", STORY, "near-title"),
        ("film #50", STORY, "id"),
        ("the id is 50", STORY, "id"),
        ("have you got Up?", UP, "title"),
        ("something with heat", HEAT, "title"),
        ("a star wars film", WARS, "title"),
        ("A New Hope", WARS, "title"),
        ("lola rennt", LOLA, "title"),
        ("Amelie", AMELIE, "title"),
        ("Ame\u0301lie", AMELIE, "title"),
    ],
)
def test_planted_leaks_are_found(text: str, secret: Secret, kind: str) -> None:
    assert kind in {leak.kind for leak in scan(text, [secret])}
    assert redacted(f"before\n{text}\nafter", [secret]).split("\n") == ["before", "[...]", "after"]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("something with Comedy from the 1950s", STORY),
        ("50 of them", STORY),
        ("a story about toys", STORY),
        ("what's up?", UP),
        ("Up to you", UP),  # as the first word of a sentence anybody may write it
        ("Supernatural", UP),
        ("a wonderful theatre", HEAT),
        ("war among the stars", WARS),
        ("", MATRIX),
    ],
)
def test_what_names_nothing_is_left_alone(text: str, secret: Secret) -> None:
    assert scan(text, [secret]) == ()
    assert redacted(text, [secret]) == text


def test_every_secret_is_looked_for() -> None:
    found = scan("Heat or Toy Story", [STORY, HEAT, UP])
    assert [leak.kind for leak in found] == ["title", "title"]


@settings(max_examples=60, deadline=None)
@given(
    title=st.text(st.sampled_from("abcdefghij KLMNOP'-:."), min_size=4, max_size=30),
    before=st.text(st.sampled_from("xyz "), max_size=10),
    after=st.text(st.sampled_from("xyz "), max_size=10),
)
def test_a_title_within_a_text_is_found_whatever_stands_around_it(title: str, before: str, after: str) -> None:
    secret = Secret.of("id-1", title)
    if any(len("".join(form)) >= 4 for form in secret.forms[:1]):
        assert scan(f"{before} {title} {after}", [secret])
