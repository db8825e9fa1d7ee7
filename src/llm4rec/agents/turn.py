"""What an agent does with one request, and what every agent is: the seam between agents and those who talk to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from llm4rec.agents.reading import Request
from llm4rec.agents.tools import Session
from llm4rec.llm.meter import Tally

#: How a turn ended: with an answer, or at the bound that was reached first (the answer is what was there).
Ending = Literal["answered", "steps", "tokens", "money", "time"]


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call: planned, or done with its answer or its error."""

    tool: str
    arguments: Mapping[str, Any]
    answer: Any = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What an agent did with one request.

    Attributes:
        plan: the calls that it meant to make, as it saw it last.
        calls: those that it made, with what came back.
        session: as it stands afterwards; its candidates are the items shown.
        text: the answer in words.
        request: as rules understood it; None where no rules read it.
        by: name of the agent whose answer it is; another's than the one asked where that one stood in.
        ended: how.
        failures: kind of each thing that went wrong, once for each time; an answer that stands in has at least one.
        cost: the language model's calls.
        usd: what they took in US dollars; None where a price or a number of tokens is unknown.
    """

    plan: tuple[Call, ...]
    calls: tuple[Call, ...]
    session: Session
    text: str
    request: Request | None = None
    by: str = "rule"
    ended: Ending = "answered"
    failures: tuple[str, ...] = ()
    cost: Tally = field(default_factory=Tally)
    usd: float | None = 0.0


@runtime_checkable
class Agent(Protocol):
    """Answers requests in words through tools."""

    @property
    def name(self) -> str:
        """Name, for tables and for who asks."""

    def answer(self, session: Session, text: str) -> Turn:
        """Return what becomes of a request; the next one goes on with ``Turn.session``."""

    def steps(self, session: Session, text: str) -> Iterator[Turn]:
        """Yield the turn as it grows: the plan, then each call that was made, last the answer."""
