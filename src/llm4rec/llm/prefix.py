"""Beginnings of prompts, computed once for all prompts that share them; with :mod:`.local`, all of torch here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm4rec.llm.packing import shared, whole

if TYPE_CHECKING:
    import torch

#: Tokens in a block of a prompt: few enough that prompts share most of what they have in common,
#: and enough to keep the device busy.
BLOCK = {"cpu": 128, "cuda": 256}
#: Keys and values of each layer, [rows, heads, tokens, size] each.
Layers = list[tuple["torch.Tensor", "torch.Tensor"]]


class Beginning:
    """Keys and values of the whole blocks at the beginning of one prompt, from which the next prompt goes on.

    Args:
        model: of transformers.
        block: tokens in a block.
    """

    def __init__(self, model: Any, block: int) -> None:
        self._model, self._block = model, block
        self._prompt: list[int] = []
        self._layers: Layers = []

    def of(self, prompt: list[int]) -> tuple[int, Layers]:
        """Return how many tokens of a prompt lie in whole blocks, and their keys and values; computes what is not known."""
        import torch

        n, known = whole(prompt, self._block), shared(self._prompt, prompt, self._block)
        layers = [(keys[:, :, :known], values[:, :, :known]) for keys, values in self._layers] if known else []
        for at in range(known, n, self._block):
            ids = torch.tensor([prompt[at : at + self._block]], device=self._model.device)
            out = self._model.base_model(input_ids=ids, past_key_values=cache_of(layers), use_cache=True)  # no logits
            layers = layers_of(out)
        self._prompt, self._layers = prompt, layers
        return n, layers


def cache_of(layers: Layers) -> Any:
    """Return a cache with copies of keys and values in it, or an empty one; without a window of its own."""
    from transformers import DynamicCache

    return DynamicCache(layers) if layers else DynamicCache()


def layers_of(out: Any) -> Layers:
    """Return the keys and values that a pass has left."""
    return [(layer.keys, layer.values) for layer in out.past_key_values.layers]
