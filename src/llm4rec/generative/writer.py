"""What all models that write item IDs share: the IDs, exact scores and beam search over them, the look at validation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Config, Lists, Queries, Ragged, Resources, ScoringComponent
from llm4rec.features.encoders import Encoder
from llm4rec.generative.decode import beam_search, score_all
from llm4rec.generative.ids import IdScheme, RandomIDs
from llm4rec.generative.step import StepModel
from llm4rec.generative.trie import Trie
from llm4rec.metrics import evaluate


class WriterConfig(Config):
    """Parameters of a model that writes the ID of the next item, token by token."""

    ids: IdScheme = Field(RandomIDs.model_validate({}), discriminator="scheme")
    """How items get their IDs."""
    search: Literal["exact", "beam"] = "exact"
    """``exact``: the probability of every item's ID, for a true full ranking.  ``beam``: the best IDs that a
    beam search finds, for large catalogues."""
    beams: int = Field(50, ge=1)
    """``beam``: prefixes kept at each step; at least as many as items are asked for."""


C = TypeVar("C", bound=WriterConfig)


class IDWriter(ScoringComponent[C]):
    """A recommender that gives each item's ID a probability, token by token.

    The tokens that can follow a prefix are those that continue it to the ID of some item, and probabilities
    are taken over these alone: the items' probabilities sum to 1, and nothing but an item can be written.  A query of
    which nothing is known is answered by training popularity.
    """

    deterministic = False
    #: Prefixes whose states are held at once.
    prefixes: ClassVar[int] = 1 << 13
    #: float32[n_items], training events of each item.
    popularity_: NDArray[np.float32]

    def __init__(self, config: C | None = None, *, encoder: Encoder | None = None) -> None:
        super().__init__(config)
        self._encoder = encoder

    @classmethod
    def create(cls, config: C, resources: Resources) -> Self:
        """Take the encoder of the IDs from the run's resources."""
        return cls(config, encoder=config.ids.open_encoder(resources))

    # -- what a model brings ------------------------------------------------------------
    @property
    @abstractmethod
    def trie(self) -> Trie:
        """The items' IDs, in the model's tokens."""

    @abstractmethod
    def decoders(self, queries: Queries) -> Iterator[tuple[NDArray[np.int64], StepModel]]:
        """Yield rows of queries of which something is known, and what decodes their next items."""

    # -- what they share ----------------------------------------------------------------
    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items]: the logarithm of the probability of each item's ID."""
        scores = np.tile(self._popular(), (len(queries), 1))
        with torch.inference_mode():
            for rows, steps in self.decoders(queries):
                scores[rows] = score_all(steps, self.trie, normalise="trie", width=self.prefixes)
        return scores

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        """Return the ``k`` best items of each query, none of them excluded: of all, or of those that the beams find."""
        if self.config.search == "exact":
            return super().retrieve(queries, k, exclude=exclude)
        popular, lists, beams = self._popular(), Lists.empty(len(queries), k), max(k, self.config.beams)
        unknown = np.ones(len(queries), dtype=np.bool_)
        for rows, some in queries.chunks(self.batch):
            with torch.inference_mode():
                for within, steps in self.decoders(some):
                    at = np.asarray(rows)[within]
                    found = beam_search(steps, self.trie, k, beams=beams, exclude=exclude.take(at), normalise="trie")
                    lists.items[at], lists.scores[at], unknown[at] = found.items, found.scores, False
        nothing = np.flatnonzero(unknown)
        known = Lists.from_scores(np.tile(popular, (len(nothing), 1)), k, exclude=exclude.take(nothing))
        lists.items[nothing], lists.scores[nothing] = known.items, known.scores
        return lists

    def validated(self, valid: Cases) -> float:
        """Return the mean NDCG@10 of validation cases, seen items masked."""
        lists = self.retrieve(valid.queries, 10, exclude=valid.seen)
        return float(evaluate(lists, valid.truth, ["ndcg@10"])["ndcg@10"].mean())

    def _popular(self) -> NDArray[np.float32]:
        """Return float32[n_items], the logarithm of each item's share of the training events (one added to each)."""
        counts = self.popularity_ + 1
        return np.asarray(np.log(counts / counts.sum()), dtype=np.float32)
