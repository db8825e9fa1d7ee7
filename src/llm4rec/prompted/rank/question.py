"""What a ranker asks about one query, what it makes of the answers, and who answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Exchange, Trial


@dataclass(frozen=True, slots=True)
class Question:
    """One query and its candidates in words.

    Attributes:
        history: lines for what the user has touched, oldest first.
        candidates: lines for the candidates, in order of inside id: no prompt knows in which order
            they were retrieved.
        ids: inside ids of the candidates.
        start: places of the candidates (0 is the first of ``ids``) in the order from which windows
            and sorting begin.
        key: 64-bit hash of candidates, request, time and the ranker's seed.  All that is drawn for
            this question is drawn from it, so neither the batch nor a row's place in it matters.
            What is known of the user is left out: another history is asked in the same orders.
        request: what the user asks for in words, or "".
        profile: what is known of the user in words, or "".
    """

    history: tuple[str, ...]
    candidates: tuple[str, ...]
    ids: tuple[int, ...]
    start: tuple[int, ...]
    key: int
    request: str = ""
    profile: str = ""

    @classmethod
    def of(
        cls,
        history: Sequence[str],
        candidates: Sequence[str],
        *,
        ids: Sequence[int] | None = None,
        request: str = "",
        profile: str = "",
        time: int = 0,
        seed: int = 0,
    ) -> Question:
        """Make a question asked at a time (UTC s), whose windows begin from an order drawn by its content."""
        content = json.dumps([list(candidates), request, time, seed])
        key = _hash(content)
        k = len(candidates)
        numbers = tuple(range(k)) if ids is None else tuple(int(i) for i in ids)
        start = tuple(np.random.default_rng([key, 2]).permutation(k).tolist())
        return cls(tuple(history), tuple(candidates), numbers, start, key, request, profile)

    def only(self, places: Sequence[int]) -> Question:
        """Return the question about some of the candidates, in order of inside id; they begin as they stand in ``places``."""
        held = sorted(places)
        return replace(
            self,
            candidates=tuple(self.candidates[at] for at in held),
            ids=tuple(self.ids[at] for at in held),
            start=tuple(held.index(at) for at in places),
            key=_hash(json.dumps([self.key, held])),
        )

    def orders(self, n: int) -> NDArray[np.int64]:
        """Return int64[m, k]: orders in which the k candidates are listed, m = min(n, k), all different.

        They come in pairs, an order and its reverse: over a pair every candidate has the same mean
        slot, so a bias that grows along the list cancels.  From one pair to the next a random
        first order is turned by an even share of its length, which moves each candidate through
        the list and so averages out a bias towards its ends or its middle.
        """
        k = len(self.candidates)
        m = min(n, k)
        pairs = (m + 1) // 2
        first = np.random.default_rng(self.key).permutation(k)
        turned = [np.roll(first, -(k * pair // pairs)) for pair in range(pairs)]
        both = [order for pair in turned for order in (pair, pair[::-1])]
        return np.array(both[:m], dtype=np.int64).reshape(m, k)

    def lottery(self) -> NDArray[np.int64]:
        """Return int64[k]: the place of each candidate in a draw by hash, for those that no answer placed."""
        draws = np.random.default_rng([self.key, 1]).permutation(len(self.candidates))
        return np.argsort(draws)

    def trial(self, order: Sequence[int] | NDArray[np.integer], scores: Sequence[float] | NDArray[np.floating]) -> Trial:
        """Return the record of a listing: the candidates at the places of ``order``, and the score that each was given."""
        return Trial(tuple(self.ids[int(at)] for at in order), tuple(float(score) for score in scores))


def _hash(content: str) -> int:
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a model's answers say about one question's candidates.

    Attributes:
        scores: float64[k]; higher is better; nan for a candidate that no answer placed.
        prior: float64[k], what a prompt without content gives them, 0 where it was not asked.
        failures: kinds of failure, one entry each time one happened.
        exchanges: prompts and raw answers.
        trials: the listings that were asked.
    """

    scores: NDArray[np.float64]
    prior: NDArray[np.float64]
    failures: tuple[str, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    trials: tuple[Trial, ...] = ()

    def less(self, weight: float) -> NDArray[np.float64]:
        """Return float64[k], ``scores - weight * prior``."""
        return self.scores - weight * self.prior if weight else self.scores


class Judge(Protocol):
    """One way of asking how candidates compare.  A batch of questions in, a verdict on each out, in order."""

    def judge(self, questions: Sequence[Question], *, prior: bool) -> list[Verdict]:
        """Judge the candidates of each question; ask a prompt without content too if ``prior``."""
