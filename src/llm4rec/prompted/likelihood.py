"""Ranking by likelihood: how probable is each candidate's name after the user's history?

    score(c | h) = log p(c | prompt of h) - w log p(c | prompt without a history)

A model that is too small to follow a listing still knows which titles are talked of, and which
are talked of together.  The second term takes out some of the first kind of knowledge; it is the
pointwise mutual information at w = 1 (Holtzman et al., "Surface form competition", EMNLP 2021,
arXiv 2104.08315).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import SpecError
from llm4rec.llm.values import ChatModel, ScoreReply, ScoreRequest

#: Stands for the candidate while the template is rendered; a private-use character, which no name holds.
_HERE = "\ue000"
#: Names whose likelihood alone is asked in one request: nearly as fast a name as hundreds, and
#: little is wasted where only a few of them are needed.
_BLOCK = 16


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


class Names:
    """What may be asked for, and how likely each name is alone: without a history.

    The likelihoods alone are asked in fixed blocks of 16 names and kept, so that an answer (and
    its place in the store) does not depend on what else is asked, each block is asked once in
    the life of the object, and a prompt is not computed for every name.

    Args:
        names: n names.
        alone: the wording without a history.
        order: int[n], a permutation; names that are often asked together should stand together.
    """

    def __init__(self, names: Sequence[str], alone: Wording, order: NDArray[np.integer]) -> None:
        self.names = names
        self._wording = alone
        self._order = order
        self._block = np.empty(len(names), dtype=np.int64)
        self._block[order] = np.arange(len(names)) // _BLOCK
        self._known = np.full(len(names), np.nan)

    def alone(self, model: ChatModel, ids: Iterable[int]) -> tuple[NDArray[np.float64], dict[int, str]]:
        """Return float64[n] with the log-probabilities of at least ``ids``, and id -> failure of those without one.

        What failed is asked again next time.
        """
        wanted = np.unique(np.fromiter(ids, np.int64))
        blocks = np.unique(self._block[wanted[np.isnan(self._known[wanted])]])
        rows = [self._order[block * _BLOCK : (block + 1) * _BLOCK] for block in blocks.tolist()]
        failed: dict[int, str] = {}
        if rows:
            replies = model.score([self._wording.asks([self.names[i] for i in row]) for row in rows])
            for row, reply in zip(rows, replies, strict=True):
                logprobs = _logprobs(reply, len(row))
                self._known[row] = np.where(np.isfinite(logprobs), logprobs, np.nan)
                failed |= {int(i): reply.failure or "missing_logprob" for i in row[~np.isfinite(logprobs)]}
        return self._known, failed


def _logprobs(reply: ScoreReply, n: int) -> NDArray[np.float64]:
    """Return float64[n], nan for all if the call failed."""
    return np.full(n, np.nan) if reply.failure is not None else np.asarray(reply.logprobs, dtype=np.float64)


def ask(
    model: ChatModel, names: Names, wordings: Sequence[Wording], rows: Sequence[NDArray[np.integer]], *, alone: bool
) -> list[Likelihoods]:
    """Ask how likely names are.

    Args:
        names: whose ids ``rows`` holds.
        wordings: n prompts.
        rows: ids of the names to judge after each.
        alone: ask also how likely they are without a history.
    """
    replies = model.score([w.asks([names.names[i] for i in row]) for w, row in zip(wordings, rows, strict=True)])
    priors, failed = names.alone(model, (i for row in rows for i in row)) if alone else (np.zeros(len(names.names)), {})
    out = []
    for wording, row, reply in zip(wordings, rows, replies, strict=True):
        given = _logprobs(reply, len(row))
        failures = [failed[i] for i in row.tolist() if i in failed]
        if reply.failure is not None:
            failures.insert(0, reply.failure)
        else:
            failures = ["missing_logprob"] * int((~np.isfinite(given)).sum()) + failures
        tokens = np.ones(len(row), np.int32) if reply.failure is not None else np.asarray(reply.tokens, dtype=np.int32)
        out.append(Likelihoods(given, priors[row], tokens, wording.before, tuple(failures)))
    return out


def table(names: Sequence[str], likelihoods: Likelihoods, weight: float) -> str:
    """Return the log-probabilities as text for the report, one name a line."""
    return "\n".join(
        f"{name}: {given:.3f} ({tokens} tokens)" + (f", alone {alone:.3f}" if weight else "")
        for name, given, alone, tokens in zip(names, likelihoods.given, likelihoods.alone, likelihoods.tokens, strict=True)
    )
