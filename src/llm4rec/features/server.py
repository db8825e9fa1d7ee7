"""Any server with an OpenAI-compatible ``/embeddings`` endpoint."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import ModelError
from llm4rec.features.values import EncoderConfig, unit

#: Seconds before the first repetition; doubled each time up to the longest.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0


class ServerEncoder:
    """An embeddings endpoint, asked in batches, several under way at once.

    Lost connections, time-outs, 408, 429 (``Retry-After`` is honoured), 5xx and answers that are not
    JSON are repeated ``config.retries`` times.  Everything else that is wrong, and the last failure,
    raises ``ModelError``, in which the key never appears.
    """

    def __init__(self, config: EncoderConfig) -> None:
        self._config = config
        self._known: int | None = config.dimension

    @property
    def name(self) -> str:
        return self._config.model

    @property
    def identity(self) -> Mapping[str, Any]:
        """The server's address, the model's name there, and the settings that shape a vector."""
        return self._config.model_dump(include={"backend", "base_url", "model", "dimension", "prefix"})

    @property
    def dimension(self) -> int:
        if self._known is None:
            self.encode(["dimension"])
        assert self._known is not None
        return self._known

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[n, dimension]: unit length, or all zero for a blank text."""
        said = [i for i, text in enumerate(texts) if text.strip()]  # servers refuse empty strings
        size = self._config.batch_size
        batches = [[self._config.prefix + texts[i] for i in said[start : start + size]] for start in range(0, len(said), size)]
        with ThreadPoolExecutor(self._config.concurrency) as pool:
            answers = list(pool.map(self._ask, batches))
        lengths = {answer.shape[1] for answer in answers} | ({self._known} if self._known else set())
        if len(lengths) > 1:
            raise self._wrong(f"gives vectors of {', '.join(map(str, sorted(lengths)))} dimensions", "set dimension")
        self._known = next(iter(lengths), self._known)
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        if said:
            vectors[said] = unit(np.concatenate(answers))
        return vectors

    def _ask(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Send one request, repeat it where that may help, and return float64[n, d]."""
        import openai

        config = self._config
        asked: dict[str, Any] = {"input": list(texts), "model": config.model, "encoding_format": "float"}
        if config.dimension is not None:
            asked["dimensions"] = config.dimension
        if not os.environ.get(config.api_key_env):
            asked["extra_headers"] = {"Authorization": openai.Omit()}
        for attempt in range(config.retries + 1):
            told = ""
            try:
                answer = self._client.embeddings.with_raw_response.create(**asked)
                return self._read(json.loads(answer.http_response.content), len(texts))
            except openai.APITimeoutError:
                what, todo = f"no answer within {config.timeout:g} s", "raise timeout"
            except openai.APIConnectionError as error:
                what, todo = f"cannot be reached ({self._hide(str(error.__cause__ or error))})", "start it or check base_url"
            except openai.APIStatusError as error:
                code, told = error.status_code, error.response.headers.get("retry-after", "")
                if code in (401, 403):
                    raise self._wrong(f"refuses the key (HTTP {code})", f"set {config.api_key_env}") from None
                what, todo = f"answers HTTP {code} ({self._hide(error.message)})", "see the server's log"
                if code < 500 and code not in (408, 429):
                    raise self._wrong(what, "check model, dimension and base_url") from None
            except ValueError:
                what, todo = "answers with something that is not JSON", "check that base_url ends in /v1"
            if attempt < config.retries:
                wait = float(told) if told.replace(".", "", 1).isdecimal() else _FIRST_WAIT * 2**attempt
                time.sleep(min(wait, _LONGEST_WAIT))
        raise self._wrong(f"{what}, {config.retries + 1} times", todo)

    def _read(self, answer: Any, n: int) -> NDArray[np.float64]:
        """Return the vectors of an answer in the order of the question."""
        try:
            rows = {int(entry["index"]): entry["embedding"] for entry in answer["data"]}
            if len(answer["data"]) != n or rows.keys() != set(range(n)):
                raise self._wrong(f"gives {len(answer['data'])} vectors for {n} texts, or numbers them wrongly", "")
            vectors = np.array([rows[i] for i in range(n)], dtype=np.float64)
        except (TypeError, LookupError, ValueError, AttributeError):
            raise self._wrong("answers with something that is not a list of embeddings", "check base_url and model") from None
        if vectors.ndim != 2 or not vectors.shape[1] or not np.isfinite(vectors).all():
            raise self._wrong("gives vectors with values that are no finite numbers, or none", "check the model")
        return vectors

    @cached_property
    def _client(self) -> Any:
        import openai

        config = self._config
        return openai.OpenAI(
            base_url=config.base_url,
            api_key=os.environ.get(config.api_key_env) or "none",
            timeout=config.timeout,
            max_retries=0,
        )

    def _wrong(self, what: str, todo: str) -> ModelError:
        return ModelError(what, where=f"{self._config.base_url} ({self._config.model})", todo=todo or None)

    def _hide(self, text: str) -> str:
        """Return the start of a message with the key struck out."""
        key = os.environ.get(self._config.api_key_env)
        return " ".join((text.replace(key, "***") if key else text).split())[:200]
