"""Errors are one line: where, what, what to do."""

from __future__ import annotations

import inspect

import pytest

import llm4rec
from llm4rec import core
from llm4rec.core import DataError, LLM4RecError, SpecError, did_you_mean, errors


def test_the_line() -> None:
    assert str(DataError("no column 'user'", where="log.csv:1", todo="rename it")) == "log.csv:1: no column 'user'; rename it"
    assert str(DataError("empty file", where="log.csv")) == "log.csv: empty file"
    assert str(DataError("empty file", todo="choose another")) == "empty file; choose another"
    assert str(DataError("empty file")) == "empty file"


def test_is_one_line_whatever_it_is_given() -> None:
    error = DataError("bad\n  value\t'x'", where="a\nb", todo="try\n\nagain")
    assert str(error) == "a b: bad value 'x'; try again"
    assert (error.what, error.where, error.todo) == ("bad\n  value\t'x'", "a\nb", "try\n\nagain")


KINDS = [e for _, e in inspect.getmembers(errors, inspect.isclass) if e.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", KINDS, ids=lambda e: e.__name__)
def test_all_are_of_one_family(kind: type[Exception]) -> None:
    assert issubclass(kind, LLM4RecError)
    assert kind.__doc__


def test_nearest_name() -> None:
    assert did_you_mean("sasrek", ["ease", "sasrec", "bpr"]) == "did you mean 'sasrec'?"
    assert did_you_mean("xyz", ["ease", "bpr"]) == "known: bpr, ease"
    assert did_you_mean("xyz", []) == "known: none"


def test_the_package_gives_the_core_on_first_use() -> None:
    assert llm4rec.Ragged is core.Ragged
    assert llm4rec.SpecError is SpecError
    assert set(core.__all__) < set(dir(llm4rec))
    with pytest.raises(AttributeError, match="has no attribute 'Raged'"):
        llm4rec.Raged  # noqa: B018
    assert sorted(core.__all__) == sorted(set(core.__all__))
    assert all(hasattr(core, name) for name in core.__all__)
