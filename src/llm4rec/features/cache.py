"""Vectors kept by content: the same text under the same encoder is encoded once."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import ModelError
from llm4rec.features.values import Encoder

_LOG = logging.getLogger(__name__)
#: Keys asked for in one statement.
_ASKED = 900
#: Seconds that a process waits for another one's write.
_PATIENCE = 60.0
_TABLE = "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID"


class VectorCache:
    """An SQLite file (WAL) of float32 vectors under 32-byte keys.

    Many processes and threads may use one file: each call opens its own connection, and writing
    a key that is there already changes nothing.

    Raises:
        ModelError: from ``get`` and ``put``, if the file cannot be opened or is not such a cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, NDArray[np.float32]]:
        """Return float32[d] for each of the keys that is here."""
        found: dict[bytes, bytes] = {}
        try:
            with self._open() as db:
                for start in range(0, len(keys), _ASKED):
                    some = keys[start : start + _ASKED]
                    marks = ",".join("?" * len(some))
                    found.update(db.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", some))
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None
        return {key: np.frombuffer(blob, "<f4") for key, blob in found.items() if blob and len(blob) % 4 == 0}

    def put(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Write float32[n, d]; a full disk or a lock that is not freed costs the entry, not the run."""
        rows = [(key, row.astype("<f4").tobytes()) for key, row in zip(keys, vectors, strict=True)]
        try:
            with self._open() as db, db:
                db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
        except sqlite3.OperationalError as error:
            _LOG.warning("%s: %d vectors could not be kept (%s)", self.path, len(rows), error)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=_PATIENCE)) as db:
            until = time.monotonic() + _PATIENCE
            while True:
                try:
                    db.execute("PRAGMA journal_mode=WAL")
                    db.execute(_TABLE)
                    break
                except sqlite3.OperationalError as error:
                    # SQLite does not wait for the lock when several processes turn to WAL at once.
                    if "locked" not in str(error) or time.monotonic() > until:
                        raise
                    time.sleep(0.02)
            db.execute("PRAGMA synchronous=NORMAL")
            yield db

    def _unusable(self, error: Exception) -> ModelError:
        return ModelError(
            f"cannot be used as a cache of vectors ({error})",
            where=str(self.path),
            todo="delete it (vectors are then encoded anew) or set LLM4REC_HOME to another folder",
        )


class CachedEncoder:
    """An encoder that asks its cache first.

    Vectors are written after every ``step`` texts, so a killed run loses at most so many.

    Attributes:
        encoded: texts that the encoder had to encode since this object was made.
    """

    def __init__(self, encoder: Encoder, cache: VectorCache, *, step: int = 2048) -> None:
        self._encoder = encoder
        self._cache = cache
        self._step = step
        self.encoded = 0

    @property
    def name(self) -> str:
        return self._encoder.name

    @property
    def identity(self) -> Mapping[str, Any]:
        return self._encoder.identity

    @property
    def dimension(self) -> int:
        return self._encoder.dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, dimension]: unit length, or all zero for a blank text."""
        said = list(dict.fromkeys(text for text in texts if text.strip()))
        keys = self._keys(said)
        known = self._cache.get(keys)
        lengths = {len(vector) for vector in known.values()}
        # Nothing to encode: do not wake the encoder, which may be far away, for its dimension.
        d = lengths.pop() if len(lengths) == 1 and len(known) == len(keys) else self.dimension
        # A vector of another length is damage; it is encoded and written again.
        missing = [i for i, key in enumerate(keys) if key not in known or len(known[key]) != d]
        for start in range(0, len(missing), self._step):
            rows = missing[start : start + self._step]
            vectors = self._encoder.encode([said[i] for i in rows])
            self.encoded += len(rows)
            new = [keys[i] for i in rows]
            self._cache.put(new, vectors)
            known.update(zip(new, vectors, strict=True))
        table = np.zeros((len(said) + 1, d), np.float32)  # the last row serves the blank texts
        for row, key in enumerate(keys):
            table[row] = known[key]
        at = {text: row for row, text in enumerate(said)}
        return table[[at.get(text, len(said)) for text in texts]] if texts else table[:0]

    def _keys(self, texts: Sequence[str]) -> list[bytes]:
        """Return the sha256 of the encoder's identity and each text."""
        who = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode())
        keys = []
        for text in texts:
            key = who.copy()
            key.update(b"\0" + text.encode("utf-8", "surrogatepass"))
            keys.append(key.digest())
        return keys
