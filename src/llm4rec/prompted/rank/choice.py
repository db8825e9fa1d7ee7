"""Ranking by choice: the candidates are listed with labels; how probable is each label as the answer?

One forward pass ranks a whole list, but the answer depends on where a candidate stands in it
(position bias; Zheng et al., "Large language models are not robust multiple choice selectors",
ICLR 2024, arXiv 2309.03882).  So the list is asked in several orders and the scores averaged, and
the bias that a listing without content shows can be subtracted (contextual calibration; Zhao et
al., ICML 2021, arXiv 2102.09690).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Exchange
from llm4rec.llm.values import ChatModel, Message, ScoreReply, ScoreRequest
from llm4rec.prompted.rank.prompts import CONTENT_FREE, Wordings, content_free
from llm4rec.prompted.rank.question import Question, Verdict
from llm4rec.prompted.wording import spelt


def labels(k: int) -> tuple[str, ...]:
    """Return k labels: letters up to 26, beyond that numbers with leading zeros.

    No label is the beginning of another one, so the log-probability of a label that takes several
    tokens competes fairly with the others.
    """
    if k <= len(string.ascii_uppercase):
        return tuple(string.ascii_uppercase[:k])
    return tuple(str(i).zfill(len(str(k))) for i in range(1, k + 1))


def log_shares(logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log-probabilities given that one of the labels is the answer."""
    known = logprobs[np.isfinite(logprobs)]
    if not len(known):
        return np.full_like(logprobs, np.nan)
    top = float(known.max())
    return np.asarray(logprobs - top - np.log(np.exp(known - top).sum()), dtype=np.float64)


@dataclass(frozen=True)
class Choice:
    """Judges by the mean log-share of a candidate's label over several orders.

    The prior of a candidate is the mean log-share that its labels get in listings whose every
    line is empty of content, asked once for each length of list and history.

    Args:
        model: gives log-probabilities.
        wordings: with a choice template.
        permutations: orders in which each list is asked.
    """

    model: ChatModel
    wordings: Wordings
    permutations: int
    _priors: dict[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict)

    def judge(self, questions: Sequence[Question], *, prior: bool) -> list[Verdict]:
        """Judge by one request for each order."""
        orders = [question.orders(self.permutations) for question in questions]
        asked = [
            self._asks(question, [question.candidates[at] for at in row])
            for question, rows in zip(questions, orders, strict=True)
            for row in rows
        ]
        replies = iter(zip(asked, self.model.score(asked), strict=True))
        slots, lost = self._slot_priors(questions) if prior else ({}, {})
        verdicts = []
        for question, rows in zip(questions, orders, strict=True):
            shape = _shape(question)
            scores = np.full(rows.shape, np.nan)
            priors = np.zeros(rows.shape)
            failures: list[str] = list(lost.get(shape, ()))
            exchanges, trials = [], []
            for at, row in enumerate(rows):
                request, reply = next(replies)
                scores[at, row], kinds = shares(reply, len(row))
                failures += kinds
                if prior:
                    priors[at, row] = slots[shape]
                answer = reply.detail if reply.failure else told(request, reply)
                exchanges.append(Exchange(spelt(_turns(request)), answer, kinds[0] if kinds else None))
                trials.append(question.trial(row, scores[at, row]))
            verdicts.append(
                Verdict(_mean(scores), _mean(priors, np.isfinite(scores)), tuple(failures), tuple(exchanges), tuple(trials))
            )
        return verdicts

    def _asks(self, question: Question, lines: Sequence[str]) -> ScoreRequest:
        names = labels(len(lines))
        turns = self.wordings.messages(question, candidates=tuple(zip(names, lines, strict=True)))
        return ScoreRequest(turns, names)

    def _slot_priors(
        self, questions: Sequence[Question]
    ) -> tuple[dict[tuple[int, int], NDArray[np.float64]], dict[tuple[int, int], tuple[str, ...]]]:
        """Return the log-share of each slot in listings without content, by (candidates, history), and what failed.

        Where one could not be asked the prior is 0, which is told as a failure and asked again next time.
        """
        wanted = {_shape(question): question for question in questions}
        missing = {shape: question for shape, question in wanted.items() if shape not in self._priors}
        requests = []
        for (k, _), question in missing.items():
            for text in CONTENT_FREE:
                empty = content_free(question, text, k)
                requests.append(self._asks(empty, empty.candidates))
        replies = iter(self.model.score(requests) if requests else ())
        out, lost = dict(self._priors), {}
        for shape in missing:
            rows = [shares(next(replies), shape[0]) for _ in CONTENT_FREE]
            kinds = tuple(kind for _, failed in rows for kind in failed)
            out[shape] = np.zeros(shape[0]) if kinds else np.mean([row for row, _ in rows], axis=0)
            if kinds:
                lost[shape] = kinds
            else:
                self._priors[shape] = out[shape]
        return out, lost


def _shape(question: Question) -> tuple[int, int]:
    return len(question.candidates), len(question.history)


def _turns(request: ScoreRequest) -> tuple[Message, ...]:
    assert not isinstance(request.prompt, str)
    return request.prompt


def shares(reply: ScoreReply, k: int) -> tuple[NDArray[np.float64], list[str]]:
    """Return the log-shares of k labels, nan where unknown, and the kinds of what is wrong."""
    if reply.failure is not None:
        return np.full(k, np.nan), [reply.failure]
    logprobs = np.asarray(reply.logprobs, dtype=np.float64)
    return np.where(np.isfinite(logprobs), log_shares(logprobs), np.nan), ["missing_logprob"] * int(
        (~np.isfinite(logprobs)).sum()
    )


def told(request: ScoreRequest, reply: ScoreReply) -> str:
    """Return the log-probabilities of labels as text for the report, one a line."""
    return "\n".join(f"{label}: {x:.3f}" for label, x in zip(request.continuations, reply.logprobs, strict=True))


def _mean(rows: NDArray[np.float64], held: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Return the mean of each column over what is known there, nan where nothing is."""
    held = np.isfinite(rows) if held is None else held
    mean = np.where(held, rows, 0.0).sum(axis=0) / np.maximum(held.sum(axis=0), 1)
    return np.asarray(np.where(held.any(axis=0), mean, np.nan), dtype=np.float64)
