"""Sentence encoders: texts in, unit vectors out, whatever stands behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from llm4rec import assets
from llm4rec.features.cache import CachedEncoder, VectorCache
from llm4rec.features.hashing import HashEncoder
from llm4rec.features.sentence import SentenceEncoder
from llm4rec.features.server import ServerEncoder
from llm4rec.features.values import Encoder, EncoderConfig

__all__ = ["Encoder", "EncoderConfig", "open_encoder"]


def open_encoder(config: EncoderConfig, *, cache: Path | Literal["default"] | None = "default") -> Encoder:
    """Open the encoder that a config describes.

    Args:
        cache: SQLite file that keeps vectors by content (see :class:`VectorCache`); ``"default"``
            is ``vectors.sqlite`` in the folder of the assets; None keeps nothing.  The ``hash``
            backend, being as fast as the cache, never uses one.

    Raises:
        AssetError: if the model is an asset that cannot be fetched.
        ModelError: if the model is no asset and cannot be found.
    """
    if config.backend == "hash":
        return HashEncoder(config.dimension or 512, prefix=config.prefix)
    encoder: Encoder
    if config.backend == "server":
        encoder = ServerEncoder(config)
    else:
        folder = assets.fetch(config.model) if config.model in assets.ASSETS else None
        encoder = SentenceEncoder(config, folder)
    if cache is None:
        return encoder
    return CachedEncoder(encoder, VectorCache(assets.home() / "vectors.sqlite" if cache == "default" else Path(cache)))
