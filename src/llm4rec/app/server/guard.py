"""What stands before every route: who asks, how often, how much, how long; and what is written down of it.

A plain ASGI layer, so that a body is bounded before anything reads it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from llm4rec.app.server.config import ServerConfig
from llm4rec.app.server.figures import Figures
from llm4rec.app.server.keys import Allowance, Keys, Scope

_LOG = logging.getLogger("llm4rec.serve")

Message = MutableMapping[str, Any]
ASGI = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

#: Paths that anybody may ask for: they say whether the server lives, and how it is asked.
_OPEN = frozenset({"/healthz", "/readyz", "/openapi.json"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
#: Names under which a browser on this machine reaches it; any other is a trick with a name server.
_HOME = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.I)
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Refused(Exception):
    """An answer other than the one asked for: a status, a code for programs and a line for people."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        self.status, self.code, self.message = status, code, message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(message)


def error_body(code: str, message: str, request_id: str) -> bytes:
    """Return an error as the API tells it."""
    return json.dumps({"error": {"code": code, "message": message, "request_id": request_id}}).encode()


class Guard:
    """The layer.

    Args:
        app: what answers.
        config, figures: of the server.
        keys: None lets everybody on this machine do everything.
    """

    def __init__(self, app: ASGI, config: ServerConfig, figures: Figures, keys: Keys | None) -> None:
        self._app, self._config, self._figures, self._keys = app, config, figures, keys
        self._allowance = Allowance()

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a closed door: nothing here speaks anything else
        start, status, caller = time.perf_counter(), 500, "?"
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        asked = headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def answer(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                own = (b"x-request-id", request_id.encode())
                message["headers"] = [*message.get("headers", ()), own, *_HEADERS]
            await send(message)

        async def refuse(refused: Refused) -> None:
            body = error_body(refused.code, refused.message, request_id)
            sizes = {"content-type": "application/json", "content-length": str(len(body)), **refused.headers}
            pairs = [(k.encode(), v.encode()) for k, v in sizes.items()]
            await answer({"type": "http.response.start", "status": refused.status, "headers": pairs})
            await answer({"type": "http.response.body", "body": body})

        self._figures.under_way.inc()
        try:
            caller = self._admitted(scope, headers)
            replayed = await self._body(scope, headers, receive)
            async with asyncio.timeout(self._config.timeout):
                await self._app(scope, replayed, answer)
        except Refused as refused:
            if not started:
                await refuse(refused)
        except TimeoutError:
            if not started:
                await refuse(Refused(504, "timeout", f"no answer within {self._config.timeout:g} s"))
        except Exception as error:  # of the server's own making: told without words that may be a user's
            last = traceback.extract_tb(error.__traceback__)[-6:]
            frames = [f"{f.filename.rpartition('llm4rec')[2]}:{f.lineno}" for f in last]
            _LOG.error(json.dumps({"request": request_id, "error": type(error).__name__, "at": frames}))
            status = 500
            if not started:
                await refuse(Refused(500, "internal", "the server failed; its log has the request id"))
        finally:
            self._figures.under_way.dec()
            self._told(scope, status, time.perf_counter() - start, caller, request_id)

    # -- who, how often ---------------------------------------------------------------------
    def _admitted(self, scope: Message, headers: dict[str, str]) -> str:
        """Return the caller's name; raises :class:`Refused`."""
        per_minute = self._config.per_minute
        if self._keys is None:
            if not _HOME.fullmatch(headers.get("host", "")):
                raise Refused(421, "wrong_host", "without keys this server answers to names of this machine alone")
            caller = str((scope.get("client") or ("local",))[0])
        elif scope["path"] in _OPEN:
            return "open"
        else:
            kind, _, given = headers.get("authorization", "").partition(" ")
            found = self._keys.find(given.strip()) if kind.lower() == "bearer" else None
            if found is None:
                self._slow(scope, per_minute)
                raise Refused(401, "unauthorized", "give a valid key: Authorization: Bearer KEY", WWW_Authenticate="Bearer")
            caller, key = found
            wanted = _scope_of(scope["path"])
            if wanted not in key.scopes:
                raise Refused(403, "forbidden", f"this key has no scope {wanted!r}")
            per_minute = key.per_minute or per_minute
        self._slow(scope, per_minute, caller)
        return caller

    def _slow(self, scope: Message, per_minute: int, caller: str | None = None) -> None:
        """Count a request against its caller, or against the address of one without a name."""
        address = str((scope.get("client") or ("local",))[0])
        if wait := self._allowance.take(f"key {caller}" if caller else f"address {address}", per_minute):
            raise Refused(429, "too_many_requests", f"at most {per_minute} requests a minute", Retry_After=str(int(wait) + 1))

    # -- how much ----------------------------------------------------------------------------
    async def _body(self, scope: Message, headers: dict[str, str], receive: Any) -> Callable[[], Awaitable[Message]]:
        """Read a body of at most so many bytes in at most so many seconds; returns what replays it."""
        most = self._config.max_body
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > most:
            raise Refused(413, "too_large", f"a body holds at most {most} bytes")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] in _WITH_BODY and kind != "application/json":
            raise Refused(415, "no_json", "send JSON, and say so: Content-Type: application/json")
        parts: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self._config.timeout):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "gone", "the connection was closed")
                    parts.append(message.get("body", b""))
                    size, more = size + len(parts[-1]), message.get("more_body", False)
                    if size > most:
                        raise Refused(413, "too_large", f"a body holds at most {most} bytes")
        except TimeoutError:
            raise Refused(408, "slow_body", f"the body did not arrive within {self._config.timeout:g} s") from None
        whole: bytes | None = b"".join(parts)

        async def replayed() -> Message:
            nonlocal whole
            if whole is None:
                return await receive()  # type: ignore[no-any-return]
            body, whole = whole, None
            return {"type": "http.request", "body": body, "more_body": False}

        return replayed

    # -- what is written down -------------------------------------------------------------------
    def _told(self, scope: Message, status: int, seconds: float, caller: str, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._figures.requests.labels(route, method, str(status)).inc()
        self._figures.seconds.labels(route).observe(seconds)
        line = {"request": request_id, "method": method, "route": route, "status": status, "ms": round(1e3 * seconds, 2)}
        if self._keys is not None:  # without keys it is an address
            line["key"] = caller
        if self._config.log_paths:
            line["path"] = scope["path"]
        _LOG.info(json.dumps(line))


def _scope_of(path: str) -> Scope:
    """Return what a key needs for a path."""
    if path == "/metrics":
        return "metrics"
    if path.startswith("/v1/users/") or path == "/v1/chat":  # who talks can remember and forget
        return "memory"
    return "write" if path == "/v1/events" else "read"
