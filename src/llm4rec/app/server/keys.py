"""API keys: who may do what, and how often. Only hashes of keys are kept."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, get_args

import tomli_w
from pydantic import Field, ValidationError

from llm4rec.core import Config, DataError, did_you_mean

#: ``read``: lists, items, explanations; ``write``: events and new items; ``memory``: what is kept of users;
#: ``metrics``: the server's figures.
Scope = Literal["read", "write", "memory", "metrics"]
SCOPES = get_args(Scope)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PREFIX = "l4r_"
#: Callers whose allowance is kept in mind; the longest silent goes first.
_CALLERS = 10_000


class Key(Config):
    """``[NAME]`` in a file of keys."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the key itself, which is kept nowhere."""
    scopes: tuple[Scope, ...] = ("read",)
    """What it may do."""
    per_minute: int | None = Field(None, ge=1)
    """Requests a minute; None is the server's own bound."""


class Keys:
    """The keys of a file, by name.

    Raises:
        DataError: for a file that cannot be read or holds something else.
    """

    def __init__(self, keys: dict[str, Key]) -> None:
        self._keys = keys

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file of keys."""
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            what = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({type(error).__name__})"
            raise DataError(what, where=str(path), todo="make one with 'llm4rec keys'") from None
        keys: dict[str, Key] = {}
        for name, table in tables.items():
            try:
                keys[name] = Key.model_validate(table)
            except ValidationError as error:
                first = error.errors(include_input=False)[0]
                where = f"{path}: {name}.{'.'.join(map(str, first['loc']))}".rstrip(".")
                raise DataError(str(first["msg"]), where=where) from None
        if not keys:
            raise DataError("holds no key", where=str(path), todo="add one with 'llm4rec keys'")
        return cls(keys)

    def find(self, given: str) -> tuple[str, Key] | None:
        """Return the name and entry of a key, None for one that is not there; every entry is compared."""
        digest, found = _digest(given), None
        for name, key in self._keys.items():
            if hmac.compare_digest(key.sha256, digest):
                found = name, key
        return found


def new_key(path: Path, name: str, scopes: Sequence[str], per_minute: int | None = None) -> str:
    """Add a key to a file, made if it is not there and readable by its owner alone; returns the key, to be shown once.

    Raises:
        DataError: for a name that is taken or no name, an unknown scope, or a broken file.
    """
    if not _NAME.fullmatch(name):
        raise DataError(f"{name!r} is no name of a key", todo="use letters, digits, '.', '_' and '-', at most 64")
    for scope in scopes:
        if scope not in SCOPES:
            raise DataError(f"unknown scope {scope!r}", todo=did_you_mean(scope, SCOPES))
    tables = {}
    if path.exists():
        Keys.read(path)
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    if name in tables:
        raise DataError(f"there is a key {name!r} already", where=str(path), todo="choose another name, or delete its table")
    key = _PREFIX + secrets.token_urlsafe(32)
    tables[name] = {"sha256": _digest(key), "scopes": list(scopes)} | ({"per_minute": per_minute} if per_minute else {})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        tomli_w.dump(tables, file)
    part.replace(path)
    return key


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass
class Allowance:
    """Requests a minute of each caller: a bucket of a tenth of them at once, refilled steadily."""

    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take(self, caller: str, per_minute: int, now: float | None = None) -> float:
        """Take one request from a caller's allowance; returns 0, or the seconds until there is one again."""
        now = time.monotonic() if now is None else now
        rate, size = per_minute / 60, max(1.0, per_minute / 10)
        held, last = self._buckets.pop(caller, (size, now))
        held = min(size, held + (now - last) * rate)
        wait = 0.0 if held >= 1 else (1 - held) / rate
        self._buckets[caller] = (held - (wait == 0), now)
        if len(self._buckets) > _CALLERS:
            del self._buckets[next(iter(self._buckets))]
        return wait
