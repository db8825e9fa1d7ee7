"""From an ``[llm.NAME]`` table to the model that it describes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm4rec.llm.config import LLMConfig
from llm4rec.llm.inprocess import LocalModel
from llm4rec.llm.scripted import ScriptedModel
from llm4rec.llm.server import ServerModel
from llm4rec.llm.streams import arrivals
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest, Reply, Request, ScoreReply, ScoreRequest, Watch


class _Fixed:
    """A model whose temperature and answer length the spec has fixed; that is part of its identity."""

    def __init__(self, model: ChatModel, fixed: Mapping[str, Any]) -> None:
        self.model, self.fixed = model, dict(fixed)

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def identity(self) -> Mapping[str, Any]:
        return {**self.model.identity, "fixed": self.fixed}

    def chat(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        return self.model.chat([replace(request, **self.fixed) for request in requests])

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        return self.model.score(requests)

    def stream(self, requests: Sequence[Request], watch: Watch | None = None) -> Iterator[list[tuple[int, Reply]]]:
        fixed = [r if isinstance(r, ScoreRequest) else replace(r, **self.fixed) for r in requests]
        yield from arrivals(self.model, fixed, watch)


def open_chat_model(
    config: LLMConfig, *, source: Path | str | None = None, cache: Path | None = None, weights: str | None = None
) -> ChatModel:
    """Open what a table describes.  Nothing is loaded and nobody is asked before the first call.

    Args:
        config: the table.
        source: local: where the model lies, if ``config.model`` names an asset; a ``.gguf`` file,
            or a folder (which may hold one ``.gguf`` file and no weights besides).
        cache: local: folder in which a GGUF file is converted, once.
        weights: local: what identifies the weights where that is known (an asset's SHA-256); the
            source need not exist then until a call misses the store.
    """
    model: ChatModel
    if config.backend == "scripted":
        model = ScriptedModel(config.answers, name=config.model, repeat=True)
    elif config.backend == "server":
        model = ServerModel(config)
    else:
        model = LocalModel(
            source if source is not None else config.model,
            cache=cache,
            name=config.model if source is not None else None,
            weights=weights,
            revision=config.revision,
            dtype=config.dtype,
            device=config.device,
            batch=config.batch,
            pack=config.batch_tokens,
            adapter=config.adapter,
        )
    fixed = {k: v for k, v in (("temperature", config.temperature), ("max_tokens", config.max_tokens)) if v is not None}
    return _Fixed(model, fixed) if fixed else model
