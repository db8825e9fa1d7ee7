"""Short-term memory: the last exchanges of a conversation word for word, those before in a summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Said:
    """One exchange: what the user said, the answer, and the outside ids of the items that it showed."""

    user: str
    answer: str
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What was said so far.

    Attributes:
        summary: of the exchanges that are not there any more; empty at first.
        said: the last exchanges, oldest first.
    """

    summary: str = ""
    said: tuple[Said, ...] = ()

    def with_exchange(self, user: str, answer: str, shown: Iterable[str] = ()) -> Dialogue:
        """Return the dialogue with one exchange more."""
        return Dialogue(self.summary, (*self.said, Said(user, answer, tuple(shown))))

    def folded(self, window: int, summary: str) -> Dialogue:
        """Return the last ``window`` exchanges, and a summary that stands for all before."""
        return Dialogue(summary, self.said[len(self.said) - window :] if window else ())

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"summary": self.summary, "said": [[s.user, s.answer, list(s.shown)] for s in self.said]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return what :meth:`as_dict` wrote."""
        return cls(values["summary"], tuple(Said(user, answer, *map(tuple, shown)) for user, answer, *shown in values["said"]))
