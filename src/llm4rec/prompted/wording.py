"""Where the prompts lie: the built-in templates beside this file, or one of the user's."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from llm4rec.core import SpecError
from llm4rec.llm.prompts import Prompt
from llm4rec.llm.values import Message

_FOLDER = Path(__file__).parent / "templates"


@lru_cache(maxsize=64)
def load_prompt(name: str, path: str | None = None) -> Prompt:
    """Return the built-in prompt of a name, or the one in the file at ``path``.

    Raises:
        SpecError: if the file cannot be read, or is not a template.
    """
    file = _FOLDER / f"{name}.j2" if path is None else Path(path)
    try:
        return Prompt(file.read_text(encoding="utf-8"), where=f"template {file}")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read the template ({error})", where=f"template {file}") from None


def spelt(turns: tuple[Message, ...]) -> str:
    """Return a conversation as text for the report; a single turn without its role."""
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)
