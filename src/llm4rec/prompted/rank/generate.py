"""Ranking by writing: the model is shown numbered candidates and writes their numbers in order.

For models behind a server.  Numbers are resolved to candidates by code; prose is never matched
with titles.  Each order that is asked gives a candidate a Borda score, and these are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Exchange
from llm4rec.llm.answers import read_ranking
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest
from llm4rec.prompted.rank.prompts import Wordings
from llm4rec.prompted.rank.question import Question, Verdict
from llm4rec.prompted.wording import spelt


def schema(k: int) -> Mapping[str, Any]:
    """Return the JSON schema of an order of k candidates.

    It does not demand completeness: an order with gaps is still worth more than none, and what
    is missing is counted by code.
    """
    numbers = {"type": "array", "items": {"type": "integer"}, "minItems": 1}
    return {"type": "object", "properties": {"order": numbers}, "required": ["order"], "additionalProperties": False}


@dataclass(frozen=True)
class Generate:
    """Judges by the mean Borda score of the orders that the model writes; there is no prior to subtract.

    Args:
        model: writes.
        wordings: with a generate template.
        permutations: orders in which each list is asked.
        max_tokens: bound of an answer; 8 for each candidate and 32 more if None.
    """

    model: ChatModel
    wordings: Wordings
    permutations: int
    max_tokens: int | None

    def judge(self, questions: Sequence[Question], *, prior: bool) -> list[Verdict]:
        """Judge by one request for each order."""
        orders = [question.orders(self.permutations) for question in questions]
        requests = [self._asks(question, row) for question, rows in zip(questions, orders, strict=True) for row in rows]
        replies = iter(zip(requests, self.model.chat(requests), strict=True))
        verdicts = []
        for question, rows in zip(questions, orders, strict=True):
            k = len(question.candidates)
            total, named, read = np.zeros(k), np.zeros(k, dtype=bool), 0
            failures: list[str] = []
            exchanges, trials = [], []
            for row in rows:
                request, reply = next(replies)
                order, kinds = _order(reply, k)
                failures += kinds
                exchanges.append(Exchange(spelt(request.messages), reply.text or reply.detail, kinds[0] if kinds else None))
                given = np.full(k, np.nan)
                if len(order):
                    points = borda(order, k)
                    total[row] += points
                    named[row[order]] = True
                    given[order] = points[order]
                    read += 1
                trials.append(question.trial(row, given))
            scores = np.where(named, total / max(read, 1), np.nan)
            verdicts.append(Verdict(scores, np.zeros(k), tuple(failures), tuple(exchanges), tuple(trials)))
        return verdicts

    def _asks(self, question: Question, row: NDArray[np.int64]) -> ChatRequest:
        listed = tuple((number, question.candidates[at]) for number, at in enumerate(row, start=1))
        bound = 8 * len(row) + 32 if self.max_tokens is None else self.max_tokens
        return ChatRequest(self.wordings.messages(question, candidates=listed), schema=schema(len(row)), max_tokens=bound)


def borda(order: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Return float64[k] in [0, 1]: 1 for the slot named first, falling by 1/k.

    Slots that were not named share the mean of the places that are left behind the named ones, so
    that an order with gaps says nothing about them but that they come last.
    """
    scores = np.full(k, (k - len(order) + 1) / (2 * k))
    scores[order] = (k - np.arange(len(order))) / k
    return scores


def _order(reply: ChatReply, k: int) -> tuple[NDArray[np.int64], list[str]]:
    """Return the slots that an answer names, best first, and the kinds of what is wrong with it."""
    if reply.failure in ("unreadable", "schema"):  # not the asked form, but perhaps a plain list of numbers
        ranking = read_ranking(reply.text, k)
        if ranking.order:
            return np.array(ranking.order, dtype=np.int64), list(ranking.failures)
    if reply.failure is not None:
        return np.empty(0, np.int64), [reply.failure]
    numbers = [int(number) for number in reply.value["order"]]
    held = list(dict.fromkeys(number for number in numbers if 1 <= number <= k))
    inside = sum(1 <= number <= k for number in numbers)
    kinds = ["out_of_range"] * (len(numbers) - inside) + ["duplicate"] * (inside - len(held)) + ["omitted"] * (k - len(held))
    return np.array(held, dtype=np.int64) - 1, kinds
