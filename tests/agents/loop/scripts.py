"""Models that say what a test wants, in the JSON protocol."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from llm4rec.agents.loop.agent import LLMAgent
from llm4rec.agents.loop.config import LoopConfig
from llm4rec.agents.tools import Session
from llm4rec.llm import ChatReply, ChatRequest, ScriptedModel

Script = Sequence[str | ChatReply] | Callable[[ChatRequest], str | ChatReply]


def act(tool: str, thought: str = "", **arguments: Any) -> str:
    """One step of a reason-act model."""
    return json.dumps({"thought": thought, "tool": tool, "arguments": arguments})


def plan(*calls: tuple[str, dict[str, Any]]) -> str:
    """A whole plan."""
    return json.dumps({"calls": [{"tool": tool, "arguments": arguments} for tool, arguments in calls]})


def agent(script: Script, **config: Any) -> LLMAgent:
    """An agent over a scripted model that speaks JSON."""
    return LLMAgent(ScriptedModel(script), LoopConfig.model_validate({"protocol": "json", **config}))


def prompts(agent: LLMAgent) -> list[str]:
    """All that the model was asked, each question as one text."""
    model = agent.model
    assert isinstance(model, ScriptedModel)
    asked = (request for request in model.asked if isinstance(request, ChatRequest))
    return ["\n".join(m.content for m in request.messages) for request in asked]


def names(session: Session, items: Sequence[int]) -> list[str]:
    """The names of items."""
    return [session.engine.catalogue.names[i] for i in items]
