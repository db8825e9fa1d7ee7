"""Random IDs: the floor that any scheme with a meaning has to beat."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Dataset, SpecError
from llm4rec.features.values import Encoder
from llm4rec.generative.ids.scheme import Scheme, leveled
from llm4rec.generative.ids.values import ItemIDs


class RandomIDs(Scheme):
    """Each item gets a row of codes at random, no two the same.

    Rajput et al., *Recommender Systems with Generative Retrieval*, NeurIPS 2023 (arXiv 2305.05065), there "random ID".
    """

    scheme: Literal["random"] = "random"
    levels: int = Field(3, ge=1)
    """Codes of an ID."""
    codebook: int = Field(256, ge=2)
    """Codes to choose from at each level."""

    def assign(self, train: Dataset, *, encoder: Encoder | None, rng: np.random.Generator) -> ItemIDs:
        """Draw the codes; raises ``SpecError`` if there are fewer IDs than items."""
        n, room = train.n_items, self.codebook**self.levels
        if room < n:
            raise SpecError(
                f"{self.codebook} codes at {self.levels} levels name {room} items, not {n}",
                where="ids.codebook", todo="raise it, or ids.levels",
            )  # fmt: skip
        if room <= 4 * n:  # most are taken: deal them out
            numbers = rng.permutation(room)[:n]
            codes = numbers[:, None] // self.codebook ** np.arange(self.levels)[::-1] % self.codebook
        else:  # few meet: draw those again
            codes = self._draw(n, rng)
            while len(again := _repeated(codes)):
                codes[again] = self._draw(len(again), rng)
        return leveled(codes, [self.codebook] * self.levels)

    def _draw(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return rng.integers(self.codebook, size=(n, self.levels))


def _repeated(codes: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the rows that equal an earlier one."""
    _, first = np.unique(codes, axis=0, return_index=True)
    return np.setdiff1d(np.arange(len(codes)), first)
