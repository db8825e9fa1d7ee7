"""Ranking by likelihood: how probable is each candidate's name after the user's history?

    score(c | h) = log p(c | prompt of h) - w log p(c | prompt without a history)

A model that is too small to follow a listing still knows which titles are talked of, and which
are talked of together.  The second term takes out some of the first kind of knowledge; it is the
pointwise mutual information at w = 1 (Holtzman et al., "Surface form competition", EMNLP 2021,
arXiv 2104.08315).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Exchange, SpecError
from llm4rec.llm.values import ChatModel, ScoreReply, ScoreRequest
from llm4rec.prompted.question import Question, Verdict

#: Stands for the candidate while the template is rendered; a private-use character, which no name holds.
_HERE = "\ue000"


@dataclass(frozen=True, slots=True)
class Wording:
    """A likelihood prompt: what stands before the candidate's name, and what closes it."""

    before: str
    gap: str
    after: str

    @classmethod
    def of(cls, render: Callable[..., str], **values: Any) -> Wording:
        """Render a template around the place of its candidate.

        White space before the candidate belongs to the continuation, as tokenisers want it.
        Raises ``SpecError`` if the template does not name the candidate exactly once.
        """
        text = render(candidate=_HERE, **values)
        if text.count(_HERE) != 1:
            raise SpecError(
                f"the template names the candidate {text.count(_HERE)} times, not once",
                where="template",
                todo="write {{ candidate }} at the one place where a candidate's name belongs",
            )
        before, after = text.split(_HERE)
        bare = before.rstrip()
        return cls(bare, before[len(bare) :], after)

    def asks(self, names: Sequence[str]) -> ScoreRequest:
        """Return one request for all names, so that the prompt is computed once."""
        return ScoreRequest(self.before, tuple(f"{self.gap}{name}{self.after}" for name in names))


@dataclass(frozen=True, slots=True)
class Likelihoods:
    """Log-probabilities of one question's candidates.

    Attributes:
        given: float64[k], natural logarithm, after the history; nan where unknown.
        alone: float64[k], without a history; 0 if it was not asked.
        tokens: int32[k], tokens of each name.
        prompt: what stood before the names.
        failures: kinds of failure.
    """

    given: NDArray[np.float64]
    alone: NDArray[np.float64]
    tokens: NDArray[np.int32]
    prompt: str
    failures: tuple[str, ...]

    def scores(self, weight: float, *, mean: bool) -> NDArray[np.float64]:
        """Return float64[k], ``given - weight * alone``, in total or for each token."""
        scores = self.given - weight * self.alone if weight else self.given
        return scores / np.maximum(self.tokens, 1) if mean else scores


class Priors:
    """Log-probabilities of names without a history, each asked once in the life of the object."""

    def __init__(self, wording: Wording) -> None:
        self._wording = wording
        self._known: dict[str, float] = {}

    def of(self, model: ChatModel, names: Sequence[str]) -> tuple[dict[str, float], dict[str, str]]:
        """Return name -> log-probability, and name -> kind of failure for those without one.

        Every name is a request of its own: its answer (and its place in the store) then depends
        on nothing but the name.  Backends compute the prompt that all of them share once.  What
        failed is asked again next time.
        """
        asked = sorted(set(names) - self._known.keys())
        failed: dict[str, str] = {}
        for name, reply in zip(asked, model.score([self._wording.asks([name]) for name in asked]), strict=True):
            value = _logprobs(reply, 1)[0]
            if np.isfinite(value):
                self._known[name] = float(value)
            else:
                failed[name] = reply.failure or "missing_logprob"
        return {name: self._known.get(name, np.nan) for name in names}, failed


def _logprobs(reply: ScoreReply, n: int) -> NDArray[np.float64]:
    """Return float64[n], nan for all if the call failed."""
    return np.full(n, np.nan) if reply.failure is not None else np.asarray(reply.logprobs, dtype=np.float64)


def ask(
    model: ChatModel, wordings: Sequence[Wording], names: Sequence[tuple[str, ...]], priors: Priors | None
) -> list[Likelihoods]:
    """Ask how likely each wording's names are; with ``priors``, also how likely they are without a history."""
    replies = model.score([wording.asks(row) for wording, row in zip(wordings, names, strict=True)])
    alone, failed = priors.of(model, [name for row in names for name in row]) if priors is not None else ({}, {})
    out = []
    for wording, row, reply in zip(wordings, names, replies, strict=True):
        given = _logprobs(reply, len(row))
        prior = np.array([alone.get(name, np.nan) if priors is not None else 0.0 for name in row], dtype=np.float64)
        failures = [failed[name] for name in row if name in failed]
        if reply.failure is not None:
            failures.insert(0, reply.failure)
        else:
            failures = ["missing_logprob"] * int((~np.isfinite(given)).sum()) + failures
        tokens = np.ones(len(row), np.int32) if reply.failure is not None else np.asarray(reply.tokens, dtype=np.int32)
        out.append(Likelihoods(given, prior, tokens, wording.before, tuple(failures)))
    return out


def table(names: Sequence[str], likelihoods: Likelihoods, weight: float) -> str:
    """Return the log-probabilities as text for the report, one name a line."""
    return "\n".join(
        f"{name}: {given:.3f} ({tokens} tokens)" + (f", alone {alone:.3f}" if weight else "")
        for name, given, alone, tokens in zip(names, likelihoods.given, likelihoods.alone, likelihoods.tokens, strict=True)
    )


def verdict(question: Question, likelihoods: Likelihoods, weight: float, *, mean: bool) -> Verdict:
    """Return the scores of one question's candidates."""
    failure = likelihoods.failures[0] if likelihoods.failures else None
    exchange = Exchange(likelihoods.prompt, table(question.candidates, likelihoods, weight), failure)
    return Verdict(likelihoods.scores(weight, mean=mean), likelihoods.failures, (exchange,))
