"""SASRec: self-attention over a user's history, trained on all positions at once."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from llm4rec.core import Choice, Uniform, Whole
from llm4rec.models.sequential import NextItemNetwork, SequentialConfig, SequentialScorer
from llm4rec.nn.blocks import CausalBlock, Dropout, causal_bias

#: Powers of two of a second: the last holds gaps of a century and more.
_GAPS = 32


class SASRecConfig(SequentialConfig):
    """Parameters of SASRec."""

    blocks: int = Field(1, ge=1)
    """Transformer blocks."""
    heads: int = Field(1, ge=1)
    """Attention heads; a divisor of ``width``."""
    positions: Literal["learned", "none"] = "learned"
    """Whether an event's place, counted from the end of the history, has a vector of its own."""
    time_gaps: bool = False
    """Let attention depend on how long ago an event was; needs real times."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of {self.heads} heads")
        return self


class _Network(NextItemNetwork):
    def __init__(self, n_items: int, config: SASRecConfig) -> None:
        super().__init__(n_items, config.width)
        d = config.width
        self.timed = config.time_gaps
        self.dropout = Dropout(config.dropout)
        # counted from the end: the last row is "now"
        self.positions = nn.Parameter(torch.empty(config.length, d)) if config.positions == "learned" else None
        self.blocks = nn.ModuleList(CausalBlock(d, config.heads, config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(d)
        self.start(config.deviation)
        if config.time_gaps:
            self.gaps = nn.Parameter(torch.zeros(_GAPS, config.heads))

    def read(self, x: Tensor, real: Tensor, times: Tensor | None = None) -> Tensor:
        if self.positions is not None:
            x = x + self.positions[-x.shape[1] :]
        x = self.dropout(x)
        bias = causal_bias(real)  # [b, 1, t, t]
        if times is not None:
            bias = bias + self._of_gaps(times)
        for block in self.blocks:
            x = block(x, bias)
        return self.norm(x)

    def _of_gaps(self, times: Tensor) -> Tensor:
        """Return float[b, h, t, t] for times int64[b, t + 1]: a number for each power of two of the gap, in s.

        At position i the question is asked when event i + 1 happens, so that is where the gap to
        event j ends.
        """
        gap = (times[:, 1:, None] - times[:, None, :-1]).clamp(min=0).float()  # [b, t, t]
        power = torch.log2(gap + 1).long().clamp(max=_GAPS - 1)
        return nn.functional.embedding(power, self.gaps).permute(0, 3, 1, 2)


class SASRec(SequentialScorer[SASRecConfig]):
    """Self-attentive sequential recommendation.

    The state after reading ``i_1 .. i_t`` predicts ``i_{t+1}``, at every position of a history in
    one pass.  Kang & McAuley, *Self-Attentive Sequential Recommendation*, ICDM 2018; by default
    with the full softmax in place of one sampled negative, after Klenitskiy & Vasilev, *Turning Dross
    Into Gold Loss*, RecSys 2023.  Pre-norm blocks with GELU; the paper's own loss is
    ``loss = "bce"``, ``negatives = 1``, ``share_negatives = false``.

    ``time_gaps`` adds to each head's attention logits a learnt number for the time from an event to
    the question, one for each power of two of its seconds, zero at first (the temporal part of the
    relative bias of HSTU: Zhai et al., *Actions Speak Louder than Words*, ICML 2024).
    """

    space: ClassVar = {
        "loss": Choice(("softmax", "sampled-softmax")),
        "dropout": Uniform(0.1, 0.6),
        "learning_rate": Uniform(5e-4, 5e-3, log=True),
        "item_rate": Uniform(0.1, 1.0, log=True),
        "batch_size": Choice((64, 128, 256)),
        "smoothing": Uniform(0.0, 0.2),
        "weight_decay": Choice((0.0, 0.01, 0.1)),
        "blocks": Whole(1, 2),
        "heads": Choice((1, 2)),
    }

    def network(self, n_items: int) -> NextItemNetwork:
        """Return a new transformer."""
        return _Network(n_items, self.config)
