"""What a ranker asks about one query, and what it makes of the answers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Exchange


@dataclass(frozen=True, slots=True)
class Question:
    """One query and its candidates in words.

    Attributes:
        history: names of what the user has touched, oldest first.
        candidates: names of the candidates, in order of inside id: nothing in a question knows
            in which order they were retrieved.
        request: what the user asks for in words, or "".
        key: 64-bit hash of the question's content and the ranker's seed.  All that is drawn for
            this question is drawn from it, so neither the batch nor a row's place in it matters.
    """

    history: tuple[str, ...]
    candidates: tuple[str, ...]
    request: str
    key: int

    @classmethod
    def of(cls, history: tuple[str, ...], candidates: tuple[str, ...], request: str, time: int, seed: int) -> Question:
        """Make a question asked at a time (UTC s)."""
        content = json.dumps([history, candidates, request, time, seed])
        digest = hashlib.blake2b(content.encode(), digest_size=8).digest()
        return cls(history, candidates, request, int.from_bytes(digest, "big"))

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a model's answers say about one question's candidates.

    Attributes:
        scores: float64[k]; higher is better; nan for a candidate that no answer placed.
        failures: kinds of failure, one entry each time one happened.
        exchanges: prompts and raw answers.
    """

    scores: NDArray[np.float64]
    failures: tuple[str, ...]
    exchanges: tuple[Exchange, ...]
