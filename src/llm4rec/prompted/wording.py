"""Where the prompts lie: the built-in templates beside this file, or one of the user's; and what they may name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from llm4rec.core import SpecError, did_you_mean
from llm4rec.llm.prompts import Prompt
from llm4rec.llm.values import Message

_FOLDER = Path(__file__).parent / "templates"

#: What a template can be given: a text, a list of lines (one text each), or pairs of label and line.
Kind = Literal["text", "lines", "pairs"]


@lru_cache(maxsize=64)
def load_prompt(name: str, path: Path | None = None) -> Prompt:
    """Return the built-in prompt of a name, or the one in the file at ``path``.

    Raises:
        SpecError: if the file cannot be read, or is not a template.
    """
    file = _FOLDER / f"{name}.j2" if path is None else path
    try:
        return Prompt(file.read_text(encoding="utf-8"), where=f"template {file}")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read the template ({error})", where=f"template {file}") from None


class Template:
    """A prompt whose variables are declared: what it may name, of which type, and what it must.

    Args:
        prompt: the template.
        variables: each variable that is given to it, with its type.
        needs: variables that it has to name, because without them it could not ask its question.

    Raises:
        SpecError: for a template that names an unknown variable, or leaves out a needed one.
    """

    def __init__(self, prompt: Prompt, variables: Mapping[str, Kind], needs: tuple[str, ...] = ()) -> None:
        self.prompt, self.variables = prompt, dict(variables)
        declared = ", ".join(f"{name} ({kind})" for name, kind in self.variables.items())
        for name in sorted(prompt.reads - self.variables.keys()):
            near = did_you_mean(name, self.variables)
            hint = "" if near.startswith("known") else f"{near} "
            raise SpecError(f"no variable {name!r} is given to it", where=prompt.where, todo=f"{hint}given are: {declared}")
        for name in needs:
            if name not in prompt.reads:
                raise SpecError(
                    f"it does not name {name!r} ({self.variables[name]})",
                    where=prompt.where,
                    todo=f"write {{{{ {name} }}}} into it",
                )

    def messages(self, **values: Any) -> tuple[Message, ...]:
        """Return the conversation; raises ``TypeError`` for values that are not as declared."""
        return self.prompt.messages(**self._checked(values))

    def text(self, **values: Any) -> str:
        """Return a template of one turn as plain text, white space kept; raises like ``messages``."""
        return self.prompt.text(**self._checked(values))

    def _checked(self, values: dict[str, Any]) -> dict[str, Any]:
        if values.keys() != self.variables.keys():
            raise TypeError(f"{self.prompt.where} takes {sorted(self.variables)}, not {sorted(values)}")
        for name, kind in self.variables.items():
            if not _is(values[name], kind):
                raise TypeError(f"{self.prompt.where}: {name} is not of type {kind}")
        return values


def _is(value: Any, kind: Kind) -> bool:
    """Is a value of a declared type?"""
    if kind == "text":
        return isinstance(value, str)
    if not isinstance(value, list | tuple):
        return False
    if kind == "lines":
        return all(isinstance(line, str) for line in value)
    return all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], str) for pair in value)


def spelt(turns: tuple[Message, ...]) -> str:
    """Return a conversation as text for the report; a single turn without its role."""
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)
