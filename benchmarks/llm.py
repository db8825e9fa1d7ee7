"""Speed of the embedded language model in this process; prints one line of JSON for each measurement.

Prompts of about 100 tokens and 20 continuations of about 8, as the likelihood ranker asks them.
``wall`` is what a user waits; ``cpu`` (process time) is less disturbed by what else runs.

    python benchmarks/llm.py
    python benchmarks/llm.py --no-convert --dtype bfloat16
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm4rec import assets
from llm4rec.llm import ChatRequest, Message, ScoreRequest, ScriptedModel, Store, Stored
from llm4rec.llm.inprocess import LocalModel
from llm4rec.llm.weights import native_bfloat16

WORDS = (
    "Star",
    "Wars",
    "Toy",
    "Story",
    "Heat",
    "Fargo",
    "Alien",
    "Up",
    "Silence",
    "Lambs",
    "Godfather",
    "Pulp",
    "Jedi",
    "Rock",
)


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return what ``work`` returns, and its seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, {"wall": round(time.perf_counter() - wall, 3), "cpu": round(time.process_time() - cpu, 3)}


def requests(n: int, seed: int = 0) -> list[ScoreRequest]:
    """Return likelihood questions: ten made titles as history, twenty as continuations."""
    rng = np.random.default_rng(seed)

    def title() -> str:
        return f"{' '.join(rng.choice(WORDS, rng.integers(1, 5)))} ({rng.integers(1950, 1999)})"

    def question() -> ScoreRequest:
        history = ", ".join(title() for _ in range(10))
        return ScoreRequest(f"Movies I watched recently, in order: {history},", tuple(f" {title()}" for _ in range(20)))

    return [question() for _ in range(n)]


def naive(model: LocalModel, asked: Sequence[ScoreRequest]) -> list[float]:
    """Return the same log-probabilities by one forward pass for each continuation."""
    singles = [ScoreRequest(r.prompt, (c,)) for r in asked for c in r.continuations]
    return [float(reply.logprobs[0]) for reply in model.score(singles)]


_LOAD = """
import sys, time
from pathlib import Path
began = time.perf_counter()
from llm4rec.llm.inprocess import LocalModel
model = LocalModel(sys.argv[1], cache=Path(sys.argv[2]), dtype=sys.argv[3])
model.load()
print(time.perf_counter() - began)
"""


def load_seconds(source: Path, cache: Path, dtype: str) -> float:
    """Return the seconds from a fresh process's first import to a loaded model."""
    command = [sys.executable, "-c", _LOAD, str(source), str(cache), dtype]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return round(float(done.stdout.split()[-1]), 2)


def say(what: str, **figures: Any) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps({"benchmark": "llm", "what": what, **figures}) + "\n")
    sys.stdout.flush()


def measure(model: LocalModel, cases: int, answers: int) -> None:
    """Print the speed of scoring, of prompts alone, and of answers."""
    dtype = model.precision
    asked = requests(cases)
    _, took = timed(lambda: model.score(asked[:2]))
    say("first two scores (warming up)", dtype=dtype, **took)
    replies, took = timed(lambda: model.score(asked))
    tokens = sum(r.usage.tokens_in or 0 for r in replies)
    say("score, packed", dtype=dtype, cases=cases, tokens=tokens, **took, tokens_per_second=round(tokens / took["wall"]))
    few = asked[: max(1, cases // 20)]
    scores, single = timed(lambda: naive(model, few))
    packed, together = timed(lambda: model.score(few))
    gap = float(np.abs(np.array(scores) - np.concatenate([r.logprobs for r in packed])).max())
    ratio = {name: round(single[name] / together[name], 1) for name in single}
    say(
        "score, one pass for each continuation over packed", dtype=dtype, cases=len(few), ratio=ratio, largest_gap=round(gap, 4)
    )
    labels = [ScoreRequest(r.prompt, tuple("ABCDEFGHIJKLMNOPQRST")) for r in asked]
    replies, took = timed(lambda: model.score(labels))
    tokens = sum(r.usage.tokens_in or 0 for r in replies)
    say("score of 20 labels (prompt alone)", dtype=dtype, cases=cases, **took, tokens_per_second=round(tokens / took["wall"]))
    chats = [
        ChatRequest((Message("user", f"Write a long story about the number {i}."),), max_tokens=48) for i in range(answers)
    ]
    for part in (chats[:1], chats):
        texts, took = timed(lambda part=part: model.chat(part))
        out = sum(r.usage.tokens_out or 0 for r in texts)
        say("chat", dtype=dtype, answers=len(part), tokens=out, **took, tokens_per_second=round(out / took["wall"], 1))


def measure_store(calls: int = 1000) -> None:
    """Print the seconds of stored calls that are found again."""
    asked = requests(calls, seed=1)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "llm.sqlite") as store:
        _, written = timed(lambda: Stored(ScriptedModel(), store).score(asked))
        _, found = timed(lambda: Stored(ScriptedModel(), store, "replay").score(asked))
    say("store", calls=calls, write=written["wall"], read=found["wall"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--dtype", action="append", choices=["float32", "bfloat16"], help="default: all that the processor has")
    parser.add_argument("--no-convert", action="store_true", help="leave out the conversion of the GGUF file")
    options = parser.parse_args()
    source = assets.fetch("smollm2-135m-instruct")
    dtypes = options.dtype or ["float32", *(["bfloat16"] if native_bfloat16() else [])]
    measure_store()
    with tempfile.TemporaryDirectory() as scratch:
        cache = source.parent / "converted" if options.no_convert else Path(scratch)
        if not options.no_convert:
            say("load from GGUF, conversion included", seconds=load_seconds(source, cache, dtypes[0]))
        for dtype in dtypes:
            model = LocalModel(source, cache=cache, name="smollm2", dtype=dtype)
            model.load()
            say("load converted, fresh process", dtype=dtype, seconds=load_seconds(source, cache, dtype))
            measure(model, options.cases, options.answers)
