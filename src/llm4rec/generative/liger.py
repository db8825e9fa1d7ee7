"""LIGER: a decoder of semantic IDs proposes items, vectors of their texts put them and the new items in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from llm4rec.core import Cases, Dataset, Lists, Queries, Ragged, Uniform
from llm4rec.features.reduce import ItemInit
from llm4rec.generative.levels import Levels
from llm4rec.generative.semantic_decoder import SemanticDecoder, SemanticDecoderConfig, SemanticNetwork
from llm4rec.nn.losses import linear_cross_entropy


class LIGERConfig(SemanticDecoderConfig):
    """Parameters of LIGER."""

    search: Literal["exact", "beam"] = "beam"
    """``beam``: order the items that the beams find, and those without events, by their vectors.  ``exact``:
    order all items so, which is dense retrieval alone."""
    candidates: int = Field(100, ge=1)
    """``beam``: items to find; at least as many as are asked for."""
    beams: int = Field(100, ge=1)
    """``beam``: prefixes kept at each step; at least as many as items are asked for."""
    text: ItemInit = ItemInit()
    """The items' text vectors, centred and reduced to ``width``."""
    temperature: float = Field(0.1, gt=0)
    """Of the softmax over cosines."""
    dense: float = Field(1.0, gt=0)
    """Weight of the loss of the vectors beside that of the IDs."""
    item_dropout: float = Field(0.3, ge=0, lt=1)
    """Share of the items that a training step reads by their text alone, as items without events are always read;
    0 reads every item by tokens and text."""

    @property
    def text_encoder(self) -> str:
        """The name of the encoder of the items' texts."""
        return self.text.encoder

    @model_validator(mode="after")
    def _reads_texts_once(self) -> Self:
        if self.item_init is not None:
            raise ValueError("item_init: LIGER reads the items' texts by itself (text)")
        return self


class _Network(SemanticNetwork):
    def __init__(self, levels: Levels, config: LIGERConfig) -> None:
        super().__init__(levels, config)
        d = config.width
        self.features, self.wanted = nn.Linear(d, d, bias=False), nn.Linear(d, d)
        for weight in (self.features.weight, self.wanted.weight):
            nn.init.normal_(weight, std=config.deviation)
        nn.init.zeros_(self.wanted.bias)
        self.register_buffer("texts", torch.zeros(len(levels.ids) + 1, d), persistent=False)  # the last row is the pad
        self.register_buffer("told", torch.ones(len(levels.ids) + 1, 1), persistent=False)  # 1: it has training events
        self.item_dropout = config.item_dropout

    def embed(self, items: Tensor) -> Tensor:
        tokens = super().embed(items)
        if self.item_dropout:
            told = self.told[items]
            tokens = tokens * (told * (torch.rand_like(told) >= self.item_dropout) if self.training else told)
        read: Tensor = tokens + self.features(self.texts[items])
        return read

    def vectors(self, items: Tensor) -> Tensor:
        """Map int64[m] items to float[m, d] unit vectors."""
        return F.normalize(self.embed(items), dim=-1)


class LIGER(SemanticDecoder):
    """Generative and dense retrieval in one network: generate, add the items without events, rank by vectors.

    An item is read as its ID's tokens and a learnt map of its text vector.  The state after a history predicts the
    next item twice: its ID token by token, and a vector whose cosine with the vector of the next item is to be the
    largest among those of all items with events; the two losses are added.  At the question a beam search finds
    ``candidates``, the items without any event join them, and cosines put all in order.  Yang et al., *Unifying
    Generative and Dense Retrieval for Sequential Recommendation*, 2024 (arXiv 2411.18814).

    There the network is TIGER's and an item's vector is that of its text alone; here it is
    ``semantic-decoder``'s, and the vector is what the network reads of the item, tokens and text.  No event has taught
    it what the tokens of an item without events say beside its text, so such an item is read by its text alone; and so that
    such vectors stand on one scale with the others, a share of the items is read so at each step of the training
    (``item_dropout``; Volkovs et al., *DropoutNet*, NIPS 2017).
    """

    config: LIGERConfig
    Config: ClassVar = LIGERConfig
    network_: _Network
    space: ClassVar = SemanticDecoder.space | {
        "temperature": Uniform(0.05, 0.3, log=True),
        "dense": Uniform(0.2, 5.0, log=True),
    }

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Encode the items' texts and train on both losses; ``valid`` decides when to stop."""
        self.texts_ = self.encoded(train, self.config.text, rng)
        self.texts_ /= self.texts_.std()
        self.warm_ = train.item_counts > 0
        return super().fit(train, valid=valid, rng=rng)

    def network(self, levels: Levels) -> SemanticNetwork:
        """Return a new decoder that reads texts too."""
        network = _Network(levels, self.config)
        network.texts[:-1] = torch.from_numpy(self.texts_)
        network.told[:-1, 0] = torch.from_numpy(self.warm_)
        return network

    def loss(self, states: Tensor, items: Tensor) -> Tensor:
        """Return the mean of both losses of states float[m, d] that are followed by items int64[m]."""
        warm = torch.from_numpy(self.warm_)
        vectors = self.network_.vectors(warm.nonzero()[:, 0])
        place = warm.cumsum(0) - 1  # of each item among those with events
        dense = linear_cross_entropy(self._wanted(states), vectors, place[items], self.config.smoothing)
        return super().loss(states, items) + self.config.dense * dense

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items]: the cosine of each item's vector with the one that is wanted, over the temperature."""
        scores = np.tile(self._popular(), (len(queries), 1))
        if len(known := np.flatnonzero(queries.history.lengths)):
            with torch.inference_mode():
                wanted = self._wanted(self.states(queries.take(known)))
                scores[known] = (wanted @ self.network_.vectors(torch.arange(len(self.warm_))).T).numpy()
        return scores

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        """Return the ``k`` best of the items that the beams find and of those without events, none of them excluded."""
        if self.config.search == "exact":
            return super().retrieve(queries, k, exclude=exclude)
        found = super().retrieve(queries, max(k, self.config.candidates), exclude=exclude)
        parts = []
        for rows, some in queries.chunks(self.batch):
            scores = np.full((len(some), len(self.warm_) + 1), -np.inf, np.float32)  # the last column takes the pads
            np.put_along_axis(scores, found.items[rows].astype(np.int64), 0, axis=1)
            scores = np.where((scores[:, :-1] == 0) | ~self.warm_, self.score(some), -np.inf)
            parts.append(Lists.from_scores(scores, k, exclude=exclude.take(rows)))
        return Lists.concatenate(parts) if parts else Lists.empty(0, k)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Rebuild the network over the same IDs and texts."""
        self.texts_, self.warm_ = state["texts_"], state["warm_"]
        super().restore(state)

    def state(self) -> dict[str, Any]:
        """Return the IDs, the texts and the weights."""
        return super().state() | {"texts_": self.texts_, "warm_": self.warm_}

    def _wanted(self, states: Tensor) -> Tensor:
        """Return float[m, d], the vector that each state wants, of length 1 / temperature."""
        wanted: Tensor = F.normalize(self.network_.wanted(states), dim=-1) / self.config.temperature
        return wanted
