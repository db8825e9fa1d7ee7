"""A conversation between a simulated user and an agent, and who decides how it ends: code, outside of both.

The host alone knows which items are wanted. It hands the user a scene without them, scans what the user is about to say,
takes what names them out of what the agent answered, and looks by id whether they were shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from pydantic import Field

from llm4rec.agents.simulate.facets import Facets
from llm4rec.agents.simulate.leak import Secret, redacted, scan
from llm4rec.agents.simulate.values import Action, Line, Scene, Simulator, Utterance, Wish
from llm4rec.agents.tools import Session
from llm4rec.agents.turn import Agent, Turn
from llm4rec.core import Config

#: How a conversation ended: the item was taken; the user went away bored, or out of patience; or (where there is
#: no one item to take) the patience was used up as meant.
Outcome = Literal["accepted", "left", "patience", "finished"]

#: What is said in place of words that would give the item away even by rule.
NEUTRAL = "Something else, please."


class TalkConfig(Config):
    """What a conversation is."""

    turns: int = Field(8, ge=1)
    """The user's patience: requests, the first one included."""
    shown: int = Field(5, ge=1, le=100)
    """Items of a turn that the user looks at."""
    overlook: float = Field(0.0, ge=0, lt=1)
    """Chance that the user does not see a wanted item that is shown."""
    stops: bool = True
    """Does the conversation end when a wanted item is taken?"""
    counted: bool = False
    """Does each request say how many items it wants?"""


@dataclass(frozen=True, slots=True)
class Goal:
    """Who talks, and what is kept from them.

    Attributes:
        case: number of the case.
        user: outside id, or None for somebody unknown.
        targets: inside ids of the items that satisfy.
        secrets: their names.
        wish, persona: what the user is told.
    """

    case: int
    user: str | None
    targets: frozenset[int]
    secrets: tuple[Secret, ...]
    wish: Wish
    persona: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of a conversation.

    Attributes:
        action: what the user did, with the words that were sent.
        draft: what the simulator wanted to say, where that was not sent; else empty.
        leaked: kinds of leak in what the simulator wanted to say.
        speaking: the simulator's own failures, calls and tokens.
        turn: the agent's; None where the user left.
        shown: inside ids that the user looked at.
        rank: place of the first wanted item among them, from 1; None if it is not there.
        taken: wanted items that were taken.
        fresh: was anything shown that was not shown before?
        seconds: that the agent took.
    """

    action: Action
    draft: str = ""
    leaked: tuple[str, ...] = ()
    speaking: Utterance | None = None
    turn: Turn | None = None
    shown: tuple[int, ...] = ()
    rank: int | None = None
    taken: tuple[int, ...] = ()
    fresh: bool = False
    seconds: float = 0.0


@dataclass(slots=True)
class Talk:
    """A conversation as it stands."""

    goal: Goal
    agent: Agent
    session: Session
    rounds: list[Round] = field(default_factory=list)
    outcome: Outcome | None = None
    _seen: set[int] = field(default_factory=set)
    _lines: list[Line] = field(default_factory=list)
    _dull: int = 0

    @property
    def found(self) -> set[int]:
        """The wanted items that were taken."""
        return {item for r in self.rounds for item in r.taken}


def hold(
    goals: Sequence[Goal],
    agent: Callable[[], Agent],
    simulator: Simulator,
    session: Callable[[Goal], Session],
    facets: Facets,
    config: TalkConfig,
    seed: int,
) -> list[Talk]:
    """Hold one conversation for each goal, turn by turn side by side.

    Args:
        goals: who talks.
        agent: makes the agent of one conversation.
        simulator: speaks for the users; asked for all that go on at once.
        session: begins a session.
        facets: of the catalogue.
        config: rules.
        seed: of all draws of the users, which do not depend on the agent: the same users meet every agent.
    """
    talks = [Talk(goal, agent(), session(goal)) for goal in goals]
    for number in range(config.turns):
        on = [t for t in talks if t.outcome is None]
        if not on:
            break
        scenes = [_scene(t, facets, (seed, t.goal.case, number)) for t in on]
        for talk, utterance in zip(on, simulator.speak(scenes), strict=True):
            _turn(talk, utterance, config, np.random.default_rng((seed, talk.goal.case, number, 1)))
    for talk in talks:
        if talk.outcome is None:
            talk.outcome = "patience" if config.stops else "finished"
    return talks


def answered(goal: Goal, agent: Agent, session: Session, text: str, config: TalkConfig) -> Talk:
    """Return a conversation of one request whose words are given: those of people, which nobody scans."""
    talk = Talk(goal, agent, session)
    _turn(talk, Utterance(Action("inform", text)), config, np.random.default_rng(0))
    talk.outcome = talk.outcome or "finished"
    return talk


def checked(utterance: Utterance, secrets: Sequence[Secret]) -> tuple[Action, str, tuple[str, ...]]:
    """Return what is sent in place of an utterance, the draft where that is another text, and the kinds of leak in it."""
    action = utterance.action
    leaks = tuple(dict.fromkeys(leak.kind for leak in scan(action.text, secrets)))
    if not leaks:
        return action, utterance.draft, ()
    choices = [text for text in (utterance.instead, NEUTRAL) if text is not None]
    sent = next((text for text in choices if not scan(text, secrets)), "...")
    said = (action.conveys, action.refuses) if sent == utterance.instead else ((), ())
    return replace(action, text=sent, conveys=said[0], refuses=said[1]), action.text, leaks


# -- parts ----------------------------------------------------------------------------------
def _scene(talk: Talk, facets: Facets, seed: tuple[int, ...]) -> Scene:
    last = talk.rounds[-1] if talk.rounds else None
    shown = () if last is None else tuple(i for i in last.shown if i not in talk.goal.targets)
    return Scene(
        talk.goal.wish, talk.goal.persona, tuple(r.action for r in talk.rounds), tuple(talk._lines),
        tuple(facets.of(i) for i in shown), 0 if last is None else len(last.taken), talk._dull, seed,
    )  # fmt: skip


def _turn(talk: Talk, utterance: Utterance, config: TalkConfig, rng: np.random.Generator) -> None:
    """Let one user speak and the agent answer, and decide what of it is taken."""
    goal, overlooked = talk.goal, bool(rng.random() < config.overlook)
    action, draft, leaked = checked(utterance, goal.secrets)
    if action.act == "leave":
        talk.rounds.append(Round(action, draft, leaked, utterance))
        talk.outcome = "left"
        return
    clock = time.perf_counter()
    turn = talk.agent.answer(talk.session, f"Show me {config.shown}.\n{action.text}" if config.counted else action.text)
    seconds = time.perf_counter() - clock
    shown = turn.shown[: config.shown]
    places = [at for at, i in enumerate(shown, 1) if i in goal.targets]
    taken = () if overlooked else tuple(i for i in shown if i in goal.targets and i not in talk.found)
    fresh = bool(set(shown) - talk._seen)
    talk._seen |= set(shown)
    talk._dull = 0 if fresh else talk._dull + 1
    talk._lines += [Line("user", action.text), Line("agent", redacted(turn.text, goal.secrets))]
    talk.session = turn.session
    talk.rounds.append(
        Round(action, draft, leaked, utterance, turn, shown, places[0] if places else None, taken, fresh, seconds)
    )
    if taken and config.stops:
        talk.outcome = "accepted"
