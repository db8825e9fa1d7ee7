"""Reading the files of a run for its report: what is there, of whatever age, and in known shapes.

The JSON files of a run were written by this or by an older version, or by hand: every field may be
missing.  What a field holds is taken where it has the right shape, and is None or empty where not.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from llm4rec.core.errors import RunError
from llm4rec.metrics import cases_needed

AGAIN: Final = "run the experiment again"

#: Parts of a figure, and of a paired difference.
FIGURE: Final = ("mean", "low", "high", "n")
DIFFERENCE: Final = ("difference", "low", "high", "p", "n")
#: A difference that papers report; the report says how many cases would show it.
FINE: Final = 0.01


def read_text(path: Path) -> str:
    """Return a file's text; raises ``RunError`` where it is missing or cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunError("file is missing", where=str(path), todo=f"{AGAIN}, it continues where it stopped") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot be read ({error})", where=str(path), todo=AGAIN) from None


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the text and the content of a TOML file."""
    text = read_text(path)
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RunError(f"is not TOML ({error})", where=str(path)) from None


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds; raises ``RunError`` where it holds none."""
    text = read_text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"is not JSON ({error})", where=str(path), todo=AGAIN) from None
    if not isinstance(value, dict):
        raise RunError("is no JSON object", where=str(path), todo=AGAIN)
    return value


def mapping(value: Any) -> dict[str, Any]:
    """Return a mapping with names as keys; an empty one for anything else."""
    return {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else {}


def entries(value: Any) -> list[Any]:
    """Return a list; an empty one for anything else."""
    return list(value) if isinstance(value, (list, tuple)) else []


def number(value: Any) -> float | None:
    """Return a finite number, or None."""
    real = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if real else None


def numbers(value: Any) -> dict[str, float]:
    """Return what is a number in a mapping."""
    return {k: v for k, v in mapping(value).items() if number(v) is not None}


def figure(value: Any) -> dict[str, float | None]:
    """Return a figure with each of its parts, None where unknown; a plain number is a mean without an interval."""
    parts = value if isinstance(value, Mapping) else {"mean": value}
    return {part: number(parts.get(part)) for part in FIGURE}


def figures(value: Any) -> dict[str, dict[str, float | None]]:
    """Return the figures of a mapping that have a mean."""
    found = {name: figure(inner) for name, inner in mapping(value).items()}
    return {name: inner for name, inner in found.items() if inner["mean"] is not None}


def difference(value: Any) -> dict[str, float | None] | None:
    """Return a paired difference with each of its parts, or None without one."""
    found = {part: number(mapping(value).get(part)) for part in DIFFERENCE}
    return None if found["difference"] is None else found


def tested(value: Any) -> dict[str, dict[str, Any]]:
    """Return the paired differences of a mapping by the other system's name, with the cases that would show ``FINE``."""
    found = {}
    for name, inner in mapping(value).items():
        if (parts := difference(inner)) is not None:
            deviation = number(mapping(inner).get("deviation"))
            found[name] = {
                "metric": str(inner.get("metric") or ""),
                **parts,
                "p_holm": number(inner.get("p_holm")),
                "deviation": deviation,
                "detectable": number(inner.get("detectable")),
                "needed": cases_needed(FINE, deviation) if deviation and deviation > 0 else None,
            }
    return found
