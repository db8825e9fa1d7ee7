"""Text retrieval: items whose text is near the text of what the user has touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import (
    Cases,
    Choice,
    Config,
    Dataset,
    Lists,
    ModelError,
    NotFittedError,
    Queries,
    Ragged,
    Resources,
    ScoringComponent,
    SpecError,
    Uniform,
)
from llm4rec.features.index import IndexConfig, VectorIndex
from llm4rec.features.reduce import DEFAULT_TEMPLATE, item_vectors
from llm4rec.features.values import Encoder

_DAY = 86_400  # seconds
_LAST = 10  # items of a plain mean: with more of them, it tells no user from another


class TextRetrieverConfig(Config):
    """Parameters of :class:`TextRetriever`."""

    encoder: str = "minilm"
    """Name of the encoder: an ``[encoder.NAME]`` table."""

    template: str = DEFAULT_TEMPLATE
    """Item text, from columns of the item table."""

    center: bool = True
    """Subtract the mean of the items' vectors before comparing.  What all texts share (form,
    domain) then no longer counts as likeness."""

    profile: Literal["mean", "decay"] = "decay"
    """User vector: plain mean of the items' vectors, or one in which older items weigh less."""

    last: int | None = Field(default=None, ge=0)
    """How many of the latest items make the user vector; 0 takes all.  None takes 10 for ``mean``
    and all for ``decay``."""

    half_life: float = Field(default=5.0, gt=0)
    """``decay``: the age at which an item weighs half as much as the latest one."""

    half_life_unit: Literal["items", "days"] = "items"
    """``decay``: age counted in later items, or in days before the latest item."""

    request_weight: float = Field(default=0.5, ge=0, le=1)
    """Share of what the user asks for in words against the history, where both are given; 1
    ignores the history."""

    request_prefix: str = ""
    """Put before a request, for encoders that tell questions from documents."""

    index: IndexConfig = IndexConfig()
    """How the items are searched."""


class TextRetriever(ScoringComponent[TextRetrieverConfig]):
    """Cosine of each item's text vector with a user vector made from the history.

    With v_i the unit vector of item i's text (less the mean of all items and scaled to unit length
    again, if ``center``), a user with latest items h_1 ... h_n has the vector

        u = unit(sum_j w_j v_{h_j}),   w_j = 1 or 2^(-age_j / half_life),

    and item i the score <u, v_i>.  A request in words is encoded in the same way to r, and
    u becomes unit((1 - request_weight) u + request_weight r).

    A user without history and request gets the mean vector over the training events, which is
    the taste of the average user.  Items without text are not found: they score -inf.

    The profile is that of content-based filtering (Pazzani and Billsus, Content-based
    recommendation systems, 2007); on centring: Mu and Viswanath, All-but-the-top, ICLR 2018.
    """

    space: ClassVar = {"half_life": Uniform(1.0, 50.0, log=True), "center": Choice((True, False))}

    def __init__(self, config: TextRetrieverConfig | None = None, *, encoder: Encoder | None = None) -> None:
        super().__init__(config)
        self._encoder = encoder
        self._index: VectorIndex | None = None

    @classmethod
    def create(cls, config: TextRetrieverConfig, resources: Resources) -> Self:
        """Build from a config, with the encoder that it names."""
        return cls(config, encoder=resources.encoder(config.encoder))

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Encode the catalogue and build the index."""
        config = self.config
        if config.profile == "decay" and config.half_life_unit == "days" and train.clock != "utc":
            raise SpecError(f"{train.name} has no real times", where="half_life_unit", todo="use 'items'")
        vectors = item_vectors(train, self._opened(), config.template).astype(np.float64)
        found = np.flatnonzero(vectors.any(axis=1))
        if not len(found):
            raise SpecError("no item has any text", where=f"template {config.template!r}", todo="name other columns")
        self.mean_ = vectors[found].mean(axis=0) if config.center else np.zeros(vectors.shape[1])
        vectors[found] = _unit(vectors[found] - self.mean_)
        self.average_ = _unit(train.item_counts[None] @ vectors)[0]
        self._index = VectorIndex(vectors.astype(np.float32), found.astype(np.int32), config.index)
        return self

    def item_vectors(self) -> NDArray[np.float32]:
        """Return float32[n_items, d], unit vectors; zero for an item without text."""
        return self._fitted().vectors

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items], cosines; -inf for items without text."""
        return self._fitted().scores(self.profiles(queries))

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        """Return the ``k`` nearest items of each query, none of them excluded."""
        index = self._fitted()
        parts = [
            index.search(self.profiles(chunk), k, exclude=exclude.take(rows)) for rows, chunk in queries.chunks(self.batch)
        ]
        return Lists.concatenate(parts) if parts else Lists.empty(0, k)

    def profiles(self, queries: Queries) -> NDArray[np.float64]:
        """Return float64[n, d], each query's user vector of unit length.

        Raises:
            ModelError: if a request has to be encoded and there is no encoder.
        """
        profiles = _unit(self._means(queries))
        if queries.texts is not None and (asked := np.flatnonzero([bool(text.strip()) for text in queries.texts])).size:
            requests = self.encoded([self.config.request_prefix + queries.texts[int(i)] for i in asked])
            profiles[asked] = mixed(profiles[asked], requests, self.config.request_weight)
        return np.where(profiles.any(axis=1, keepdims=True), profiles, self.average_)

    def encoded(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return float64[n, d], the unit vectors of texts among those of the items; zero for a blank text.

        Raises:
            ModelError: if there is no encoder.
        """
        vectors = self._opened().encode(texts).astype(np.float64)
        return _unit(np.where(vectors.any(axis=1, keepdims=True), vectors - self.mean_, 0.0))

    def _means(self, queries: Queries) -> NDArray[np.float64]:
        """Return float64[n, d], the weighted sum of the vectors of each query's latest items."""
        from scipy import sparse

        config = self.config
        last = {"mean": _LAST, "decay": 0}[config.profile] if config.last is None else config.last
        at = queries.history.positions(np.arange(len(queries)), last or None)
        kept = queries.history.last(last) if last else queries.history
        weights = np.ones(len(at))
        if config.profile == "decay" and len(at):
            newest = np.repeat(kept.offsets[1:] - 1, kept.lengths)  # where in kept the row's latest item stands
            weights = 2.0 ** (-self._age(queries, at, newest) / config.half_life)
        used, column = np.unique(kept.values, return_inverse=True)
        matrix = sparse.csr_matrix((weights, column, kept.offsets), shape=(len(queries), len(used)))
        return np.asarray(matrix @ self._fitted().vectors[used].astype(np.float64))  # [n, used] @ [used, d]

    def _age(self, queries: Queries, at: NDArray[np.int64], newest: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return float64[m], how much older than the row's latest item the items at ``at`` are."""
        if self.config.half_life_unit == "items":
            return np.asarray(newest - np.arange(len(at)), dtype=np.float64)
        if queries.history_times is None:
            raise ModelError("the history has no times", where="half_life_unit = 'days'", todo="use 'items' or give times")
        times = queries.history_times[at]
        return np.asarray((times[newest] - times) / _DAY)

    # -- parts --------------------------------------------------------------------------
    def _fitted(self) -> VectorIndex:
        if self._index is None:
            raise NotFittedError("TextRetriever is not fitted", todo="call fit() or load() first")
        return self._index

    def _opened(self) -> Encoder:
        if self._encoder is None:
            raise ModelError("has no encoder", where="TextRetriever", todo="build it with encoder=... or TextRetriever.create")
        return self._encoder

    def state(self) -> dict[str, Any]:
        """Return the arrays of the index, the mean and the average user."""
        parts = {f"index_{name}": array for name, array in self._fitted().state().items()}
        return {"mean_": self.mean_, "average_": self.average_} | {f"{name}_": array for name, array in parts.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` returned."""
        self.mean_, self.average_ = state["mean_"], state["average_"]
        self._index = VectorIndex(
            state["index_vectors_"], state["index_items_"], self.config.index, built=state.get("index_built_")
        )


def mixed(own: NDArray[np.float64], other: NDArray[np.float64], share: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return float64[n, d], unit((1 - share) own + share other); where one of the two is zero, the other alone."""
    both = own.any(axis=1, keepdims=True) & other.any(axis=1, keepdims=True)
    return _unit(np.where(both, (1 - share) * own + share * other, own + other))


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row scaled to unit length; rows of zeros stay."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1.0))
