"""Tests of item text."""

from __future__ import annotations

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import SpecError
from llm4rec.features import ItemText, without_text

TEMPLATE = "{title} ({year}); {genres}"


def table(**columns: object) -> pl.DataFrame:
    length = len(next(iter(columns.values())))  # type: ignore[arg-type]
    return pl.DataFrame({"item": range(length), **columns}, strict=False)


FILMS = table(
    title=["Alien", "Alien", "Alien", None, None, "Alien"],
    year=[1979, None, 1979, 1979, None, None],
    genres=[["Horror", "SciFi"], ["Horror"], [], ["Horror"], ["Horror"], None],
)


def test_what_is_missing_takes_brackets_and_separators_with_it() -> None:
    assert ItemText(TEMPLATE).render(FILMS) == [
        "Alien (1979); Horror, SciFi",
        "Alien; Horror",
        "Alien (1979)",
        "(1979); Horror",
        "Horror",
        "Alien",
    ]


def test_labels_go_with_their_field_and_words_around_all_of_it_stay() -> None:
    assert ItemText("Title: {title}. Genres: {genres}").render(FILMS) == [
        "Title: Alien. Genres: Horror, SciFi",
        "Title: Alien. Genres: Horror",
        "Title: Alien",
        "Genres: Horror",
        "Genres: Horror",
        "Title: Alien",
    ]
    assert ItemText("The film {title} [{year}, {genres}].").render(FILMS)[:3] == [
        "The film Alien [1979, Horror, SciFi].",
        "The film Alien [Horror].",
        "The film Alien [1979].",
    ]


def test_values_are_never_edited() -> None:
    odd = table(title=["Up () ; ", "{year} (", "a: "], year=[None, None, None], genres=[["x"], ["x"], ["x"]])
    assert ItemText(TEMPLATE).render(odd) == ["Up () ;; x", "{year} (; x", "a:; x"]


def test_white_space_becomes_one_space() -> None:
    assert ItemText("{title}").render(table(title=["  Two\n\t words \x00\r\n", "\u2003", ""])) == ["Two words", "", ""]


def test_numbers_booleans_and_nan() -> None:
    numbers = table(x=[1995.0, 2.5, float("nan"), float("inf"), None], y=[True, False, None, True, None])
    assert ItemText("{x}/{y}").render(numbers) == ["1995/true", "2.5/false", "", "true", ""]


def test_lists_of_numbers_and_of_blanks() -> None:
    lists = table(x=[[1.0, 2.5], [float("nan")], [], None], y=[["", " "], ["a", None], [None], None])
    assert ItemText("{x} {y}").render(lists) == ["1, 2.5", "a", "", ""]


def test_an_item_without_values_gets_nothing_and_is_counted() -> None:
    texts = ItemText("A film called {title} ({year})!").render(table(title=[None, "Up"], year=[None, None]))
    assert texts == ["", "A film called Up!"]
    assert without_text(texts) == 1


def test_braces_and_lone_brackets() -> None:
    assert ItemText("{{{title}}} (c) ) [{year}").render(FILMS)[0] == "{Alien} (c) ) [1979"


def test_text_is_capped() -> None:
    assert ItemText("{title}", max_chars=3).render(table(title=["ab cd", "é" * 9])) == ["ab", "ééé"]


def test_unknown_column_names_the_nearest_and_the_list() -> None:
    with pytest.raises(SpecError, match=r"no column 'titel'; did you mean 'title'\? \(columns: genres, title, year\)"):
        ItemText("{titel}").render(FILMS)
    with pytest.raises(SpecError, match="known: genres, title, year"):
        ItemText("{zzzzzz}").render(FILMS)


@pytest.mark.parametrize("template", ["", "no field", "{", "}", "{title", "title}", "{}", "{{title}}", "{a{b}"])
def test_templates_that_cannot_be_read(template: str) -> None:
    with pytest.raises(SpecError, match="template"):
        ItemText(template)


def test_columns_of_structures_are_refused() -> None:
    with pytest.raises(SpecError, match="'x' holds Struct"):
        ItemText("{x}").render(table(x=[{"a": 1}]))
    with pytest.raises(SpecError, match="'x' holds List"):
        ItemText("{x}").render(table(x=[[["a"]]]))


def test_the_cap_must_leave_something() -> None:
    with pytest.raises(SpecError, match="max_chars"):
        ItemText("{title}", max_chars=0)


def test_an_empty_table() -> None:
    assert ItemText("{title}").render(table(title=pl.Series([], dtype=pl.String))) == []


@given(st.text(max_size=60))
def test_any_template_renders_or_is_refused_in_one_line(template: str) -> None:
    try:
        texts = ItemText(template).render(FILMS)
    except SpecError as error:
        assert "\n" not in str(error)
    else:
        assert len(texts) == len(FILMS)


@given(st.lists(st.one_of(st.none(), st.text(max_size=20)), min_size=1, max_size=6))
def test_a_field_alone_gives_its_value(values: list[str | None]) -> None:
    column = table(title=pl.Series(values, dtype=pl.String))
    texts = ItemText("{title}").render(column)
    assert texts == [re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", value or "").strip() for value in values]
    assert ItemText("({title}); {title}").render(column) == [f"({text}); {text}" if text else "" for text in texts]


def test_many_open_brackets_take_no_time() -> None:
    assert ItemText("(" * 400 + "{title}").render(FILMS)[0] == "(" * 400 + "Alien"
