"""Pairwise ranking: which of two candidates will the user rather choose?

Each pair is asked in both orders.  A preference is the mean, over the two, of the log-odds of the
label of one against that of the other (or of +1 and -1 where the model writes its answer), so a
bias towards a place cancels exactly; Qin et al. call a pair a tie when the two answers disagree,
which is the case of written answers here.

- ``all``: k (k - 1) / 2 pairs; the score of a candidate is the mean over its opponents of the
  probability that it beats them.  Preferences need not be consistent (PRP-Allpair).
- ``sort``: about k log2 k pairs; a merge sort, which ends with an order whatever the answers are,
  and leaves tied candidates as they stood (PRP-Sorting; the paper sorts by heap).

PRP-Sliding-K of the paper is a sliding window of two candidates, step one, K passes, over either.

Qin et al.: Large Language Models are Effective Text Rankers with Pairwise Ranking Prompting,
Findings of NAACL 2024, arXiv 2306.17563.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Exchange, Trial
from llm4rec.llm.values import ChatModel, ChatRequest, ScoreRequest
from llm4rec.prompted.rank.choice import shares, told
from llm4rec.prompted.rank.prompts import Wordings
from llm4rec.prompted.rank.question import Question, Verdict
from llm4rec.prompted.wording import spelt

Sorting = Literal["all", "sort"]
Answers = Literal["logprobs", "written"]
_LABELS = ("A", "B")
_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {"choice": {"enum": list(_LABELS)}},
    "required": ["choice"],
    "additionalProperties": False,
}
Pair = tuple[int, int]
#: Asks for pairs of places, is sent the preference for the first of each, returns a score for each place.
Plan = Generator[list[Pair], list[float], NDArray[np.float64]]


@dataclass(frozen=True)
class _Answer:
    """What one request about a pair said: the score of each label, nan where unknown."""

    scores: NDArray[np.float64]
    failures: list[str]
    exchange: Exchange


@dataclass(frozen=True)
class Pairs:
    """Judges by comparing two candidates at a time; both orders cancel a prior, so there is none.

    Args:
        model: gives log-probabilities, or writes.
        wordings: with a pairs template.
        sorting: which pairs are asked.
        answers: how a preference is read.
        max_tokens: bound of a written answer.
    """

    model: ChatModel
    wordings: Wordings
    sorting: Sorting
    answers: Answers
    max_tokens: int

    def judge(self, questions: Sequence[Question], *, prior: bool) -> list[Verdict]:
        """Judge in rounds: all pairs that all questions can ask at a time are one batch."""
        plans = [_all(len(q.candidates)) if self.sorting == "all" else _merge_sort(q.start) for q in questions]
        wanted: dict[int, list[Pair]] = {}
        scores: dict[int, NDArray[np.float64]] = {}
        known = [np.zeros(len(q.candidates), dtype=bool) for q in questions]
        records: list[tuple[list[str], list[Exchange], list[Trial]]] = [([], [], []) for _ in questions]
        sent: dict[int, list[float] | None] = dict.fromkeys(range(len(questions)))
        while sent:
            wanted = {}
            for at, preferences in sent.items():
                try:
                    wanted[at] = plans[at].send(preferences)  # type: ignore[arg-type]  # None starts a generator
                except StopIteration as done:
                    scores[at] = done.value
            both = [(at, pair) for at, pairs in wanted.items() for i, j in pairs for pair in ((i, j), (j, i))]
            replies = iter(self._ask([(questions[at], pair) for at, pair in both]) if both else ())
            sent = {}
            for at, pairs in wanted.items():
                failures, exchanges, trials = records[at]
                preferences = []
                for pair in pairs:
                    margins = []
                    for shown in (pair, pair[::-1]):
                        answer = next(replies)
                        failures += answer.failures
                        exchanges.append(answer.exchange)
                        trials.append(questions[at].trial(shown, answer.scores))
                        margin = float(answer.scores[0] - answer.scores[1])
                        margins.append(margin if shown == pair else -margin)
                    held = [margin for margin in margins if np.isfinite(margin)]
                    if held:
                        known[at][list(pair)] = True
                    preferences.append(float(np.mean(held)) if held else 0.0)
                sent[at] = preferences
        out = []
        for at, (failures, exchanges, trials) in enumerate(records):
            compared = known[at] | (len(scores[at]) == 1)
            placed = np.where(compared, scores[at], np.nan)
            out.append(Verdict(placed, np.zeros(len(placed)), tuple(failures), tuple(exchanges), tuple(trials)))
        return out

    def _ask(self, asked: Sequence[tuple[Question, Pair]]) -> list[_Answer]:
        turns = [
            self.wordings.messages(q, candidates=tuple((x, q.candidates[i]) for x, i in zip(_LABELS, pair, strict=True)))
            for q, pair in asked
        ]
        out = []
        if self.answers == "logprobs":
            requests = [ScoreRequest(t, _LABELS) for t in turns]
            for request, turn, reply in zip(requests, turns, self.model.score(requests), strict=True):
                scores, kinds = shares(reply, 2)
                answer = reply.detail if reply.failure else told(request, reply)
                out.append(_Answer(scores, kinds, Exchange(spelt(turn), answer, kinds[0] if kinds else None)))
            return out
        written = self.model.chat([ChatRequest(t, schema=_SCHEMA, max_tokens=self.max_tokens) for t in turns])
        for turn, said in zip(turns, written, strict=True):
            exchange = Exchange(spelt(turn), said.text or said.detail, said.failure)
            if said.failure is not None:
                out.append(_Answer(np.full(2, np.nan), [said.failure], exchange))
            else:
                won = np.array([float(said.value["choice"] == label) for label in _LABELS])
                out.append(_Answer(won, [], exchange))
        return out


def comparisons(k: int, sorting: Sorting) -> int:
    """Return the largest number of pairs of k candidates that are asked, each in two orders."""
    if sorting == "all":
        return k * (k - 1) // 2
    runs, total = [1] * k, 0
    while len(runs) > 1:
        merged = [sum(runs[at : at + 2]) for at in range(0, len(runs), 2)]
        total += sum(n - 1 for at, n in enumerate(merged) if 2 * at + 1 < len(runs))
        runs = merged
    return total


def _all(k: int) -> Plan:
    """Ask all pairs at once; a candidate's score is its mean probability of winning."""
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    wins = np.zeros((k, k))
    if pairs:
        preferences = np.array((yield pairs))
        first, second = np.array(pairs).T
        won = 1.0 / (1.0 + np.exp(-np.clip(preferences, -500, 500)))
        wins[first, second], wins[second, first] = won, 1.0 - won
    return np.asarray(wins.sum(axis=1) / max(k - 1, 1), dtype=np.float64)


def _merge_sort(start: Sequence[int]) -> Plan:
    """Merge runs bottom-up, all merges of a level side by side; a tie takes the earlier run's candidate."""
    runs = [[at] for at in start]
    while len(runs) > 1:
        left, right = runs[0::2], runs[1::2]
        odd = [left.pop()] if len(left) > len(right) else []
        merged: list[list[int]] = [[] for _ in right]
        active = list(range(len(right)))
        while active:
            preferences = yield [(left[m][0], right[m][0]) for m in active]
            for m, preference in zip(active, preferences, strict=True):
                merged[m].append((left[m] if preference >= 0 else right[m]).pop(0))
            active = [m for m in active if left[m] and right[m]]
        runs = [run + a + b for run, a, b in zip(merged, left, right, strict=True)] + odd
    k = len(start)
    scores = np.zeros(k)
    scores[runs[0] if runs else []] = (k - np.arange(k)) / k
    return scores
