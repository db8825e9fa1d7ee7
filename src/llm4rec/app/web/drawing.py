"""Scales of charts: the templates place marks in per cent of an SVG's width, so that no style stands in a page."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

#: One outline for each shape of a family, in a box of 14 by 14 around 0; those of the report's script.
OUTLINES = {
    "circle": "M5 0A5 5 0 1 1 -5 0A5 5 0 1 1 5 0Z",
    "square": "M-4.5 -4.5H4.5V4.5H-4.5Z",
    "triangle": "M0 -5.6L5.4 4.2H-5.4Z",
    "diamond": "M0 -6L6 0L0 6L-6 0Z",
    "wedge": "M0 5.6L5.4 -4.2H-5.4Z",
    "hexagon": "M5.4 0L2.7 4.8H-2.7L-5.4 0L-2.7 -4.8H2.7Z",
}
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Scale:
    """A line from ``low`` to ``high`` with marks at ``ticks``."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float | None], *, zero: bool = True, wanted: int = 4) -> Self:
        """Return a scale on which all values fit."""
        known = [v for v in values if v is not None and math.isfinite(v)] or [0.0]
        low, high = min(known), max(known)
        if zero:
            low, high = min(0.0, low), max(0.0, high)
        if high <= low:
            high = low + (abs(low) or 1.0)
        pad = 0.03 * (high - low)
        high, low = high + pad, low - pad if low < 0 else low
        raw = (high - low) / wanted
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(s * power for s in _STEPS if s * power >= 0.999 * raw)
        first = math.ceil(low / step - 1e-9)
        marks = [n * step for n in range(first, first + 50) if n * step <= high + 1e-9 * step]
        return cls(low, high, tuple(marks))

    def at(self, value: float) -> str:
        """Return where a value lies, in per cent."""
        share = (value - self.low) / (self.high - self.low)
        return f"{100 * min(1.0, max(0.0, share)):.2f}%"

    def wide(self, start: float, end: float) -> str:
        """Return how wide the way from one value to another is, in per cent."""
        a, b = (min(self.high, max(self.low, v)) for v in (start, end))
        return f"{100 * abs(b - a) / (self.high - self.low):.2f}%"

    @staticmethod
    def label(value: float) -> str:
        """Return a tick's text: ``.05``."""
        text = f"{value:.4g}"
        return text.replace("0.", ".", 1).replace("-", "−") if "." in text else text.replace("-", "−")


@dataclass(frozen=True, slots=True)
class Ranks:
    """A line for ranks from 1 to ``last``, in logarithms: what happens at the top is what counts."""

    last: int = 100

    @property
    def ticks(self) -> tuple[int, ...]:
        """The ranks that are marked."""
        return tuple(r for r in (1, 3, 10, 30, 100, 300, 1_000) if r <= self.last)

    def at(self, rank: int) -> str:
        """Return where a rank lies, in per cent."""
        return f"{100 * math.log(min(max(rank, 1), self.last)) / math.log(self.last):.2f}%"
