"""The log of a search: one line for each trial that began or ended, appended and never rewritten."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from llm4rec.core import Config, RunError

#: A trial that ended its process so many times (killed for its memory, most likely) is taken for failed.
FATAL = 3


class Record(Config):
    """One line of ``trials.jsonl``."""

    key: str
    """Of the search: hash of all that shapes what a trial of the system comes to, but the parameters."""
    system: str
    """Name of the system."""
    number: int
    """Of the trial; 0 has the specification's own parameters."""
    seed: int
    """Of the fit."""
    params: dict[str, Any]
    """What the trial changed of the specification's own parameters."""
    state: Literal["begun", "done", "failed", "stopped"]
    """``stopped``: by the user, and to be begun again."""
    metric: str
    """What ``value`` is."""
    value: float | None = None
    """Mean over the validation cases; None unless done."""
    seconds: float | None = None
    """For the fit and the answers; None unless done or failed."""
    error: str | None = None
    """Why it failed, in one line."""


class TrialLog:
    """``trials.jsonl``: the one source of what a search has come to.

    A line that a killed process left half written is cut off; any other that cannot be read is an
    error, since leaving it out would change what the search does next.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []
        whole = 0
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                break
            try:
                self.records.append(Record.model_validate_json(line))
            except ValidationError as error:
                what = f"line {number} is no trial ({error.errors()[0]['msg']})"
                raise RunError(what, where=str(path), todo="mend the line, or choose another --out") from None
            whole += len(line)
        if path.exists() and path.stat().st_size > whole:
            os.truncate(path, whole)

    def append(self, record: Record) -> None:
        """Write a line, down to the disk."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record.model_dump(mode="json", exclude_none=True)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records.append(record)

    def of(self, key: str) -> list[Record]:
        """Return the lines of one search, in order."""
        return [r for r in self.records if r.key == key]


def ended(records: Sequence[Record], number: int, seed: int) -> Record | None:
    """Return how a trial with a seed ended; None if it did not."""
    found = [r for r in records if (r.number, r.seed) == (number, seed) and r.state in ("done", "failed")]
    return found[-1] if found else None


def lost(records: Sequence[Record], number: int, seed: int) -> int:
    """Return how often a trial with a seed ended its process."""
    states = [r.state for r in records if (r.number, r.seed) == (number, seed)]
    return states.count("begun") - len([s for s in states if s != "begun"])
