"""Is a claim true?  Decided by the catalogue and the user's history, without a language model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

import polars as pl

from llm4rec.core import Claim

#: ``unresolvable``: the catalogue cannot tell (no such column, item, operator; no value; not a number).
Truth = Literal["true", "false", "unresolvable"]

_NUMBERS: Mapping[str, Callable[[float, float], bool]] = MappingProxyType(
    {
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }
)
_COUNTS: Mapping[str, Callable[[int, int], bool]] = MappingProxyType(
    {"count=": lambda n, m: n == m, "count>=": lambda n, m: n >= m, "count<=": lambda n, m: n <= m}
)


class Facts:
    """What an item table says.

    Args:
        table: item table, in vocabulary order.
    """

    def __init__(self, table: pl.DataFrame) -> None:
        self.table = table
        self._cells = cache(self._column)

    def _column(self, name: str) -> list[tuple[str, ...]]:
        """Return the values of each item in a column as text; empty where there is none."""
        return [_texts(cell) for cell in self.table[name].to_list()]

    def values(self, item: int, attribute: str) -> tuple[str, ...] | None:
        """Return an item's values in a column, or None if there is no such item or column, or no value."""
        if attribute not in self.table.columns or not 0 <= item < len(self.table):
            return None
        return self._cells(attribute)[item] or None

    def truth(self, claim: Claim, item: int, history: Collection[int]) -> Truth:
        """Return whether a claim about the recommended ``item`` is true, given what the user has touched.

        Values are compared as they are spelt (years and other numbers as numbers).  A "count" counts each
        history item once; history items of which the catalogue says nothing count as not having the value.
        """
        if claim.kind == "history":
            if claim.item is None or not 0 <= claim.item < len(self.table):
                return "unresolvable"
            return "true" if claim.item in history else "false"
        if claim.attribute is None or claim.attribute not in self.table.columns or claim.value is None:
            return "unresolvable"
        if claim.kind == "attribute":
            return self._holds(claim, item if claim.item is None else claim.item)
        if claim.kind == "shared":
            if claim.item is None:
                return "unresolvable"
            both = {self._holds(claim, item), self._holds(claim, claim.item)}
            if claim.item not in history or "false" in both:
                return "false"
            return "unresolvable" if "unresolvable" in both else "true"
        if claim.kind == "count" and claim.operator in _COUNTS and claim.count is not None:
            n = sum(claim.value in (self.values(i, claim.attribute) or ()) for i in set(history))
            return "true" if _COUNTS[claim.operator](n, claim.count) else "false"
        return "unresolvable"

    def _holds(self, claim: Claim, item: int) -> Truth:
        assert claim.attribute is not None
        assert claim.value is not None
        values = self.values(item, claim.attribute)
        if values is None:
            return "unresolvable"
        if claim.operator in ("=", "!="):
            wanted = _number(claim.value)
            equal = any(v == claim.value or (wanted is not None and _number(v) == wanted) for v in values)
            return "true" if equal == (claim.operator == "=") else "false"
        if claim.operator == "contains":
            return "true" if any(claim.value.casefold() in v.casefold() for v in values) else "false"
        numbers = [_number(v) for v in (claim.value, *values)]
        if claim.operator not in _NUMBERS or None in numbers:
            return "unresolvable"
        wanted, *found = (n for n in numbers if n is not None)
        return "true" if all(_NUMBERS[claim.operator](n, wanted) for n in found) else "false"


def _texts(cell: Any) -> tuple[str, ...]:
    several = cell if isinstance(cell, list) else [cell]
    return tuple(text for c in several if c is not None and (text := str(c).strip()))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
