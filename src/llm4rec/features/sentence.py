"""Sentence-transformers models in this process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import ModelError
from llm4rec.features.values import EncoderConfig, unit

#: What a hub snapshot may leave out: the same weights in other formats.
_OTHER_FORMATS = ["*.onnx", "onnx/*", "openvino/*", "*.h5", "*.ot", "*.msgpack", "*.gguf", "*.tflite", "coreml/*"]
#: Files up to this size are hashed whole; of larger ones size, first and last mebibyte.
_HASHED_WHOLE = 2**30


class SentenceEncoder:
    """A sentence-transformers model, loaded when the first text has to be encoded.

    Reimers and Gurevych, Sentence-BERT, EMNLP 2019.

    Args:
        config: as in the experiment.
        folder: where the model lies; None takes ``config.model`` as a folder or a hub name.
    """

    def __init__(self, config: EncoderConfig, folder: Path | None = None) -> None:
        self._config = config
        self._folder = _find(config.model) if folder is None else folder

    @property
    def name(self) -> str:
        return Path(self._config.model).name

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """The hash of the model's files and the settings that shape a vector."""
        config = self._config
        shaping = {
            "dtype": config.dtype,
            "max_tokens": config.max_tokens,
            "dimension": config.dimension,
            "prefix": config.prefix,
        }
        return {"backend": "sentence-transformers", "files": _fingerprint(self._folder), **shaping}

    @cached_property
    def dimension(self) -> int:
        if self._config.dimension is not None:
            return self._config.dimension
        try:  # spares loading the model in the usual case: a transformer and a pooling layer
            kinds = [module["type"].rpartition(".")[2] for module in _read(self._folder / "modules.json")]
            if set(kinds) <= {"Transformer", "Pooling", "Normalize"}:
                return int(_read(self._folder / "config.json")["hidden_size"])
        except (OSError, ValueError, LookupError, TypeError):
            pass
        return int(self._model.get_embedding_dimension())

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, dimension]: unit length, or all zero for a blank text."""
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        said = [i for i, text in enumerate(texts) if text.strip()]
        if said:
            # The library sorts by length, so that a batch holds texts of one size.
            encoded = self._model.encode(
                [self._config.prefix + texts[i] for i in said],
                batch_size=self._config.batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
            )
            vectors[said] = unit(encoded)
        return vectors

    @cached_property
    def _model(self) -> Any:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        config = self._config
        bar = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            model = SentenceTransformer(
                str(self._folder),
                device=None if config.device == "auto" else config.device,
                truncate_dim=config.dimension,
                local_files_only=True,
                model_kwargs={"dtype": getattr(torch, config.dtype)},
            )
            longest = model.get_embedding_dimension()
        except Exception as error:  # the library raises whatever its parts raise
            raise ModelError(
                f"cannot load a sentence encoder ({error})", where=str(self._folder), todo="check the folder"
            ) from None
        finally:
            if bar:
                logging.enable_progress_bar()
        if config.dimension is not None and (longest is None or longest < config.dimension):
            raise ModelError(f"gives fewer than {config.dimension} dimensions", where=config.model, todo="lower dimension")
        if config.max_tokens is not None:
            model.max_seq_length = config.max_tokens
        return model


def _find(model: str) -> Path:
    """Return the folder of a local model or of a hub snapshot."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, ignore_patterns=_OTHER_FORMATS))
    except Exception as error:  # connection, name and permission errors of several libraries
        raise ModelError(
            f"is neither an asset nor a folder, and the model hub does not give it ({type(error).__name__})",
            where=f"encoder model {model!r}",
            todo="check the name, or download it and name the folder",
        ) from None


def _fingerprint(folder: Path) -> str:
    """Return a hash of the names and contents of a model's files."""
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".") and p.suffix != ".md"):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder).as_posix()}\0{size}\0".encode())
        with file.open("rb") as stream:
            if size <= _HASHED_WHOLE:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
            else:
                digest.update(stream.read(2**20))
                stream.seek(-(2**20), 2)
                digest.update(stream.read())
    return digest.hexdigest()


def _read(file: Path) -> Any:
    return json.loads(file.read_text())
