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
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

from llm4rec.app.server.browsers import Browsers, is_own
from llm4rec.app.server.config import ServerConfig
from llm4rec.app.server.figures import Figures
from llm4rec.app.server.keys import Allowance, Key, Keys, Scope
from llm4rec.app.web.play import COLUMNS

_LOG = logging.getLogger("llm4rec.serve")

Message = MutableMapping[str, Any]
ASGI = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

#: Paths that anybody may ask for: they say whether the server lives, how it is asked, and let a browser sign in.
_OPEN = frozenset({"/healthz", "/readyz", "/openapi.json", "/favicon.ico"})
SIGN_IN = "/sign-in"
#: Attempts to sign in a minute, of each address.
_ATTEMPTS = 60
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
#: Names under which a browser on this machine reaches it; any other is a trick with a name server.
_HOME = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.I)
#: What every answer says to browsers: nothing is kept, nothing of another origin is loaded, no script stands in a page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_OF_USERS = frozenset({"/v1/chat", "/chat", "/user", "/users"})
_LOOKING = frozenset({"GET", "HEAD"})
#: Writes an error as a page, where a browser asks for one: its status and its line.
ErrorPage = Callable[[int, str], bytes]


class Refused(Exception):
    """An answer other than the one asked for: a status, a code for programs and a line for people."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        self.status, self.code, self.message = status, code, message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        super().__init__(message)


def wants_page(path: str, headers: Mapping[str, str]) -> bool:
    """Does a browser ask for a whole page?  Programs, and scripts of a page, get JSON."""
    shown = not path.startswith("/v1/") and "hx-request" not in headers
    return shown and "text/html" in headers.get("accept", "")


def is_home(host: str) -> bool:
    """Is this ``Host`` a name of this machine?"""
    return _HOME.fullmatch(host) is not None


def error_body(code: str, message: str, request_id: str) -> bytes:
    """Return an error as the API tells it."""
    return json.dumps({"error": {"code": code, "message": message, "request_id": request_id}}).encode()


class Guard:
    """The layer.

    Args:
        app: what answers.
        config, figures: of the server.
        keys: None lets everybody on this machine do everything.
        browsers: those that are signed in with a key.
        error_page: writes errors for browsers.
    """

    def __init__(
        self, app: ASGI, config: ServerConfig, figures: Figures, keys: Keys | None, browsers: Browsers, error_page: ErrorPage
    ) -> None:
        self._app, self._config, self._figures, self._keys = app, config, figures, keys
        self._browsers, self._error_page = browsers, error_page
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
            page = wants_page(scope["path"], headers)
            told = self._error_page(refused.status, refused.message) if page else None
            body = error_body(refused.code, refused.message, request_id) if told is None else told
            kind = "application/json" if told is None else "text/html; charset=utf-8"
            sizes = {"content-type": kind, "content-length": str(len(body)), **refused.headers}
            pairs = [(k.encode(), v.encode()) for k, v in sizes.items()]
            await answer({"type": "http.response.start", "status": refused.status, "headers": pairs})
            await answer({"type": "http.response.body", "body": body})

        self._figures.under_way.inc()
        try:
            caller = self._admitted(scope, headers)
            replayed = await self._body(scope, headers, receive)
            async with asyncio.timeout(self._bound(scope["path"])):
                await self._app(scope, replayed, answer)
        except Refused as refused:
            if not started:
                await refuse(refused)
        except TimeoutError:
            if not started:
                await refuse(Refused(504, "timeout", f"no answer within {self._bound(scope['path']):g} s"))
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

    def _bound(self, path: str) -> float:
        """Return the seconds for a request; what asks a language model has that one's bound besides, for each that it asks."""
        config = self._config
        asking = {"/v1/chat": config.chat_timeout, "/playground": COLUMNS * config.llm_timeout}
        return config.timeout + asking.get(path, 0.0)

    # -- who, how often ---------------------------------------------------------------------
    def _admitted(self, scope: Message, headers: dict[str, str]) -> str:
        """Return the caller's name; raises :class:`Refused`."""
        per_minute = self._config.per_minute
        if self._keys is None:
            if not is_home(headers.get("host", "")):
                raise Refused(421, "wrong_host", "without keys this server answers to names of this machine alone")
            caller = str((scope.get("client") or ("local",))[0])
        elif scope["path"] in _OPEN or scope["path"].startswith("/assets/"):
            return "open"
        elif scope["path"] == SIGN_IN:
            self._slow(scope, _ATTEMPTS if scope["method"] == "POST" else per_minute, attempts=scope["method"] == "POST")
            return "open"
        else:
            caller, key = self._known(self._keys, scope, headers)
            for wanted in _scopes_of(scope["path"]):
                if wanted not in key.scopes:
                    raise Refused(403, "forbidden", f"this key has no scope {wanted!r}")
            per_minute = key.per_minute or per_minute
        self._slow(scope, per_minute, caller)
        return caller

    def _known(self, keys: Keys, scope: Message, headers: dict[str, str]) -> tuple[str, Key]:
        """Return who asks, by the key that is sent or by the session that a browser signed in to."""
        given = headers.get("authorization")
        if given is not None:
            kind, _, secret = given.partition(" ")
            found = keys.find(secret.strip()) if kind.lower() == "bearer" else None
            if found is not None:
                return found
        elif (browser := self._browsers.find(headers.get("cookie", ""))) is not None:
            if scope["method"] not in _LOOKING and not is_own(browser, headers):
                raise Refused(403, "not_own", "this does not come from a page of this server; load the page again")
            scope["state"]["browser"] = browser
            return browser.caller, browser.key
        self._slow(scope, self._config.per_minute)
        if wants_page(scope["path"], headers):
            path = quote(scope["path"] + ("?" + scope["query_string"].decode("latin-1") if scope["query_string"] else ""))
            raise Refused(303, "sign_in", "sign in first", Location=f"{SIGN_IN}?next={path}")
        raise Refused(401, "unauthorized", "give a valid key: Authorization: Bearer KEY", WWW_Authenticate="Bearer")

    def _slow(self, scope: Message, per_minute: int, caller: str | None = None, *, attempts: bool = False) -> None:
        """Count a request against its caller, or against the address of one without a name."""
        address = f"{'attempts of' if attempts else 'address'} {(scope.get('client') or ('local',))[0]!s}"
        if wait := self._allowance.take(f"key {caller}" if caller else address, per_minute):
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


def _scopes_of(path: str) -> tuple[Scope, ...]:
    """Return what a key needs for a path."""
    if path == "/metrics":
        return ("metrics",)
    if path == "/v1/chat/feedback":  # what is accepted is an interaction, what is rejected a fact
        return ("memory", "write")
    if path.startswith("/v1/users/") or path in _OF_USERS:  # who talks can remember and forget
        return ("memory",)
    return ("write",) if path == "/v1/events" else ("read",)
