"""``llm4rec chat``: a conversation in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from llm4rec.agents.rule import RuleAgent
from llm4rec.agents.tools import Session
from llm4rec.agents.turn import Call
from llm4rec.app.opening import open_engine
from llm4rec.core import RunError
from llm4rec.experiment.opened import OpenRun
from llm4rec.llm.prompts import plain

_LONGEST = 500  # characters of a line


def talk(run: Path, user: str | None, system: str | None, store: str | None) -> None:
    """Answer lines of stdin until it ends; what is remembered of a user goes to the store."""
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
    session, agent = Session(engine, memory, user), RuleAgent()
    if sys.stdin.isatty():
        console.print(Text(f"{engine.system(None).label} answers; an empty line ends the talk", "dim"))
    try:
        while line := _asked():
            done = 0
            for turn in agent.steps(session, line):
                for call in turn.calls[done:]:
                    console.print(Text(_told(call), "dim"))
                done, session = len(turn.calls), turn.session
            for words in turn.text.splitlines():
                console.print(Text(plain(words, _LONGEST)))
    finally:
        opened.close()


def _asked() -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


def _told(call: Call) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in call.arguments.items())
    return "  " + plain(f"{call.tool}({arguments})" + (f": {call.error}" if call.error else ""), _LONGEST)
