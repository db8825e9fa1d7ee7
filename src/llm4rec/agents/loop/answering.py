"""The end of a turn: which candidates are shown, and with what words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from llm4rec.agents.toolbox import Toolbox
from llm4rec.agents.tools import ItemID, Session
from llm4rec.core import DataError
from llm4rec.llm.prompts import plain

_LONGEST_NAME = 100  # characters


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer before it is given.

    Attributes:
        session: with the shown items as candidates, where there are any.
        shown: inside ids, best first.
        text: words, and a numbered list of the shown items.
        failures: kind of each thing that was wrong with the model's answer.
    """

    session: Session
    shown: tuple[int, ...]
    text: str
    failures: tuple[str, ...] = ()


def answer(
    session: Session,
    *,
    text: Annotated[
        str, Field(description="What to say to the user; an item is written [[id]].", min_length=1, max_length=4_000)
    ],
    items: Annotated[
        list[ItemID] | None,
        Field(
            description="Ids of the candidates to show, best first; null for the first ones, empty for none.", max_length=100
        ),
    ] = None,
) -> tuple[Any, Session]:
    """Give the answer and end the turn."""
    return {"text": text, "items": items}, session


def show(session: Session) -> tuple[Any, Session]:
    """Show the candidates and end the turn."""
    return {"text": "", "items": None}, session


#: The ways to end a turn, as tools: with words of one's own, or, in the brief protocol, without.
ANSWERING: Toolbox[Session] = Toolbox((answer, show), {})


def picked(session: Session, ids: Sequence[str] | None, most: int) -> tuple[Session, tuple[int, ...], list[str]]:
    """Return the session with the named candidates alone, in the order named, these items, and what was wrong.

    Args:
        session: whose candidates may be shown.
        ids: outside ids; None for the first ``most`` candidates.

    Raises:
        DataError: if none of the named ids is a candidate's.
    """
    held = session.candidates
    if ids is None or held is None:
        if ids:
            raise DataError("there are no candidates", where="answer.items", todo="propose some first, or show none")
        if held is None or not len(held):
            return session, (), []
        first = held.head(most, "answer")
        return session.with_candidates(first), tuple(first.items.tolist()), []
    vocabulary, there = session.engine.catalogue.items, set(held.items.tolist())
    chosen: list[int] = []
    failures: list[str] = []
    for identifier in ids:
        item = vocabulary.index(identifier) if identifier in vocabulary else -1
        if item not in there:
            failures.append("answer:no_candidate")
        elif item in chosen:
            failures.append("answer:duplicate")
        else:
            chosen.append(item)
    if ids and not chosen:
        raise DataError("none of these ids is a candidate's", where="answer.items", todo="show candidates, or propose others")
    if not chosen:
        return session, (), failures
    falling = -np.arange(len(chosen), dtype=np.float32)
    others = {int(i): "not in the answer" for i in there - set(chosen)}
    kept = held.ranked(np.array(chosen, np.int32), falling, "answer", others)
    return session.with_candidates(kept), tuple(chosen), failures


def written(words: str, shown: Sequence[int], session: Session) -> str:
    """Return words, and below them the shown items, numbered."""
    names = session.engine.catalogue.names
    return "\n".join(filter(None, (words, *(f"{at}. {plain(names[i], _LONGEST_NAME)}" for at, i in enumerate(shown, 1)))))
