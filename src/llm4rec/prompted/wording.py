"""Prompt templates: the built-in ones beside this file, or one of the user's."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import cast

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llm4rec.core import SpecError
from llm4rec.llm.values import Message, Role

_TURN = re.compile(r"^=== (system|user|assistant)\n", re.MULTILINE)
_FOLDER = Path(__file__).parent / "templates"


@lru_cache(maxsize=64)
def load_template(name: str, path: str | None = None) -> Template:
    """Return the built-in template of a name, or the one in the file at ``path``.

    Values are put into a prompt as they are; what they hold is never read as a template.

    Raises:
        SpecError: if the file cannot be read, or is not a template.
    """
    file = _FOLDER / f"{name}.j2" if path is None else Path(path)
    # Sandboxed, because a spec (and the template it names) may come from somebody else.
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    try:
        return environment.from_string(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read the template ({error})", where=f"template {file}") from None
    except TemplateError as error:
        raise SpecError(f"not a jinja template ({error})", where=f"template {file}") from None


def messages(prompt: str) -> tuple[Message, ...]:
    """Return a rendered prompt as a conversation.

    A line ``=== system``, ``=== user`` or ``=== assistant`` begins a turn; a prompt without such
    lines is one turn of the user.  Item text cannot begin one: it never holds a line break.
    """
    parts = _TURN.split(prompt)
    if len(parts) == 1:
        return (Message("user", prompt.strip()),)
    return tuple(Message(cast(Role, role), text.strip()) for role, text in zip(parts[1::2], parts[2::2], strict=True))


def spelt(turns: tuple[Message, ...]) -> str:
    """Return a conversation as text for the report; a single turn without its role."""
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)
