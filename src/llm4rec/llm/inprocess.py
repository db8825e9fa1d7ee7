"""A language model in this process as a chat model: a GGUF file, a folder or a hub name.

Weights are loaded at the first call that needs them: a run answered from the store loads nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from llm4rec.core import ModelError
from llm4rec.llm.adapter import adapter_sha256
from llm4rec.llm.config import Device, Dtype
from llm4rec.llm.gguf import converted
from llm4rec.llm.local import Network, Written, gpu_present
from llm4rec.llm.structured import answered, schema_instruction
from llm4rec.llm.values import ChatReply, ChatRequest, ScoreReply, ScoreRequest, Usage
from llm4rec.llm.weights import file_sha256, folder_sha256, located, native_bfloat16


class LocalModel:
    """A causal language model of transformers as a :class:`ChatModel`.

    An answer depends on its request alone, not on what else is asked in the same call.

    Prompt and continuation are tokenized apart and joined as tokens, so a continuation counts the
    same tokens after every prompt.  Text that spells a special token of the model (``<|im_end|>``)
    is broken up first: it is data.

    Args:
        source: a ``.gguf`` file, a folder of transformers, or a hub name.
        cache: where a GGUF file is converted to; required for one.
        name: for tables; by default the file's or folder's name.
        weights: what identifies the weights, where it is known (the SHA-256 of the GGUF file);
            otherwise computed from the files, or hub name and revision.
        revision: of a hub name.
        dtype: ``auto`` is bfloat16 where the processor (or GPU) has it, else float32.
        device: ``auto`` is the GPU if there is one.
        batch: rows decoded together.
        pack: upper bound of tokens in one packed sequence beyond the prompt.
        adapter: folder of a LoRA adapter that peft wrote (``adapter_config.json`` and
            ``adapter_model.safetensors``), merged into the weights; part of name and identity.
    """

    def __init__(
        self,
        source: Path | str,
        *,
        cache: Path | None = None,
        name: str | None = None,
        weights: str | None = None,
        revision: str = "main",
        dtype: Dtype = "auto",
        device: Device = "auto",
        batch: int = 16,
        pack: int = 768,
        adapter: Path | str | None = None,
    ) -> None:
        self.source, self.cache, self.revision = source, cache, revision
        self.dtype, self.device, self.batch, self.pack = dtype, device, batch, pack
        # With known weights, a run answered from the store needs no file at all.
        self._path = located(source) if weights is None or Path(source).exists() else None
        self._weights = weights
        path = self._path or Path(source)
        self.name = name or (path.stem if path.suffix == ".gguf" else path.name if self._path else str(source))
        self.adapter = None if adapter is None else Path(adapter).expanduser()
        if self.adapter is not None:
            adapter_sha256(self.adapter)  # what is missing is told now, not after hours
            self.name += f"+{self.adapter.resolve().name}"
        self.chunk = 2 * batch
        if path.suffix == ".gguf" and cache is None:
            raise ModelError("a GGUF file needs a folder to be converted into", where=str(source))
        self._lock = RLock()

    @cached_property
    def _fingerprint(self) -> str:
        if self._weights is not None:
            return self._weights
        if self._path is None:
            return f"{self.source}@{self.revision}"
        return file_sha256(self._path) if self._path.is_file() else folder_sha256(self._path)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Name, weights, adapter and precision as asked for.

        ``dtype: auto`` stands as it is, so that a stored run replays on another processor; name
        the precision where it must be one and the same.
        """
        known = {"backend": "local", "model": self.name, "weights": self._fingerprint, "dtype": self.dtype}
        return known if self._adapted is None else {**known, "adapter": self._adapted}

    @cached_property
    def _adapted(self) -> str | None:
        return None if self.adapter is None else adapter_sha256(self.adapter)

    @property
    def precision(self) -> str:
        """The precision in which this machine computes."""
        if self.dtype != "auto":
            return self.dtype
        return "bfloat16" if self._device == "cuda" or native_bfloat16() else "float32"

    @cached_property
    def _device(self) -> str:
        if self.device != "auto":
            return self.device
        return "cuda" if gpu_present() else "cpu"

    # -- loading ------------------------------------------------------------------------

    def _folder(self) -> str:
        path = self._path or located(self.source)
        if path is None or path.is_dir():
            return str(path or self.source)
        assert self.cache is not None
        return str(converted(path, self._fingerprint, self.cache))

    @cached_property
    def _network(self) -> Network:
        try:
            return Network(
                self._folder(),
                name=self.name,
                dtype=self.precision,
                device=self._device,
                revision=self.revision if self._path is None else None,
                batch=self.batch,
                pack=self.pack,
                adapter=self.adapter,
            )
        except ModelError:
            raise
        except Exception as error:  # a damaged file makes the readers raise whatever they trip over
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                f"cannot load the model ({type(error).__name__}: {reason})",
                where=str(self.source),
                todo="check the file, or name a folder with config.json, weights and tokenizer",
            ) from None

    def load(self) -> None:
        """Load the weights now rather than at the first call."""
        with self._lock:
            _ = self._network

    # -- the verbs ----------------------------------------------------------------------

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """Return log-probabilities of the continuations; see :class:`ScoreReply`.

        To share a prompt among many continuations, put them into one request.
        """
        with self._lock:
            tokens = self._network.tokens
            prompts = [tokens.of_prompt(r.prompt) for r in requests]
            continuations = [[tuple(tokens.of(c)) for c in r.continuations] for r in requests]
            # Sorted and without repetition: a score depends neither on a continuation's place nor on repetition.
            distinct = [sorted({t for t in row if t}) for row in continuations]
            longest = [len(p) + max(map(len, row), default=0) for p, row in zip(prompts, distinct, strict=True)]
            fits = [bool(row) and size <= self._network.limit for row, size in zip(distinct, longest, strict=True)]
            known = self._network.score([(p, row) for p, row, fit in zip(prompts, distinct, fits, strict=True) if fit])
        rest = iter(known)
        replies = []
        for prompt, row, unique, size, fit in zip(prompts, continuations, distinct, longest, fits, strict=True):
            sums, seconds = next(rest) if fit else ([], 0.0)
            scores = dict(zip(unique, sums, strict=fit))
            lengths = np.array([len(t) for t in row], dtype=np.int32)
            logprobs = np.array([scores.get(t, np.nan) for t in row], dtype=np.float64)
            if size > self._network.limit:
                detail = f"{size} tokens, and the model takes {self._network.limit}"
                replies.append(ScoreReply(logprobs, lengths, failure="rejected", detail=detail))
                continue
            empty = int((lengths == 0).sum())
            usage = Usage(len(prompt) + sum(map(len, unique)), 0)
            detail = f"{empty} continuations without a token" if empty else ""
            replies.append(
                ScoreReply(logprobs, lengths, failure="empty" if empty else None, detail=detail, usage=usage, seconds=seconds)
            )
        return replies

    def chat(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answer each request: greedy at temperature 0, else sampled under (seed, sample)."""
        with self._lock:
            return answered(requests, self._complete)

    def _complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        network = self._network
        prompts = [network.tokens.of_prompt(schema_instruction(r, enforced=r.guided)) for r in requests]
        sizes = [len(p) + r.max_tokens for p, r in zip(prompts, requests, strict=True)]
        fits = [i for i, (size, r) in enumerate(zip(sizes, requests, strict=True)) if size <= network.limit and not r.tools]
        written: dict[int, Written] = {}
        for guided in (False, True):
            if rows := [i for i in fits if requests[i].guided is guided]:
                answer = network.hold if guided else network.write
                written.update(zip(rows, answer([prompts[i] for i in rows], [requests[i] for i in rows]), strict=True))
        replies = []
        for i, (prompt, size) in enumerate(zip(prompts, sizes, strict=True)):
            if i not in written:
                detail = f"{size} tokens with the answer, and the model takes {network.limit}"
                if requests[i].tools:
                    detail = "a model in this process calls no tools: ask it with a schema"
                replies.append(ChatReply("", failure="rejected", detail=detail))
                continue
            said = written[i]
            text, usage = network.tokens.text(said.tokens), Usage(len(prompt), len(said.tokens))
            reply = ChatReply(text, usage=usage, seconds=said.seconds)
            replies.append(reply if said.ended else replace(reply, failure="truncated", detail="cut at max_tokens"))
        return replies
