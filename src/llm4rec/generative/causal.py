"""Decoding with a causal language model of transformers: the prompt's cache is shared by all prefixes of a request."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llm4rec.core import ModelError
from llm4rec.llm.prefix import Layers, cache_of, layers_of


class CausalSteps:
    """A ``StepModel`` over any causal model of transformers that takes a mask of attention, and a batch of prompts.

    The prefixes of a request are positions of one sequence behind its prompt, at the same distance from
    it, and a mask lets each see the prompt and its own tokens alone.  So the keys and values of a prompt are kept
    once, not once a beam, and nothing is moved when beams change places.

    Args:
        model: in evaluation mode, with attention that takes a mask ("sdpa" or "eager").
        input_ids: int64[n, L], the prompts, padded on either side.
        attention_mask: [n, L], 0 for pads.

    Raises:
        ModelError: if the model is in training mode, or makes logits otherwise than by its last layer alone.
    """

    def __init__(self, model: Any, input_ids: Tensor, attention_mask: Tensor) -> None:
        if model.training:
            raise ModelError("is in training mode", where=type(model).__name__, todo="call eval() before decoding")
        self._model, self._ids, self._mask = model, input_ids, attention_mask.bool()
        self._head = model.get_output_embeddings()
        self._length = self._mask.sum(1)  # [n]
        self._layers: Layers = []
        self._paths: Tensor | None = None  # bool[n, b, slots]: the tokens behind the prompts that each prefix consists of
        self._steps = 0

    def begin(self) -> Tensor:
        """Return float[n, 1, d], the states of the prompts' last tokens."""
        n, wide = self._ids.shape
        places = (torch.cumsum(self._mask, 1) - 1).clamp(min=0)
        out = self._model.base_model(
            input_ids=self._ids,
            attention_mask=self._mask.long(),
            position_ids=places,
            past_key_values=cache_of([]),
            use_cache=True,
        )
        hidden = out.last_hidden_state
        self._layers, self._paths, self._steps = layers_of(out), None, 0
        last = torch.where(self._mask, torch.arange(wide, device=hidden.device), 0).argmax(1)
        states: Tensor = hidden[torch.arange(n, device=hidden.device), last][:, None]
        if n:
            self._check()
        return states

    def _check(self) -> None:
        one = self._ids[:1, :1]
        alone = self._model.base_model(input_ids=one).last_hidden_state[:, -1]
        theirs = self._model(input_ids=one).logits[:, -1].float()
        slack = 1e-3 if alone.dtype == torch.float32 else 0.1  # half precision rounds
        if not torch.allclose(self.logits(alone, None), theirs, rtol=slack, atol=slack):
            raise ModelError("changes the logits behind its last layer", where=type(self._model).__name__,
                             todo="decode with generate and TrieLogitsProcessor")  # fmt: skip

    def advance(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Return float[n, b, d], the states of prefixes with one token more."""
        n, b = tokens.shape
        itself = torch.eye(b, dtype=torch.bool, device=tokens.device).expand(n, b, b)
        if self._paths is None:
            self._paths = itself
        else:
            before = self._paths[torch.arange(n, device=tokens.device)[:, None], parents]  # [n, b, slots]
            self._paths = torch.cat([before, itself], 2)
        seen = torch.cat([self._mask[:, None, :].expand(n, b, -1), self._paths], 2)  # [n, b, L + slots]
        dtype = self._layers[0][0].dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
        out = self._model.base_model(
            input_ids=tokens,
            attention_mask=mask[:, None],
            position_ids=(self._length + self._steps)[:, None].expand(n, b),
            past_key_values=cache_of(self._layers),
            use_cache=True,
        )
        self._layers, self._steps = layers_of(out), self._steps + 1
        states: Tensor = out.last_hidden_state
        return states

    def logits(self, states: Tensor, tokens: Tensor | None) -> Tensor:
        """Return float32[m, n_tokens] of states [m, d], or float32[m, w] of some tokens.

        The product is in float32 for models in half precision too: rounded to eight bits, many items would tie.
        """
        weight, bias = self._head.weight, getattr(self._head, "bias", None)
        if tokens is not None:
            weight, bias = weight[tokens], None if bias is None else bias[tokens]
        return F.linear(states.float(), weight.float(), None if bias is None else bias.float())
