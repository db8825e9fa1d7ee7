"""TextEASE: EASE whose weights are drawn towards those that the items' texts suggest."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Config, Dataset, ModelError, Queries, Resources, ScoringComponent, Uniform
from llm4rec.features.reduce import DEFAULT_TEMPLATE, item_vectors
from llm4rec.features.values import Encoder
from llm4rec.models.ease import inverse, item_gram
from llm4rec.models.history import history_matrix


class TextEASEConfig(Config):
    """Parameters of TextEASE."""

    encoder: str = "minilm"
    """Name of the encoder: an ``[encoder.NAME]`` table."""
    template: str = DEFAULT_TEMPLATE
    """Item text, from columns of the item table."""
    center: bool = True
    """Subtract the mean of the items' vectors.  What all texts share then no longer counts as likeness."""
    text_l2: float = Field(10.0, gt=0)
    """Weight of the squared weights in the text's own problem, in dimensions of a unit vector."""
    prior: float = Field(100.0, ge=0)
    """Weight of the squared distance from the text's weights, in events; 0 is EASE."""
    l2: float = Field(300.0, gt=0)
    """Weight of the squared weights in the loss, in events."""
    half_life: float = Field(6.0, ge=0)
    """Events of the history after which an older one counts half; 0: all count alike."""
    text_control: Literal["none", "shuffled", "random"] = "none"
    """``shuffled``: each item has another's text.  ``random``: normal values in the place of the vectors.
    What the text is worth is the difference."""


class TextEASE(ScoringComponent[TextEASEConfig]):
    """Two linear autoencoders in closed form, the second regularised towards the first.

    The first explains each dimension of the text vectors F [d, n_items] of an item by the other items:
    ``S = argmin |F - FS|^2 + text_l2 |S|^2`` subject to ``diag(S) = 0``.  The second explains the users'
    events X and stays near S:

        ``B = argmin |X - XB|^2 + l2 |B|^2 + prior |B - S|^2`` subject to ``diag(B) = 0``.

    With ``P = (X'X + (l2 + prior) I)^-1`` the answer is ``B = I + prior P S - P diag(g)``, where g makes the
    diagonal zero.  An item without events keeps ``prior / (l2 + prior)`` of the text's weights, so that it is
    recommended too.

    S is never made: by Woodbury's formula ``(F'F + r I)^-1 = (I - F'M F) / r`` with ``M = (r I + F F')^-1``, so
    P S costs a product with d dimensions instead of one with n_items.

    Moon, Park, Lee: LLM-Enhanced Linear Autoencoders for Recommendation, CIKM 2025 (arXiv 2508.13500), there
    L3AE.  Centring and the recency of a query's events (``half_life=0``: none) are no part of the paper.
    """

    space: ClassVar = {
        "text_l2": Uniform(0.1, 100.0, log=True),
        "prior": Uniform(1.0, 3000.0, log=True),
        "l2": Uniform(10.0, 3000.0, log=True),
        "half_life": Uniform(1.0, 30.0, log=True),
    }

    deterministic = False  # the controls are drawn
    weights_: NDArray[np.float32]

    def __init__(self, config: TextEASEConfig | None = None, *, encoder: Encoder | None = None) -> None:
        super().__init__(config)
        self._encoder = encoder

    @classmethod
    def create(cls, config: TextEASEConfig, resources: Resources) -> Self:
        """Build from a config, with the encoder that it names."""
        return cls(config, encoder=resources.encoder(config.encoder))

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Encode the catalogue and solve; memory and time are n^2 and n^3 for n items, in float64.

        Raises:
            ModelError: if there is no encoder.
            SpecError: if the template does not fit the item table, or ``l2`` is too small to invert.
        """
        config = self.config
        p = self._inverse(train)  # [n_items, n_items]
        f = self._vectors(train, rng)  # [n_items, d], the transpose of the paper's F
        middle = np.linalg.inv(config.text_l2 * np.eye(f.shape[1]) + f.T @ f)  # [d, d]
        own = (1.0 - np.einsum("nd,de,ne->n", f, middle, f, optimize=True)) / config.text_l2  # diagonal of the text's inverse
        # S = I - Q / diag(Q) with Q = (I - f middle f') / text_l2, so P S = P - (P - (P f) middle f') / (text_l2 own).
        weights = (p @ f) @ middle @ f.T
        weights -= p
        weights /= config.text_l2 * own
        weights += p
        weights *= config.prior  # prior P S
        at = np.diag_indices_from(p)
        weights -= p * ((1.0 + weights[at]) / p[at])
        np.fill_diagonal(weights, 0.0)  # the I of the answer is for the diagonal alone
        self.weights_ = weights.astype(np.float32)  # [from, to]
        return self

    def _inverse(self, train: Dataset) -> NDArray[np.float64]:
        """Return float64[n_items, n_items], ``(X'X + (l2 + prior) I)^-1``; only items with events need inverting."""
        ridge = self.config.l2 + self.config.prior
        known, gram = item_gram(train)
        gram[np.diag_indices_from(gram)] += ridge
        p = np.eye(train.n_items) / ridge
        p[np.ix_(known, known)] = inverse(gram)
        return p

    def _vectors(self, train: Dataset, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return float64[n_items, d], the items' vectors of unit length; zero for an item without text."""
        if self._encoder is None:
            raise ModelError("has no encoder", where="TextEASE", todo="build it with encoder=... or TextEASE.create")
        vectors = item_vectors(train, self._encoder, self.config.template).astype(np.float64)
        held = np.any(vectors != 0, axis=1)  # [n_items]
        if self.config.center and held.any():
            vectors[held] -= vectors[held].mean(axis=0)
        if self.config.text_control == "shuffled":
            vectors = vectors[rng.permutation(len(vectors))]
        elif self.config.text_control == "random":
            vectors = rng.normal(size=vectors.shape) * held[:, None]
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items]; items without events are scored by their text."""
        history = history_matrix(queries, len(self.weights_), self.config.half_life)
        return np.asarray(history @ self.weights_, dtype=np.float32)

    def state(self) -> dict[str, Any]:
        """Return the weights."""
        return {"weights_": self.weights_}
