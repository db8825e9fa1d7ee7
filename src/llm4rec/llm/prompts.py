"""Prompts as template files, and item text as data inside them."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any, cast

from jinja2 import StrictUndefined, TemplateError, UndefinedError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llm4rec.core import SpecError
from llm4rec.llm.values import Message, Role

_TURN = re.compile(r"^=== (system|user|assistant)[ \t]*\n", re.MULTILINE)
#: Quotes of every kind that could be read as the end of a delimited text.
_QUOTES = str.maketrans({'"': "'", "“": "'", "”": "'", "„": "'", "«": "'", "»": "'", "`": "'"})


def plain(text: str, cap: int = 200) -> str:
    """Return a text as one line of at most ``cap`` characters.

    Controls, line breaks and invisible format characters (direction marks, zero-width joiners)
    become spaces; what spells a special token of chat models (``<|im_end|>``, ``[INST]``) is
    broken up.
    """
    seen = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text[: 4 * cap])
    for mark in ("<|", "|>", "[INST", "[/INST", "<<", ">>", "</", "```"):
        seen = seen.replace(mark, f"{mark[0]} {mark[1:]}")
    return " ".join(seen.split())[:cap].rstrip()


def delimit(text: str, cap: int = 200) -> str:
    """Return a text between double quotes, which it cannot close: data, never instruction."""
    return f'"{plain(text, cap).translate(_QUOTES)}"'


class Prompt:
    """A jinja template of a conversation.

    A line ``=== system``, ``=== user`` or ``=== assistant`` begins a turn; a template without such
    lines is one turn of the user.  Turns are cut before anything is filled in, so no value can
    begin one, and no value is read as a template.  Filters ``plain`` and ``delimit`` are at hand.

    Args:
        source: the template's text.
        where: its file or key, for error messages.
    """

    def __init__(self, source: str, where: str = "template") -> None:
        self.where = where
        parts = _TURN.split(source)
        turns = zip(parts[1::2], parts[2::2], strict=True) if len(parts) > 1 else [("user", source)]
        if len(parts) > 1 and parts[0].strip():
            raise SpecError("text stands before the first turn", where=where, todo="begin with a line such as '=== user'")
        try:
            self._turns = [(cast(Role, role), _environment().from_string(text)) for role, text in turns]
        except TemplateError as error:
            raise SpecError(f"not a jinja template ({error})", where=where) from None
        #: Names of the values that the template reads.
        self.reads = frozenset(meta.find_undeclared_variables(_environment().parse(source)))

    def messages(self, **values: Any) -> tuple[Message, ...]:
        """Return the conversation; raises ``SpecError`` if the template names a value that is not given."""
        return tuple(Message(role, self._fill(template, values).strip()) for role, template in self._turns)

    def text(self, **values: Any) -> str:
        """Return a template of one turn as plain text, white space kept."""
        if len(self._turns) != 1:
            raise SpecError(f"has {len(self._turns)} turns where plain text is wanted", where=self.where)
        return self._fill(self._turns[0][1], values)

    def _fill(self, template: Any, values: dict[str, Any]) -> str:
        try:
            return str(template.render(**values))
        except UndefinedError as error:
            raise SpecError(str(error), where=self.where, todo=f"given are: {', '.join(sorted(values))}") from None
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise SpecError(f"the template cannot be filled in ({error})", where=self.where) from None


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    # Sandboxed, because a spec and its templates may come from somebody else.
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    environment.filters |= {"plain": plain, "delimit": delimit}
    return environment
