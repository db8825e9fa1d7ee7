"""What goes to a language model and what comes back: immutable values, and the seam itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Role = Literal["system", "user", "assistant", "tool"]

#: Why an answer could not be used.  ``unreadable``: no value of the asked form in it;
#: ``schema``: a value that breaks the JSON schema; ``truncated``: cut at ``max_tokens``;
#: ``empty``: no text; ``refused``: the model declined; ``missing_logprob``: the server did not
#: return the log-probability that was asked for; ``unreachable``: no connection, time-out or cut
#: stream; ``rate_limited`` and ``server_error``: after all retries; ``rejected``: the server
#: called the request wrong (4xx); ``garbage``: an answer that is not the protocol; ``tool_call``:
#: the model called a tool where none was offered; ``not_asked``: nobody was asked, because the server
#: had failed too often in a row, or because it is a dry run.
FailureKind = Literal[
    "unreadable", "schema", "truncated", "empty", "refused", "tool_call", "missing_logprob",
    "unreachable", "rate_limited", "server_error", "rejected", "garbage", "not_asked",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that a model wants made.

    Attributes:
        name: of the tool.
        arguments: JSON text as the model wrote it, which may hold anything.
        id: by which the answer refers to the call.
    """

    name: str
    arguments: str
    id: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: who speaks; ``tool`` is a tool's answer.
        content: what is said.
        calls: tools that the assistant called.
        answers: id of the call that a tool's answer is to, else None.
    """

    role: Role
    content: str
    calls: tuple[ToolCall, ...] = ()
    answers: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call as the backend reports them; None where it does not."""

    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A question to a chat model.

    Attributes:
        messages: the conversation so far.
        schema: JSON schema that the answer must satisfy, or None for free text.
        temperature: 0 for greedy decoding.
        max_tokens: upper bound of the answer's length.
        seed: of sampling, where the backend honours one.
        sample: tells apart several samples of one prompt (part of the store's key).
        tools: functions that the model may call, as the OpenAI protocol describes them; not beside a schema.
        guided: hold a model in this process to the schema, token by token (:mod:`.guided`), and tell it the schema's
            keys alone; servers are asked for the schema as ever.
    """

    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    temperature: float = 0.0
    max_tokens: int = 256
    seed: int = 0
    sample: int = 0
    tools: tuple[Mapping[str, Any], ...] = ()
    guided: bool = False

    def __post_init__(self) -> None:
        if self.guided and self.schema is None:
            raise ValueError("a guided question needs a schema")
        if self.tools and self.schema is not None:
            raise ValueError("a question has a schema or tools, not both")


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The answer to a :class:`ChatRequest`.

    Attributes:
        text: as it came; empty after a failure without text.
        value: the parsed answer where a schema was given and met, else None.
        failure: kind of failure, or None.
        detail: one line about the failure, free of secrets.
        seconds: wall time of the call (0 from the store).
        cached: did it come from the store?
        repaired: was the one bounded repair needed?
        calls: tools that the model wants called, where some were offered.
        once: seconds that an answer of the store took when it was asked for; 0 for one that was asked now.
    """

    text: str
    value: Any = None
    failure: FailureKind | None = None
    detail: str = ""
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    cached: bool = False
    repaired: bool = False
    calls: tuple[ToolCall, ...] = ()
    once: float = 0.0


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """How likely is each continuation after the prompt?

    Attributes:
        prompt: plain text (continued as it stands), or messages (continued as the start of the
            assistant's answer, through the model's chat template).
        continuations: texts whose log-probability is asked for; a plain-text continuation
            carries its own leading space.
    """

    prompt: str | tuple[Message, ...]
    continuations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScoreReply:
    """Log-probabilities of the continuations of one :class:`ScoreRequest`.

    Attributes:
        logprobs: float64[c], natural logarithm, summed over the continuation's tokens; nan
            where the backend did not return one.
        tokens: int32[c], number of tokens of each continuation.
    """

    logprobs: NDArray[np.float64]
    tokens: NDArray[np.int32]
    failure: FailureKind | None = None
    detail: str = ""
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    cached: bool = False


Request = ChatRequest | ScoreRequest
Reply = ChatReply | ScoreReply


@runtime_checkable
class ChatModel(Protocol):
    """A language model behind any backend.  Batches in, batches out, in order; concurrency inside.

    A failed call is a reply with ``failure`` set, never an exception and never a made-up answer;
    what is wrong with the set-up itself (no server, wrong key, no such model) raises ``ModelError``.
    """

    @property
    def name(self) -> str:
        """Name of the model, for tables."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that shapes an answer besides the request (model, weights, precision, URL without key)."""

    def chat(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answer each request."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """Return log-probabilities, where the backend can."""


class Watch(Protocol):
    """Who stands beside a model while it is asked, such as a budget; called from any thread."""

    def before(self, request: Request) -> None:
        """Called before anything is sent for a request; what it raises ends the batch, and no further request is sent."""

    def after(self, request: Request, reply: Reply) -> None:
        """Called as soon as the request is answered."""


@runtime_checkable
class Loadable(Protocol):
    """A chat model in this process, whose weights take a while to load, or one that stands before it."""

    def load(self) -> None:
        """Load the weights now rather than at the first call."""


@runtime_checkable
class Streaming(Protocol):
    """A chat model that hands over each answer when it is there, rather than all at the end."""

    def stream(self, requests: Sequence[Request], watch: Watch | None = None) -> Iterator[list[tuple[int, Reply]]]:
        """Yield what has been answered since the last time, as (place in ``requests``, reply); never nothing.

        The requests are of one kind.  An error is raised after all that was answered has been
        yielded, also when it is ``KeyboardInterrupt``.
        """
