"""Ranking by writing: the model is shown numbered candidates and writes their numbers in order.

For models behind a server.  Numbers are resolved to candidates by code; prose is never matched
with titles.  Each order that is asked gives a candidate a Borda score, and these are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Exchange
from llm4rec.llm.answers import read_ranking
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest, Message
from llm4rec.prompted.rank.question import Question, Verdict
from llm4rec.prompted.wording import spelt


def schema(k: int) -> Mapping[str, Any]:
    """Return the JSON schema of an order of k candidates.

    It does not demand completeness: an order with gaps is still worth more than none, and what
    is missing is counted by code.
    """
    numbers = {"type": "array", "items": {"type": "integer"}, "minItems": 1}
    return {"type": "object", "properties": {"order": numbers}, "required": ["order"], "additionalProperties": False}


def rank(
    model: ChatModel,
    questions: Sequence[Question],
    converse: Callable[..., tuple[Message, ...]],
    permutations: int,
    max_tokens: int | None,
) -> list[Verdict]:
    """Rank each question's candidates by the mean Borda score of the orders that were written."""
    orders = [q.orders(permutations) for q in questions]
    requests = []
    for question, rows in zip(questions, orders, strict=True):
        k = len(question.candidates)
        for row in rows:
            listed = [(number, question.candidates[at]) for number, at in enumerate(row, start=1)]
            turns = converse(history=question.history, request=question.request, candidates=listed)
            bound = 8 * k + 32 if max_tokens is None else max_tokens
            requests.append(ChatRequest(turns, schema=schema(k), max_tokens=bound))
    replies = iter(zip(requests, model.chat(requests), strict=True))
    verdicts = []
    for question, rows in zip(questions, orders, strict=True):
        total = np.zeros(len(question.candidates))
        named = np.zeros(len(question.candidates), dtype=bool)
        read = 0
        failures: list[str] = []
        exchanges = []
        for row in rows:
            request, reply = next(replies)
            order, kinds = _order(reply, len(row))
            failures += kinds
            exchanges.append(Exchange(spelt(request.messages), reply.text or reply.detail, kinds[0] if kinds else None))
            if len(order):
                total[row] += borda(order, len(row))
                named[row[order]] = True
                read += 1
        scores = np.where(named, total / max(read, 1), np.nan)
        verdicts.append(Verdict(scores, tuple(failures), tuple(exchanges)))
    return verdicts


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
