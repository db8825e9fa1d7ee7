"""What item memory and user memory have in common: a memory that is saved as a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from llm4rec.core import Component, Config, DataError, Resources, RunError
from llm4rec.prompted.memory.memory import Memory

Control = Literal["none", "shuffled"]
FILE = "memory.jsonl"

C = TypeVar("C", bound=Config)


class Remembering(Component[C]):
    """A component whose ``memory_`` is a :class:`Memory`.

    ``save`` writes it to ``memory.jsonl`` beside ``config.json``.  The file may be edited, by hand or
    through :class:`Memory`; what it says when it is loaded is what counts.
    """

    memory_: Memory

    def state(self) -> dict[str, Any]:
        """Return what ``fit`` learnt, besides the memory."""
        return {name: value for name, value in super().state().items() if name != "memory_"}

    def save(self, folder: Path) -> None:
        """Write the config, the state and the memory."""
        super().save(folder)
        self.memory_.save(folder / FILE)

    @classmethod
    def load(cls, folder: Path, resources: Resources | None = None) -> Self:
        """Read what ``save`` wrote; raises ``DataError`` with the line of the memory that is wrong."""
        component = super().load(folder, resources)
        if not (folder / FILE).is_file():
            raise RunError(f"has no {FILE}", where=str(folder), todo="fit it again; in a run, remove this folder first")
        component.memory_ = Memory.load(folder / FILE)
        return component


def stated(path: Path | None) -> Memory:
    """Return the memory in a file, or an empty one."""
    if path is not None and not path.is_file():
        raise DataError("there is no such file", where=f"memory {path}")
    return Memory() if path is None else Memory.load(path)


def neighbours(keys: Mapping[str, int]) -> dict[str, str]:
    """Return for each key another one, each once: the one that follows in a circle in order of the numbers."""
    order = sorted(keys, key=lambda key: (keys[key], key))
    return dict(zip(order, order[1:] + order[:1], strict=True)) if len(order) > 1 else {}
