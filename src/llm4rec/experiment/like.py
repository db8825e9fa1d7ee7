"""``like = "NAME"``: a system that is another one but for what its own table says.

A control, or the same model without its text, is only a fair one with the same parameters.  ``like`` states
the difference alone, and a search that changes the parameters of the one changes those of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llm4rec.core import SpecError, did_you_mean

LIKE = "like"
#: What says who a system is and what it is for, and is not taken over.
_NAMES = ("label", "note", "against", "control", LIKE)


def inherited(tables: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the tables ``[systems.*]`` with what they take over filled in; their own keys stay, tables merge."""

    def whole(name: str, above: tuple[str, ...]) -> Any:
        table, at = tables[name], f"{where}: systems.{name}.{LIKE}"
        if not isinstance(table, dict) or LIKE not in table:
            return table
        other = table[LIKE]
        if not isinstance(other, str) or other not in tables:
            todo = did_you_mean(other, tables) if isinstance(other, str) else "give the name of a system"
            raise SpecError(f"{other!r} is no system", where=at, todo=todo)
        if other in (name, *above):
            raise SpecError(f"is like itself ({' -> '.join((*above, name, other))})", where=at)
        base = whole(other, (*above, name))
        return _merged({k: v for k, v in base.items() if k not in _NAMES}, table) if isinstance(base, dict) else table

    return {name: whole(name, ()) for name in tables}


def followed(base: Mapping[str, Any], own: Mapping[str, Any], changes: Any) -> dict[str, Any]:
    """Return parameters like ``base``, but ``own`` where the keys of ``changes`` say so."""
    table = dict(base)
    for *path, last in _leaves(changes):
        source, target = own, table
        for step in path:
            source = source[step]
            inner = target.get(step)
            target[step] = dict(inner) if isinstance(inner, Mapping) else {}
            target = target[step]
        if last in source:
            target[last] = source[last]
    return table


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(base.get(key), Mapping)
        merged[key] = _merged(base[key], value) if both else value
    return merged


def _leaves(changes: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the keys of a table and of the tables in it, as paths."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key)
