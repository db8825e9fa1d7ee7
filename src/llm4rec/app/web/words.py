"""How the pages write numbers, moments and shares; the report's own script writes them alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

#: Moments before 1973 are orders of events, not times.
_CLOCK = 100_000_000
_MINUTE, _HOUR = 60, 3_600
_DASH = "–"


def fixed(value: float | None, digits: int = 4) -> str:
    """Return a number with so many digits behind the point; a dash for none."""
    return _DASH if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """Return a number with its sign, a true minus."""
    return _DASH if value is None else f"{value:+.{digits}f}".replace("-", "−")


def count(value: float | None) -> str:
    """Return a whole number in groups of three digits."""
    return _DASH if value is None else f"{round(value):,}"


def short(value: float | None) -> str:
    """Return three significant digits."""
    if value is None or not math.isfinite(value):
        return _DASH
    text = f"{value:.3g}"
    return f"{float(text):,.0f}" if abs(value) >= 1000 else text


def large(value: float | None) -> str:
    """Return a count, in thousands or millions where it is long."""
    if value is None:
        return _DASH
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{short(value / (1e3 if unit == 'k' else size))} {unit}"
    return count(value)


def seconds(value: float | None) -> str:
    """Return a duration in the unit that fits."""
    if value is None:
        return _DASH
    if value < 1e-3:
        return f"{short(1e6 * value)} µs"
    if value < 1:
        return f"{short(1e3 * value)} ms"
    if value < 2 * _MINUTE:
        return f"{short(value)} s"
    return f"{short(value / _MINUTE)} min" if value < 2 * _HOUR else f"{short(value / _HOUR)} h"


def dollars(value: float | None) -> str:
    """Return an amount of money; ``unknown`` where no price is known."""
    if value is None:
        return "unknown"
    return "0" if value == 0 else f"${value:.4f}" if value < 0.1 else f"${value:,.2f}"


def pvalue(value: float | None) -> str:
    """Return a p-value as papers write it."""
    return _DASH if value is None else "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def day(time: int | None) -> str:
    """Return the day of a moment (UTC); for a data set without a clock its number."""
    if time is None or time > 2**40:
        return _DASH
    if time < _CLOCK:
        return f"event {time:,}"
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d")


def told(value: Any) -> str:
    """Return a cell of the catalogue as text."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(told, value))
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return str(int(value)) if value.is_integer() else short(value)


def plural(n: int, one: str, more: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{n:,} {one if n == 1 else more or one + 's'}"


FILTERS: Mapping[str, Any] = {
    "fixed": fixed, "signed": signed, "count": count, "short": short, "large": large, "seconds": seconds, "dollars": dollars,
    "pvalue": pvalue, "day": day, "told": told, "plural": plural,
}  # fmt: skip
