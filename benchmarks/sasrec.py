"""The speed of SASRec: seconds an epoch, where they go, and how near that is to the matrix products alone.

Prints one line of JSON for each of: an epoch by loss on MovieLens-100K (five-core, the default
parameters) and on amazon14-beauty where its files are at hand; the share of an epoch by part; the
products of a training step beside plain products of the same shapes; the fused cross-entropy
and attention beside torch's own, in turns.  Processor seconds are of all threads of the process; on a
machine with other work they are the figure to go by.  Run it idle: ``python benchmarks/sasrec.py``.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from llm4rec.core import LLM4RecError, Split
from llm4rec.data import DataConfig, SplitConfig, load, make_split
from llm4rec.models.sasrec import SASRec, SASRecConfig
from llm4rec.nn.blocks import causal_bias
from llm4rec.nn.losses import linear_cross_entropy
from llm4rec.nn.train import reduced_precision

EPOCHS, ROUNDS = 4, 7
SETS: dict[str, tuple[DataConfig, dict[str, dict[str, Any]]]] = {
    "ml-100k": (
        DataConfig(set="ml-100k", user_core=5, item_core=5),
        {"softmax": {}, "sampled-softmax, 256": {"loss": "sampled-softmax"}},
    ),
    "amazon14-beauty": (
        DataConfig(set="amazon14-beauty"),
        {
            "softmax": {"batch_size": 128},
            "sampled-softmax, 256": {"batch_size": 128, "loss": "sampled-softmax"},
            "sampled-softmax, 256 for each position": {
                "batch_size": 128, "loss": "sampled-softmax", "share_negatives": False,
            },
        },
    ),
}  # fmt: skip
#: What a profile's rows are counted as.
PARTS = {
    "products": ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm"),
    "softmax and loss": (
        "_LinearCrossEntropy", "aten::amax", "aten::exp_", "aten::sub_", "aten::_softmax",
        "aten::_softmax_backward_data", "aten::index_add_",
    ),
    "activation": ("aten::gelu", "aten::gelu_backward"),
    "normalisation": ("aten::native_layer_norm", "aten::native_layer_norm_backward"),
    "dropout": ("Dropout", "aten::lt"),
    "optimiser": ("Optimizer.step#AdamW.step", "aten::_fused_adamw_"),
    "lookup": ("aten::index_select", "aten::index", "aten::embedding_dense_backward"),
}  # fmt: skip


def epochs(split: Split, config: SASRecConfig) -> dict[str, float]:
    """Return seconds of an epoch after the first, in which kernels are prepared: median, and of the processor."""
    spent = []
    for number in (1, EPOCHS):
        model, start = SASRec(config.model_copy(update={"epochs": number})), time.process_time()
        model.fit(split.train, valid=None, rng=np.random.default_rng(1))
        spent.append(time.process_time() - start)
    seconds = statistics.median(record["seconds"] for record in model.training_[1:])
    return {"epoch_s": round(seconds, 3), "processor_s": round((spent[1] - spent[0]) / (EPOCHS - 1), 3)}


def shares(split: Split) -> dict[str, float]:
    """Return the share of an epoch's time by part, from a profile of its operations."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        SASRec(SASRecConfig(epochs=1)).fit(split.train, valid=None, rng=np.random.default_rng(1))
    spent = {row.key: row.self_cpu_time_total for row in profile.key_averages()}
    whole = sum(spent.values())
    found = {part: sum(spent.get(name, 0) for name in names) / whole for part, names in PARTS.items()}
    return {part: round(share, 3) for part, share in (found | {"the rest": 1 - sum(found.values())}).items()}


def timed(*calls: Callable[[], Any]) -> list[float]:
    """Return each call's median processor seconds, the calls taken in turns, the first round not counted."""
    spent: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS + 1):
        for call, times in zip(calls, spent, strict=True):
            start = time.process_time()
            call()
            times.append(time.process_time() - start)
    return [statistics.median(times[1:]) for times in spent]


def products(split: Split, config: SASRecConfig) -> dict[str, Any]:
    """Return the floating-point operations of an epoch's products, and how fast plain ones of the same shapes are.

    Forward and backward of a product are three of the same size.  ``seconds`` is what an epoch would
    take if nothing else were done: no epoch of this model can be shorter on this machine.
    """
    d, b, t, n = config.width, config.batch_size, config.length, split.train.n_items
    lengths = np.maximum(split.train.histories.items.lengths - 1, 0)
    targets, rows = int(lengths.sum()), int(np.ceil(lengths / t).sum())
    m = round(targets / rows * b)  # targets in a step
    shapes = {
        "layers": [(b * t, d, 3 * d), (b * t, d, d), (b * t, d, 4 * d), (b * t, 4 * d, d)],
        "catalogue": [(m, d, n)],
    }
    steps, out = rows / b, {}
    with reduced_precision():
        for part, sizes in shapes.items():
            flops, seconds = 0, 0.0
            for i, j, k in sizes:
                a, w, g = torch.randn(i, j), torch.randn(j, k), torch.randn(i, k)
                flops += 6 * i * j * k
                seconds += sum(timed(lambda a=a, w=w: a @ w, lambda g=g, w=w: g @ w.T, lambda a=a, g=g: a.T @ g))
            out[part] = {"gflop": round(flops * steps / 1e9, 1), "gflop_per_processor_s": round(flops / seconds / 1e9)}
            out[part]["processor_s"] = round(seconds * steps, 3)
    return {"targets": targets, "windows": rows, **out}


def kernels() -> Iterator[dict[str, Any]]:
    """Yield the fused cross-entropy and plain attention beside torch's own, forward and backward, in turns."""
    torch.manual_seed(0)
    with reduced_precision():
        for m, n in ((2560, 1349), (1024, 12101)):
            states, items = torch.randn(m, 64, requires_grad=True), torch.randn(n, 64).mul_(0.1).requires_grad_()
            targets = torch.randint(n, (m,))
            fused, plain = timed(
                lambda s=states, i=items, t=targets: linear_cross_entropy(s, i, t, 0.1).backward(),
                lambda s=states, i=items, t=targets: F.cross_entropy(s @ i.T, t, label_smoothing=0.1).backward(),
            )
            yield {
                "what": "cross-entropy",
                "targets": m,
                "items": n,
                "ms": round(1e3 * fused, 1),
                "torch_ms": round(1e3 * plain, 1),
            }
        q = torch.randn(64, 1, 50, 64, requires_grad=True)
        bias = causal_bias(torch.ones(64, 50, dtype=torch.bool))
        own, library = timed(
            lambda: ((q @ q.transpose(-1, -2) / 8 + bias).softmax(-1) @ q).sum().backward(),
            lambda: F.scaled_dot_product_attention(q, q, q, attn_mask=bias).sum().backward(),
        )
        yield {"what": "attention", "ms": round(1e3 * own, 1), "torch_ms": round(1e3 * library, 1)}


def main() -> Iterator[dict[str, Any]]:
    """Yield the lines."""
    for name, (config, losses) in SETS.items():
        try:
            split = make_split(load(config), SplitConfig(kind="leave-one-out"))
        except LLM4RecError as error:
            yield {"set": name, "left_out": str(error)}
            continue
        for loss, parameters in losses.items():
            figures = epochs(split, SASRecConfig.model_validate(parameters))
            yield {"set": name, "loss": loss, "threads": torch.get_num_threads(), **figures}
        if name == "ml-100k":
            yield {"set": name, "shares": shares(split)}
            yield {"set": name, "plain products": products(split, SASRecConfig())}
    yield from kernels()


if __name__ == "__main__":
    for line in main():
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
