"""What a simulated user knows and says.  Nothing here holds the title or the id of what the user is after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from llm4rec.llm.values import Usage

#: What a user does with a turn: says what is wanted, answers a question, turns proposals down, takes one, or goes.
Act = Literal["inform", "answer", "reject", "accept", "leave"]
Speaker = Literal["user", "agent"]


@dataclass(frozen=True, slots=True, order=True)
class Facet:
    """One thing that is so of an item, and of others too.

    Attributes:
        attribute: column of the catalogue.
        value: as the catalogue spells it; of years the first of a decade.
        decade: does the value stand for ten years?
    """

    attribute: str
    value: str
    decade: bool = False

    @property
    def words(self) -> str:
        """The facet as it is said."""
        return f"from the {self.value}s" if self.decade else self.value


@dataclass(frozen=True, slots=True)
class Wish:
    """What a user wants, by attributes alone.

    Attributes:
        facets: what is so of the wanted item, in the order in which this user thinks of it.
        decoys: for some of the attributes something that is not so of it: what the user says when wrong.
        questions: attributes of the catalogue that an agent may ask about.
    """

    facets: tuple[Facet, ...]
    decoys: tuple[Facet, ...] = ()
    questions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """What a user does in one turn.

    Attributes:
        act: which kind.
        text: in words.
        conveys: facets that the words say are wanted.
        refuses: facets that the words say are not wanted.
        noise: ``"wrong"`` or ``"vague"`` where chance took the place of the truth, else empty.
    """

    act: Act
    text: str
    conveys: tuple[Facet, ...] = ()
    refuses: tuple[Facet, ...] = ()
    noise: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """Something said.  In an agent's lines what names the wanted item has been taken out."""

    speaker: Speaker
    text: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What a simulated user knows when it is to speak.

    Attributes:
        wish: what is wanted.
        persona: who the user is, in lines; may be empty.
        actions: the user's own, so far.
        lines: what both said, so far.
        proposals: facets of each item that the last turn showed and that was not taken.
        taken: how many items of the last turn were taken (only where there is more than one to take).
        dull: turns in a row, up to now, that showed nothing new.
        seed: of this user's draws in this turn.
    """

    wish: Wish
    persona: tuple[str, ...] = ()
    actions: tuple[Action, ...] = ()
    lines: tuple[Line, ...] = ()
    proposals: tuple[frozenset[Facet], ...] = ()
    taken: int = 0
    dull: int = 0
    seed: tuple[int, ...] = (0,)

    @property
    def turn(self) -> int:
        """Number of this turn, from 1."""
        return len(self.actions) + 1


@dataclass(frozen=True, slots=True)
class Utterance:
    """What a simulator came up with.

    Attributes:
        action: with the words to be said.
        instead: words to be said if those of the action give the item away, or None where there are none.
        failures: kind of each thing that went wrong while the words were looked for.
        draft: words that were found and cannot be used, for the record; else empty.
        usage: tokens that they took.
        calls: model calls that they took.
    """

    action: Action
    instead: str | None = None
    failures: tuple[str, ...] = ()
    draft: str = ""
    usage: Usage = field(default_factory=lambda: Usage(0, 0))
    calls: int = 0


class Simulator(Protocol):
    """Speaks for users; a function of the scenes alone."""

    @property
    def name(self) -> str:
        """Name, for tables."""

    def speak(self, scenes: Sequence[Scene]) -> list[Utterance]:
        """Return what each user says next."""
