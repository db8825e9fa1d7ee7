"""Lists that are longer than a prompt should be: how parts of them are judged, and become one order.

- ``Whole``: one question about all candidates.
- ``Sliding``: from the end of the list to its front, a window at a time; what is judged best in one
  moves on into the next, so the first places are right when the last window is (RankGPT: Sun et
  al., "Is ChatGPT Good at Search?", EMNLP 2023, arXiv 2304.09542).
- ``Tournament``: groups are judged side by side, the best of each go on (TourRank: Chen et al., WWW
  2025, arXiv 2406.11678, which repeats this and adds up points).

All of them ask in rounds, so that the questions of a batch are asked together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Exchange, Trial
from llm4rec.prompted.rank.question import Judge, Question, Verdict


class Window(Protocol):
    """A way of splitting questions."""

    def rank(self, questions: Sequence[Question], judge: Judge, weight: float) -> list[Verdict]:
        """Return a verdict on each question; ``weight`` of the prior is subtracted where parts are compared.

        The prior of a verdict is 0 where it has been subtracted already.
        """


@dataclass(frozen=True)
class Whole:
    """All candidates at once."""

    def rank(self, questions: Sequence[Question], judge: Judge, weight: float) -> list[Verdict]:
        """Ask each question as it stands; nothing is subtracted yet."""
        return judge.judge(questions, prior=weight > 0)


@dataclass
class _Record:
    """What was said about the parts of one question."""

    placed: NDArray[np.bool_]
    failures: list[str] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)

    def verdict(self, scores: NDArray[np.float64]) -> Verdict:
        """Return the verdict; candidates that no part placed get nan."""
        known = np.where(self.placed, scores, np.nan)
        return Verdict(known, np.zeros(len(scores)), tuple(self.failures), tuple(self.exchanges), tuple(self.trials))


def _judged(
    parts: Sequence[tuple[Question, _Record, list[int]]], judge: Judge, weight: float
) -> list[tuple[list[int], NDArray[np.float64]]]:
    """Return for each part (question, its record, places) the places in their new order, and their scores.

    What the judge did not place stays behind the others of the part, in the order in which it stood.
    """
    verdicts = judge.judge([question.only(places) for question, _, places in parts], prior=weight > 0)
    out = []
    for (_, record, places), verdict in zip(parts, verdicts, strict=True):
        held = np.array(sorted(places), dtype=np.int64)
        by_place = dict(zip(held.tolist(), verdict.less(weight).tolist(), strict=True))
        scores = np.array([by_place[place] for place in places])
        known = np.isfinite(scores)
        record.placed[np.array(places)[known]] = True
        record.failures += verdict.failures
        record.exchanges += verdict.exchanges
        record.trials += verdict.trials
        order = np.lexsort((np.where(known, -scores, 0.0), ~known))  # stable: equal ones stay as they stood
        out.append(([places[at] for at in order], scores[order]))
    return out


@dataclass(frozen=True)
class Sliding:
    """A window of ``size`` candidates that moves ``step`` towards the front, ``passes`` times over the list."""

    size: int
    step: int
    passes: int

    def rank(self, questions: Sequence[Question], judge: Judge, weight: float) -> list[Verdict]:
        """Judge windows from the end to the front; the score of a candidate tells its final place."""
        orders = [list(question.start) for question in questions]
        records = [_Record(np.zeros(len(order), dtype=bool)) for order in orders]
        begins = [self._begins(len(order)) * self.passes for order in orders]
        for round_ in range(max(map(len, begins), default=0)):
            active = [at for at, starts in enumerate(begins) if round_ < len(starts)]
            spans = [slice(begins[at][round_], begins[at][round_] + self.size) for at in active]
            parts = [(questions[at], records[at], orders[at][span]) for at, span in zip(active, spans, strict=True)]
            for at, span, (places, _) in zip(active, spans, _judged(parts, judge, weight), strict=True):
                orders[at][span] = places
        return [record.verdict(_by_place(order)) for record, order in zip(records, orders, strict=True)]

    def _begins(self, k: int) -> list[int]:
        """Return where the windows of one pass begin, the last of the list first."""
        last = max(0, k - self.size)
        return [*range(last, 0, -self.step), 0]


def _by_place(order: Sequence[int]) -> NDArray[np.float64]:
    """Return float64[k] in (0, 1]: 1 for the place that stands first, falling by 1/k."""
    scores = np.zeros(len(order))
    scores[list(order)] = (len(order) - np.arange(len(order))) / max(1, len(order))
    return scores


@dataclass(frozen=True)
class Tournament:
    """Groups of at most ``size`` candidates, of which the best ``advance`` go on until one group is left.

    Groups are dealt like cards from the order in which the candidates start, turning at each end,
    so that the first of the list do not meet before the end.  A candidate is ranked by the stage
    that it reached, then by its place in its last group, then by its score there.
    """

    size: int
    advance: int

    def rank(self, questions: Sequence[Question], judge: Judge, weight: float) -> list[Verdict]:
        """Judge all groups of a stage together."""
        alive = [list(question.start) for question in questions]
        records = [_Record(np.zeros(len(order), dtype=bool)) for order in alive]
        reached = [np.zeros((3, len(order))) for order in alive]  # rows: stage, place, score
        active = [at for at, order in enumerate(alive) if order]
        stage = 0
        while active:
            dealt = [(at, group) for at in active for group in self._groups(alive[at])]
            judged = _judged([(questions[at], records[at], group) for at, group in dealt], judge, weight)
            winners: dict[int, list[list[int]]] = {at: [] for at in active}
            for (at, _), (places, scores) in zip(dealt, judged, strict=True):
                behind = -np.arange(len(places), dtype=np.float64)
                reached[at][:, places] = np.stack([np.full(len(places), stage), behind, np.nan_to_num(scores, nan=-np.inf)])
                winners[at].append(places[: self.advance])
            ended = {at for at in active if len(winners[at]) == 1}
            for at in active:
                # First the winners of all groups, then the seconds, ...: the next groups are dealt from that.
                alive[at] = [group[row] for row in range(self.advance) for group in winners[at] if row < len(group)]
            active = [at for at in active if at not in ended]
            stage += 1
        out = []
        for question, record, told in zip(questions, records, reached, strict=True):
            order = np.lexsort((question.lottery(), -told[2], -told[1], -told[0]))
            out.append(record.verdict(_by_place(order.tolist())))
        return out

    def _groups(self, order: list[int]) -> list[list[int]]:
        """Return the candidates in as few groups as hold them, of nearly equal size."""
        n = -(-len(order) // self.size)
        turns = [[*range(n)], [*reversed(range(n))]]
        seats = [seat for row in range(-(-len(order) // n)) for seat in turns[row % 2]]
        groups: list[list[int]] = [[] for _ in range(n)]
        for place, seat in zip(order, seats, strict=False):
            groups[seat].append(place)
        return groups
