"""Errors that a user can act on: one line that says what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LLM4RecError(Exception):
    """Base of every error that the command line shows as one line, without a traceback."""

    def __init__(self, what: str, *, where: str | None = None, todo: str | None = None) -> None:
        self.what, self.where, self.todo = what, where, todo
        line = f"{where}: {what}" if where else what
        super().__init__(" ".join(f"{line}; {todo}".split()) if todo else " ".join(line.split()))


class DataError(LLM4RecError):
    """A file or table does not hold what it should."""


class SpecError(LLM4RecError):
    """An experiment's specification is wrong; ``where`` is the key."""


class AssetError(LLM4RecError):
    """A download failed, or what arrived is not what was pinned."""


class ModelError(LLM4RecError):
    """A language model or encoder cannot be reached, loaded, or asked in this way."""


class RunError(LLM4RecError):
    """A run directory cannot be read, written or continued."""


class BudgetError(RunError):
    """A run has spent what it may; what was answered is stored, so the same command continues."""


class NotFittedError(LLM4RecError):
    """A component was asked before it was fitted or loaded."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest known name, else the list of known names."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.55)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
