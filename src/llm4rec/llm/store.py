"""The store of model calls: cache, cassette and publishable artefact in one SQLite file.

A call's key is the SHA-256 of the canonical JSON of everything that shapes its answer: the model's
identity and the whole request.  Each row holds that JSON and the reply in readable form; keys and
headers never come near it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any, Literal, Self, TypeVar

from llm4rec.core import ModelError, RunError
from llm4rec.llm.spelling import canonical, chat_json, chat_reply, request_json, score_json, score_reply
from llm4rec.llm.streams import arrivals
from llm4rec.llm.values import (
    ChatModel,
    ChatReply,
    ChatRequest,
    FailureKind,
    Loadable,
    ScoreReply,
    ScoreRequest,
)

Mode = Literal["use", "refresh", "replay"]
#: Failures of the transport: kept so that a replay shows what happened, asked again otherwise.
TRANSIENT: frozenset[FailureKind] = frozenset(
    {"unreachable", "rate_limited", "server_error", "rejected", "garbage", "not_asked"}
)

_FORMAT = 1
_SELECT = 500  # keys in one SELECT; SQLite's own bound on variables is far above
_TABLE = """
CREATE TABLE IF NOT EXISTS calls (
    key TEXT PRIMARY KEY,        -- sha256 of the canonical JSON of model, kind and request
    kind TEXT NOT NULL,          -- chat or score
    model TEXT NOT NULL,         -- canonical JSON of the model's identity
    request TEXT NOT NULL,       -- canonical JSON of the request
    reply TEXT NOT NULL,         -- JSON of the reply
    transient INTEGER NOT NULL,  -- 1 for a failure of the transport
    created TEXT NOT NULL        -- UTC, ISO 8601
)"""
# A lasting answer is never replaced by a failure of the transport.
_WRITE = (
    "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
    "reply = excluded.reply, transient = excluded.transient, created = excluded.created WHERE {when}"
)
_FIRST_WINS = _WRITE.format(when="calls.transient = 1")
_LAST_WINS = _WRITE.format(when="calls.transient = 1 OR excluded.transient = 0")


@dataclass(frozen=True, slots=True)
class Row:
    """One call as it lies in the store; ``model``, ``request`` and ``reply`` are JSON texts."""

    key: str
    kind: str
    model: str
    request: str
    reply: str
    transient: bool
    created: str


@dataclass(frozen=True, slots=True)
class Sums:
    """What answers took when they were asked for: calls, tokens (an upper bound where unreported), seconds."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0


class Store:
    """An SQLite file of model calls, shared safely by threads and processes.

    Every write is committed before :meth:`write` returns (write-ahead log), so a killed process
    loses only the calls in flight.  Raises ``RunError`` where the file cannot be opened, is not a
    store, or cannot be written.

    Args:
        path: the file; made with its folder unless ``readonly``.
        readonly: open what is there, even in a folder that cannot be written to.
    """

    def __init__(self, path: Path | str, *, readonly: bool = False) -> None:
        self.path = Path(path)
        self.readonly = readonly
        self._lock = RLock()
        with self._explained():
            self._db = self._open_readonly() if readonly else self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the folder ({error.strerror})", where=str(self.path.parent)) from None
        db = sqlite3.connect(self.path, timeout=60.0, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN IMMEDIATE")  # of several that open a new store at once, none sees it half made
        try:
            self._check_format(db)
            db.execute(_TABLE)
            db.execute(f"PRAGMA user_version = {_FORMAT}")
        finally:
            db.execute("COMMIT")
        return db

    def _open_readonly(self) -> sqlite3.Connection:
        if not self.path.is_file():
            raise RunError("no such store of model calls", where=str(self.path), todo="run once in mode 'use'")
        where = self.path.resolve().as_uri()
        try:
            db = sqlite3.connect(f"{where}?mode=ro", uri=True, timeout=60.0, check_same_thread=False)
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:  # a write-ahead log needs a writable folder, unless the file is declared frozen
            log = self.path.with_name(f"{self.path.name}-wal")
            if log.is_file() and log.stat().st_size:  # a frozen file is read without its log: calls would be missing
                todo = "copy both files into a folder that can be written to"
                raise RunError("the log beside the store is not folded into it", where=str(log), todo=todo) from None
            db = sqlite3.connect(f"{where}?immutable=1", uri=True, check_same_thread=False)
        self._check_format(db)
        return db

    def _check_format(self, db: sqlite3.Connection) -> None:
        found = db.execute("PRAGMA user_version").fetchone()[0]
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if (tables and "calls" not in tables) or (tables and found != _FORMAT) or (self.readonly and not tables):
            raise RunError(
                "not a store of model calls, or one of another version", where=str(self.path), todo="name another file"
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what SQLite says into one line that can be acted on."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            todo = {
                "SQLITE_FULL": "make room on the disk and run the same command again",
                "SQLITE_READONLY": "make the file and its folder writable",
                "SQLITE_CANTOPEN": "check that the folder can be written to",
                "SQLITE_NOTADB": "move the file away: the calls will be asked again",
                "SQLITE_CORRUPT": "move the file away: the calls will be asked again",
                "SQLITE_BUSY": "another process holds it; wait for it to end",
            }.get("_".join(name.split("_")[:2]), "check the disk")
            raise RunError(f"the store of model calls cannot be used ({error})", where=str(self.path), todo=todo) from None

    def __len__(self) -> int:
        """Return the number of stored answers (failures of the transport not counted)."""
        with self._lock, self._explained():
            return int(self._db.execute("SELECT count(*) FROM calls WHERE transient = 0").fetchone()[0])

    def __iter__(self) -> Iterator[Row]:
        """Iterate over all rows in order of time, for inspection and publication."""
        with self._lock, self._explained():
            rows = self._db.execute("SELECT * FROM calls ORDER BY created, key").fetchall()
        return (
            Row(key, kind, model, request, reply, bool(transient), at)
            for key, kind, model, request, reply, transient, at in rows
        )

    def by_key(self) -> Iterator[Row]:
        """Iterate over all rows in order of their keys, a page at a time: any number of them fits."""
        last = ""
        while True:
            with self._lock, self._explained():
                page = self._db.execute("SELECT * FROM calls WHERE key > ? ORDER BY key LIMIT ?", [last, _SELECT]).fetchall()
            if not page:
                return
            last = page[-1][0]
            for key, kind, model, request, reply, transient, at in page:
                yield Row(key, kind, model, request, reply, bool(transient), at)

    def sums(self, model: str, kind: str | None = None) -> Sums:
        """Return what the answers of a model took; ``model`` is the canonical JSON of its identity."""
        tokens_in = "coalesce(json_extract(reply, '$.usage.tokens_in'), length(request))"
        tokens_out = "coalesce(json_extract(reply, '$.usage.tokens_out'), json_extract(request, '$.max_tokens'), 1)"
        sums = f"count(*), total({tokens_in}), total({tokens_out}), total(json_extract(reply, '$.seconds'))"
        where = "model = ? AND transient = 0 AND kind = coalesce(?, kind)"
        with self._lock, self._explained():
            n, asked, answered, seconds = self._db.execute(f"SELECT {sums} FROM calls WHERE {where}", (model, kind)).fetchone()
        return Sums(n, int(asked), int(answered), seconds)

    def read(self, keys: Sequence[str], *, transient: bool = False) -> dict[str, str]:
        """Return key -> reply JSON of the keys that are there; ``transient`` failures only if asked for."""
        found: dict[str, str] = {}
        with self._lock, self._explained():
            for start in range(0, len(keys), _SELECT):
                part = list(keys[start : start + _SELECT])
                marks = ",".join("?" * len(part))
                found.update(
                    self._db.execute(
                        f"SELECT key, reply FROM calls WHERE key IN ({marks}) AND transient <= ?", [*part, int(transient)]
                    ).fetchall()
                )
        return found

    def write(self, rows: Sequence[Row], *, replacing: bool = False) -> int:
        """Commit rows; one that is there stays unless ``replacing``.  Returns how many were written."""
        with self._lock, self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                values = [(r.key, r.kind, r.model, r.request, r.reply, int(r.transient), r.created) for r in rows]
                written = self._db.executemany(_LAST_WINS if replacing else _FIRST_WINS, values).rowcount
                self._db.execute("COMMIT")
            except BaseException:  # Ctrl-C too must leave no transaction open
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        return written

    def close(self) -> None:
        """Fold the write-ahead log into the file, which then stands alone, and close it."""
        with self._lock, self._explained():
            if not self.readonly:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- a model with a store ---------------------------------------------------------------

Q = TypeVar("Q", ChatRequest, ScoreRequest)
R = TypeVar("R", ChatReply, ScoreReply)


class Stored:
    """A chat model whose every call goes through a store.

    Modes: ``use`` answers from the store and asks for the rest; ``refresh`` asks everything and
    replaces what is stored; ``replay`` never asks, and a miss raises ``ModelError``.  Identical
    requests in one batch are asked once.  Failures of the transport are asked again by ``use``;
    ``replay`` returns them, since they are what happened.

    Args:
        model: who answers what is not stored.
        store: where answers lie.
        mode: see above.
        chunk: requests asked between two commits, where the model does not stream its answers (those
            are committed as they arrive); by default the model's own ``chunk`` if it has one, else 32.
    """

    def __init__(self, model: ChatModel, store: Store, mode: Mode = "use", *, chunk: int | None = None) -> None:
        self.model, self.store, self.mode = model, store, mode
        self.chunk = chunk

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model's identity."""
        return self.model.identity

    def load(self) -> None:
        """Have a model in this process load its weights now, unless nobody is asked."""
        if self.mode != "replay" and isinstance(self.model, Loadable):
            self.model.load()

    def chat(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answer each request, from the store where it can."""
        return self._through("chat", requests, chat_json, chat_reply)

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """Return log-probabilities, from the store where it can."""
        return self._through("score", requests, score_json, score_reply)

    def _through(
        self,
        kind: str,
        requests: Sequence[Q],
        dump: Callable[[R], str],
        load: Callable[[str], R],
    ) -> list[R]:
        identity = canonical(dict(self.identity))
        texts = [request_json(request) for request in requests]
        keys = [call_key(kind, identity, text) for text in texts]
        first: dict[str, int] = {}
        for at, key in enumerate(keys):
            first.setdefault(key, at)
        replies: dict[str, R] = {}
        if self.mode != "refresh":
            found = self.store.read(list(first), transient=self.mode == "replay")
            replies = {key: load(stored) for key, stored in found.items()}
        missing = [at for key, at in first.items() if key not in replies]
        if missing and self.mode == "replay":
            raise ModelError(
                f"{len(missing)} of {len(requests)} {kind} calls of {self.name!r} are not in the store, and replay asks nobody",
                where=str(self.store.path),
                todo="run with mode 'use', or take the store that belongs to this spec",
            )
        asked: dict[str, R] = {}
        # Closed at once when something stops us, so that no request stays under way.
        with closing(arrivals(self.model, [requests[at] for at in missing], chunk=self.chunk)) as parts:
            for part in parts:
                asked |= self._kept(
                    kind, identity, [(texts[missing[i]], keys[missing[i]], reply) for i, reply in part], dump, load
                )
        given = [replies[key] if key in replies else asked[key] for key in keys]
        # A repetition within the batch was not asked, so it is not paid.
        return [
            replace(reply, seconds=0.0, cached=True) if first[key] != at else reply
            for at, (key, reply) in enumerate(zip(keys, given, strict=True))
        ]

    def _kept(
        self,
        kind: str,
        identity: str,
        answers: Sequence[tuple[str, str, Any]],
        dump: Callable[[R], str],
        load: Callable[[str], R],
    ) -> dict[str, R]:
        """Commit answers (request, key, reply) and return the reply to go on with by key."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        rows = [Row(key, kind, identity, text, dump(reply), reply.failure in TRANSIENT, now) for text, key, reply in answers]
        fresh: dict[str, R] = {key: reply for _, key, reply in answers}
        if self.store.write(rows, replacing=self.mode == "refresh") < len(rows):
            # Another process was faster: its answer is the one that a replay will give.
            kept = self.store.read([row.key for row in rows])
            fresh = {key: _same_call(load(kept[key]), reply) if key in kept else reply for key, reply in fresh.items()}
        return fresh


def _same_call(stored: R, paid: R) -> R:
    """Return the stored answer with the usage and time of the call that was made for it."""
    same = replace(stored, usage=paid.usage, seconds=paid.seconds, cached=False)
    return replace(same, once=0.0) if isinstance(same, ChatReply) else same


def call_key(kind: str, identity: str, request: str) -> str:
    """Return the key of a call from canonical JSON texts of the model's identity and the request."""
    return hashlib.sha256(f'{{"format":{_FORMAT},"kind":"{kind}","model":{identity},"request":{request}}}'.encode()).hexdigest()
