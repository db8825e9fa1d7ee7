"""What may be tuned: ranges of a component's parameters, declared beside the component.

A component says ``space = {"l2": Uniform(1.0, 10_000.0, log=True)}``; each key is a field of its
config.  ``llm4rec tune`` draws from these ranges, with equal budgets for every system.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Uniform:
    """A number from ``low`` to ``high``; with ``log`` every factor between them is as likely."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        _check(self.low, self.high, self.log)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from ``low`` to ``high``, both included; with ``log`` every factor is as likely."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        _check(self.low, self.high, self.log)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values: numbers, words, booleans or None."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError("a choice needs at least two values")


Space = Uniform | Whole | Choice


def _check(low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not log)):
        raise ValueError(f"no range: low={low}, high={high}, log={log}")
