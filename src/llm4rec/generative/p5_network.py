"""The network of P5: a T5 of transformers, new or pre-trained, that reads whole-word embeddings as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from llm4rec.core import ModelError
from llm4rec.generative.alphabet import Prompts
from llm4rec.generative.ids import Words
from llm4rec.generative.t5 import T5Steps


class Network(nn.Module):
    """A T5 whose encoder also reads whole-word embeddings."""

    def __init__(self, t5: Any, whole_words: int) -> None:
        super().__init__()
        self.t5 = t5
        self.words = nn.Embedding(max(1, whole_words), t5.config.d_model)
        nn.init.normal_(self.words.weight, std=float(t5.shared.weight.detach().std()) if whole_words else 0.0)
        self.words.weight.requires_grad_(whole_words > 0)

    def _embedded(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Return float[m, t, d], what the encoder reads, and int64[m, t], 0 for pads."""
        embeds = self.t5.shared(torch.from_numpy(prompts.tokens)) + self.words(torch.from_numpy(prompts.words))
        return embeds, torch.from_numpy(prompts.real.astype(np.int64))

    def loss(self, prompts: Prompts, wanted: NDArray[np.int64], smoothing: float) -> Tensor:
        """Return the mean cross-entropy of the tokens int64[m, t] that are to be written (-1 pads), over all tokens."""
        embeds, mask = self._embedded(prompts)
        target = torch.from_numpy(wanted)
        start = target.new_full((len(target), 1), self.t5.config.decoder_start_token_id)
        before = torch.cat([start, target[:, :-1].clamp(min=0)], 1)
        logits = self.t5(inputs_embeds=embeds, attention_mask=mask, decoder_input_ids=before, use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-1, label_smoothing=smoothing)

    def steps(self, prompts: Prompts) -> T5Steps:
        """Read the prompts; what comes back decodes."""
        embeds, mask = self._embedded(prompts)
        return T5Steps(self.t5, torch.from_numpy(prompts.tokens), mask, embeds=embeds)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Return the weights by name, shared ones once."""
        return {f"network_.{name}": value.detach().numpy() for name, value in self.named_parameters()}

    @classmethod
    def restored(cls, config: Mapping[str, Any], whole_words: int, state: Mapping[str, Any]) -> Self:
        """Make the network of a T5's config and take over the weights that ``weights`` returned."""
        from transformers import T5Config, T5ForConditionalGeneration

        network = cls(T5ForConditionalGeneration(T5Config.from_dict(dict(config))), whole_words)
        with torch.no_grad():
            for name, value in network.named_parameters():
                value.copy_(torch.from_numpy(state[f"network_.{name}"]))
        network.eval()
        return network


def new_t5(
    size: int, *, width: int, layers: int, heads: int, head_width: int, hidden: int, dropout: float, pad: int, end: int
) -> Any:
    """Return a new T5 over an alphabet of some size, whose decoder starts from the pad."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=size, d_model=width, d_kv=head_width, d_ff=hidden, num_layers=layers, num_heads=heads, dropout_rate=dropout,
        pad_token_id=pad, eos_token_id=end, decoder_start_token_id=pad,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def pretrained(name: str) -> tuple[Words, Any]:
    """Return the tokenizer and the model of a folder or hub name; raises ``ModelError`` if there is no T5."""
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        t5 = T5ForConditionalGeneration.from_pretrained(name, dtype=torch.float32)
        return Words(tokenizer.backend_tokenizer, int(tokenizer.eos_token_id)), t5
    except (OSError, ValueError, AttributeError, TypeError) as error:
        todo = "name a folder or a hub model of the T5 family with a fast tokenizer"
        raise ModelError(f"cannot read a T5 ({error})", where=name, todo=todo) from None
