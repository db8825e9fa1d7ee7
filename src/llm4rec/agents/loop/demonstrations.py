"""Example turns, of which those most like a request are shown to the model.

Chosen by similarity as in Liu et al., *What Makes Good In-Context Examples for GPT-3?*, DeeLIO 2022, arXiv 2101.06804:
by the cosine of an encoder's vectors, or, without an encoder, by BM25 over the requests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, ValidationError

from llm4rec.agents.catalogue import Catalogue
from llm4rec.core import Config, DataError, Vocabulary
from llm4rec.core.columns import ITEM
from llm4rec.features.values import Encoder


class ExampleCall(Config):
    """A tool call of an example."""

    tool: str
    """Name of the tool."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """What it is called with."""


class Example(Config):
    """A line of a file of demonstrations."""

    request: str = Field(min_length=1)
    """What a user said."""
    calls: tuple[ExampleCall, ...] = Field(min_length=1)
    """The calls that served the request well."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An example as it is shown: the request, and the calls as JSON."""

    request: str
    calls: str


class Demonstrations:
    """Example turns, to be looked up by request.

    Args:
        examples: at least one.
        encoder: whose vectors say what is alike; None for BM25.
    """

    def __init__(self, examples: Sequence[Example], encoder: Encoder | None = None) -> None:
        self._examples, self._encoder = tuple(examples), encoder
        self._requests = [example.request for example in examples]

    @cached_property
    def _vectors(self) -> Any:
        """float32[n, d], unit vectors of the requests; encoded when somebody first asks what is alike."""
        assert self._encoder is not None
        return _unit(self._encoder.encode(self._requests))

    @cached_property
    def _words(self) -> Catalogue:
        n = len(self._requests)
        table = pl.DataFrame({ITEM: np.arange(n, dtype=np.int32), "title": self._requests})
        return Catalogue(Vocabulary([str(i) for i in range(n)], kind="item"), table, n)

    @classmethod
    def read(cls, path: Path, encoder: Encoder | None = None) -> Demonstrations:
        """Read a file of JSON lines; raises ``DataError`` with the line's number."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot be read ({error})", where=str(path)) from None
        examples = []
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    examples.append(Example.model_validate_json(line))
                except ValidationError as error:
                    first = error.errors(include_url=False)[0]
                    what = f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"
                    raise DataError(what, where=f"{path}: line {number}") from None
        if not examples:
            raise DataError("holds no example", where=str(path), todo="write one JSON object a line: request and calls")
        return cls(examples, encoder)

    def like(self, request: str, k: int) -> tuple[Shown, ...]:
        """Return the ``k`` examples most like a request, the most alike last, next to the request itself."""
        if self._encoder is not None:
            scores = self._vectors @ _unit(self._encoder.encode([request]))[0]
        else:
            scores = self._words.found(request)
        best = np.argsort(-scores, kind="stable")[:k]
        chosen = [self._examples[i] for i in best.tolist() if scores[i] > -np.inf]
        calls = [json.dumps([c.model_dump(mode="json") for c in e.calls], ensure_ascii=False) for e in chosen]
        return tuple(Shown(e.request, c) for e, c in zip(chosen, calls, strict=True))[::-1]


def _unit(vectors: Any) -> Any:
    """Return float32[n, d] rows of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
