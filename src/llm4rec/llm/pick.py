"""The next token of one answer, chosen under the answer's own seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.llm.values import ChatRequest


class Pick:
    """Chooses a token from logits float[vocabulary]: the likeliest at temperature 0, else a draw.

    Draws follow (seed, sample) of the request and nothing else, so a sampled answer does not
    depend on its neighbours.  A draw adds Gumbel noise and takes the largest (Gumbel 1954).
    """

    def __init__(self, request: ChatRequest) -> None:
        self._temperature = request.temperature
        self._draws = np.random.default_rng([request.seed % 2**64, request.sample % 2**64])

    def __call__(self, logits: NDArray[np.floating[Any]]) -> int:
        if self._temperature > 0:
            logits = logits / self._temperature + self._draws.gumbel(size=logits.shape)
        return int(logits.argmax())
