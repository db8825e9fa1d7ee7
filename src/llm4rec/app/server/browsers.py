"""Browsers that are signed in: a key is shown once, and a cookie stands for it until the session ends."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

from llm4rec.app.server.keys import Key

#: Seconds of a session, and sessions at once; the oldest goes first.
_LIFE, _MOST = 12 * 3_600, 10_000
#: On a name of this machine, and elsewhere: a ``__Host-`` cookie is one that no other host and no plain HTTP can set.
_HERE, _ELSEWHERE = "llm4rec", "__Host-llm4rec"
#: What a page sends back with everything that changes something; a page of another site cannot read it.
TOKEN_HEADER = "x-csrf-token"


@dataclass(frozen=True, slots=True)
class Browser:
    """One that is signed in.

    Attributes:
        caller: name of the key that was shown.
        key: its entry.
        token: see :data:`TOKEN_HEADER`.
        until: end of the session, monotonic s.
    """

    caller: str
    key: Key
    token: str
    until: float


class Browsers:
    """The sessions of one server process; only digests of what is in the cookies are held."""

    def __init__(self) -> None:
        self._held: dict[str, Browser] = {}

    def open(self, caller: str, key: Key) -> str:
        """Begin a session; returns the secret for its cookie."""
        secret = secrets.token_urlsafe(32)
        self._held[_digest(secret)] = Browser(caller, key, secrets.token_urlsafe(32), time.monotonic() + _LIFE)
        while len(self._held) > _MOST:
            del self._held[next(iter(self._held))]
        return secret

    def find(self, cookies: str) -> Browser | None:
        """Return the browser that a ``Cookie`` header names; None for none, or one whose session is over."""
        for secret in _secrets(cookies):
            browser = self._held.get(_digest(secret))
            if browser is not None and browser.until > time.monotonic():
                return browser
        return None

    def close(self, cookies: str) -> None:
        """End the session that a ``Cookie`` header names."""
        for secret in _secrets(cookies):
            self._held.pop(_digest(secret), None)


def cookie(secret: str, *, at_home: bool) -> str:
    """Return the ``Set-Cookie`` header of a session: no script reads it, and no other site's request carries it.

    Args:
        secret: of the session; empty to take the cookie away.
        at_home: was the server reached by a name of this machine?  Elsewhere the cookie travels over TLS alone.
    """
    name, secure = (_HERE, "") if at_home else (_ELSEWHERE, "; Secure")
    age = _LIFE if secret else 0
    return f"{name}={secret}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"


def is_own(browser: Browser, headers: Mapping[str, str]) -> bool:
    """Does a request that changes something come from a page of this server that the browser has open?"""
    site = headers.get("sec-fetch-site", "same-origin")
    return site == "same-origin" and hmac.compare_digest(headers.get(TOKEN_HEADER, "").encode(), browser.token.encode())


def _secrets(cookies: str) -> list[str]:
    pairs = (part.strip().partition("=") for part in cookies.split(";"))
    return [value for name, _, value in pairs if name in (_HERE, _ELSEWHERE) and value]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
