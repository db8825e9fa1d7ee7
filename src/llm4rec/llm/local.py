"""The one file that runs a language model in this process, through torch and transformers.

Three tricks carry it, and all of them make an answer depend on its question alone:

- prompts are computed in blocks of a fixed number of tokens, and prompts that begin alike
  (one instruction, one history, several orders of candidates) take over each other's blocks;
- scoring packs the rest of a prompt and all its continuations into one sequence
  (:mod:`.packing`), so nothing is computed twice and nothing is padded;
- decoding steps rows in batches of one fixed shape: prompts of one length class, left-padded to
  that class, with empty rows where there are too few.

Independent pieces of work run side by side, each on one core.  That keeps the cores busy without
the many small barriers of threads within an operation (which cost a factor of ten where another
process holds one of the cores), and no figure depends on the number of cores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from llm4rec.core import ModelError
from llm4rec.llm.adapter import merged
from llm4rec.llm.gguf import quiet
from llm4rec.llm.guided import Guide, held_answer
from llm4rec.llm.packing import Pack, in_order, packs, runs
from llm4rec.llm.pick import Pick
from llm4rec.llm.prefix import BLOCK, Beginning, Layers, cache_of, layers_of
from llm4rec.llm.tokens import Tokens
from llm4rec.llm.values import ChatRequest

if TYPE_CHECKING:
    import torch

#: Prompts are padded to a multiple of this many tokens before they are decoded together.
LENGTH_CLASS = 64
_ROWS = 8  # rows of logits turned into log-probabilities at once: they then stay in the cache
X = TypeVar("X")
Y = TypeVar("Y")


def gpu_present() -> bool:
    """Is there a GPU that torch can use?"""
    import torch

    return bool(torch.cuda.is_available())


@dataclass(frozen=True, slots=True)
class Written:
    """A decoded answer: its tokens, whether it ended by itself, and its share of the batch's seconds."""

    tokens: list[int]
    ended: bool
    seconds: float


class Network:
    """A loaded causal language model with its tokenizer.

    Args:
        folder: a folder of transformers, or a hub name.
        name: for error messages.
        dtype: name of the precision.
        device: ``cpu`` or ``cuda``.
        revision: of a hub name, None for a folder.
        batch: rows decoded together.
        pack: tokens of continuations scored together.
        adapter: folder of a LoRA adapter, or None.
    """

    def __init__(
        self,
        folder: str,
        *,
        name: str,
        dtype: str,
        device: str,
        revision: str | None,
        batch: int,
        pack: int,
        adapter: Path | None = None,
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        options = {} if revision is None else {"revision": revision}
        with quiet():
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), **options)
            self.tokens = Tokens(AutoTokenizer.from_pretrained(folder, **options), name)
            if adapter is not None:
                model = merged(model, adapter, name)
        self.model = model.eval().to(device)
        self.name, self.exact, self.batch, self.pack = name, dtype == "float32", batch, pack
        config = model.config.get_text_config()
        #: The longest sequence that the model takes, in tokens.
        self.limit = int(getattr(config, "max_position_embeddings", None) or 1 << 30)
        self._kinds = set(getattr(config, "layer_types", None) or ())
        #: Positions that a token of a layer with a window sees, its own included.
        self._window = getattr(config, "sliding_window", None) if self._kinds != {"full_attention"} else None
        self._block = BLOCK[self.model.device.type]
        ends = model.generation_config.eos_token_id
        listed = [*(ends if isinstance(ends, list) else [ends]), self.tokens.end]
        self._stop = frozenset(int(token) for token in listed if token is not None)
        #: The beginning of the last held answer's prompt: the next turn of a conversation goes on from it.
        self._kept = Beginning(self.model, self._block)

    def _side_by_side(self, work: Callable[[X], Y], pieces: Sequence[X]) -> list[Y]:
        """Return ``work`` of each piece, in order; on a processor each piece takes one core."""
        import torch

        def one(piece: X) -> Y:
            with torch.inference_mode():
                return work(piece)

        if self.model.device.type != "cpu":
            return [one(piece) for piece in pieces]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(threads) as pool:
                return list(pool.map(one, pieces))
        finally:
            torch.set_num_threads(threads)

    def _runs(self, prompts: Sequence[list[int]], weights: Sequence[int]) -> list[list[int]]:
        """Return which prompts to work through one after the other, for they begin alike: the work of a core each."""
        import torch

        cores = torch.get_num_threads() if self.model.device.type == "cpu" else 1
        return runs(prompts, weights, cores, self._block)

    # -- scoring ------------------------------------------------------------------------

    def score(self, asked: Sequence[tuple[list[int], list[tuple[int, ...]]]]) -> list[tuple[list[float], float]]:
        """Return for each (prompt, continuations) the summed log-probabilities, and the seconds.

        Prompts and continuations are tokens; none of them is empty.
        """

        _ = self._follows_masks
        prompts = [prompt for prompt, _ in asked]
        weights = [len(prompt) + sum(map(len, row)) for prompt, row in asked]
        parts = self._runs(prompts, weights)

        def one(run: list[int]) -> list[tuple[list[float], float]]:
            beginning = Beginning(self.model, self._block)
            found = []
            for i in run:
                began = time.perf_counter()
                found.append((self._packed(*asked[i], beginning), time.perf_counter() - began))
            return found

        return in_order(parts, self._side_by_side(one, parts))

    @cached_property
    def _goes_on(self) -> None:
        """Find out, once, whether the model goes on from keys and values; raises ``ModelError`` if not."""
        import torch

        prompt = [5 + i % 4 for i in range(self._block + 4)]
        with torch.inference_mode():
            ids = torch.tensor([prompt], device=self.model.device)
            at_once = self.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1]
            try:
                after = self._last(prompt, Beginning(self.model, self._block))[0]
            except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
                after = torch.full_like(at_once, torch.nan)
        likely = at_once.topk(min(20, len(at_once))).indices  # rounding moves the unlikely ones far
        one, other = (torch.log_softmax(x.float(), -1)[likely].cpu().numpy() for x in (at_once, after))
        if not np.allclose(one, other, rtol=0, atol=self._slack):
            what = f"{self.name} does not go on from keys and values, so it cannot be run in process"
            raise ModelError(what, todo="serve it, or name another model")

    @cached_property
    def _follows_masks(self) -> None:
        """Find out, once, on a few tokens, whether the model follows the mask and positions of a packed sequence."""
        import torch

        _ = self._goes_on
        prompt, continuations = [5, 6, 7, 8], [(9, 10, 11), (12, 13, 14)]
        apart = []
        with torch.inference_mode():
            for continuation in continuations:
                ids = torch.tensor([[*prompt, *continuation]], device=self.model.device)
                rows = torch.log_softmax(self.model(input_ids=ids, use_cache=False).logits[0].float(), -1)
                apart.append(sum(float(rows[len(prompt) - 1 + i, t]) for i, t in enumerate(continuation)))
            try:
                together = self._packed(prompt, continuations, Beginning(self.model, self._block))
            except (RuntimeError, ValueError, TypeError, AttributeError, IndexError):
                together = [np.nan, np.nan]
        if not np.allclose(apart, together, rtol=0, atol=self._slack):
            what = f"{self.name} does not follow attention masks, so it cannot be scored in process"
            raise ModelError(what, todo="serve it, or name another model")

    @property
    def _slack(self) -> float:
        """By how much log-probabilities may differ between two ways of computing them, in nats."""
        return 1e-2 if self.exact else 0.5

    def _packed(self, prompt: list[int], continuations: Sequence[tuple[int, ...]], beginning: Beginning) -> list[float]:
        """Return the summed log-probability of each continuation (none of them empty)."""
        import torch

        parts = packs(continuations, self.pack)
        sums = torch.zeros(len(continuations), dtype=torch.float64)
        known, layers = beginning.of(prompt)
        # The first token of every continuation is predicted by the prompt's last position; it is
        # computed with the first pack, and the prompt's keys and values serve the later ones.
        first = None
        for part in parts:
            if first is None:
                logits, layers = self._forward(prompt, part, known, layers)
                first, logits = torch.log_softmax(logits[0].float(), -1), logits[1:]
            elif len(part.tokens):
                logits, _ = self._forward(prompt, part, len(prompt), layers)
            rows = torch.from_numpy(part.rows)
            sums[rows] = first[torch.from_numpy(part.heads).to(first.device)].double().cpu()
            if len(part.tokens):
                target = torch.from_numpy(part.targets).to(first.device)[:, None]
                blocks = zip(logits.split(_ROWS), target.split(_ROWS), strict=True)
                each = torch.cat([torch.log_softmax(block.float(), -1).gather(1, at)[:, 0] for block, at in blocks])
                sums.index_add_(0, rows[torch.from_numpy(part.owner)], each.double().cpu())
        return list(sums.tolist())

    def _forward(self, prompt: list[int], part: Pack, known: int, layers: Layers) -> tuple[torch.Tensor, Layers]:
        """Run one packed sequence of c tokens, after what is not ``known`` of the prompt.

        Returns:
            Logits [c, vocabulary], with those of the prompt's last position before them if that
            was in the pass; and the whole prompt's keys and values.
        """
        import torch

        model, n, c = self.model, len(prompt), len(part.tokens)
        own = n - known  # tokens of the prompt in this pass
        out = model(
            input_ids=torch.tensor([prompt[known:] + part.tokens.tolist()], device=model.device),
            position_ids=torch.from_numpy(part.positions(n, own))[None].to(model.device),
            attention_mask=self._mask(part, n, own),
            past_key_values=cache_of(layers),
            use_cache=True,
            logits_to_keep=torch.arange(max(own - 1, 0), own + c, device=model.device),
        )
        return out.logits[0], [(keys[:, :, :n], values[:, :, :n]) for keys, values in layers_of(out)]

    def _mask(self, part: Pack, n: int, own: int) -> Any:
        """Return bool[1, 1, own + c, n + c] for layers that are all alike, else one for each kind of layer."""
        import torch

        def mask(window: int | None) -> torch.Tensor:
            return torch.from_numpy(part.sees(n, own, window))[None, None].to(self.model.device)

        if self._window is None:
            return mask(None)
        if len(self._kinds) < 2:
            return mask(self._window)
        return {"full_attention": mask(None), "sliding_attention": mask(self._window)}

    # -- decoding -----------------------------------------------------------------------

    def write(self, prompts: Sequence[list[int]], requests: Sequence[ChatRequest]) -> list[Written]:
        """Answer prompts (tokens, not empty) under the temperature, seed and length of their requests."""
        _ = self._goes_on
        classes: dict[int, list[int]] = {}
        for i, prompt in enumerate(prompts):
            classes.setdefault(-(-len(prompt) // LENGTH_CLASS) * LENGTH_CLASS, []).append(i)
        pieces = []
        for width, rows in classes.items():
            rows.sort(key=lambda i: (requests[i].max_tokens, prompts[i]))  # neighbours share what they can
            pieces += [(width, rows[at : at + self.batch]) for at in range(0, len(rows), self.batch)]
        pieces.sort(key=lambda piece: max(requests[i].max_tokens for i in piece[1]), reverse=True)  # the longest first

        def one(piece: tuple[int, list[int]]) -> list[Written]:
            width, rows = piece
            return self._decode([prompts[i] for i in rows], [requests[i] for i in rows], width)

        return in_order([rows for _, rows in pieces], self._side_by_side(one, pieces))

    def _last(self, prompt: list[int], beginning: Beginning) -> tuple[torch.Tensor, Layers]:
        """Return the logits [vocabulary] after a prompt, and its keys and values."""
        import torch

        known, layers = beginning.of(prompt)
        ids = torch.tensor([prompt[known:]], device=self.model.device)
        out = self.model(input_ids=ids, past_key_values=cache_of(layers), use_cache=True, logits_to_keep=1)
        return out.logits[0, -1], layers_of(out)

    def _decode(self, prompts: Sequence[list[int]], requests: Sequence[ChatRequest], width: int) -> list[Written]:
        """Answer at most ``batch`` prompts of one length class.

        Every row is left-padded to ``width``, and rows without a request are empty, so that each
        step has one shape whatever is asked together.
        """
        import torch

        began = time.perf_counter()
        model = self.model
        beginning = Beginning(model, self._block)
        single = [self._last(prompt, beginning) for prompt in prompts]
        layers = []
        for parts in zip(*(own for _, own in single), strict=True):
            heads, size = parts[0][0].shape[1], parts[0][0].shape[3]
            pair = torch.zeros(2, self.batch, heads, width, size, dtype=parts[0][0].dtype, device=model.device)
            for row, (keys, values) in enumerate(parts):
                n = keys.shape[2]
                pair[0, row, :, width - n :], pair[1, row, :, width - n :] = keys[0], values[0]
            layers.append((pair[0], pair[1]))
        cache = cache_of(layers)
        lengths = torch.tensor([len(p) for p in prompts] + [1] * (self.batch - len(prompts)))
        sees = torch.arange(width)[None] >= (width - lengths)[:, None]  # bool[batch, width]
        picks = [Pick(r) for r in requests]
        answers: list[list[int]] = [[] for _ in prompts]
        ended = [False] * len(prompts)
        logits = torch.stack([last for last, _ in single])  # [rows, vocabulary]
        running = list(range(len(requests)))
        for step in range(max(r.max_tokens for r in requests)):
            chosen = [0] * self.batch
            for row in running:
                chosen[row] = picks[row](logits[row].float().cpu().numpy())
                ended[row] = chosen[row] in self._stop
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
        seconds = (time.perf_counter() - began) / len(prompts)
        return [Written(*row, seconds) for row in zip(answers, ended, strict=True)]

    @cached_property
    def _guide(self) -> Guide:
        return self.tokens.guide(int(self.model.config.get_text_config().vocab_size), self._stop)

    def hold(self, prompts: Sequence[list[int]], requests: Sequence[ChatRequest]) -> list[Written]:
        """Answer prompts (tokens, not empty) with values of their requests' schemas, each by itself."""

        _ = self._goes_on
        weights = [len(prompt) + request.max_tokens for prompt, request in zip(prompts, requests, strict=True)]
        parts = self._runs(prompts, weights)

        def held(prompt: list[int], request: ChatRequest, beginning: Beginning) -> Written:
            began = time.perf_counter()
            answer, ended = held_answer(self.model, self._guide, len(prompt), *self._last(prompt, beginning), request)
            return Written(answer, ended, time.perf_counter() - began)

        def one(part: list[int]) -> list[Written]:
            beginning = self._kept if part is parts[0] else Beginning(self.model, self._block)
            return [held(prompts[i], requests[i], beginning) for i in part]

        return in_order(parts, self._side_by_side(one, parts))
