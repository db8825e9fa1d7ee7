"""The calls of language models behind a prompt that a case shows, as the run's store holds them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from llm4rec.core import RunError
from llm4rec.llm import Store
from llm4rec.llm.values import Message
from llm4rec.prompted.wording import spelt


@dataclass(frozen=True, slots=True)
class Stored:
    """One call: its key, the model, when it was asked, what it took, and the raw reply as JSON."""

    key: str
    model: str
    created: str
    tokens_in: int | None
    tokens_out: int | None
    seconds: float | None
    reply: str


class Calls:
    """Finds calls by their prompt; the store is read on first use, and again when it has grown."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self._asked: dict[bytes, list[tuple[str, str, str]]] = {}  # digest of a prompt -> key, model, time of its calls
        self._stamp: tuple[float, int] | None = None

    def of(self, prompt: str | None, most: int = 4) -> list[Stored]:
        """Return the calls with a prompt, at most so many; none where the run has no store, or no such call."""
        if not prompt or not self._path.is_file():
            return []
        try:
            with self._lock, Store(self._path, readonly=True) as store:
                self._index(store)
                asked = self._asked.get(_digest(prompt), [])[:most]
                replies = store.read([key for key, _, _ in asked], transient=True)
        except RunError:  # the case shows what the run's tables hold of it in any case
            return []
        return [_stored(key, model, created, replies[key]) for key, model, created in asked if key in replies]

    def _index(self, store: Store) -> None:
        stat = self._path.stat()
        stamp = (stat.st_mtime, len(store))
        if stamp != self._stamp:
            found: dict[bytes, list[tuple[str, str, str]]] = {}
            for row in store.by_key():
                entry = (row.key, _name(json.loads(row.model)), row.created)
                found.setdefault(_digest(_prompt(json.loads(row.request))), []).append(entry)
            self._asked, self._stamp = found, stamp


def _prompt(request: dict[str, Any]) -> str:
    """Return a request's words as the tables of a run spell them."""
    turns = request.get("messages", request.get("prompt", ""))
    if isinstance(turns, str):
        return turns
    return spelt(tuple(Message(turn["role"], turn["content"]) for turn in turns))


def _name(model: Any) -> str:
    """Return what a model is called, from its identity."""
    known = model if isinstance(model, dict) else {}
    return str(known.get("name") or known.get("model") or "model not named")


def _stored(key: str, model: str, created: str, reply: str) -> Stored:
    told = json.loads(reply)
    usage = told.get("usage") or {}
    raw = json.dumps(told, ensure_ascii=False, indent=1)
    return Stored(key, model, created, usage.get("tokens_in"), usage.get("tokens_out"), told.get("seconds"), raw)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
