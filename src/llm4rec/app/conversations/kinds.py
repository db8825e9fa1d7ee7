"""The kinds of agents that a specification can name, and how each is made for one conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llm4rec.agents.engine import Engine
from llm4rec.agents.loop.config import LoopConfig
from llm4rec.agents.rule import RuleAgent
from llm4rec.agents.simulate.controls import DeafAgent, EchoAgent, HistoryAgent, ListeningAgent, PopularAgent
from llm4rec.agents.toolbox import Toolbox
from llm4rec.agents.tools import Session
from llm4rec.agents.turn import Agent
from llm4rec.app.agents import thinking
from llm4rec.core import Config

_SIMULATED = ("multi-turn", "one-turn", "target-free")
_EVERY = (*_SIMULATED, "dialogues")


class NoParameters(Config):
    """An agent without parameters."""


class OneSystem(Config):
    """An agent that asks one system."""

    system: str | None = None
    """Of the world's run; absent, the world's default."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What agents of one world and protocol share.

    Attributes:
        engine: that sessions are over.
        tools: over it.
        shown: items of a turn.
        models: a language model by its table's name.
    """

    engine: Engine
    tools: Toolbox[Session]
    shown: int
    models: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of agent.

    Attributes:
        label: name in tables.
        config: its parameters.
        make: from the parameters and the surroundings to what makes an agent for each conversation.
        fits: protocols that it takes part in.
        control: is it a control?
    """

    label: str
    config: type[Config]
    make: Callable[[Any, Surroundings], Callable[[], Agent]]
    fits: tuple[str, ...] = _EVERY
    control: bool = False


def _rule(config: Any, around: Surroundings) -> Callable[[], Agent]:
    one = RuleAgent(around.tools)
    return lambda: one


def _listening(config: Any, around: Surroundings) -> Callable[[], Agent]:
    inner = RuleAgent(around.tools)
    return lambda: ListeningAgent(inner, around.shown)


def _deaf(config: Any, around: Surroundings) -> Callable[[], Agent]:
    inner = RuleAgent(around.tools)
    return lambda: DeafAgent(inner, around.shown)


def _logged(config: Any, around: Surroundings) -> Callable[[], Agent]:
    raise AssertionError("a logged answer belongs to a moment, and is given there")


class LoopAgentConfig(LoopConfig):
    """An agent with a language model; the items that it shows are those of the protocol."""

    llm: str
    """Table ``[llm.NAME]`` of the model."""


def _loop(config: LoopAgentConfig, around: Surroundings) -> Callable[[], Agent]:
    given = config.model_dump(exclude={"llm"}) | {"shown": around.shown}
    one = thinking(around.models(config.llm), LoopConfig.model_validate(given), around.tools)
    return lambda: one


KINDS: Mapping[str, Kind] = {
    "rule": Kind("Rules", NoParameters, _rule),
    "listening": Kind("Rules, all that was said", NoParameters, _listening),
    "llm": Kind("LLM", LoopAgentConfig, _loop),
    "deaf": Kind("No feedback: rules, first request alone", NoParameters, _deaf, ("multi-turn", "target-free"), True),
    "history": Kind(
        "History alone", OneSystem, lambda config, around: lambda: HistoryAgent(around.shown, config.system), control=True
    ),
    "popular": Kind("Popularity", NoParameters, lambda config, around: lambda: PopularAgent(around.shown), control=True),
    "echo": Kind(
        "Repeats what was named", NoParameters, lambda config, around: lambda: EchoAgent(around.shown), ("dialogues",), True
    ),
    "logged": Kind("Logged answers", NoParameters, _logged, ("dialogues",)),
}
