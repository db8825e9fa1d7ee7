"""EDLAE: EASE trained on histories with events left out, in closed form."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Config, Dataset, Queries, ScoringComponent, Uniform
from llm4rec.models.ease import inverse, item_gram, without_own
from llm4rec.models.history import history_matrix


class EDLAEConfig(Config):
    """Parameters of EDLAE."""

    dropout: float = Field(0.7, ge=0, lt=1)
    """Share of a history's events that are left out in training; 0 is EASE."""
    l2: float = Field(300.0, gt=0)
    """Weight of the squared weights in the loss, in events, beside what the dropout adds."""
    half_life: float = Field(6.0, ge=0)
    """Events of the history after which an older one counts half; 0: all count alike."""


class EDLAE(ScoringComponent[EDLAEConfig]):
    """A denoising linear autoencoder with full emphasis on what was left out.

    Each event of the input is dropped with probability ``p``, and the dropped ones alone are to be
    predicted.  On average over all ways of dropping, that is EASE's problem with a regularisation
    that grows with an item's number of events:  ``|X - XB|^2 + |L^(1/2) B|^2`` subject to
    ``diag(B) = 0``, with ``L = p / (1 - p) diag(X'X) + l2 I``.  With ``P = (X'X + L)^-1`` the answer
    is ``B = I - P / diag(P)`` (columns divided).

    So the weights that leave popular items shrink in step with the rest, where EASE's one ``l2``
    hardly touches them.

    Steck: Autoencoders that don't overfit towards the Identity, NeurIPS 2020.  As in
    :class:`~llm4rec.models.ease.EASE`, a query's events are weighed by recency; ``half_life=0`` is the paper's.
    """

    space: ClassVar = {
        "dropout": Uniform(0.05, 0.9),
        "l2": Uniform(1.0, 2000.0, log=True),
        "half_life": Uniform(1.0, 30.0, log=True),
    }

    weights_: NDArray[np.float32]
    known_: NDArray[np.int64]
    n_items_: int

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Invert the items' Gram matrix, in float64: memory and time are m^2 and m^3 for m items with events."""
        odds = self.config.dropout / (1.0 - self.config.dropout)
        self.n_items_ = train.n_items
        self.known_, gram = item_gram(train)
        gram[np.diag_indices_from(gram)] += odds * np.diag(gram) + self.config.l2
        self.weights_ = without_own(inverse(gram))  # [from, to]
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items]; 0 for an item without training events."""
        history = history_matrix(queries, self.n_items_, self.config.half_life)
        scores = np.zeros((len(queries), self.n_items_), dtype=np.float32)
        scores[:, self.known_] = history[:, self.known_] @ self.weights_
        return scores
