"""A language model on any server of the OpenAI protocol, through the openai SDK.

Time-outs and retries are ours: the SDK's own (ten minutes, two retries without a bound on the
whole) are switched off.  A batch runs in one private event loop with one client, and at most
``concurrency`` requests are under way.  The key is read from the environment when a batch begins;
it is held by that client alone, and no exception that could carry a request's headers leaves here.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt, wait_exponential_jitter

from llm4rec.core import ModelError
from llm4rec.llm import wire
from llm4rec.llm.config import LLMConfig
from llm4rec.llm.structured import answered, schema_instruction
from llm4rec.llm.values import ChatReply, ChatRequest, FailureKind, ScoreReply, ScoreRequest
from llm4rec.llm.wire import Outcome

_RETRIED: frozenset[FailureKind] = frozenset({"unreachable", "rate_limited", "server_error"})
_LONGEST_DETAIL = 300
Q = TypeVar("Q")
R = TypeVar("R")


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
        self.chunk = 4 * config.concurrency
        self._reached = False  # has the server ever answered?

    @property
    def identity(self) -> Mapping[str, Any]:
        """The server's address, the model's name there, and what the spec adds to or omits from requests."""
        c = self.config
        shaped = {"omit": sorted(c.omit), "extra": c.extra, "top_logprobs": c.top_logprobs}
        return {"backend": "server", "model": c.model, "base_url": c.base_url, **shaped}

    # -- the verbs ----------------------------------------------------------------------

    def chat(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answer each request; see :class:`ChatModel` for what is a reply and what is an error."""
        return answered(requests, lambda part: self._batch(part, self._chat))

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """Return log-probabilities of labels after messages, or of continuations after plain text."""
        return self._batch(requests, self._score)

    def _batch(self, requests: Sequence[Q], ask: Callable[[Any, Q], Awaitable[R]]) -> list[R]:
        """Ask all requests in an event loop of their own; works within a running loop too."""
        if not requests:
            return []
        if not self._key() and urlsplit(self.config.base_url).hostname == "api.openai.com":
            todo = f"export {self.config.api_key_env}, or set base_url to your own server"
            raise ModelError("no key is set", where=self.config.base_url, todo=todo)
        if not all("!" <= character <= "~" for character in self._key()):  # it must pass through an HTTP header
            what = f"the key in {self.config.api_key_env} holds a space, a line break or a character beyond ASCII"
            raise ModelError(what, where=self.config.base_url, todo="set it again, the key alone")

        def run() -> list[R] | ModelError:
            return asyncio.run(self._gather(requests, ask))

        try:
            asyncio.get_running_loop()
        except RuntimeError:
            outcome = run()
        else:
            with ThreadPoolExecutor(1) as thread:
                outcome = thread.submit(run).result()
        if isinstance(outcome, ModelError):
            raise outcome
        return outcome

    def _key(self) -> str:
        return os.environ.get(self.config.api_key_env, "").strip()

    async def _gather(self, requests: Sequence[Q], ask: Callable[[Any, Q], Awaitable[R]]) -> list[R] | ModelError:
        """Return all replies, or what is wrong with the set-up: no call begins after that is known.

        The error is returned rather than raised, so that its traceback has no frame that holds
        the client and, with it, the key.
        """
        from openai import AsyncOpenAI, Timeout

        gate = asyncio.Semaphore(self.config.concurrency)
        replies: dict[int, R] = {}
        faults: list[ModelError] = []
        client = AsyncOpenAI(
            # Servers without keys are sent a word that is none.
            api_key=self._key() or "none",
            base_url=self.config.base_url,
            timeout=Timeout(self.config.timeout, connect=min(10.0, self.config.timeout)),
            max_retries=0,
        )

        async def one(i: int) -> None:
            async with gate:
                if faults:
                    return
                try:
                    replies[i] = await ask(client, requests[i])
                except ModelError as error:
                    faults.append(ModelError(error.what, where=error.where, todo=error.todo))

        try:
            await asyncio.gather(*(one(i) for i in range(len(requests))))
        finally:
            await client.close()
        return faults[0] if faults else [replies[i] for i in range(len(requests))]

    # -- one call -----------------------------------------------------------------------

    async def _call(self, client: Any, path: str, body: dict[str, Any]) -> Outcome:
        """Post a body until it is answered or the retries are used up; set-up faults raise ``ModelError``."""
        body = {k: v for k, v in {**body, **self.config.extra, "model": self.config.model}.items() if k not in self.config.omit}
        jitter = wait_exponential_jitter(initial=0.5, max=self.config.max_wait, jitter=0.5)

        def wait(state: RetryCallState) -> float:
            after = state.outcome.result().after if state.outcome is not None else None
            return float(max(jitter(state), min(after or 0.0, self.config.max_wait)))

        def again(outcome: Outcome) -> bool:
            if outcome.refused and not self._reached:
                return False
            return outcome.failure in _RETRIED and (outcome.after or 0.0) <= self.config.max_wait

        outcome: Outcome = await AsyncRetrying(
            retry=retry_if_result(again),
            stop=stop_after_attempt(self.config.retries + 1),
            wait=wait,
            retry_error_callback=lambda state: state.outcome.result() if state.outcome is not None else Outcome(),
        )(self._attempt, client, path, body)
        if outcome.setup is not None:
            raise ModelError(outcome.setup[0], where=self.config.base_url, todo=outcome.setup[1])
        if outcome.refused and not self._reached:
            raise ModelError(f"no connection ({outcome.detail})", where=self.config.base_url, todo="is the server running?")
        return outcome

    async def _attempt(self, client: Any, path: str, body: dict[str, Any]) -> Outcome:
        import httpx2
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        try:
            # The SDK's time-out bounds each read; a server that drips is bounded by ours.
            async with asyncio.timeout(self.config.timeout):
                response = await client.post(path, cast_to=httpx2.Response, body=body)
            self._reached = True
            return wire.decoded(response.content)
        except TimeoutError:
            return Outcome(failure="unreachable", detail=f"no whole answer within {self.config.timeout:g} s")
        except APIStatusError as error:
            self._reached = True
            return self._status(error.status_code, error.response.headers, error.response.text)
        except APIConnectionError as error:
            cause = error.__cause__
            refused = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout)
            detail = "time-out" if isinstance(error, APITimeoutError) and not refused else type(cause or error).__name__
            words = self._clean(str(cause or ""))
            return Outcome(failure="unreachable", detail=f"{detail}: {words}" if words else detail, refused=refused)
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:  # a body that cannot be decoded
            return Outcome(failure="garbage", detail=f"{type(error).__name__}: {self._clean(str(error))}")

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

    async def _chat(self, client: Any, request: ChatRequest) -> ChatReply:
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
        outcome = await self._call(client, "/chat/completions", body)
        seconds = time.perf_counter() - began
        if outcome.body is None:
            return ChatReply("", failure=outcome.failure, detail=outcome.detail, seconds=seconds)
        text, failure, detail = wire.answer(outcome.body)
        return ChatReply(text, failure=failure, detail=self._clean(detail), usage=wire.usage(outcome.body), seconds=seconds)

    # -- scores -------------------------------------------------------------------------

    async def _score(self, client: Any, request: ScoreRequest) -> ScoreReply:
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
        try:
            outcome = await self._call(client, path, body)
        except ModelError as error:
            if plain and "HTTP 404" in error.what:
                outcome = Outcome(failure="rejected", detail="the server has no /completions: score messages instead")
            else:
                raise
        seconds = time.perf_counter() - began
        if outcome.body is None:
            nothing = np.full(n, np.nan)
            return ScoreReply(nothing, np.ones(n, np.int32), failure=outcome.failure, detail=outcome.detail, seconds=seconds)
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
