"""What an encoder is and how one is described; who opens it is in ``encoders``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from llm4rec.core import Config


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors.  Batches in, batches out, in order."""

    @property
    def name(self) -> str:
        """Name of the encoder, for tables."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that shapes a vector besides the text, as JSON values; part of the cache's key."""

    @property
    def dimension(self) -> int:
        """The length of a vector."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, dimension]: unit length, or all zero for a blank text.

        Raises:
            ModelError: if the encoder cannot be loaded or reached, or answers with nonsense.
        """


class EncoderConfig(Config):
    """One ``[encoder.NAME]`` table of an experiment."""

    backend: Literal["sentence-transformers", "server", "hash"] = "sentence-transformers"
    """``sentence-transformers``: any model of that library, in this process.  ``server``: any
    OpenAI-compatible ``/embeddings`` endpoint.  ``hash``: feature hashing of words and word
    pairs, without any model: for tests, and as the control that knows words but no meaning."""

    model: str = "all-MiniLM-L6-v2"
    """Name of an asset, a local folder or a hub name; for ``server`` the name it goes by there;
    unused by ``hash``."""

    dimension: int | None = Field(default=None, ge=1)
    """Keep so many dimensions: the first ones of a sentence-transformers model (for models
    trained to be cut), ``dimensions`` of a server's request, the buckets of ``hash`` (512 if
    not given).  None keeps what the model gives."""

    prefix: str = ""
    """Put before every text, for models that want one (``"query: "``)."""

    batch_size: int = Field(default=64, ge=1)
    """Texts encoded at once, or sent in one request."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the weights (``sentence-transformers``); vectors are float32 in any case."""

    max_tokens: int | None = Field(default=None, ge=2)
    """Cut texts to so many tokens (``sentence-transformers``); None keeps the model's limit."""

    device: str = "auto"
    """Torch device (``sentence-transformers``); ``auto`` takes a GPU where there is one."""

    base_url: str | None = None
    """Address of the server, up to and including ``/v1``."""

    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the server's key; unset means that none is sent."""

    timeout: float = Field(default=60.0, gt=0)
    """Seconds that one request may take."""

    retries: int = Field(default=4, ge=0)
    """How often a request is repeated after a lost connection, a time-out, 429 or 5xx."""

    concurrency: int = Field(default=4, ge=1)
    """Requests under way at once."""

    @model_validator(mode="after")
    def _server_has_address(self) -> Self:
        if (self.backend == "server") != (self.base_url is not None):
            raise ValueError("base_url belongs to backend = 'server', which needs it")
        return self


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return float32[n, d] with each row scaled to unit length; rows of zeros stay."""
    wide = np.asarray(vectors, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    return (wide / np.where(norms > 0, norms, 1.0)).astype(np.float32)
