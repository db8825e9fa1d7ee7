"""GRU4Rec: a recurrent network over a user's history."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from llm4rec.core import Choice, Uniform, Whole
from llm4rec.models.sequential import NextItemNetwork, SequentialConfig, SequentialScorer
from llm4rec.nn.blocks import Dropout


class GRU4RecConfig(SequentialConfig):
    """Parameters of GRU4Rec."""

    layers: int = Field(1, ge=1)
    """Recurrent layers, one on top of the other."""


class _Network(NextItemNetwork):
    def __init__(self, n_items: int, config: GRU4RecConfig) -> None:
        super().__init__(n_items, config.width)
        self.start(config.deviation)
        d = config.width
        self.dropout = Dropout(config.dropout)
        self.gru = nn.GRU(d, d, config.layers, batch_first=True, dropout=config.dropout if config.layers > 1 else 0.0)
        self.out = nn.Linear(d, d)  # a gated state lies in (-1, 1), which item vectors need not
        self.norm = nn.LayerNorm(d)

    def read(self, x: Tensor, real: Tensor, times: Tensor | None = None) -> Tensor:
        # Pads stand on the left, but a state must start from the first event: turn each row round to start with it.
        t = x.shape[1]
        pads = (~real).sum(1, keepdim=True)  # [b, 1]
        place = torch.arange(t, device=x.device)
        states, _ = self.gru(_turned(self.dropout(x), (place + pads) % t))
        return self.norm(self.out(_turned(self.dropout(states), (place - pads) % t)))


def _turned(x: Tensor, places: Tensor) -> Tensor:
    """Return float[b, t, d] in which position j of a row is position ``places[row, j]`` of ``x``."""
    return x.gather(1, places[:, :, None].expand_as(x))


class GRU4Rec(SequentialScorer[GRU4RecConfig]):
    """A gated recurrent network whose state after ``i_1 .. i_t`` predicts ``i_{t+1}``.

    Hidasi, Karatzoglou, Baltrunas, Tikk, *Session-based Recommendations with Recurrent Neural
    Networks*, ICLR 2016; sampled losses after Hidasi & Karatzoglou, *Recurrent Neural Networks with
    Top-k Gains*, CIKM 2018.  As in the latter's code input and output embeddings are one table.  In
    place of sessions side by side, histories are windows whose every position is trained on, with
    the losses of SASRec, so that the two differ in the network alone.
    """

    space: ClassVar = {
        "loss": Choice(("softmax", "sampled-softmax")),
        "dropout": Uniform(0.1, 0.6),
        "learning_rate": Uniform(5e-4, 1e-2, log=True),
        "item_rate": Uniform(0.1, 1.0, log=True),
        "batch_size": Choice((64, 128, 256)),
        "smoothing": Uniform(0.0, 0.2),
        "weight_decay": Choice((0.0, 0.01, 0.1)),
        "layers": Whole(1, 2),
    }

    def network(self, n_items: int) -> NextItemNetwork:
        """Return a new recurrent network."""
        return _Network(n_items, self.config)
