"""A causal language model of transformers with tokens for items, tuned by LoRA; with ``llm.adapter`` all of peft."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from llm4rec.assets import ASSETS, fetch, home
from llm4rec.core import ModelError, Ragged
from llm4rec.generative.causal import CausalSteps
from llm4rec.llm.config import Device, Dtype
from llm4rec.llm.gguf import converted
from llm4rec.llm.tokens import Tokens
from llm4rec.llm.weights import native_bfloat16


class Network:
    """A causal language model, its tokenizer, and behind the tokens of text those of item IDs.

    Args:
        model, tokenizer: of transformers.

    Attributes:
        model: the model; while it is being adapted, with LoRA layers in it.
        tokens: text to tokens, such that no text spells an item.
        first: the model's token of the IDs' token 0; the size of the vocabulary while there are none.
        added: tokens that ``extend`` has added.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self._tokenizer = model.eval(), tokenizer
        self.tokens = Tokens(tokenizer, type(model).__name__)
        self.first = len(tokenizer)
        self.added = 0
        self._adapted: Any = None

    @classmethod
    def opened(cls, checkpoint: str, *, device: Device, dtype: Dtype) -> Self:
        """Load an asset by its name, a folder or a hub model.

        Args:
            checkpoint: name of an asset that holds a GGUF file, a folder of transformers, or a hub name.
            device: ``auto`` is the GPU if there is one.
            dtype: ``auto`` is bfloat16 on a GPU and on a processor that multiplies it itself, else float32.

        Raises:
            ModelError: if there is no causal model, or no GPU where one is asked for.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        gpu = torch.cuda.is_available()
        if device == "cuda" and not gpu:
            raise ModelError("no GPU that torch can use", where="device", todo="take 'auto' or 'cpu'")
        place = "cuda" if gpu and device != "cpu" else "cpu"
        if dtype == "auto":
            dtype = "bfloat16" if place == "cuda" or native_bfloat16() else "float32"
        logging.disable_progress_bar()
        try:
            folder = _folder(checkpoint)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
            return cls(model.to(place), AutoTokenizer.from_pretrained(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:300]
            todo = "name a folder or a hub model of a causal language model with its tokenizer"
            raise ModelError(f"cannot read a language model ({reason})", where=checkpoint, todo=todo) from None

    @property
    def device(self) -> Any:
        """Where the model is."""
        return self.model.device

    @property
    def size(self) -> int:
        """Rows of the embeddings: the model's alphabet."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that the model takes."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30)

    # -- tokens of items ----------------------------------------------------------------
    def extend(self, words: Sequence[str], near: Sequence[Sequence[int]]) -> None:
        """Add a token for each word, whose embedding is the mean of those of some tokens of text.

        Args:
            words: how the IDs write their tokens, all different; in the tokenizer they become ``<id:WORD>``.
            near: for each of them tokens of text; where there are none, the mean of all.
        """
        from transformers import AddedToken

        added = [AddedToken(f"<id:{word}>", special=True, normalized=False) for word in words]
        self.first, self.added = len(self._tokenizer), len(words)
        if self._tokenizer.add_tokens(added) != len(words):
            raise ModelError("has tokens of items already", where=type(self.model).__name__, todo="name the model as it was")
        self.tokens = Tokens(self._tokenizer, type(self.model).__name__)
        if len(self._tokenizer) > self.size:
            self.model.resize_token_embeddings(len(self._tokenizer), mean_resizing=False)
        with torch.no_grad():
            for layer in (self.model.get_input_embeddings(), self.model.get_output_embeddings()):  # tied: twice the same
                rows = layer.weight[: self.first].float()
                average = rows.mean(0)
                means = [rows[list(some)].mean(0) if len(some) else average for some in near]
                layer.weight[self.first : self.first + self.added] = torch.stack(means).to(layer.weight)

    # -- tuning -------------------------------------------------------------------------
    def adapt(self, *, rank: int, alpha: float, dropout: float) -> None:
        """Put LoRA layers beside all linear ones but the head, and make the embeddings of the IDs' tokens trainable.

        Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022 (arXiv 2106.09685).  What is trained
        is held in float32, whatever the precision of the model.
        """
        from peft import LoraConfig, get_peft_model

        new = list(range(self.first, self.first + self.added))
        read, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        tied = head.weight is read.weight
        layers = [name for name, layer in self.model.named_modules() if layer is read or (layer is head and not tied)]
        config = LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM",
            trainable_token_indices=dict.fromkeys(layers, new) if new else None,
        )  # fmt: skip
        self._adapted = get_peft_model(self.model, config)

    def trained(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights that are trained, by name."""
        return ((name, value) for name, value in self.model.named_parameters() if value.requires_grad)

    def merge(self) -> None:
        """Add what was trained to the weights: the model is one of transformers again."""
        self.model = self._adapted.merge_and_unload(safe_merge=True).eval()
        self._adapted = None

    def loss(self, tokens: NDArray[np.int64], answers: NDArray[np.bool_]) -> Tensor:
        """Return the sum of the cross-entropies of the answers among rows of tokens, int64[m, t] and bool[m, t].

        A token of an ID is told from the tokens of IDs, one of text from all.  Nothing looks ahead, so pads behind the
        ends need no mask.
        """
        ids = torch.from_numpy(tokens).to(self.device)
        hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state  # [m, t, d]
        row, at = torch.from_numpy(answers[:, 1:]).to(self.device).nonzero(as_tuple=True)
        states, wanted = hidden[row, at], ids[row, at + 1]
        head = self.model.get_output_embeddings()
        item = wanted >= self.first
        total = states.new_zeros((), dtype=torch.float32)
        if bool(item.any()):
            own = head.weight[self.first : self.first + self.added]
            total = total + F.cross_entropy(F.linear(states[item], own).float(), wanted[item] - self.first, reduction="sum")
        if not bool(item.all()):
            total = total + F.cross_entropy(head(states[~item]).float(), wanted[~item], reduction="sum")
        return total

    # -- decoding -----------------------------------------------------------------------
    def steps(self, prompts: Ragged) -> CausalSteps:
        """Read prompts of tokens; what comes back decodes."""
        ids = prompts.padded(int(prompts.lengths.max(initial=1)), pad=0, align="left").astype(np.int64)
        real = np.arange(ids.shape[1]) < prompts.lengths[:, None]
        return CausalSteps(self.model, torch.from_numpy(ids).to(self.device), torch.from_numpy(real).to(self.device))

    # -- saving -------------------------------------------------------------------------
    def save(self, folder: Path) -> None:
        """Write weights (safetensors), configuration and tokenizer as a folder of transformers."""
        self.model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)


def _folder(checkpoint: str) -> str:
    """Return the folder of an asset's model, converted once from its GGUF file; any other name as it is."""
    if checkpoint not in ASSETS:
        return checkpoint
    file = ASSETS[checkpoint].gguf
    if file is None:
        raise ModelError("is no language model", where=checkpoint)
    return str(converted(fetch(checkpoint) / file[0], file[1], home() / "converted"))
