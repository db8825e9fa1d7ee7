"""Speed of the embedded language model in this process, and of the store; prints one line of JSON for each measurement.

Questions as rankers ask them, over titles of MovieLens-100K: 20 candidates after a history of 10.
Each way is timed against the naive one on the same questions, in turns, so that what else runs on
the machine touches both; ``ratio`` is the median of the repetitions.  ``wall`` is what a user
waits; ``cpu`` (process time) is less disturbed.

- ``likelihood``: titles after the history, against one forward pass for each of them;
- ``orders``: labels of the candidates, listed in three orders, against one pass for each listing;
- ``pointwise``: yes or no for each candidate, against one pass for each;
- ``answers``: written answers together, against one by one;
- ``store``: 943 ranking calls replayed.

    python benchmarks/llm_inprocess.py
    python benchmarks/llm_inprocess.py --no-convert --dtype bfloat16 --repetitions 7
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
from numpy.typing import NDArray

from llm4rec import assets
from llm4rec.data import DataConfig, load
from llm4rec.llm import ChatRequest, Message, Metered, ScoreRequest, ScriptedModel, Store, Stored
from llm4rec.llm.inprocess import LocalModel
from llm4rec.llm.weights import native_bfloat16
from llm4rec.prompted.items import item_names

CANDIDATES, HISTORY, ORDERS, CASES = 20, 10, 3, 943
LETTERS = tuple("ABCDEFGHIJKLMNOPQRST")
Timed = tuple[Any, dict[str, float]]


def timed(work: Callable[[], Any]) -> Timed:
    """Return what ``work`` returns, and its seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def say(what: str, **figures: Any) -> None:
    """Print one line of JSON."""
    sys.stdout.write(json.dumps({"benchmark": "llm_inprocess", "what": what, **figures}) + "\n")
    sys.stdout.flush()


# -- questions ----------------------------------------------------------------------------


class Questions:
    """Draws histories and candidates from the titles of MovieLens-100K."""

    def __init__(self, seed: int = 0) -> None:
        table = load(DataConfig(set="ml-100k")).item_table
        self.titles = item_names(table, "{title} ({year})", max_chars=100, articles=True)
        self.rng = np.random.default_rng(seed)

    def _draw(self, n: int) -> list[str]:
        return [self.titles[i] for i in self.rng.choice(len(self.titles), n, replace=False)]

    def likelihood(self) -> list[ScoreRequest]:
        """Return one request: titles after titles."""
        history = ", ".join(self._draw(HISTORY))
        prompt = f"Popular movies I watched recently, in order: {history},"
        return [ScoreRequest(prompt, tuple(f" {title}," for title in self._draw(CANDIDATES)))]

    def _seen(self) -> str:
        lines = "\n".join(f"{i}. {title}" for i, title in enumerate(self._draw(HISTORY), start=1))
        return f"Here are the movies that I watched, the oldest first:\n{lines}\n\n"

    def orders(self) -> list[ScoreRequest]:
        """Return one request for each order in which one list is shown."""
        seen, candidates = self._seen(), self._draw(CANDIDATES)
        requests = []
        for _ in range(ORDERS):
            listed = zip(LETTERS, self.rng.permutation(candidates), strict=True)
            lines = "\n".join(f"{letter}. {title}" for letter, title in listed)
            text = f"{seen}Candidates for the next one, in no order:\n{lines}\n\nWhich one? Answer with its label alone."
            requests.append(ScoreRequest((Message("user", text),), LETTERS))
        return requests

    def pointwise(self) -> list[ScoreRequest]:
        """Return one request for each candidate."""
        seen = self._seen()
        texts = [f"{seen}Will I like {title}? Answer yes or no." for title in self._draw(CANDIDATES)]
        return [ScoreRequest((Message("user", text),), ("yes", "no")) for text in texts]


# -- the naive ways -------------------------------------------------------------------------


def one_pass_each(model: LocalModel, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float64]]:
    """Return the log-probabilities by one forward pass for each continuation of several tokens.

    Labels of one token are read from one pass, as everybody does; torch uses all its threads.
    """
    import torch

    network, found = model._network, []

    def logits(tokens: list[int], keep: int) -> torch.Tensor:
        out = network.model(input_ids=torch.tensor([tokens]), use_cache=False, logits_to_keep=keep)
        return torch.log_softmax(out.logits[0].float(), -1)

    with torch.inference_mode():
        for request in requests:
            prompt = network.tokens.of_prompt(request.prompt)
            continuations = [network.tokens.of(c) for c in request.continuations]
            if all(len(c) == 1 for c in continuations):
                row = logits(prompt, 1)[0]
                found.append(np.array([float(row[c[0]]) for c in continuations]))
                continue
            sums = []
            for c in continuations:
                rows = logits(prompt + c[:-1], len(c))
                sums.append(sum(float(rows[i, t]) for i, t in enumerate(c)))
            found.append(np.array(sums))
    return found


def against(naive: Callable[[], Any], ours: Callable[[], Any], pairs: list[tuple[Timed, Timed]]) -> None:
    """Time both and add the pair; which goes first changes with each pair."""
    if len(pairs) % 2:
        pairs.append((timed(naive), timed(ours)))
    else:
        mine = timed(ours)
        pairs.append((timed(naive), mine))


def medians(pairs: Sequence[tuple[Timed, Timed]]) -> dict[str, Any]:
    """Return the seconds of both ways and their ratio: medians over the pairs."""
    figures: dict[str, Any] = {"repetitions": len(pairs)}
    for at, name in enumerate(("naive", "ours")):
        figures[name] = {k: round(float(np.median([pair[at][1][k] for pair in pairs])), 3) for k in ("wall", "cpu")}
    ratios = [pair[0][1][k] / pair[1][1][k] for pair in pairs for k in ("wall", "cpu")]
    figures["ratio"] = {k: round(float(np.median(ratios[at::2])), 1) for at, k in enumerate(("wall", "cpu"))}
    return figures


def measure_scores(model: LocalModel, repetitions: int, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """Print the speed of each kind of question; returns the log-probabilities by kind."""
    found = {}
    questions = Questions(seed)
    for kind, draw in (("likelihood", questions.likelihood), ("orders", questions.orders), ("pointwise", questions.pointwise)):
        pairs: list[tuple[Timed, Timed]] = []
        ours: list[NDArray[np.float64]] = []
        gaps, tokens = [], 0
        model.score(draw())  # warm
        for _ in range(repetitions):
            asked = draw()
            against(lambda asked=asked: one_pass_each(model, asked), lambda asked=asked: model.score(asked), pairs)
            scores = pairs[-1][1][0]
            tokens += sum(reply.usage.tokens_in or 0 for reply in scores)
            ours += [reply.logprobs for reply in scores]
            gaps += [np.abs(a - b.logprobs).max() for a, b in zip(pairs[-1][0][0], scores, strict=True)]
        figures = medians(pairs)
        seconds = sum(pair[1][1]["wall"] for pair in pairs)
        figures |= {"tokens_per_second": round(tokens / seconds), "largest_gap": float(f"{max(gaps):.2g}")}
        say(f"score, {kind}", dtype=model.precision, candidates=CANDIDATES, **figures)
        found[kind] = np.concatenate(ours)
    return found


def measure_answers(model: LocalModel, repetitions: int, answers: int) -> None:
    """Print the speed of written answers."""
    pairs: list[tuple[Timed, Timed]] = []
    same = True
    for at in range(repetitions):
        texts = [f"Write a long story about the number {at * answers + i}." for i in range(answers)]
        asked = [ChatRequest((Message("user", text),), max_tokens=48) for text in texts]
        against(lambda asked=asked: [model.chat([one])[0] for one in asked], lambda asked=asked: model.chat(asked), pairs)
        same &= [r.text for r in pairs[-1][0][0]] == [r.text for r in pairs[-1][1][0]]
    tokens = sum(reply.usage.tokens_out or 0 for pair in pairs for reply in pair[1][0])
    speed = round(tokens / sum(pair[1][1]["wall"] for pair in pairs), 1)
    say("answers", dtype=model.precision, answers=answers, **medians(pairs), tokens_per_second=speed, same_texts=same)


def measure_precisions(one: dict[str, NDArray[np.float64]], other: dict[str, NDArray[np.float64]]) -> None:
    """Print by how much log-probabilities differ between float32 and bfloat16, on the same questions."""
    for kind in one:
        gap = np.abs(one[kind] - other[kind])
        figures = {"mean_gap": gap.mean(), "largest_gap": gap.max(), "spread": one[kind].std()}
        correlation = np.corrcoef(one[kind], other[kind])[0, 1]
        rounded = {k: round(float(v), 3) for k, v in figures.items()}
        say(f"bfloat16 against float32, {kind}", **rounded, correlation=round(float(correlation), 5))


# -- the store and the start ------------------------------------------------------------------


def measure_store(calls: int = CASES) -> None:
    """Print the seconds of stored calls that are found again: one case each, by likelihood and in one order."""
    questions = Questions(1)
    for kind, draw in (("likelihood", questions.likelihood), ("orders", lambda: questions.orders()[:1])):
        asked = [request for _ in range(calls) for request in draw()]
        with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "llm.sqlite") as store:
            _, written = timed(lambda asked=asked, store=store: Stored(ScriptedModel(), store).score(asked))
            replays = [
                timed(lambda asked=asked, store=store: Metered(Stored(ScriptedModel(), store, "replay")).score(asked))[1]
                for _ in range(3)
            ]
        read = {k: round(float(np.median([r[k] for r in replays])), 3) for k in ("wall", "cpu")}
        say(f"store, {kind}", calls=calls, write=round(written["wall"], 3), replay=read)


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--answers", type=int, default=16)
    parser.add_argument("--dtype", action="append", choices=["float32", "bfloat16"], help="default: all that the processor has")
    parser.add_argument("--no-convert", action="store_true", help="leave out the conversion of the GGUF file")
    options = parser.parse_args()
    source = assets.fetch("smollm2-135m-instruct")
    source = next(source.glob("*.gguf")) if source.is_dir() else source
    dtypes = options.dtype or ["float32", *(["bfloat16"] if native_bfloat16() else [])]
    measure_store()
    with tempfile.TemporaryDirectory() as scratch:
        cache = assets.home() / "converted" if options.no_convert else Path(scratch)
        if not options.no_convert:
            say("load from GGUF, conversion included", seconds=load_seconds(source, cache, dtypes[0]))
        scores = {}
        for dtype in dtypes:
            model = LocalModel(source, cache=cache, name="smollm2", dtype=dtype)
            model.load()
            say("load converted, fresh process", dtype=dtype, seconds=load_seconds(source, cache, dtype))
            scores[dtype] = measure_scores(model, options.repetitions)
            measure_answers(model, max(1, options.repetitions // 2), options.answers)
        if len(scores) == 2:
            measure_precisions(scores["float32"], scores["bfloat16"])


if __name__ == "__main__":
    main()
