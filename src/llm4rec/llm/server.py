"""A language model on any server of the OpenAI protocol.

The HTTP client is the one below the openai SDK: of the SDK itself nothing would be used but its
post, which costs half as much again.  All batches of a model share one event loop, one client and one
:class:`Pace`.  The key is read from the environment when a batch begins; it is held by the client
alone, and no exception that could carry a request's headers leaves here.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np

from llm4rec.core import LLM4RecError, ModelError
from llm4rec.llm import wire
from llm4rec.llm.background import Background, Hand
from llm4rec.llm.config import LLMConfig
from llm4rec.llm.pace import Pace, backoff
from llm4rec.llm.streams import in_order
from llm4rec.llm.structured import judged, repair, repaired, schema_instruction
from llm4rec.llm.values import (
    ChatReply,
    ChatRequest,
    FailureKind,
    Reply,
    Request,
    ScoreReply,
    ScoreRequest,
    Watch,
)
from llm4rec.llm.wire import Outcome

_RETRIED: frozenset[FailureKind] = frozenset({"unreachable", "rate_limited", "server_error"})
_LONGEST_DETAIL = 300
#: Called before anything is sent; raises where nothing may be sent any more.
_Admit = Callable[[], None]


def _nothing() -> None:
    """Admit."""


class ServerModel:
    """A model of an OpenAI-compatible server as a :class:`ChatModel`.

    ``chat`` asks for the schema through ``response_format``.  ``score`` of messages reads the
    log-probabilities of the answer's first token, so continuations must be labels of one token
    (letters); ``score`` of plain text needs a server whose ``/completions`` can ``echo``.

    Args:
        config: an ``[llm.NAME]`` table with ``backend = "server"``.
    """

    def __init__(self, config: LLMConfig) -> None:
        self.config = config
        self.name = config.model
        self._reached = False  # has the server ever answered?
        self._lock = Lock()
        self._background: Background | None = None
        self._pace = self._fresh_pace()
        self._client: tuple[str, Any] | None = None  # hash of the key, client

    @property
    def identity(self) -> Mapping[str, Any]:
        """The server's address, the model's name there, and what the spec adds to or omits from requests."""
        c = self.config
        shaped = {"omit": sorted(c.omit), "extra": c.extra, "top_logprobs": c.top_logprobs}
        return {"backend": "server", "model": c.model, "base_url": c.base_url, **shaped}

    # -- the verbs ----------------------------------------------------------------------

    def chat(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answer each request; see :class:`ChatModel` for what is a reply and what is an error."""
        return cast("list[ChatReply]", in_order(self.stream(requests), len(requests)))

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """Return log-probabilities of labels after messages, or of continuations after plain text."""
        return cast("list[ScoreReply]", in_order(self.stream(requests), len(requests)))

    def stream(self, requests: Sequence[Request], watch: Watch | None = None) -> Iterator[list[tuple[int, Reply]]]:
        """Yield answers as they arrive (see :class:`Streaming`); works within a running event loop too.

        What is wrong with the set-up raises ``ModelError`` when the requests under way have ended.
        """
        if not requests:
            return
        if not self._key() and urlsplit(self.config.base_url).hostname == "api.openai.com":
            todo = f"export {self.config.api_key_env}, or set base_url to your own server"
            raise ModelError("no key is set", where=self.config.base_url, todo=todo)
        if not all("!" <= character <= "~" for character in self._key()):  # it must pass through an HTTP header
            what = f"the key in {self.config.api_key_env} holds a space, a line break or a character beyond ASCII"
            raise ModelError(what, where=self.config.base_url, todo="set it again, the key alone")
        faults: list[Exception] = []
        yield from self._loop().stream(lambda hand: self._answer_all(requests, watch, hand, faults))
        if faults:
            raise faults[0]

    def _fresh_pace(self) -> Pace:
        c = self.config
        return Pace(c.concurrency, patience=c.breaker, pause=c.breaker_pause, max_wait=c.max_wait)

    def _loop(self) -> Background:
        with self._lock:
            if self._background is None or self._background.process != os.getpid():
                self._background, self._pace, self._client = Background(self), self._fresh_pace(), None
            return self._background

    def _key(self) -> str:
        return os.environ.get(self.config.api_key_env, "").strip()

    def _opened(self) -> Any:
        """Return the client for the key that is set now; called in the loop."""
        import httpx2

        key = self._key()
        which = hashlib.sha256(key.encode()).hexdigest()
        if self._client is None or self._client[0] != which:
            client = httpx2.AsyncClient(
                headers={"authorization": f"Bearer {key}"} if key else {},
                # Reading is bounded as a whole, by _attempt.
                timeout=httpx2.Timeout(None, connect=min(10.0, self.config.timeout)),
                limits=httpx2.Limits(max_keepalive_connections=self.config.concurrency),
                follow_redirects=True,
            )
            assert self._background is not None
            self._background.at_end(client.aclose)
            self._client = which, client
        return self._client[1]

    async def _answer_all(self, requests: Sequence[Request], watch: Watch | None, hand: Hand, faults: list[Exception]) -> None:
        """Hand over each reply; on the first fault, let what is under way end and begin nothing more."""
        client, left = self._opened(), iter(enumerate(requests))

        async def work() -> None:
            for at, request in left:
                if faults:
                    return
                admit = _nothing if watch is None else partial(watch.before, request)
                try:
                    reply = await self._answer(client, request, admit)
                    if watch is not None:
                        watch.after(request, reply)
                except LLM4RecError as error:
                    # A copy: its traceback has no frame that holds the client and, with it, the key.
                    faults.append(type(error)(error.what, where=error.where, todo=error.todo))
                except Exception as error:
                    faults.append(error)
                else:
                    hand((at, reply))

        await asyncio.gather(*(work() for _ in range(min(self.config.concurrency, len(requests)))))

    async def _answer(self, client: Any, request: Request, admit: _Admit) -> Reply:
        if isinstance(request, ScoreRequest):
            return await self._score(client, request, admit)
        first = judged(request, await self._chat(client, request, admit))
        again = repair(request, first)
        # A repair is part of an answer that is paid already: it is not stopped.
        return first if again is None else repaired(request, first, await self._chat(client, again, _nothing))

    # -- one call -----------------------------------------------------------------------

    async def _call(self, client: Any, path: str, body: dict[str, Any], admit: _Admit) -> Outcome:
        """Post a body until it is answered or the retries are used up; set-up faults raise ``ModelError``.

        A missing ``/completions`` is no such fault: a server may well do without.
        """
        body = {k: v for k, v in {**body, **self.config.extra, "model": self.config.model}.items() if k not in self.config.omit}
        pace, outcome = self._pace, Outcome(failure="not_asked")
        for attempt in range(self.config.retries + 1):
            if outcome.failure in ("unreachable", "server_error") and outcome.after is None:
                await asyncio.sleep(backoff(attempt, self.config.max_wait))
            if not await pace.enter():
                return Outcome(failure="not_asked", detail=pace.reason) if attempt == 0 else outcome
            began, ended = time.monotonic(), None
            try:
                admit()
                outcome = ended = await self._attempt(client, path, body)
            finally:
                pace.leave(began, ended)
            if outcome.setup is not None and not (outcome.absent and path == "/completions"):
                raise ModelError(outcome.setup[0], where=self.config.base_url, todo=outcome.setup[1])
            if outcome.refused and not self._reached:
                raise ModelError(f"no connection ({outcome.detail})", where=self.config.base_url, todo="is the server running?")
            if outcome.failure not in _RETRIED:
                break
        return outcome

    async def _attempt(self, client: Any, path: str, body: dict[str, Any]) -> Outcome:
        import httpx2

        try:
            # Each read of a server that drips is in time; the whole is bounded here.
            async with asyncio.timeout(self.config.timeout):
                response = await client.post(self.config.base_url + path, json=body)
        except TimeoutError:
            return Outcome(failure="unreachable", detail=f"no whole answer within {self.config.timeout:g} s")
        except httpx2.TransportError as error:
            refused = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
            words = self._clean(str(error))
            detail = f"{type(error).__name__}: {words}" if words else type(error).__name__
            return Outcome(failure="unreachable", detail=detail, refused=refused)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:  # a body that cannot be decoded
            return Outcome(failure="garbage", detail=f"{type(error).__name__}: {self._clean(str(error))}")
        self._reached = True
        if response.is_success:
            outcome = wire.decoded(response.content)
            return replace(outcome, detail=self._clean(outcome.detail))
        return self._status(response.status_code, response.headers, response.text)

    def _status(self, status: int, headers: Mapping[str, str], text: str) -> Outcome:
        """Say what an HTTP error means."""
        code, message = wire.error_fields(text)
        detail = f"HTTP {status}: {self._clean(message)}" if message else f"HTTP {status}"
        variable = self.config.api_key_env
        if status in (401, 403):
            # The server's words are left out: some of them repeat a part of the key.
            held = bool(os.environ.get(variable, "").strip())
            what = (
                f"the server refused the key in {variable} (HTTP {status})"
                if held
                else f"the server wants a key (HTTP {status})"
            )
            return Outcome(setup=(what, f"set {variable} to a key that may use {self.config.model!r}"))
        if status == 404:
            return Outcome(
                failure="rejected",
                detail=detail,
                absent=code != "model_not_found" and not re.search(rf"\b{re.escape(self.config.model)}\b", message),
                setup=(f"no model {self.config.model!r} here ({detail})", "check model and base_url"),
            )
        if status == 429 and code == "insufficient_quota":
            return Outcome(setup=(f"the account has no credit left ({detail})", "add credit; the same command then continues"))
        if status == 400 and code in ("unsupported_parameter", "unsupported_value"):
            return Outcome(
                setup=(f"the server refuses a field of the request ({detail})", "name it in omit, or set it in extra")
            )
        after = wire.wait_seconds(headers.get("retry-after-ms"), 1e-3) or wire.wait_seconds(headers.get("retry-after"))
        if status == 429:
            return Outcome(failure="rate_limited", detail=detail, after=after)
        if status >= 500 or status in (408, 409, 425):
            return Outcome(failure="server_error", detail=detail, after=after)
        return Outcome(failure="rejected", detail=detail)

    def _clean(self, text: str) -> str:
        """Return a server's words as one short line without the key."""
        key = self._key()
        if key:
            text = text.replace(key, "[key]")
        return " ".join(text.split())[:_LONGEST_DETAIL]

    # -- chat ---------------------------------------------------------------------------

    async def _chat(self, client: Any, request: ChatRequest, admit: _Admit) -> ChatReply:
        began = time.perf_counter()
        in_words = "response_format" in self.config.omit
        messages = schema_instruction(request) if in_words else request.messages
        body: dict[str, Any] = {
            "messages": wire.turns(messages),
            "temperature": request.temperature,
            self.config.max_tokens_field: request.max_tokens,
            "seed": (request.seed + 1_000_003 * request.sample) % 2**31,
        }
        if request.schema is not None:
            named = {"name": "answer", "schema": dict(request.schema), "strict": wire.closed(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": named}
        if request.tools:
            body["tools"] = [dict(tool) for tool in request.tools]
        outcome = await self._call(client, "/chat/completions", body, admit)
        seconds = time.perf_counter() - began
        if outcome.body is None:
            return ChatReply("", failure=outcome.failure, detail=outcome.detail, usage=wire.spent(outcome), seconds=seconds)
        text, failure, detail = wire.answer(outcome.body, offered=bool(request.tools))
        calls = wire.called(outcome.body) if request.tools and failure is None else ()
        reply = ChatReply(text, failure=failure, detail=self._clean(detail), usage=wire.usage(outcome.body), seconds=seconds)
        return replace(reply, calls=calls) if calls else reply

    # -- scores -------------------------------------------------------------------------

    async def _score(self, client: Any, request: ScoreRequest, admit: _Admit) -> ScoreReply:
        began = time.perf_counter()
        n = len(request.continuations)
        plain = isinstance(request.prompt, str)
        if isinstance(request.prompt, str):
            path = "/completions"
            texts = [request.prompt, *(request.prompt + c for c in request.continuations)]
            body: dict[str, Any] = {"prompt": texts, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}
        else:
            path = "/chat/completions"
            body = {"messages": wire.turns(request.prompt), "logprobs": True, "top_logprobs": self.config.top_logprobs}
            body |= {self.config.max_tokens_field: 1, "temperature": 0}
        outcome = await self._call(client, path, body, admit)
        if outcome.absent:  # lasting, unlike a failure of the transport
            outcome = Outcome(failure="missing_logprob", detail="the server has no /completions: score messages instead")
        seconds = time.perf_counter() - began
        if outcome.body is None:
            nothing = np.full(n, np.nan)
            return ScoreReply(
                nothing,
                np.ones(n, np.int32),
                failure=outcome.failure,
                detail=outcome.detail,
                usage=wire.spent(outcome),
                seconds=seconds,
            )
        read = wire.echoed_logprobs if plain else wire.label_logprobs
        logprobs, tokens = read(outcome.body, request.continuations)
        missing = int(np.isnan(logprobs).sum())
        return ScoreReply(
            logprobs,
            tokens,
            failure="missing_logprob" if missing else None,
            detail=f"no log-probability for {missing} of {n} continuations" if missing else "",
            usage=wire.usage(outcome.body),
            seconds=seconds,
        )
