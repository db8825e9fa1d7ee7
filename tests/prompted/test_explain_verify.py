"""Checking explanations that anybody wrote: what is named, what is claimed, what is true."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import Claim, Explanation
from llm4rec.prompted.explain.facts import Facts
from llm4rec.prompted.explain.mentions import Finder
from llm4rec.prompted.explain.opinion import is_opinion
from llm4rec.prompted.explain.templated import EvidenceExplainerConfig
from llm4rec.prompted.explain.verify import Verifier, verify_against

FILMS: list[tuple[str, int | None, list[str]]] = [
    ("Unforgiven", 1992, ["Western"]),  # 0, the recommended item
    ("Tombstone", 1993, ["Western"]),
    ("Maverick", 1994, ["Comedy", "Western"]),
    ("Alien", 1979, ["Horror", "Sci-Fi"]),
    ("Up", 2009, ["Children's", "Comedy"]),
    ("The Long Kiss Goodnight", 1996, ["Action"]),
    ("Big", 1988, []),
    ("Seven (Se7en)", 1995, ["Horror"]),
    ("Toy Story", 1995, ["Children's"]),
    ("Toy Story 2", 1999, ["Children's"]),
    ("Mystery", None, ["Mystery"]),
    ("Schindler's List", 1993, ["Drama"]),
]
TABLE = pl.DataFrame(
    {"item": range(len(FILMS)), "title": [f[0] for f in FILMS], "year": [f[1] for f in FILMS], "genres": [f[2] for f in FILMS]}
)
VERIFIER = Verifier(TABLE, EvidenceExplainerConfig())
HISTORY = [1, 2, 3, 6]
ITEM = 0


def named(text: str, expected: tuple[int, ...] = ()) -> list[tuple[str, str]]:
    return [(m.kind, m.text) for m in VERIFIER.finder.read(text, expected).mentions]


# -- what is named --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("You watched Alien and The Long Kiss Goodnight.", [("title", "Alien"), ("title", "The Long Kiss Goodnight")]),
        ("You may like Toy Story 2.", [("title", "Toy Story 2")]),  # and not Toy Story
        ("You watched Aliens in Supernatural surroundings.", [("name", "Aliens"), ("name", "Supernatural")]),
        ("Look up a big one.", []),
        ('It is "up" to you.', [("title", "up")]),  # in quotation marks a name may be spelt anyhow
        ("Up is a film.", []),  # the first word of a sentence is capitalised anyhow
        ("The Alien's crew, and Seven.", [("title", "Alien"), ("title", "Seven")]),
        ("It is like Schindler's List.", [("title", "Schindler's List")]),
        ("A Mystery, two westerns and sci-fi.",
         [("value", "Mystery"), ("number", "two"), ("value", "westerns"), ("value", "sci-fi")]),
        ("Made in 1992, in the 1980s or '90s, for 15 dollars.",
         [("year", "1992"), ("year", "1980s"), ("year", "90s"), ("number", "15")]),
        ("Steven Spielberg made it, says Roger Ebert.", [("person", "Steven Spielberg"), ("person", "Roger Ebert")]),
        ("Because Clint Eastwood's in it.", [("person", "Clint Eastwood")]),
        ("It won an Oscar, and I like that I'm English.", [("name", "Oscar"), ("name", "English")]),
        ('He calls it a "must see".', [("quotation", "must see")]),
        ("One of the best.", []),
        ("", []),
    ],
)  # fmt: skip
def test_what_a_text_names(text: str, found: list[tuple[str, str]]) -> None:
    assert named(text) == found


def test_expected_names_are_known_in_any_case_unless_of_one_word() -> None:
    assert named("you watched the long kiss goodnight") == []
    assert named("you watched the long kiss goodnight", (5,)) == [("title", "the long kiss goodnight")]
    assert named("you watched big ones", (6,)) == []


def test_a_name_does_not_swallow_a_value_or_a_title() -> None:
    assert named("It is a Ridley Scott Western.") == [("person", "Ridley Scott"), ("value", "Western")]
    assert named("See Tom Hanks Toy Story now.") == [("person", "Tom Hanks"), ("title", "Toy Story")]


@pytest.mark.parametrize("word", ["gripping", "Masterpiece", "enjoyed", "loves", "beautifully", "thrilled", "funnier"])
def test_words_of_opinion(word: str) -> None:
    assert is_opinion(word)


@pytest.mark.parametrize("word", ["film", "watched", "another", "western", "and", "red", "user", "king"])
def test_words_of_no_opinion(word: str) -> None:
    assert not is_opinion(word)


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    reading = VERIFIER.finder.read(text, HISTORY)
    spans = [m.span for m in reading.mentions]
    assert spans == sorted(spans)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert all(text[slice(*m.span)] == m.text for m in reading.mentions)
    verdict = VERIFIER.verify(VERIFIER.read(text, ITEM, HISTORY), HISTORY)
    assert "unstated" not in verdict.outcomes


# -- what is true ---------------------------------------------------------------------------
def about(**parts: Any) -> Claim:
    return Claim(**{"kind": "attribute", **parts})


@pytest.mark.parametrize(
    ("claim", "truth"),
    [
        (about(kind="history", item=1), "true"),
        (about(kind="history", item=5), "false"),
        (about(kind="history", item=99), "unresolvable"),
        (about(kind="history"), "unresolvable"),
        (about(attribute="genres", value="Western"), "true"),
        (about(attribute="genres", value="West"), "false"),
        (about(attribute="genres", value="West", operator="contains"), "true"),
        (about(attribute="genres", value="Comedy", operator="!="), "true"),
        (about(attribute="genres", value="Western", operator="!="), "false"),
        (about(attribute="genre", value="Western"), "unresolvable"),
        (about(attribute="genres"), "unresolvable"),
        (about(attribute="genres", value="Western", operator="~"), "unresolvable"),
        (about(attribute="year", value="1992"), "true"),
        (about(attribute="year", value="1992.0"), "true"),
        (about(attribute="year", value="1993", operator="<"), "true"),
        (about(attribute="year", value="1992", operator="<"), "false"),
        (about(attribute="year", value="1992", operator="<="), "true"),
        (about(attribute="year", value="1992", operator=">="), "true"),
        (about(attribute="year", value="1992", operator=">"), "false"),
        (about(attribute="genres", value="1990", operator=">"), "unresolvable"),
        (about(attribute="year", value="1979", item=3), "true"),
        (about(attribute="year", value="1979", item=10), "unresolvable"),  # no year is known
        (about(attribute="genres", value="Drama", item=6), "unresolvable"),  # no genre is known
        (about(kind="shared", item=1, attribute="genres", value="Western"), "true"),
        (about(kind="shared", item=3, attribute="genres", value="Horror"), "false"),  # the recommended item is none
        (about(kind="shared", item=3, attribute="genres", value="Western"), "false"),
        (about(kind="shared", item=8, attribute="genres", value="Western"), "false"),  # not in the history
        (about(kind="shared", attribute="genres", value="Western"), "unresolvable"),
        (about(kind="count", attribute="genres", value="Western", operator="count=", count=2), "true"),
        (about(kind="count", attribute="genres", value="Western", operator="count>=", count=3), "false"),
        (about(kind="count", attribute="genres", value="Western", operator="count<=", count=3), "true"),
        (about(kind="count", attribute="genres", value="Western", operator="count>=", count=None), "unresolvable"),
        (about(kind="count", attribute="genres", value="Western", operator=">=", count=2), "unresolvable"),
        (about(kind="rumour", attribute="genres", value="Western"), "unresolvable"),
    ],
)
def test_truth(claim: Claim, truth: str) -> None:
    assert Facts(TABLE).truth(claim, ITEM, HISTORY) == truth


def test_a_repeated_item_counts_once() -> None:
    claim = about(kind="count", attribute="genres", value="Western", operator="count>=", count=3)
    assert Facts(TABLE).truth(claim, ITEM, [1, 1, 1, 2]) == "false"


# -- what is claimed ------------------------------------------------------------------------
def read(text: str) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return the claims of a text with what became of them, and the mentions that nothing supports."""
    explanation = VERIFIER.read(text, ITEM, HISTORY)
    verdict = VERIFIER.verify(explanation, HISTORY)
    claims = []
    for claim, outcome in zip(explanation.claims, verdict.outcomes, strict=True):
        what = (
            VERIFIER.names[claim.item]
            if claim.item is not None and claim.kind == "history"
            else f"{claim.operator} {claim.value}"
        )
        claims.append((outcome, claim.kind, what))
    return claims, [m.text for m in verdict.unsupported]


@pytest.mark.parametrize(
    ("text", "claims", "unsupported"),
    [
        ('Because you watched "Tombstone" and "Toy Story", another Western movie.',
         [("true", "history", "Tombstone"), ("false", "history", "Toy Story"), ("true", "shared", "= Western")], ["Toy Story"]),
        ("You watched 2 Westerns.", [("true", "count", "count>= Western")], []),
        ("You have watched three different westerns.", [("false", "count", "count>= Western")], ["three", "westerns"]),
        ("You enjoyed several comedies.", [("false", "count", "count>= Comedy")], ["comedies"]),
        ("Alien (1979), which you liked, was made before 1980, and this one after 1990.",
         [("true", "history", "Alien"), ("true", "attribute", "= 1979"), ("false", "attribute", "< 1980"),
          ("true", "attribute", "> 1990")], ["1980"]),
        ("Unforgiven is a 1990s Western, not a Comedy.",
         [("true", "attribute", ">= 1990"), ("true", "attribute", "<= 1999"), ("true", "attribute", "= Western"),
          ("true", "attribute", "!= Comedy")], []),
        ("It is a drama by Clint Eastwood with four Oscars.", [("false", "attribute", "= Drama")],
         ["drama", "Clint Eastwood", "four", "Oscars"]),
        ("Fans of Toy Story will like it.", [], ["Toy Story"]),  # nobody says that the user has watched it
        ("A stunning film.", [], []),
    ],
)  # fmt: skip
def test_claims_that_code_reads(text: str, claims: list[tuple[str, ...]], unsupported: list[str]) -> None:
    assert read(text) == (claims, unsupported)


def test_opinions_are_counted_apart() -> None:
    verdict = VERIFIER.verify(Explanation(ITEM, "A stunning, gripping Western masterpiece of a film."), HISTORY)
    assert len(verdict.opinions) == 3
    assert verdict.subjective_share == 3 / 8
    assert [m.text for m in verdict.unsupported] == ["Western"]


# -- claims that cover nothing --------------------------------------------------------------
SENTENCE = 'Because you watched "Tombstone", another Western movie.'


def test_true_claims_support_what_they_say() -> None:
    claims = (Claim("history", 1, span=(21, 30)), Claim("shared", 1, "genres", "Western", (41, 48)))
    verdict = VERIFIER.verify(Explanation(ITEM, SENTENCE, claims), HISTORY)
    assert verdict.outcomes == ("true", "true")
    assert verdict.unsupported == ()
    assert [f.mention.text for f in verdict.mentions] == ["Tombstone", "Western"]


def test_a_true_claim_over_the_whole_sentence_covers_nothing_else() -> None:
    whole = (0, len(SENTENCE))
    verdict = VERIFIER.verify(Explanation(ITEM, SENTENCE, (Claim("history", 1, span=whole),)), HISTORY)
    assert verdict.outcomes == ("true",)
    assert [m.text for m in verdict.unsupported] == ["Western"]


@pytest.mark.parametrize(
    "claim",
    [
        Claim("history", 2, span=(21, 30)),  # true, but the words say Tombstone
        Claim("history", 1),  # nowhere in the sentence
        Claim("attribute", None, "year", "1992", (41, 48)),
        Claim("count", None, "genres", "Western", (41, 48), "count=", 2),  # no number stands there
    ],
)
def test_a_claim_that_the_sentence_does_not_state_is_not_true(claim: Claim) -> None:
    verdict = VERIFIER.verify(Explanation(ITEM, SENTENCE, (claim,)), HISTORY)
    assert verdict.outcomes == ("unstated",)
    assert [m.text for m in verdict.unsupported] == ["Tombstone", "Western"]


def test_a_false_claim_supports_nothing() -> None:
    verdict = VERIFIER.verify(Explanation(ITEM, SENTENCE, (Claim("history", 1, span=(21, 30)),)), [2, 3])
    assert verdict.outcomes == ("false",)
    assert [m.text for m in verdict.unsupported] == ["Tombstone", "Western"]


def test_the_recommended_items_own_name_needs_no_claim() -> None:
    verdict = VERIFIER.verify(Explanation(ITEM, "Unforgiven is for you."), [])
    assert verdict.mentions == ()
    seen = VERIFIER.verify(Explanation(ITEM, "You will like Unforgiven."), [])
    assert seen.mentions == ()
    assert [m.text for m in seen.named] == ["Unforgiven"]


# -- texts about what only descriptions tell ------------------------------------------------
def test_texts_against_descriptions() -> None:
    finder = Finder(["Drums of Autumn", "Other Lands"], [("genre", "romance"), ("genre", "horror")])
    sources = ("Drums of Autumn", "Likes romances by Diana Gabaldon.", "A historical novel.")
    text = 'They loved "Drums of Autumn" by Diana Gabaldon, a romance, not the horror of Stephen King or of Other Lands.'
    verdict = verify_against(finder, text, sources)
    assert [(f.mention.text, f.supported) for f in verdict.mentions] == [
        ("Drums of Autumn", True), ("Diana Gabaldon", True), ("romance", True), ("horror", False),
        ("Stephen King", False), ("Other Lands", False),
    ]  # fmt: skip
    assert verdict.outcomes == ()
