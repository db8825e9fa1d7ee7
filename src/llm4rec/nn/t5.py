"""A small T5: an encoder of token sequences and a decoder that reads it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm4rec.nn.blocks import Dropout

#: Distances told apart by the relative position bias, and the distance from which all are one.
_BUCKETS, _FAR = 32, 128


class _Attention(nn.Module):
    """Multi-head attention without biases; logits are not scaled, as in T5, whose first weights are small instead."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.q, self.k, self.v = (nn.Linear(width, inner, bias=False) for _ in range(3))
        self.out = nn.Linear(inner, width, bias=False)
        nn.init.normal_(self.q.weight, std=(width * head_width) ** -0.5)
        for weight in (self.k.weight, self.v.weight):
            nn.init.normal_(weight, std=width**-0.5)
        nn.init.normal_(self.out.weight, std=inner**-0.5)

    def split(self, x: Tensor) -> Tensor:
        """Map float[b, t, h * e] to float[b, h, t, e]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values float[b, h, t, e] of float[b, t, d]."""
        return self.split(self.k(x)), self.split(self.v(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Map queries float[b, s, d] over t keys to float[b, s, d]; ``bias``, which fits [b, h, s, t], is added to logits."""
        weights = self.split(self.q(x)) @ keys.transpose(-1, -2) + bias  # [b, h, s, t]
        return self.out((weights.softmax(-1) @ values).transpose(1, 2).flatten(2))


class _Feed(nn.Module):
    """Two layers with ReLU."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, width, bias=False)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.up.weight, std=width**-0.5)
        nn.init.normal_(self.down.weight, std=hidden**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.dropout(F.relu(self.up(x))))


class _Block(nn.Module):
    """Pre-norm: self-attention, attention to the encoder's output (in the decoder), feed-forward."""

    def __init__(self, width: int, heads: int, head_width: int, hidden: int, dropout: float, cross: bool) -> None:
        super().__init__()
        self.norm, self.norm_feed = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.attention = _Attention(width, heads, head_width)
        self.feed, self.dropout = _Feed(width, hidden, dropout), Dropout(dropout)
        if cross:
            self.norm_cross, self.cross = nn.RMSNorm(width, eps=1e-6), _Attention(width, heads, head_width)


class T5(nn.Module):
    """Encoder and decoder of Raffel et al., *Exploring the Limits of Transfer Learning with a Unified
    Text-to-Text Transformer*, JMLR 2020: pre-norm with root-mean-square normalisation, no biases, logits
    biased by relative position (one table for all layers of a side), dropout in every part but the attention weights.

    Embeddings are the caller's: it gives and takes vectors.
    """

    def __init__(self, width: int, layers: int, heads: int, head_width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        parts = (width, heads, head_width, hidden, dropout)
        self.encoder = nn.ModuleList(_Block(*parts, cross=False) for _ in range(layers))
        self.decoder = nn.ModuleList(_Block(*parts, cross=True) for _ in range(layers))
        self.distance, self.distance_back = nn.Embedding(_BUCKETS, heads), nn.Embedding(_BUCKETS, heads)
        self.norm, self.norm_decoder = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.dropout = Dropout(dropout)
        for table in (self.distance, self.distance_back):
            nn.init.normal_(table.weight, std=width**-0.5)

    def encode(self, x: Tensor, real: Tensor) -> Memory:
        """Read float[b, t, d]; ``real`` bool[b, t] is False for pads, which nobody sees (at least one is real)."""
        place = torch.arange(x.shape[1], device=x.device)
        bias = self.distance(_both_ways(place - place[:, None])).permute(2, 0, 1)[None]  # [1, h, t, t]
        hidden = torch.zeros(real.shape, dtype=x.dtype, device=x.device).masked_fill_(~real, float("-inf"))[:, None, None]
        x = self.dropout(x)
        for block in self.encoder:
            normed = block.norm(x)
            x = x + block.dropout(block.attention(normed, *block.attention.keys(normed), bias + hidden))
            x = x + block.dropout(block.feed(block.norm_feed(x)))
        x = self.dropout(self.norm(x))
        return Memory([block.cross.keys(x) for block in self.decoder], hidden)

    def decode(self, x: Tensor, memory: Memory) -> Tensor:
        """Map all places float[b, s, d] at once to float[b, s, d], each seeing itself and those before it."""
        place = torch.arange(x.shape[1], device=x.device)
        bias = self.distance_back(_back(place[:, None] - place)).permute(2, 0, 1)[None]  # [1, h, s, s]
        bias = bias.masked_fill(place[:, None] < place, float("-inf"))
        x = self.dropout(x)
        for block, (keys, values) in zip(self.decoder, memory.keys, strict=True):
            normed = block.norm(x)
            x = x + block.dropout(block.attention(normed, *block.attention.keys(normed), bias))
            x = x + block.dropout(block.cross(block.norm_cross(x), keys, values, memory.hidden))
            x = x + block.dropout(block.feed(block.norm_feed(x)))
        return self.dropout(self.norm_decoder(x))

    def step(self, x: Tensor, memory: Memory, past: Past) -> tuple[Tensor, Past]:
        """Map the next place of b beams of n queries, float[n, b, d], to float[n, b, d]; also return the longer past."""
        n, b, _ = x.shape
        back = torch.arange(past.length, -1, -1, device=x.device)
        bias = self.distance_back(_back(back)).T[:, None]  # [h, 1, length]
        written = []
        for number, (block, (keys, values)) in enumerate(zip(self.decoder, memory.keys, strict=True)):
            normed = block.norm(x)
            own = past.extended(number, block.attention.k(normed), block.attention.v(normed))  # each [n, b, length, h e]
            written.append(own)
            own_keys, own_values = (block.attention.split(part.flatten(0, 1)) for part in own)  # [n b, h, length, e]
            seen = block.attention(normed.flatten(0, 1)[:, None], own_keys, own_values, bias)  # [n b, 1, d]
            x = x + seen.view(n, b, -1)
            x = x + block.cross(block.norm_cross(x), keys, values, memory.hidden)  # beams are places of their query
            x = x + block.feed(block.norm_feed(x))
        return self.norm_decoder(x), Past(written)


class Memory:
    """What the decoder reads: each layer's keys and values float[b, h, t, e], and 0 or -inf float[b, 1, 1, t] for pads."""

    def __init__(self, keys: list[tuple[Tensor, Tensor]], hidden: Tensor) -> None:
        self.keys, self.hidden = keys, hidden


class Past:
    """What beams have written: each layer's keys and values float[n, b, length, h e]; nothing at first."""

    def __init__(self, held: list[tuple[Tensor, Tensor]] | None = None) -> None:
        self._held = held

    @property
    def length(self) -> int:
        """Places written."""
        return 0 if self._held is None else int(self._held[0][0].shape[2])

    def extended(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a layer holds with float[n, b, h e] of a next place behind it."""
        new = keys[:, :, None], values[:, :, None]
        if self._held is None:
            return new
        return torch.cat([self._held[layer][0], new[0]], 2), torch.cat([self._held[layer][1], new[1]], 2)

    def follow(self, parents: Tensor) -> Past:
        """Return a past in which beam j of query i holds what its parent int64[n, b] held."""
        rows = torch.arange(len(parents), device=parents.device)[:, None]
        return Past(
            None if self._held is None else [(keys[rows, parents], values[rows, parents]) for keys, values in self._held]
        )


def _both_ways(distance: Tensor) -> Tensor:
    """Return the bucket of each distance int64[...]: half of them for what comes later, half for what came before."""
    half = _BUCKETS // 2
    return (distance > 0) * half + _bucket(distance.abs(), half)


def _back(distance: Tensor) -> Tensor:
    """Return the bucket of each distance back int64[...]; later places count as 0."""
    return _bucket(distance.clamp(min=0), _BUCKETS)


def _bucket(distance: Tensor, buckets: int) -> Tensor:
    """Return int64[...]: one bucket for each small distance, then by its logarithm, up to ``_FAR``."""
    exact = buckets // 2
    far = exact + (torch.log(distance.clamp(min=1) / exact) / math.log(_FAR / exact) * (buckets - exact)).long()
    return torch.where(distance < exact, distance, far.clamp(max=buckets - 1))
