"""Ranking by choice: the candidates are listed with labels; how probable is each label as the answer?

One forward pass ranks a whole list, but the answer depends on where a candidate stands in it
(position bias; Zheng et al., "Large language models are not robust multiple choice selectors",
ICLR 2024, arXiv 2309.03882).  So the list is asked in several orders and the scores averaged.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Exchange
from llm4rec.llm.values import ChatModel, Message, ScoreRequest
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


def _log_shares(logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log-probabilities given that one of the labels is the answer."""
    known = logprobs[np.isfinite(logprobs)]
    if not len(known):
        return np.full_like(logprobs, np.nan)
    top = float(known.max())
    return np.asarray(logprobs - top - np.log(np.exp(known - top).sum()), dtype=np.float64)


def rank(
    model: ChatModel, questions: Sequence[Question], converse: Callable[..., tuple[Message, ...]], permutations: int
) -> list[Verdict]:
    """Rank each question's candidates by the mean log-share of their labels over several orders."""
    orders = [q.orders(permutations) for q in questions]
    turns: list[tuple[Message, ...]] = []
    requests = []
    for question, rows in zip(questions, orders, strict=True):
        names = labels(len(question.candidates))
        for row in rows:
            listed = [(label, question.candidates[at]) for label, at in zip(names, row, strict=True)]
            turns.append(converse(history=question.history, request=question.request, candidates=listed))
            requests.append(ScoreRequest(turns[-1], names))
    replies = iter(zip(turns, requests, model.score(requests), strict=True))
    verdicts = []
    for rows in orders:
        scores = np.full(rows.shape, np.nan)
        failures: list[str] = []
        exchanges = []
        for at, row in enumerate(rows):
            asked, request, reply = next(replies)
            failure = reply.failure
            if failure is None:
                logprobs = np.asarray(reply.logprobs, dtype=np.float64)
                scores[at, row] = _log_shares(logprobs)
                lost = int((~np.isfinite(logprobs)).sum())
                failures += ["missing_logprob"] * lost
                failure = "missing_logprob" if lost else None
                answer = "\n".join(f"{label}: {x:.3f}" for label, x in zip(request.continuations, logprobs, strict=True))
            else:
                failures.append(failure)
                answer = reply.detail
            exchanges.append(Exchange(spelt(asked), answer, failure))
        held = np.isfinite(scores)
        mean = np.where(held, scores, 0.0).sum(axis=0) / np.maximum(held.sum(axis=0), 1)
        verdicts.append(Verdict(np.where(held.any(axis=0), mean, np.nan), tuple(failures), tuple(exchanges)))
    return verdicts
