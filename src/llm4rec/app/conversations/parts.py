"""What outlasts a process: the conversations of one protocol, agent and seed, a line of JSON each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm4rec.agents.simulate.talk import Round, Talk


def part_path(folder: Path, protocol: str, agent: str, seed: int) -> Path:
    """Return where a part lies."""
    return folder / "talks" / protocol / agent / f"{seed}.jsonl"


@dataclass
class Part:
    """A file of conversations behind a line with the key of all that shapes them."""

    path: Path
    key: str

    def open(self, *, fresh: bool) -> set[int]:
        """Return the cases that are done; a file of another key begins anew, a line cut off by a kill is cut away."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = [] if fresh else list(read_part(self.path, self.key))
        lines = [json.dumps({"key": self.key}), *(json.dumps(row) for row in rows)]
        scratch = self.path.with_suffix(".writing")
        with scratch.open("w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self.path)
        return {int(row["case"]) for row in rows}

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add conversations; they are on the disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())


def read_part(path: Path, key: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the conversations of a part up to the first line that is not whole; none of a part of another key."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return
    try:
        if key is not None and json.loads(lines[0])["key"] != key:
            return
        for line in lines[1:-1]:  # what follows the last line break was cut off
            yield json.loads(line)
    except (ValueError, KeyError, TypeError):
        return


def told(talk: Talk, figures: dict[str, float], ids: Sequence[str]) -> dict[str, Any]:
    """Return a conversation as JSON values, with outside ids; figures that are nan are null."""
    return {
        "case": talk.goal.case,
        "user": talk.goal.user,
        "targets": [ids[i] for i in sorted(talk.goal.targets)],
        "outcome": talk.outcome,
        "figures": {k: None if v != v else v for k, v in figures.items()},
        "rounds": [_round(r, ids) for r in talk.rounds],
    }


def _round(r: Round, ids: Sequence[str]) -> dict[str, Any]:
    turn = r.turn
    return {
        "act": r.action.act, "text": r.action.text, "noise": r.action.noise, "draft": r.draft, "leaked": list(r.leaked),
        "speech_failures": [] if r.speaking is None else list(r.speaking.failures),
        "answer": "" if turn is None else turn.text,
        "calls": [] if turn is None else [
            {"tool": c.tool, "arguments": json.dumps(dict(c.arguments), default=str), "error": c.error} for c in turn.calls
        ],
        "by": "" if turn is None else turn.by, "ended": "" if turn is None else turn.ended,
        "failures": [] if turn is None else list(turn.failures),
        "shown": [ids[i] for i in r.shown], "rank": r.rank, "taken": [ids[i] for i in r.taken],
    }  # fmt: skip
