"""``llm4rec chat``: a conversation in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from llm4rec.agents.tools import Session
from llm4rec.agents.turn import Call, Turn
from llm4rec.app.agents import EMBEDDED, open_agents
from llm4rec.app.opening import open_engine
from llm4rec.core import BudgetError, ModelError, RunError, SpecError
from llm4rec.experiment.opened import OpenRun
from llm4rec.llm.prompts import plain

_LONGEST = 500  # characters of a line


def talk(
    run: Path,
    user: str | None,
    system: str | None,
    store: str | None,
    agent: str = "rule",
    llm: str | None = None,
    calls: Path | None = None,
    replay: bool = False,
) -> None:
    """Answer lines of stdin until it ends; what is remembered of a user goes to the store.

    Args:
        run: the run directory.
        user: who talks.
        system, store: the default system, and the database of the memory.
        agent, llm: who answers, with which language model (see :func:`llm4rec.app.agents.open_agents`).
        calls: file of the model's calls.
        replay: answer from that file alone.

    Raises:
        LLM4RecError: for what cannot be opened; in a replay for a call that is not in the file.
    """
    if replay and calls is None:
        raise SpecError("a replay needs the file of calls", where="--replay", todo="name it with --calls")
    try:
        from llm4rec.agents.memory import MemoryStore
        from llm4rec.agents.storage import open_database
    except ModuleNotFoundError as error:
        todo = "pip install 'llm4rec[serve]'"
        raise RunError(f"the library {error.name} is not installed", where="chat", todo=todo) from None
    console = Console(highlight=False)
    opened = OpenRun(run)
    engine = open_engine(opened, system)
    memory = None if user is None else MemoryStore(open_database(store or run / "serve" / "store.sqlite"))
    named = llm or (EMBEDDED if agent != "rule" else None)
    agents = open_agents(opened.spec.llm, named, calls, "replay" if replay else "use")
    session, chosen, rule = Session(engine, memory, user), agents[agent], agents["rule"]
    if sys.stdin.isatty():
        console.print(Text(f"{engine.system(None).label} answers; an empty line ends the talk", "dim"))
    try:
        while line := _asked():
            try:
                turn = _shown(chosen.steps(session, line), console)
            except (ModelError, BudgetError) as error:
                if replay:
                    raise
                console.print(Text(f"  the rule agent answers: {plain(str(error), _LONGEST)}", "dim"))
                turn = _shown(rule.steps(session, line), console)
            if turn.by != agent or turn.ended != "answered":
                why = turn.ended if turn.ended != "answered" else ", ".join(turn.failures)
                console.print(Text(f"  answered by {turn.by} ({why})", "dim"))
            session = turn.session
            for words in turn.text.splitlines():
                console.print(Text(plain(words, _LONGEST)))
    finally:
        opened.close()


def _shown(steps: Iterator[Turn], console: Console) -> Turn:
    """Print the calls of a turn as they are made; returns the turn."""
    done = 0
    for turn in steps:
        for call in turn.calls[done:]:
            console.print(Text(_told(call), "dim"))
        done = len(turn.calls)
    return turn


def _asked() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


def _told(call: Call) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in call.arguments.items())
    return "  " + plain(f"{call.tool}({arguments})" + (f": {call.error}" if call.error else ""), _LONGEST)
