"""Agents to stand beside those that listen: they show what comes of not listening, or of listening without thought."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np

from llm4rec.agents.bus import Candidates
from llm4rec.agents.rule import RuleAgent
from llm4rec.agents.tools import Session, recommend
from llm4rec.agents.turn import Agent, Call, Turn
from llm4rec.agents.users import Asker
from llm4rec.llm.prompts import plain

_WIDE = 100  # items asked for, of which each turn shows the next ones
_LONGEST_NAME = 100  # characters


class _Answering(ABC):
    """An agent whose turn comes at once."""

    name = ""

    @abstractmethod
    def answer(self, session: Session, text: str) -> Turn:
        """Return what becomes of a request."""

    def steps(self, session: Session, text: str) -> Iterator[Turn]:
        """Yield the turn."""
        yield self.answer(session, text)


class HistoryAgent(_Answering):
    """The user's history alone: each turn shows the next items of one system's list, whatever is said.

    Args:
        shown: items of a turn.
        system: whose list; the default system's for None.
    """

    name = "history"

    def __init__(self, shown: int, system: str | None = None) -> None:
        self._shown, self._system = shown, system

    def answer(self, session: Session, text: str) -> Turn:
        """Return the next items."""
        if session.candidates is None:
            answer, after = recommend(session, k=_WIDE, system=self._system)
            return _told(self, after, (Call("recommend", {"k": _WIDE, "system": self._system}, answer),), self._shown)
        return _next(self, session, self._shown)


class PopularAgent(_Answering):
    """What most users touched: each turn shows the next items, but for what the user knows.

    Args:
        shown: items of a turn.
    """

    name = "popular"

    def __init__(self, shown: int) -> None:
        self._shown = shown

    def answer(self, session: Session, text: str) -> Turn:
        """Return the next items."""
        if session.candidates is not None:
            return _next(self, session, self._shown)
        engine = session.engine
        known = engine.users.queries([Asker(session.user)])[1][0]
        counts = engine.popularity.astype(np.float32)
        counts[known] = -np.inf
        best = np.argsort(-counts, kind="stable")[: min(_WIDE, int(np.isfinite(counts).sum()))].astype(np.int32)
        held = Candidates.of(best, counts[best], "popularity")
        return _told(self, session.with_candidates(held), (), self._shown)


class DeafAgent(_Answering):
    """An agent that hears the first request and nothing after it: each turn shows the next items of its first list.

    Args:
        inner: who answers the first request.
        shown: items of a turn.
    """

    def __init__(self, inner: Agent, shown: int) -> None:
        self._inner, self._shown = inner, shown
        self.name = f"{inner.name}, deaf"

    def answer(self, session: Session, text: str) -> Turn:
        """Return the next items."""
        if session.candidates is not None:
            return _next(self, session, self._shown)
        turn = self._inner.answer(session, f"{text}\nShow me {_WIDE}.")
        if turn.session.candidates is None:
            empty = Candidates.of(np.empty(0, np.int32), np.empty(0, np.float32), "nothing")
            return _told(self, turn.session.with_candidates(empty), turn.calls, self._shown)
        return _told(self, turn.session, turn.calls, self._shown)


class ListeningAgent(_Answering):
    """The rule agent, told all that the user has said so far, which shows nothing twice; one for each conversation.

    Where nothing fits everything that was said, the oldest of it is forgotten, one line at a time.  Of a transcript it
    reads the user's lines.

    Args:
        inner: the rule agent.
        shown: items of a turn.
    """

    name = "rule, listening"

    def __init__(self, inner: RuleAgent, shown: int) -> None:
        self._inner, self._shown = inner, shown
        self._heard: list[str] = []
        self._seen: set[int] = set()

    def answer(self, session: Session, text: str) -> Turn:
        """Return what fits all that was said."""
        self._heard += _said(text)
        calls: tuple[Call, ...] = ()
        for start in range(len(self._heard)):
            asked = "\n".join([*self._heard[start:], f"Show me {_WIDE}."])
            turn = self._inner.answer(session, asked)
            session, calls = turn.session, calls + turn.calls
            held = session.candidates
            if turn.request is not None and turn.request.act != "recommend":
                break
            if held is not None and (fresh := ~np.isin(held.items, list(self._seen))).any():
                held = held.kept(fresh, f"{session.calls} listening", "shown before")
                self._seen |= set(held.items[: self._shown].tolist())
                return _told(self, session.with_candidates(held.cleared()), calls, self._shown)
        return Turn(turn.plan, calls, session, turn.text, turn.request, by=self.name)


class EchoAgent(_Answering):
    """What the user touched last, the latest first: what repeating alone is worth.

    Args:
        shown: items of a turn.
    """

    name = "echo"

    def __init__(self, shown: int) -> None:
        self._shown = shown

    def answer(self, session: Session, text: str) -> Turn:
        """Return the next items."""
        if session.candidates is not None:
            return _next(self, session, self._shown)
        own = session.engine.users.history(session.user).items if session.user is not None else np.empty(0, np.int32)
        latest = np.array(list(dict.fromkeys(own[::-1].tolist())), np.int32)
        held = Candidates.of(latest, -np.arange(len(latest), dtype=np.float32), "history")
        return _told(self, session.with_candidates(held), (), self._shown)


class GivenAgent(_Answering):
    """Shows given items, whatever is said: a logged answer, or in tests an oracle's.

    Args:
        name: for tables.
        items: inside ids, best first.
    """

    def __init__(self, name: str, items: Sequence[int]) -> None:
        self.name, self._items = name, np.array(items, np.int32)

    def answer(self, session: Session, text: str) -> Turn:
        """Return the items."""
        held = Candidates.of(self._items, -np.arange(len(self._items), dtype=np.float32), self.name)
        return _told(self, session.with_candidates(held), (), len(self._items))


def _said(text: str) -> list[str]:
    """Return the lines of a request; of a transcript (lines that begin with who speaks) the user's."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return [line.removeprefix("User:").strip() for line in lines if not line.startswith("Recommender:")]


# -- parts ----------------------------------------------------------------------------------
def _next(agent: Agent, session: Session, shown: int) -> Turn:
    """Return a turn that leaves out the items that the last one showed."""
    held = session.candidates
    assert held is not None
    rest = held.kept(np.arange(len(held)) >= shown, "next", "shown before").cleared()
    return _told(agent, session.with_candidates(rest), (), shown)


def _told(agent: Agent, session: Session, calls: tuple[Call, ...], shown: int) -> Turn:
    held = session.candidates
    names = session.engine.catalogue.names
    items = () if held is None else tuple(held.items[:shown].tolist())
    words = "\n".join(f"{at}. {plain(names[i], _LONGEST_NAME)}" for at, i in enumerate(items, 1))
    return Turn(calls, calls, session, words or "There is nothing more.", by=agent.name, shown=items)
