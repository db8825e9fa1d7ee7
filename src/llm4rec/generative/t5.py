"""Decoding with a T5 of transformers: what the encoder has read is shared by all prefixes of a request."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llm4rec.core import ModelError

#: Keys and values of a layer: of the prefixes so far [n, b, heads, t, size].
Cache = tuple[Tensor, Tensor]


class T5Steps:
    """A ``StepModel`` over ``T5ForConditionalGeneration`` and a batch of encoder inputs.

    ``generate`` repeats a request's encoder states, and their keys and values in every layer, for each
    beam.  Here a request's prefixes attend to one copy: they are the positions of one query.  The decoder is
    computed from the model's own weights, layer by layer as in Raffel et al., "Exploring the limits of transfer
    learning", JMLR 2020, arXiv 1910.10683 (no scaling of attention, relative positions in the first layer).

    Args:
        model: in evaluation mode.
        input_ids: int64[n, L], of the encoder.
        attention_mask: [n, L], 0 for pads.
        embeds: float[n, L, d], what the encoder reads instead of the tokens' embeddings.
    """

    def __init__(self, model: Any, input_ids: Tensor, attention_mask: Tensor, *, embeds: Tensor | None = None) -> None:
        if model.training:
            raise ModelError("is in training mode", where=type(model).__name__, todo="call eval() before decoding")
        self._model, self._n = model, len(input_ids)
        self._scale = model.config.d_model**-0.5 if model.config.scale_decoder_outputs else 1.0
        self._heads, self._size = model.config.num_heads, model.config.d_kv
        given = {"input_ids": input_ids} if embeds is None else {"inputs_embeds": embeds}
        read = model.encoder(**given, attention_mask=attention_mask).last_hidden_state  # [n, L, d]
        self._pads = torch.zeros(attention_mask.shape, dtype=read.dtype, device=read.device)
        self._pads = self._pads.masked_fill(attention_mask == 0, torch.finfo(read.dtype).min)[:, None, None, :]
        self._read: list[Cache] = []
        for block in model.decoder.block:
            cross = block.layer[1].EncDecAttention
            self._read.append((self._split(cross.k(read)).contiguous(), self._split(cross.v(read)).contiguous()))
        self._known: list[Cache] = []

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self._heads, self._size)).transpose(1, 2)  # [n, heads, L, size]

    def begin(self) -> Tensor:
        """Return float[n, 1, d], the states behind the decoder's start token."""
        self._known = []
        start = self._model.config.decoder_start_token_id
        zeros = torch.zeros((self._n, 1), dtype=torch.int64, device=self._pads.device)
        return self.advance(zeros, zeros + start)

    def advance(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Return float[n, b, d], the states of prefixes with one token more."""
        x = self._model.shared(tokens)  # [n, b, d]
        row = torch.arange(self._n, device=tokens.device)[:, None]
        bias: Tensor | None = None
        known = []
        for layer, block in enumerate(self._model.decoder.block):
            own, cross, forward = block.layer
            attention = own.SelfAttention
            normed = own.layer_norm(x)
            q, k, v = (
                part(normed).unflatten(-1, (self._heads, 1, self._size)) for part in (attention.q, attention.k, attention.v)
            )  # [n, b, heads, 1, size]
            if self._known:
                k, v = (torch.cat([old[row, parents], new], 3) for old, new in zip(self._known[layer], (k, v), strict=True))
            known.append((k, v))
            if bias is None:
                back = torch.arange(1 - k.shape[3], 1, device=x.device)  # the first token, ..., this one
                bucket = attention._relative_position_bucket(
                    back,
                    bidirectional=False,
                    num_buckets=attention.relative_attention_num_buckets,
                    max_distance=attention.relative_attention_max_distance,
                )
                bias = attention.relative_attention_bias(bucket).T[:, None, :]  # [heads, 1, t]
            weight = torch.softmax((q @ k.transpose(3, 4) + bias).float(), -1).to(v.dtype)  # [n, b, heads, 1, t]
            x = x + attention.o((weight @ v).flatten(2))
            attention = cross.EncDecAttention
            q = self._split(attention.q(cross.layer_norm(x)))  # [n, heads, b, size]: prefixes are positions
            seen = F.scaled_dot_product_attention(q, *self._read[layer], attn_mask=self._pads, scale=1.0)
            x = x + attention.o(seen.transpose(1, 2).flatten(2))
            x = forward(x)
        self._known = known
        out: Tensor = self._model.decoder.final_layer_norm(x)
        return out

    def logits(self, states: Tensor, tokens: Tensor | None) -> Tensor:
        """Return float[m, n_tokens] of states float[m, d], or float[m, w] of some tokens."""
        weight = self._model.lm_head.weight
        return F.linear(states * self._scale, weight if tokens is None else weight[tokens])
