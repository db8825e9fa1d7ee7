"""A language model in this process: a GGUF file, a folder or a hub name, through transformers.

An answer depends on its request alone, not on what else is asked in the same call:

- ``score`` packs one request into one sequence, ``prompt + continuation + continuation + ...``.
  Positions restart after the prompt, and the attention mask lets each continuation see the prompt
  and itself only, so the prompt is computed once and nothing is padded.
- ``chat`` computes each prompt alone, then decodes rows in batches of one fixed shape: prompts of
  one length class, left-padded to that class, with empty rows where requests are missing.

Weights are loaded at the first call that needs them: a run answered from the store loads nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from llm4rec.core import ModelError
from llm4rec.llm.config import Device, Dtype
from llm4rec.llm.packing import Pack, packs
from llm4rec.llm.pick import Pick
from llm4rec.llm.structured import answered, schema_instruction
from llm4rec.llm.tokens import Tokens
from llm4rec.llm.values import ChatReply, ChatRequest, ScoreReply, ScoreRequest, Usage
from llm4rec.llm.weights import built_once, file_sha256, folder_sha256, located, native_bfloat16

if TYPE_CHECKING:
    import torch

#: Prompts are padded to a multiple of this many tokens before they are decoded together.
LENGTH_CLASS = 64
_ROWS = 8  # rows of logits turned into log-probabilities at once: they then stay in the cache


@contextmanager
def _quiet_transformers() -> Iterator[None]:
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


def _convert(gguf: Path, folder: Path) -> None:
    """Write a GGUF file as a folder of safetensors and tokenizer, which loads ten times as fast."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        # The weights are plain numbers now; without this, transformers refuses to save them.
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


class LocalModel:
    """A causal language model of transformers as a :class:`ChatModel`.

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
    ) -> None:
        self.source, self.cache, self.revision = source, cache, revision
        self.dtype, self.device, self.batch, self.pack = dtype, device, batch, pack
        # With known weights, a run answered from the store needs no file at all.
        self._path = located(source) if weights is None or Path(source).exists() else None
        self._weights = weights
        path = self._path or Path(source)
        self.name = name or (path.stem if path.suffix == ".gguf" else path.name if self._path else str(source))
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
        """Name, weights and precision as asked for.

        ``dtype: auto`` stands as it is, so that a stored run replays on another processor; name
        the precision where it must be one and the same.
        """
        return {"backend": "local", "model": self.name, "weights": self._fingerprint, "dtype": self.dtype}

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
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    # -- loading ------------------------------------------------------------------------

    def _folder(self) -> str:
        path = self._path or located(self.source)
        if path is None:
            return str(self.source)
        if path.is_dir():
            return str(path)
        assert self.cache is not None
        name = f"{path.stem}-{self._fingerprint[:16]}"
        return str(built_once(self.cache, name, self._fingerprint, lambda folder: _convert(path, folder)))

    @cached_property
    def _loaded(self) -> tuple[Any, Tokens]:
        """The model and its tokenizer."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        options: dict[str, Any] = {} if self._path is not None else {"revision": self.revision}
        try:
            folder = self._folder()
            with _quiet_transformers():
                model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, self.precision), **options)
                tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        except ModelError:
            raise
        except Exception as error:  # a damaged file makes the readers raise whatever they trip over
            reason = " ".join(str(error).split())[:300]
            raise ModelError(
                f"cannot load the model ({type(error).__name__}: {reason})",
                where=str(self.source),
                todo="check the file, or name a folder with config.json, weights and tokenizer",
            ) from None
        return model.eval().to(self._device), Tokens(tokenizer, self.name)

    @property
    def _network(self) -> Any:
        return self._loaded[0]

    @property
    def _tokens(self) -> Tokens:
        return self._loaded[1]

    def load(self) -> None:
        """Load the weights now rather than at the first call."""
        _ = self._loaded

    @property
    def _limit(self) -> int:
        """The longest sequence that the model takes."""
        config = self._network.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 1 << 30)

    # -- scoring ------------------------------------------------------------------------

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """Return log-probabilities of the continuations; see :class:`ScoreReply`.

        To share a prompt among many continuations, put them into one request.
        """
        import torch

        with self._lock, torch.inference_mode():
            _ = self._packs
            return [self._score_one(request) for request in requests]

    def _score_one(self, request: ScoreRequest) -> ScoreReply:
        began = time.perf_counter()
        prompt = self._tokens.of_prompt(request.prompt)
        tokens = [tuple(self._tokens.of(c)) for c in request.continuations]
        lengths = np.array([len(t) for t in tokens], dtype=np.int32)
        logprobs = np.full(len(tokens), np.nan)
        longest = len(prompt) + int(lengths.max(initial=0))
        if longest > self._limit:
            detail = f"{longest} tokens, and the model takes {self._limit}"
            return ScoreReply(logprobs, lengths, failure="rejected", detail=detail)
        # Sorted and without repetition: a continuation's score depends neither on its place nor on repetition.
        distinct = sorted({t for t in tokens if t})
        scores = dict(zip(distinct, self._packed(prompt, distinct), strict=True)) if distinct else {}
        for i, t in enumerate(tokens):
            logprobs[i] = scores.get(t, np.nan)
        empty = int((lengths == 0).sum())
        return ScoreReply(
            logprobs,
            lengths,
            failure="empty" if empty else None,
            detail=f"{empty} continuations without a token" if empty else "",
            usage=Usage(len(prompt) + sum(map(len, distinct)), 0),
            seconds=time.perf_counter() - began,
        )

    @cached_property
    def _packs(self) -> bool:
        """Does the model follow the mask and positions of a packed sequence?  Tried once, on a few tokens."""
        import torch

        prompt, continuations = [5, 6, 7, 8], [(9, 10, 11), (12, 13, 14)]
        apart = []
        for continuation in continuations:
            ids = torch.tensor([[*prompt, *continuation]], device=self._network.device)
            rows = torch.log_softmax(self._network(input_ids=ids, use_cache=False).logits[0].float(), -1)
            apart.append(sum(float(rows[len(prompt) - 1 + i, t]) for i, t in enumerate(continuation)))
        try:
            together = self._packed(prompt, continuations)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise ModelError(
                f"{self.name} cannot be scored in process ({error})", todo="serve it, or name another model"
            ) from None
        allowed = 1e-2 if self.precision == "float32" else 0.5
        if not np.allclose(apart, together, rtol=0, atol=allowed):
            raise ModelError(
                f"{self.name} ignores attention masks, so it cannot be scored in process",
                todo="serve it, or name another model",
            )
        return True

    def _packed(self, prompt: list[int], continuations: Sequence[tuple[int, ...]]) -> list[float]:
        """Return the summed log-probability of each continuation (none of them empty)."""
        import torch

        parts = packs(continuations, self.pack)
        sums = torch.zeros(len(continuations), dtype=torch.float64)
        # The first token of every continuation is predicted by the prompt's last position; it is
        # computed with the first pack, and the prompt's keys and values serve the later ones.
        first, prefix = None, None
        for part in parts:
            if first is None:
                logits, prefix = self._forward(prompt, part, None, keep=len(parts) > 1)
                first, logits = torch.log_softmax(logits[0].float(), -1), logits[1:]
            elif len(part.tokens):
                logits, _ = self._forward(prompt, part, prefix, keep=False)
            rows = torch.from_numpy(part.rows)
            sums[rows] = first[torch.from_numpy(part.heads).to(first.device)].double().cpu()
            if len(part.tokens):
                target = torch.from_numpy(part.targets).to(first.device)[:, None]
                blocks = zip(logits.split(_ROWS), target.split(_ROWS), strict=True)
                each = torch.cat([torch.log_softmax(block.float(), -1).gather(1, at)[:, 0] for block, at in blocks])
                sums.index_add_(0, rows[torch.from_numpy(part.owner)], each.double().cpu())
        return list(sums.tolist())

    def _forward(self, prompt: list[int], part: Pack, prefix: Any, *, keep: bool) -> tuple[torch.Tensor, Any]:
        """Run one packed sequence of c tokens, with the prompt unless its keys and values are given.

        Returns:
            Logits [c, vocabulary], with those of the prompt's last position before them if
            ``prefix`` is None; and the prompt's keys and values if ``keep``, else None.
        """
        import torch
        from transformers import DynamicCache

        model, n, c = self._network, len(prompt), len(part.tokens)
        own = n if prefix is None else 0  # tokens of the prompt in this pass
        out = model(
            input_ids=torch.tensor([prompt[:own] + part.tokens.tolist()], device=model.device),
            position_ids=torch.from_numpy(part.positions(n, own))[None].to(model.device),
            attention_mask=torch.from_numpy(part.sees(n, own))[None, None].to(model.device),
            past_key_values=None if prefix is None else DynamicCache(prefix),
            use_cache=keep or prefix is not None,
            logits_to_keep=torch.arange(max(own - 1, 0), own + c, device=model.device),
        )
        layers = [(x.keys[:, :, :n].clone(), x.values[:, :, :n].clone()) for x in out.past_key_values.layers] if keep else None
        return out.logits[0], layers

    # -- chat ---------------------------------------------------------------------------

    def chat(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answer each request: greedy at temperature 0, else sampled under (seed, sample)."""
        import torch

        with self._lock, torch.inference_mode():
            return answered(requests, self._complete)

    def _complete(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        prompts = [self._tokens.of_prompt(schema_instruction(r)) for r in requests]
        replies: list[ChatReply | None] = [None] * len(requests)
        classes: dict[int, list[int]] = {}
        for i, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
            total = len(prompt) + request.max_tokens
            if total > self._limit:
                detail = f"{total} tokens with the answer, and the model takes {self._limit}"
                replies[i] = ChatReply("", failure="rejected", detail=detail)
            else:
                classes.setdefault(-(-len(prompt) // LENGTH_CLASS) * LENGTH_CLASS, []).append(i)
        for width, rows in sorted(classes.items()):
            rows.sort(key=lambda i: (requests[i].max_tokens, len(prompts[i])))
            for start in range(0, len(rows), self.batch):
                part = rows[start : start + self.batch]
                began = time.perf_counter()
                answers = self._decode([prompts[i] for i in part], [requests[i] for i in part], width)
                seconds = (time.perf_counter() - began) / len(part)
                for i, (tokens, ended) in zip(part, answers, strict=True):
                    text, usage = self._tokens.text(tokens), Usage(len(prompts[i]), len(tokens))
                    failure, detail = (None, "") if ended else ("truncated", "cut at max_tokens")
                    replies[i] = ChatReply(text, failure=failure, detail=detail, usage=usage, seconds=seconds)  # type: ignore[arg-type]
        return [reply for reply in replies if reply is not None]

    def _decode(
        self, prompts: Sequence[list[int]], requests: Sequence[ChatRequest], width: int
    ) -> list[tuple[list[int], bool]]:
        """Return each row's tokens, and whether it ended by itself.

        ``width`` is the length class: every row is left-padded to it, and rows without a request
        are empty, so that each step has one shape whatever is asked together.
        """
        import torch
        from transformers import DynamicCache

        model = self._network
        stop = self._stop_tokens
        single = [model(input_ids=torch.tensor([p], device=model.device), use_cache=True, logits_to_keep=1) for p in prompts]
        layers = []
        for parts in zip(*(out.past_key_values.layers for out in single), strict=True):
            heads, size = parts[0].keys.shape[1], parts[0].keys.shape[3]
            pair = torch.zeros(2, self.batch, heads, width, size, dtype=parts[0].keys.dtype, device=model.device)
            for row, part in enumerate(parts):
                n = part.keys.shape[2]
                pair[0, row, :, width - n :], pair[1, row, :, width - n :] = part.keys[0], part.values[0]
            layers.append((pair[0], pair[1]))
        cache = DynamicCache(layers)
        lengths = torch.tensor([len(p) for p in prompts] + [1] * (self.batch - len(prompts)))
        sees = torch.arange(width)[None] >= (width - lengths)[:, None]  # bool[batch, width]
        picks = [Pick(r) for r in requests]
        answers: list[list[int]] = [[] for _ in prompts]
        ended = [False] * len(prompts)
        logits = torch.cat([out.logits[0] for out in single])  # [rows, vocabulary]
        running = list(range(len(requests)))
        for step in range(max(r.max_tokens for r in requests)):
            chosen = [0] * self.batch
            for row in running:
                chosen[row] = picks[row](logits[row].float().cpu().numpy())
                ended[row] = chosen[row] in stop
                if not ended[row]:
                    answers[row].append(chosen[row])
            running = [row for row in running if not ended[row] and len(answers[row]) < requests[row].max_tokens]
            if not running:
                break
            sees = torch.cat([sees, torch.ones(self.batch, 1, dtype=torch.bool)], dim=1)
            out = model(
                input_ids=torch.tensor(chosen, device=model.device)[:, None],
                position_ids=(lengths + step)[:, None].to(model.device),
                attention_mask=sees.to(model.device),
                past_key_values=cache,
                use_cache=True,
            )
            logits = out.logits[:, -1]
        return list(zip(answers, ended, strict=True))

    @cached_property
    def _stop_tokens(self) -> frozenset[int]:
        ends = self._network.generation_config.eos_token_id
        listed = ends if isinstance(ends, list) else [ends]
        return frozenset(int(t) for t in [*listed, self._tokens.end] if t is not None)
