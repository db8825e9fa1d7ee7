"""Constrained decoding beside ``generate`` of transformers, and with a million items; prints lines of JSON.

A T5 of TIGER's size (4 + 4 layers, width 128, 6 heads; random weights) reads 32 histories of 20 items and gives
20 items each by 20 beams.  IDs are three made levels of 256 codes and one more that tells apart what is the same.

``constraint``: what leaves the allowed tokens of a step, over the four steps of ``generate``: its own processor, which
asks a ``prefix_allowed_tokens_fn`` with a trie of dictionaries for each beam, and ours.  ``end to end``: the same
``generate``, and ``beam_search`` over the same weights.  ``items``: the same search as the catalogue grows, and the search
with a model that costs next to nothing (``bare``).  ``trie``: memory and changes of a trie of a million items.  Seconds
are the least of several repeats (5, or the number given), of the wall and of the processor.
``python benchmarks/decoding.py``.
"""

from __future__ import annotations

import itertools
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm4rec.core import Ragged
from llm4rec.generative.decode import beam_search
from llm4rec.generative.processor import TrieLogitsProcessor
from llm4rec.generative.t5 import T5Steps
from llm4rec.generative.trie import Trie

N, BEAMS, K, CODES, LEVELS, FIRST = 32, 20, 20, 256, 4, 2  # tokens 0 and 1 are the pad and the end
SIZE = FIRST + LEVELS * CODES
N_ITEMS, MANY = 12_000, 1_000_000


def made_codes(n_items: int) -> NDArray[np.int32]:
    """Return int32[n_items, 4] tokens: three random levels, and a fourth that counts items with the same three."""
    codes = np.random.default_rng(0).integers(0, CODES, (n_items, LEVELS), dtype=np.int32)
    _, same, count = np.unique(codes[:, :3] @ (CODES ** np.arange(3)), return_inverse=True, return_counts=True)
    order = np.argsort(same, kind="stable")
    codes[order, 3] = np.arange(n_items) - np.repeat(np.cumsum(count) - count, count)
    return codes + FIRST + CODES * np.arange(LEVELS, dtype=np.int32)


def made_trie(n_items: int) -> Trie:
    """Return the trie of these IDs."""
    codes = made_codes(n_items)
    return Trie.build(Ragged.from_lengths(np.full(n_items, LEVELS), codes.ravel()), SIZE)


def made_t5() -> Any:
    """Return a T5 of TIGER's size with random weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=SIZE, d_model=128, d_kv=64, d_ff=1024, num_layers=4, num_heads=6, initializer_factor=2.0,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    return T5ForConditionalGeneration(config).eval()


class Bare:
    """A step model of one small product, so that what is left is the search."""

    def __init__(self) -> None:
        made = torch.Generator().manual_seed(0)
        self.table, self.out = torch.randn(SIZE, 16, generator=made), torch.randn(16, SIZE, generator=made)

    def begin(self) -> Tensor:
        """Return float[N, 1, 16]."""
        return self.table[:N, None]

    def advance(self, parents: Tensor, tokens: Tensor) -> Tensor:
        """Return float[N, b, 16]."""
        return self.table[tokens]

    def logits(self, states: Tensor, tokens: Tensor | None) -> Tensor:
        """Return float[m, SIZE] or float[m, w]."""
        return states @ (self.out if tokens is None else self.out[:, tokens])


def timed(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Return the least seconds of the wall and of the processor."""
    wall, cpu = [], []
    for _ in range(repeats):
        at, spent = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - at)
        cpu.append(time.process_time() - spent)
    return {"seconds": round(min(wall), 4), "cpu_seconds": round(min(cpu), 4)}


class Timed:
    """A logits processor and the seconds that it has taken."""

    def __init__(self, processor: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.processor, self.seconds, self.cpu = processor, 0.0, 0.0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return what the processor returns."""
        at, spent = time.perf_counter(), time.process_time()
        out = self.processor(input_ids, scores)
        self.seconds += time.perf_counter() - at
        self.cpu += time.process_time() - spent
        return out


def by_dictionaries(codes: NDArray[np.int32]) -> Callable[[int, Tensor], list[int]]:
    """Return a ``prefix_allowed_tokens_fn``: from the root down a trie of dictionaries, as is common."""
    root: dict[int, Any] = {}
    for row in codes.tolist():
        node = root
        for token in row:
            node = node.setdefault(token, {})

    def allowed(_: int, ids: Tensor) -> list[int]:
        node = root
        for token in ids.tolist()[1:]:
            node = node[token]
        return list(node)

    return allowed


def beside_generate(t5: Any, ids: Tensor, mask: Tensor, repeats: int) -> Iterator[dict[str, object]]:
    """Yield the lines ``constraint`` and ``end to end``."""
    from transformers.generation.logits_process import PrefixConstrainedLogitsProcessor

    trie, allowed = made_trie(N_ITEMS), by_dictionaries(made_codes(N_ITEMS))
    how = {"input_ids": ids, "attention_mask": mask, "num_beams": BEAMS, "num_return_sequences": K, "max_new_tokens": LEVELS,
           "do_sample": False, "length_penalty": 0.0, "return_dict_in_generate": True, "output_scores": True}  # fmt: skip
    spent: dict[str, list[Timed]] = {"theirs": [], "ours": []}
    for _ in range(repeats):
        for name, make in (
            ("theirs", lambda: PrefixConstrainedLogitsProcessor(allowed, BEAMS)),
            ("ours", lambda: TrieLogitsProcessor(trie, N, 1)),
        ):
            processor = Timed(make())
            t5.generate(**how, logits_processor=[processor])
            spent[name].append(processor)
    best = {name: min(p.seconds for p in all_) for name, all_ in spent.items()}
    cpu = {name: min(p.cpu for p in all_) for name, all_ in spent.items()}
    yield {
        "part": "constraint", "prefix_allowed_tokens_fn": round(best["theirs"], 4), "ours": round(best["ours"], 4),
        "cpu_seconds": [round(cpu["theirs"], 4), round(cpu["ours"], 4)], "times": round(best["theirs"] / best["ours"], 1),
        "cpu_times": round(cpu["theirs"] / cpu["ours"], 1),
    }  # fmt: skip
    theirs = timed(lambda: t5.generate(**how, prefix_allowed_tokens_fn=allowed), repeats)
    ours = timed(lambda: beam_search(T5Steps(t5, ids, mask), trie, K, beams=BEAMS), repeats)
    out = t5.generate(**how, prefix_allowed_tokens_fn=allowed)
    expected = TrieLogitsProcessor(trie, N, 1).lists(out.sequences, out.sequences_scores, K)
    found = beam_search(T5Steps(t5, ids, mask), trie, K, beams=BEAMS)
    yield {
        "part": "end to end", "generate": theirs, "ours": ours, "times": round(theirs["seconds"] / ours["seconds"], 1),
        "cpu_times": round(theirs["cpu_seconds"] / ours["cpu_seconds"], 1),
        "same_lists": int((np.sort(found.items, 1) == np.sort(expected.items, 1)).all(1).sum()),
        "lists": N, "largest_gap_of_scores": float(np.abs(found.scores - expected.scores).max()),
    }  # fmt: skip


def as_it_grows(t5: Any, ids: Tensor, mask: Tensor, repeats: int) -> Iterator[dict[str, object]]:
    """Yield a line for each size of the catalogue, and how much slower the last is than the first."""
    tries = {n: made_trie(n) for n in (N_ITEMS, 100_000, MANY)}
    seen = Ragged.from_lengths(np.full(N, 100), np.random.default_rng(1).integers(0, N_ITEMS, N * 100))
    lines: list[dict[str, Any]] = []
    for n, trie in tries.items():
        model = timed(lambda trie=trie: beam_search(T5Steps(t5, ids, mask), trie, K, beams=BEAMS, exclude=seen), repeats)
        bare = timed(lambda trie=trie: beam_search(Bare(), trie, K, beams=BEAMS, exclude=seen), repeats)
        lines.append({"part": "items", "items": n, "t5": model, "bare": bare})
        yield lines[-1]
    slower = {
        f"{what}_{unit}": round(lines[-1][what][unit] / lines[0][what][unit], 2) for what in ("t5", "bare") for unit in model
    }
    yield {"part": "items", "times_slower": slower}


def a_million() -> dict[str, object]:
    """Return memory of a trie of a million items, and the seconds that building and changing it take."""
    codes = Ragged.from_lengths(np.full(MANY, LEVELS), made_codes(MANY).ravel())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    build = timed(lambda: Trie.build(codes, SIZE), 1)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    trie, some = Trie.build(codes, SIZE), np.arange(0, MANY, 1000)
    less = trie.delete(some)
    return {
        "part": "trie", "items": MANY, "nodes": trie.n_nodes, "mb": round(trie.nbytes / 1e6, 1),
        "peak_mb_of_building": round(grown),
        "build": build, "delete_1000": timed(lambda: trie.delete(some), 3),
        "insert_1000": timed(lambda: less.insert(some, codes.take(some)), 3),
    }  # fmt: skip


def main(repeats: int) -> None:
    """Print all lines."""
    torch.set_num_threads(2)
    told(a_million())
    ids = torch.from_numpy(made_codes(N * 20).reshape(N, -1)).long()  # 20 items of 4 tokens
    with torch.no_grad():
        t5, mask = made_t5(), torch.ones_like(ids)
        for line in itertools.chain(beside_generate(t5, ids, mask, repeats), as_it_grows(t5, ids, mask, repeats)):
            told(line)


def told(line: dict[str, Any]) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps({"benchmark": "decoding", **line}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(repeats=int(sys.argv[1]) if len(sys.argv) > 1 else 5)
