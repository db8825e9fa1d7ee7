"""A chat model that says what it was told to say: for tests, dry runs and documentation.

It is a backend like any other, except that its name and identity always begin with ``scripted``,
so that no table can show it as a real model.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np

from llm4rec.core import ModelError
from llm4rec.llm.structured import answered
from llm4rec.llm.values import ChatReply, ChatRequest, Message, ScoreReply, ScoreRequest, Usage

Answers = Sequence[str | ChatReply] | Callable[[ChatRequest], str | ChatReply]
Scores = Sequence[Sequence[float] | ScoreReply] | Callable[[ScoreRequest], Sequence[float] | ScoreReply]


def _words(prompt: str | tuple[Message, ...]) -> int:
    return len((prompt if isinstance(prompt, str) else " ".join(m.content for m in prompt)).split())


def arbitrary_scores(request: ScoreRequest) -> list[float]:
    """Return scores in (-1, 0] that depend on nothing but the words, and mean nothing."""
    text = request.prompt if isinstance(request.prompt, str) else "\n".join(m.content for m in request.prompt)
    digests = (hashlib.sha256(f"{text}\0{c}".encode("utf-8", "surrogatepass")).digest() for c in request.continuations)
    return [-int.from_bytes(d[:6], "big") / 2**48 for d in digests]


class ScriptedModel:
    """A chat model of given answers.

    A word counts as a token.  Answers to requests with a schema are read, validated and repaired
    as those of a real model are, so a repair takes a second answer from the queue.

    Args:
        answers: texts (or whole replies, such as failures) given in turn, or a function of the
            request.  When a queue is used up, the next question raises ``ModelError``.
        scores: log-probabilities of each request's continuations (or whole replies), given in
            turn, or a function of the request; by default :func:`arbitrary_scores`.
        name: what follows ``scripted-`` in the model's name.
        repeat: start the queue of answers again when it is used up.

    Attributes:
        asked: every request so far, repairs included, in order.
    """

    def __init__(
        self, answers: Answers = (), scores: Scores = arbitrary_scores, *, name: str = "", repeat: bool = False
    ) -> None:
        self.name = f"scripted-{name}" if name else "scripted"
        self.asked: list[ChatRequest | ScoreRequest] = []
        self._lock = Lock()
        self._answer = answers if callable(answers) else self._queue(answers, "answers", repeat)
        self._score = scores if callable(scores) else self._queue(scores, "scores", False)
        script = [None if callable(part) else [_plain(entry) for entry in part] for part in (answers, scores)]
        self._script = hashlib.sha256(json.dumps(script).encode()).hexdigest()

    def _queue(self, entries: Sequence[Any], kind: str, repeat: bool) -> Callable[[Any], Any]:
        turn = itertools.cycle(entries) if repeat else iter(entries)

        def take(_: Any) -> Any:
            try:
                return next(turn)
            except StopIteration:
                raise ModelError(f"the script of {self.name} has no more {kind}", todo=f"it was given {len(entries)}") from None

        return take

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name and hash of the queues; a function is known by the model's name alone."""
        return {"backend": "scripted", "model": self.name, "script": self._script}

    def chat(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answer each request from the script."""
        return answered(requests, self._complete)

    def _complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        replies = []
        with self._lock:
            for request in requests:
                self.asked.append(request)
                answer = self._answer(request)
                if not isinstance(answer, ChatReply):
                    answer = ChatReply(answer, usage=Usage(_words(request.messages), len(answer.split())))
                replies.append(answer)
        return replies

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """Return the script's log-probabilities."""
        replies = []
        with self._lock:
            for request in requests:
                self.asked.append(request)
                scores = self._score(request)
                if not isinstance(scores, ScoreReply):
                    tokens = np.array([max(1, len(c.split())) for c in request.continuations], dtype=np.int32)
                    logprobs = np.array(scores, dtype=np.float64).reshape(len(tokens))
                    scores = ScoreReply(logprobs, tokens, usage=Usage(_words(request.prompt) + int(tokens.sum()), 0))
                replies.append(scores)
        return replies


def _plain(entry: Any) -> Any:
    return entry if isinstance(entry, str) else repr(entry)
