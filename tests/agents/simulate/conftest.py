"""A made world with people in it: four topics, what is wanted is a film of the user's topic that nobody has seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llm4rec.agents.engine import Engine
from llm4rec.agents.rule import RuleAgent
from llm4rec.agents.simulate.controls import DeafAgent, EchoAgent, HistoryAgent, ListeningAgent, PopularAgent
from llm4rec.agents.simulate.facets import Facets
from llm4rec.agents.simulate.people import goals
from llm4rec.agents.simulate.rule import RuleSimulator
from llm4rec.agents.simulate.talk import Goal, Talk, TalkConfig, hold
from llm4rec.agents.simulate.values import Simulator
from llm4rec.agents.toolbox import Toolbox
from llm4rec.agents.tools import Session, toolbox
from llm4rec.agents.turn import Agent
from tests.worlds import topics

Talking = Callable[..., list[Talk]]

#: Agents by name: of the tools and the number of items shown.
AGENTS: dict[str, Callable[[Toolbox[Session], int], Agent]] = {
    "rule": lambda tools, shown: RuleAgent(tools),
    "listening": lambda tools, shown: ListeningAgent(RuleAgent(tools), shown),
    "deaf": lambda tools, shown: DeafAgent(RuleAgent(tools), shown),
    "history": lambda tools, shown: HistoryAgent(shown),
    "popular": lambda tools, shown: PopularAgent(shown),
    "echo": lambda tools, shown: EchoAgent(shown),
}


@pytest.fixture
def facets(engine: Engine) -> Facets:
    return Facets(engine.catalogue, 2)


@pytest.fixture
def people(engine: Engine, facets: Facets) -> list[Goal]:
    return goals(engine, topics().split.test, facets, 12, several=False, seed=1, first=1)


@pytest.fixture
def talking(engine: Engine, facets: Facets, people: list[Goal]) -> Talking:
    """Return a function that lets an agent talk to the people: (name or how to make it, simulator, rules) -> talks."""
    tools = toolbox(engine)

    def talks(
        agent: str | Callable[[], Agent], simulator: Simulator | None = None, seed: int = 1, **rules: object
    ) -> list[Talk]:
        config = TalkConfig.model_validate(rules)
        make = agent if callable(agent) else lambda: AGENTS[agent](tools, config.shown)
        return hold(people, make, simulator or RuleSimulator(), lambda g: Session(engine, None, g.user), facets, config, seed)

    return talks
