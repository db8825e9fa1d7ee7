"""LoRA adapters: the one file that imports peft.

An adapter is merged into the weights that it was trained beside, ``W + (alpha / r) B A`` (Hu et al.,
"LoRA: low-rank adaptation of large language models", ICLR 2022, arXiv 2106.09685), so an adapted
model is as fast as its base.  The merge happens in the precision in which the model computes.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

from llm4rec.core import ModelError
from llm4rec.llm.weights import file_sha256

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def adapter_sha256(folder: Path) -> str:
    """Return one hash of an adapter's weights and configuration; raises ``ModelError`` if they are not there."""
    if not folder.is_dir():
        raise ModelError("no such folder of an adapter", where=str(folder))
    if missing := [name for name in (_CONFIG, _WEIGHTS) if not (folder / name).is_file()]:
        what = f"the folder of an adapter lacks {' and '.join(missing)}"
        raise ModelError(what, where=str(folder), todo="name the folder that peft's save_pretrained wrote")
    return hashlib.sha256("".join(file_sha256(folder / name) for name in (_CONFIG, _WEIGHTS)).encode()).hexdigest()


def merged(model: Any, folder: Path, name: str) -> Any:
    """Return a model of transformers with a LoRA adapter merged into its weights.

    Args:
        model: loaded, in the precision in which it computes; it is changed.
        folder: of the adapter.
        name: the base model's name, for error messages.

    Raises:
        ModelError: if the files cannot be read, are no LoRA adapter, or do not fit the model:
            every weight of the adapter must find its place, and every place its weight.
    """
    from peft import PeftConfig, PeftModel, PeftType, get_peft_model_state_dict
    from safetensors import safe_open

    adapter_sha256(folder)  # says what is missing
    try:
        with safe_open(folder / _WEIGHTS, framework="pt") as file:
            held = set(file.keys())
        config = PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # a damaged file makes the readers raise whatever they trip over
        raise ModelError(f"cannot read the adapter ({_words(error)})", where=str(folder)) from None
    if config.peft_type != PeftType.LORA:
        kind = getattr(config.peft_type, "value", config.peft_type)
        raise ModelError(f"the adapter is of the kind {kind}", where=str(folder), todo="name a LoRA adapter")
    todo = f"name the model that it was trained for, not {name}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights without a place: they are counted below
            adapted = PeftModel.from_pretrained(model, str(folder))
    except Exception as error:
        raise ModelError(f"the adapter does not fit ({_words(error)})", where=str(folder), todo=todo) from None
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    lost, empty = held - wanted - set(adapted.state_dict()), wanted - held
    if lost or empty:
        what = f"the adapter does not fit: {len(lost)} of its weights have no place, {len(empty)} places have no weight"
        raise ModelError(what, where=str(folder), todo=todo)
    try:
        return adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ModelError(f"the adapter cannot be merged ({_words(error)})", where=str(folder)) from None


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
