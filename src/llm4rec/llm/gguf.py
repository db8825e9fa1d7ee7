"""A GGUF file as a folder of transformers: converted once, for every language model that runs in this process."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from llm4rec.llm.weights import built_once


@contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars and warnings of transformers off the terminal."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def converted(gguf: Path, sha256: str, cache: Path) -> Path:
    """Return the folder in ``cache`` that a GGUF file is converted to, which happens once; ``sha256`` is the file's."""
    return built_once(cache, f"{gguf.stem}-{sha256[:16]}", sha256, lambda folder: _convert(gguf, folder))


def _convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF file as a folder of safetensors and tokenizer, which loads ten times as fast."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The reader's own progress bar goes straight to stderr.
    with quiet(), redirect_stderr(io.StringIO()):
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # The weights are plain numbers now; without this, transformers refuses to save them.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
