"""Blocks that neural recommenders share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """Dropout, with masks from a faster source of chance on a processor.

    torch draws one number after the other there, which was a tenth of an epoch of SASRec; 16 random
    bits a value, drawn in bulk, cost a tenth of that.  The share dropped is exact to 1 / 65,536.
    The source is seeded from torch's at the first use, so that ``torch.manual_seed`` governs it.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self._bits: Any = None

    def forward(self, x: Tensor) -> Tensor:
        """Map float[...] to the same shape; what is kept is divided by the share kept."""
        if not (self.training and self.share):
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.share)
        if self._bits is None:
            self._bits = np.random.SFC64(int(torch.randint(2**63 - 1, ())))
        drawn = self._bits.random_raw(-(-x.numel() // 4)).view(np.int16)[: x.numel()]
        kept = torch.from_numpy(drawn).view(x.shape) < round((1 - self.share) * 65_536) - 32_768
        return x * kept.to(x.dtype).mul_(1 / (1 - self.share))


class CausalBlock(nn.Module):
    """One pre-norm transformer block in which a position sees itself and what came before.

    ``x + Attention(LN(x))``, then ``x + FFN(LN(x))`` with GELU (Vaswani et al. 2017; pre-norm
    after Xiong et al. 2020).  Rows are padded on the left; padded positions are neither seen
    nor worth looking at.  Dropout acts on what each half adds, not on attention weights, where
    it only cost time.  Plain products, because the fused kernel's backward pass on a processor takes
    seven times as long at histories of 50.
    """

    def __init__(self, width: int, heads: int, dropout: float, hidden: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is no multiple of {heads} heads")
        self.heads = heads
        self.dropout = Dropout(dropout)
        self.norm_attention, self.norm_ffn = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, hidden or 4 * width)
        self.down = nn.Linear(hidden or 4 * width, width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map float[b, t, d] to float[b, t, d]; ``bias`` float[b, 1 or h, t, t] is added to the attention logits."""
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5 + bias  # [b, h, t, t]
        seen = weights.softmax(-1) @ v  # [b, h, t, d/h]
        x = x + self.dropout(self.out(seen.transpose(1, 2).reshape(b, t, d)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm_ffn(x)))))


def causal_bias(real: Tensor) -> Tensor:
    """Return float[b, 1, t, t] for ``real`` bool[b, t]: 0 where position i (row) may see j (column), else -inf.

    Every position sees itself, so that a padded row does not become a softmax over nothing.
    """
    t = real.shape[1]
    causal = torch.ones(t, t, dtype=torch.bool, device=real.device).tril()
    itself = torch.eye(t, dtype=torch.bool, device=real.device)
    hidden = ~((causal & real[:, None, :]) | itself)
    return torch.zeros(hidden.shape, device=real.device).masked_fill_(hidden, float("-inf"))[:, None]
