"""Pages from the web, politely: own time-outs, a bounded rate, a name, and a cache on disk."""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from llm4rec.assets import home

#: What can go wrong with one page.  ``unreachable``: no connection, or cut; ``timeout``; ``refused``: an
#: HTTP status that asking again does not change; ``unavailable``: 429 or 5xx after all attempts;
#: ``garbage``: not JSON, or too large.
PageFailure = Literal["unreachable", "timeout", "refused", "unavailable", "garbage"]
_LARGEST = 8 * 2**20  # bytes of one answer
_CHUNK = 65_536
_LONGEST_WAIT = 30.0  # seconds, whatever a server asks for
#: Failures in a row after which a server is asked no more.
_GIVE_UP = 5
USER_AGENT = "llm4rec/0.1 (recommender research; set user_agent to name yourself)"


@dataclass(frozen=True, slots=True)
class Page:
    """A page's JSON, or the kind of failure."""

    value: Any = None
    failure: PageFailure | None = None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a header with a key must not travel to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class Web:
    """Fetches JSON over HTTP, one page at a time.

    A page that was fetched once is read from the cache, for good: a memory can be built again
    without network.  After five failures in a row the server counts as gone, and what remains fails
    as ``unreachable`` without being asked.

    Args:
        user_agent: says who asks.
        per_second: most requests a second.
        timeout: seconds for one whole request.
        retries: further attempts after a lost connection, a time-out, 429 or 5xx.
        cache: folder; by default ``pages`` beside the assets.
        key_env: environment variable whose value is sent as bearer token, if it is set.
        clock, sleep: of the machine; tests bring their own.
    """

    def __init__(
        self,
        *,
        user_agent: str = USER_AGENT,
        per_second: float = 5.0,
        timeout: float = 20.0,
        retries: int = 2,
        cache: Path | None = None,
        key_env: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._agent, self._gap, self._timeout, self._retries = user_agent, 1.0 / per_second, timeout, retries
        self._cache = home() / "pages" if cache is None else Path(cache)
        self._key_env, self._clock, self._sleep = key_env, clock, sleep
        self._open = urllib.request.build_opener(_NoRedirect).open
        self._last, self._failed = -1e9, 0

    def get(self, url: str) -> Page:
        """Return the JSON at an address, from the cache or from the server."""
        file = self._cache / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
        try:
            return Page(json.loads(file.read_text(encoding="utf-8"))["page"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not there, or half a file of an older day: ask
        if self._failed >= _GIVE_UP:
            return Page(failure="unreachable")
        page = self._asked(url)
        self._failed = self._failed + 1 if page.failure in ("unreachable", "timeout", "unavailable") else 0
        if page.failure is None:
            self._keep(file, url, page.value)
        return page

    def _keep(self, file: Path, url: str, value: Any) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        part.write_text(json.dumps({"url": url, "fetched": stamp, "page": value}), encoding="utf-8")
        part.replace(file)

    def _asked(self, url: str) -> Page:
        for attempt in range(self._retries + 1):
            self._pace()
            wait = 0.5 * 2**attempt
            try:
                return self._read(url)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code != 429 and error.code < 500:
                    return Page(failure="refused")
                told = error.headers.get("retry-after", "")
                failure: PageFailure = "unavailable"
                wait = min(float(told), _LONGEST_WAIT) if told.strip().isdecimal() else wait
            except TimeoutError:
                failure = "timeout"
            except urllib.error.URLError as error:
                failure = "timeout" if isinstance(error.reason, TimeoutError) else "unreachable"
            except (OSError, HTTPException):
                failure = "unreachable"
            if attempt < self._retries:
                self._sleep(wait)
        return Page(failure=failure)

    def _read(self, url: str) -> Page:
        """Ask once; raises what went wrong with the connection."""
        request = urllib.request.Request(url, headers={"User-Agent": self._agent, "Accept": "application/json"})
        if self._key_env and (key := os.environ.get(self._key_env)):
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        until = self._clock() + self._timeout
        parts: list[bytes] = []
        with self._open(request, timeout=self._timeout) as answer:
            while chunk := answer.read1(_CHUNK):
                parts.append(chunk)
                if sum(map(len, parts)) > _LARGEST:
                    return Page(failure="garbage")
                if self._clock() > until:  # the socket's own time-out is for each piece alone
                    raise TimeoutError
        try:
            return Page(json.loads(b"".join(parts)))
        except (ValueError, RecursionError):
            return Page(failure="garbage")

    def _pace(self) -> None:
        early = self._last + self._gap - self._clock()
        if early > 0:
            self._sleep(early)
        self._last = self._clock()


def web_address(value: str) -> str:
    """Return an address that may be asked; raises ``ValueError`` for one of another kind or with a password in it."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address such as https://en.wikipedia.org/w/api.php")
    if parts.username or parts.password:
        raise ValueError("must hold no user or password: name an environment variable in key_env")
    return value


def at_path(value: Any, path: str) -> Any:
    """Return what stands at a dotted path of keys and indices ("data.0.text"), or None."""
    for step in filter(None, path.split(".")):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.lstrip("-").isdecimal() and -len(value) <= int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value
