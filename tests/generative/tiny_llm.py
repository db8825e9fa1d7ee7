"""A tiny language model with random weights in a folder of transformers, made once for all tests."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from llm4rec.generative.item_llm_examples import HISTORY, ID_OF, TITLE_OF
from tests import worlds


@cache
def tiny_llm(tied: bool = True) -> str:
    """Return the folder of a Llama of 2 layers, whose tokenizer knows the words of the prompts and of the worlds' titles."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from tokenizers.decoders import ByteLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = Path(tempfile.mkdtemp(prefix="tiny-llm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    texts = [
        HISTORY,
        *TITLE_OF,
        *ID_OF,
        *worlds.cycle().split.train.item_table["title"],
        *worlds.topics().split.train.item_table["title"],
    ]
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = ByteLevel()
    signs = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=signs, show_progress=False)
    )
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        max_position_embeddings=256, initializer_range=0.1, tie_word_embeddings=tied, bos_token_id=None, eos_token_id=0,
        pad_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)
