"""The store as one text file: a line a call, to be published with a paper and read back exactly.

The first line says what the file is and how many calls follow; then they stand in order of their
keys, so one set of calls is one file, byte for byte.  Every line carries the key of its call, and
what is read back is believed only if its content hashes to that key.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from llm4rec.core import RunError
from llm4rec.llm.spelling import canonical, stored_reply
from llm4rec.llm.store import TRANSIENT, Row, Store, call_key
from llm4rec.llm.values import ChatReply, ScoreReply

#: What to do with a call that both sides have, with different answers.
OnConflict = Literal["error", "keep", "replace"]

_NAME, _VERSION = "llm4rec calls", 1
_FIELDS = {"key", "kind", "model", "request", "reply", "transient", "created"}
_BATCH = 500  # calls between two commits


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: calls in the file, and of these the ones added, replaced, and left as they were."""

    calls: int
    added: int
    replaced: int
    kept: int


def export_jsonl(store: Store, path: Path | str) -> int:
    """Write every call of a store, failures of the transport too, into one file; returns how many.

    The file appears under its name only when it is complete, and replaces what was there.  Raises
    ``RunError`` if it cannot be written, or if a call in the store does not match its key.
    """
    path = Path(path)
    counts = {"chat": 0, "score": 0}
    transient = 0
    try:
        with tempfile.TemporaryDirectory(dir=path.resolve().parent, prefix=".exporting-") as folder:
            body, whole = Path(folder) / "body", Path(folder) / "whole"
            with body.open("w", encoding="ascii", newline="\n") as stream:
                for row in store.by_key():
                    if row.kind not in counts or call_key(row.kind, row.model, row.request) != row.key:
                        raise RunError(f"the call {row.key[:12]} does not match its key", where=str(store.path))
                    counts[row.kind] += 1
                    transient += row.transient
                    stream.write(_line(row))
            head = {"format": _NAME, "version": _VERSION, "calls": sum(counts.values()), **counts, "transient": transient}
            with whole.open("wb") as out, body.open("rb") as source:
                out.write(f"{canonical(head)}\n".encode("ascii"))
                shutil.copyfileobj(source, out)
                out.flush()
                os.fsync(out.fileno())
            whole.replace(path)
    except OSError as error:
        raise RunError(f"cannot write the file ({error.strerror or error})", where=str(path)) from None
    return sum(counts.values())


def import_jsonl(store: Store, path: Path | str, *, on_conflict: OnConflict = "error") -> Imported:
    """Read the calls of an exported file into a store.

    The whole file is checked before anything is written.  An answer counts as the same if all but
    its seconds and its date agree.  A lasting answer always stands above a failure of the
    transport, whichever side it is on; two different lasting answers are a conflict.

    Args:
        store: where they go.
        path: the file.
        on_conflict: ``error`` stops before anything is written; ``keep`` leaves the store's
            answer; ``replace`` takes the file's.

    Raises:
        RunError: for a file that cannot be read, a line that is not a call or whose content does
            not hash to its key (with the line's number), a count that is not the header's, and
            a conflict.
    """
    path = Path(path)
    for number, row, stored in _beside(store, path):
        if on_conflict == "error" and stored is not None and _conflict(row, stored):
            what = f"the answer to the call {row.key[:12]} differs from the one in {store.path}"
            todo = "import into a new store, or choose which answer stays (keep or replace)"
            raise RunError(what, where=f"{path}, line {number}", todo=todo)
    calls = added = replaced = 0
    rows: list[Row] = []
    for _, row, stored in _beside(store, path):
        calls += 1
        if stored is None or (_failed(stored) and not row.transient):
            added += 1
        elif on_conflict == "replace" and _conflict(row, stored):
            replaced += 1
        else:
            continue
        rows.append(row)
        if len(rows) == _BATCH:
            store.write(rows, replacing=on_conflict == "replace")
            rows = []
    store.write(rows, replacing=on_conflict == "replace")
    return Imported(calls, added, replaced, calls - added - replaced)


def _line(row: Row) -> str:
    fields = {"key": row.key, "kind": row.kind, "transient": row.transient, "created": row.created}
    texts = {"model": row.model, "request": row.request, "reply": row.reply}
    return canonical(fields | {name: json.loads(text) for name, text in texts.items()}) + "\n"


def _failed(reply: str) -> bool:
    return json.loads(reply)["failure"] in TRANSIENT


def _conflict(row: Row, stored: str) -> bool:
    """Are these two lasting answers that differ?  Seconds do not count."""
    if row.transient or _failed(stored):
        return False
    one, other = json.loads(row.reply), json.loads(stored)
    return bool(one | {"seconds": 0} != other | {"seconds": 0})


def _beside(store: Store, path: Path) -> Iterator[tuple[int, Row, str | None]]:
    """Yield each call of a file with its line's number and the store's reply to it, or None."""
    rows = _rows(path)
    while part := list(islice(rows, _BATCH)):
        stored = store.read([row.key for _, row in part], transient=True)
        yield from ((number, row, stored.get(row.key)) for number, row in part)


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the line's number and the call of each line, checked."""
    seen: set[str] = set()
    expected: int | None = None
    number = 0
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if expected is None:
                    expected = _header(line, path)
                    continue
                try:
                    row = _row(line)
                    if row.key in seen:
                        raise ValueError("the call stands in the file twice")
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    words = (
                        str(error) if isinstance(error, ValueError) and not isinstance(error, UnicodeError) else "not a call"
                    )
                    raise RunError(words, where=f"{path}, line {number}", todo="take the file as it was exported") from None
                seen.add(row.key)
                yield number, row
    except OSError as error:
        raise RunError(f"cannot read the file ({error.strerror or error})", where=str(path)) from None
    if expected is None or len(seen) != expected:
        what = f"holds {len(seen)} calls, and its first line says {expected}" if expected is not None else "is empty"
        raise RunError(f"the file {what}", where=str(path), todo="it was cut: take the whole file")


def _header(line: bytes, path: Path) -> int:
    """Return the number of calls that the first line promises."""
    try:
        head = _json(line)
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("format") != _NAME or not isinstance(head.get("calls"), int):
        raise RunError("not a file of exported model calls", where=f"{path}, line 1")
    if head.get("version") != _VERSION:
        raise RunError(f"written in version {head.get('version')}, and this program reads {_VERSION}", where=f"{path}, line 1")
    return int(head["calls"])


def _json(line: bytes) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(line.decode("utf-8"), parse_constant=refuse)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError("not a line of JSON") from None


def _row(line: bytes) -> Row:
    """Return the call of a line; raises ``ValueError``, ``KeyError`` or ``TypeError`` if there is none."""
    fields = _json(line)
    if not isinstance(fields, dict) or set(fields) != _FIELDS:
        raise ValueError("not a call")
    texts = {name: canonical(fields[name]) for name in ("model", "request", "reply")}
    row = Row(fields["key"], fields["kind"], **texts, transient=fields["transient"], created=fields["created"])
    if not isinstance(row.created, str) or row.kind not in ("chat", "score"):
        raise ValueError("not a call")
    if call_key(row.kind, row.model, row.request) != row.key:
        raise ValueError("the key does not match the content: the line was changed")
    reply = stored_reply(row.kind, row.reply)
    if not _sound(reply, fields["request"]) or (reply.failure in TRANSIENT) is not row.transient:
        raise ValueError("the reply is none to this request")
    return row


def _sound(reply: ChatReply | ScoreReply, request: dict[str, Any]) -> bool:
    """Has a reply the types and, for scores, the length that its request asks for?"""
    if isinstance(reply, ChatReply):
        return isinstance(reply.text, str)
    return np.shape(reply.logprobs) == np.shape(reply.tokens) == (len(request["continuations"]),)
