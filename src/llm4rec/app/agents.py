"""The agents that a run can be talked to with: by rules, and with a language model that is named."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from llm4rec.agents.loop.agent import LLMAgent
from llm4rec.agents.loop.config import LoopConfig
from llm4rec.agents.loop.work import is_brief
from llm4rec.agents.rule import RuleAgent
from llm4rec.agents.toolbox import Toolbox
from llm4rec.agents.tools import Session
from llm4rec.agents.turn import Agent
from llm4rec.assets import ASSETS
from llm4rec.core import SpecError, did_you_mean
from llm4rec.experiment.resources import open_model
from llm4rec.features import EncoderConfig
from llm4rec.features.encoders import open_encoder
from llm4rec.llm import LLMConfig, Metered, Mode, Store, Stored
from llm4rec.llm.values import ChatModel

#: The language model that every machine has.
EMBEDDED = "smollm2-135m-instruct"


def open_agents(
    tables: Mapping[str, LLMConfig], llm: str | None, calls: Path | None = None, mode: Mode = "use"
) -> dict[str, Agent]:
    """Return the agents by name: the rule agent, and with a language model those of each strategy.

    Nothing is loaded, and nobody is asked, before the first turn.

    Args:
        tables: the ``[llm.NAME]`` tables of the run.
        llm: one of their names, an asset's name, or a TOML file with one ``[llm.NAME]`` table and, if wanted, an
            ``[agent]`` table; None for the rule agent alone.
        calls: file that keeps the model's calls, the words of users in them; None keeps none.
        mode: of that file.

    Raises:
        SpecError: for a name that is none of these, or a file that cannot be used.
    """
    agents: dict[str, Agent] = {"rule": RuleAgent()}
    if llm is None:
        return agents
    table, loop = _named(tables, llm)
    model = open_model(table, download=mode != "replay")
    metered = Metered(model if calls is None else Stored(model, Store(calls, readonly=mode == "replay"), mode), table.price)
    for strategy in ("plan", "react"):
        agents[strategy] = thinking(metered, loop.model_copy(update={"strategy": strategy}))
    return agents


def thinking(model: ChatModel, loop: LoopConfig, tools: Toolbox[Session] | None = None) -> LLMAgent:
    """Return the agent that asks a language model; the embedded encoder finds a small one's examples."""
    return LLMAgent(model, loop, tools=tools, encoder=open_encoder(EncoderConfig()) if is_brief(loop, model) else None)


def _named(tables: Mapping[str, LLMConfig], llm: str) -> tuple[LLMConfig, LoopConfig]:
    if llm in tables:
        return tables[llm], LoopConfig.model_validate({})
    if llm in ASSETS:
        return LLMConfig(model=llm), LoopConfig.model_validate({})
    if not llm.endswith(".toml"):
        todo = f"{did_you_mean(llm, [*tables, EMBEDDED])}, or name a TOML file with an [llm.NAME] table"
        raise SpecError(f"there is no language model {llm!r}", where="--llm", todo=todo)
    path = Path(llm)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"cannot be read ({error})", where=llm) from None
    named = given.get("llm")
    if not isinstance(named, dict) or len(named) != 1 or given.keys() - {"llm", "agent"}:
        raise SpecError("must hold one [llm.NAME] table, and may hold an [agent] table", where=llm)
    ((name, table),) = named.items()
    loop = _validated(LoopConfig, given.get("agent", {}), f"{llm}: agent", path.parent)
    return _validated(LLMConfig, table, f"{llm}: llm.{name}", path.parent), loop


def _validated(model: type[BaseModel], table: Any, where: str, folder: Path) -> Any:
    try:
        return model.model_validate(table, context={"folder": folder})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise SpecError(first["msg"], where=".".join([where, *map(str, first["loc"])])) from None
