"""What an agent does with one request, and what every agent is: the seam between agents and those who talk to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from llm4rec.agents.reading import Request
from llm4rec.agents.toolbox import Toolbox
from llm4rec.agents.tools import Session
from llm4rec.core import LLM4RecError
from llm4rec.llm.meter import Tally
from llm4rec.llm.values import ChatReply, ChatRequest

#: The agents that come with the package.
AgentName = Literal["rule", "plan", "react"]
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
class Question:
    """What a language model was asked in a turn, what for, and what it said."""

    purpose: str
    request: ChatRequest
    reply: ChatReply


@dataclass(frozen=True, slots=True)
class Turn:
    """What an agent did with one request.

    Attributes:
        plan: the calls that it meant to make, as it saw it last.
        calls: those that it made, with what came back.
        session: as it stands afterwards; its candidates are the items shown, where some are.
        text: the answer in words.
        request: as rules understood it; None where no rules read it.
        by: name of the agent whose answer it is; another's than the one asked where that one stood in.
        ended: how.
        failures: kind of each thing that went wrong, once for each time; an answer that stands in has at least one.
        asked: the questions to a language model, in order.
        cost: what these took.
        usd: the same in US dollars; None where a price or a number of tokens is unknown.
        shown: inside ids of the items that the answer shows, best first; none where it only speaks.
    """

    plan: tuple[Call, ...]
    calls: tuple[Call, ...]
    session: Session
    text: str
    request: Request | None = None
    by: str = "rule"
    ended: Ending = "answered"
    failures: tuple[str, ...] = ()
    asked: tuple[Question, ...] = ()
    cost: Tally = field(default_factory=Tally)
    usd: float | None = 0.0
    shown: tuple[int, ...] = ()


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


def carried_out(call: Call, tools: Toolbox[Session], session: Session) -> tuple[Call, Session]:
    """Return a call with its answer or its error, and the session afterwards."""
    try:
        answer, after = tools[call.tool].call(session, call.arguments)
        done = replace(call, answer=answer)
    except LLM4RecError as error:
        done, after = replace(call, error=str(error)), session
    return done, replace(after, calls=session.calls + 1)
