"""Transformer blocks that sequential recommenders share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalBlock(nn.Module):
    """One pre-norm transformer block in which a position sees itself and what came before.

    ``x + Attention(LN(x))``, then ``x + FFN(LN(x))`` with GELU (Vaswani et al. 2017; pre-norm
    after Xiong et al. 2020).  Rows are padded on the left; padded positions are neither seen
    nor worth looking at.  Dropout acts on what each half adds, not on attention weights, where
    it only cost time.  Plain products, because the fused kernel's backward pass on a processor takes
    ten times as long at histories of 50.
    """

    def __init__(self, width: int, heads: int, dropout: float, hidden: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is no multiple of {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_ffn = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, hidden or 4 * width)
        self.down = nn.Linear(hidden or 4 * width, width)

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """Map float[b, t, d] to float[b, t, d]; ``visible`` bool[b, 1, t, t], True where seen."""
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5).masked_fill(~visible, float("-inf"))  # [b, h, t, t]
        seen = weights.softmax(-1) @ v  # [b, h, t, d/h]
        x = x + F.dropout(self.out(seen.transpose(1, 2).reshape(b, t, d)), self.dropout, self.training)
        return x + F.dropout(self.down(F.gelu(self.up(self.norm_ffn(x)))), self.dropout, self.training)


def causal_visibility(real: Tensor) -> Tensor:
    """Return bool[b, 1, t, t] for ``real`` bool[b, t]: may position i (row) see position j (column)?

    Every position sees itself, so that a padded row does not become a softmax over nothing.
    """
    t = real.shape[1]
    causal = torch.ones(t, t, dtype=torch.bool, device=real.device).tril()
    itself = torch.eye(t, dtype=torch.bool, device=real.device)
    return ((causal & real[:, None, :]) | itself)[:, None]
