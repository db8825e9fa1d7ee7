"""Two towers: a vector of the history, a vector of the item, and their inner product."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from llm4rec.core import Choice, Uniform
from llm4rec.models.sequential import NextItemNetwork, SequentialConfig, SequentialScorer
from llm4rec.nn.blocks import Dropout


class TwoTowerConfig(SequentialConfig):
    """Parameters of the two towers."""

    loss: Literal["softmax", "sampled-softmax", "in-batch", "bce", "gbce", "bpr"] = "in-batch"
    """What targets are told from; ``in-batch`` is the paper's."""
    correct: bool = True
    """``sampled-softmax`` and ``in-batch``: weigh the negatives by how often each is drawn; without it popular
    items are pushed down for being popular."""
    hidden: int = Field(128, ge=1)
    """Width of the hidden layer of each tower."""
    half_life: float = Field(8.0, gt=0)
    """Events of the history after which an older one counts half at first; it is learnt from there."""
    temperature: float = Field(0.1, gt=0)
    """Scores are the cosine of the two vectors over this."""
    text: Literal["features", "start"] = "features"
    """What the vectors of ``item_init`` are: features of the items that stay as they are, beside embeddings
    of their own, or what these embeddings start from."""


class _Network(NextItemNetwork):
    def __init__(self, n_items: int, config: TwoTowerConfig) -> None:
        super().__init__(n_items, config.width)
        self.start(config.deviation)
        d = config.width
        self.temperature = config.temperature
        self.dropout = Dropout(config.dropout)
        self.features = None
        if config.item_init is not None and config.text == "features":
            self.features = nn.Linear(d, d, bias=False)
            self.register_buffer("texts", torch.zeros(n_items + 1, d))  # the last row is the pad
        self.of_history, self.of_item = (
            nn.Sequential(nn.Linear(d, config.hidden), nn.GELU(), nn.Linear(config.hidden, d)) for _ in range(2)
        )
        # softplus keeps the decay positive; this is where it is ln 2 / half_life
        self.decay = nn.Parameter(torch.tensor(math.log(math.expm1(math.log(2) / config.half_life))))

    def take_text(self, vectors: Tensor) -> None:
        if self.features is None:
            super().take_text(vectors)
        else:
            self.texts[:-1] = vectors / vectors.std()

    def _inputs(self) -> Tensor:
        """Return float[n_items + 1, d], what both towers know of an item; zero for the pad."""
        embedded: Tensor = self.items.weight
        return embedded if self.features is None else embedded + self.features(self.texts)

    def embed(self, history: Tensor) -> Tensor:
        return F.embedding(history, self._inputs())

    def read(self, x: Tensor, real: Tensor, times: Tensor | None = None) -> Tensor:
        x = self.dropout(x)
        place = torch.arange(x.shape[1], device=x.device)
        age = place[:, None] - place  # [t, t], of event j (column) at position i (row)
        weight = torch.exp(-F.softplus(self.decay) * age).masked_fill(age < 0, 0)
        mean = (weight @ x) / (weight @ real.to(x.dtype)[:, :, None]).clamp(min=1e-6)  # [b, t, d]
        return F.normalize(mean + self.dropout(self.of_history(mean)), dim=-1) / self.temperature

    @property
    def vectors(self) -> Tensor:
        x = self._inputs()[:-1]
        return F.normalize(x + self.of_item(x), dim=-1)


class TwoTower(SequentialScorer[TwoTowerConfig]):
    """A tower for the history and one for the item, each a layer of hidden units; scores are cosines.

    The history's tower starts from the mean of its items, the newest weighing most (the decay is
    learnt); each tower adds what its hidden layer makes of its input.  Trained by a softmax over
    items of the same batch, corrected for their popularity: Yi et al., *Sampling-Bias-Corrected
    Neural Modeling for Large Corpus Item Recommendations*, RecSys 2019; history as a mean after
    Covington et al., *Deep Neural Networks for YouTube Recommendations*, RecSys 2016.  Every
    position of a history is a training case.

    With ``item_init`` the items have text vectors as features under a learnt map, which also
    places items without events.
    """

    space: ClassVar = {
        "loss": Choice(("softmax", "in-batch")),
        "temperature": Uniform(0.05, 0.3, log=True),
        "half_life": Uniform(1.0, 30.0, log=True),
        "dropout": Uniform(0.0, 0.6),
        "learning_rate": Uniform(5e-4, 1e-2, log=True),
        "item_rate": Uniform(0.1, 1.0, log=True),
        "smoothing": Uniform(0.0, 0.2),
        "weight_decay": Choice((0.0, 0.01, 0.1)),
        "batch_size": Choice((64, 128, 256)),
        "hidden": Choice((64, 128, 256)),
    }

    def network(self, n_items: int) -> NextItemNetwork:
        """Return two new towers."""
        return _Network(n_items, self.config)
