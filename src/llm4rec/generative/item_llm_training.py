"""Tuning of a language model that can be killed at any point: it goes on from where it last kept its state.

What an epoch holds, and what dropout draws in a step, depends on the seed and the numbers of epoch and step alone.  So a
training that goes on from a kept state is, to the bit, the one that was never interrupted (on a processor; on a GPU as far as
its sums are repeatable).
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from llm4rec.core import Config, FilePath, RunError, SpecError
from llm4rec.generative.item_llm_examples import Sequences
from llm4rec.generative.item_llm_network import Network

_LOG = logging.getLogger(__name__)
#: Largest norm of the gradient.
_CLIP = 1.0
_FILE, _NOTE = "training.safetensors", "progress"


class TuningConfig(Config):
    """Parameters of the tuning of a language model."""

    lora_rank: int = Field(16, ge=1)
    """Of the LoRA layers."""
    alpha: float = Field(32.0, gt=0)
    """LoRA layers count ``alpha / lora_rank`` times."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Share of what LoRA layers read that is dropped."""
    learning_rate: float = Field(5e-4, gt=0)
    """Of AdamW, on the LoRA layers; rises over ``warmup`` and falls to 0 in a straight line."""
    token_rate: float = Field(5e-3, gt=0)
    """The same on the embeddings of the IDs' tokens, which have more to learn."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of all steps over which the rates rise."""
    pass_tokens: int = Field(2048, ge=1)
    """Tokens that go through the model at once, pads included; sequences of like length go together."""
    passes: int = Field(2, ge=1)
    """Passes whose gradients are summed for one step."""
    epochs: int = Field(5, ge=0)
    """At most so many; 0 leaves the model as it is, with tokens that nobody has trained (a control)."""
    patience: int = Field(2, ge=1)
    """Epochs without a better NDCG@10 on the validation cases before training stops."""
    keep: FilePath | None = None
    """Folder in which training keeps its state: a fit of the same configuration, data and seed that was killed goes on
    from there.  None: nothing is kept."""
    keep_every: int = Field(100, ge=1)
    """``keep``: steps between two times that the state is kept; it is kept after each epoch as well."""


@dataclass
class Progress:
    """Where training is.

    Attributes:
        epoch: under way, from 1.
        step: steps of it that are done.
        loss, answers: sums over them.
        best, waited: best figure of the validation cases so far, and looks since.
        history: a record for each epoch that is done.
    """

    epoch: int = 1
    step: int = 0
    loss: float = 0.0
    answers: int = 0
    best: float = -math.inf
    waited: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def tune(
    network: Network,
    draw: Callable[[np.random.Generator], Sequences],
    config: TuningConfig,
    *,
    seed: int,
    validate: Callable[[], float] | None,
    key: str,
) -> list[dict[str, float]]:
    """Train the network's adapted weights, leave it with the best ones, and return a record for each epoch.

    Args:
        network: adapted; its trained weights are changed.
        draw: what an epoch trains on.
        config: the parameters.
        seed: of all draws.
        validate: figure to be maximised, asked after each epoch; None trains all epochs.
        key: what tells this training from others that keep their states in the same folder.

    Raises:
        SpecError: if the loss is no number any more.
        RunError: if a kept state cannot be read.
    """
    weights = dict(network.trained())
    parts = [[w for n, w in weights.items() if ("lora_" in n) == lora] for lora in (True, False)]
    rates = (config.learning_rate, config.token_rate)
    groups = [{"params": part, "lr": rate, "rate": rate} for part, rate in zip(parts, rates, strict=True) if part]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    best = {name: value.detach().clone() for name, value in weights.items()}
    place = None if config.keep is None else config.keep / key
    progress = Progress() if place is None else _taken_up(place, weights, best, optimizer)
    while progress.epoch <= config.epochs and progress.waited < config.patience:
        epoch, began = progress.epoch, time.perf_counter()
        sequences = draw(np.random.default_rng([seed, epoch]))
        steps = steps_of(sequences, config, np.random.default_rng([seed, epoch, 1]))
        network.model.train()
        while progress.step < len(steps):
            torch.manual_seed(seed + (epoch << 32) + progress.step)
            done = (epoch - 1 + progress.step / len(steps)) / config.epochs
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * _rate(done, config.warmup)
            loss, answers = _step(network, sequences, steps[progress.step], optimizer)
            if not math.isfinite(loss):
                what = f"training diverged in epoch {epoch}: the loss is {loss}"
                raise SpecError(what, where="learning_rate", todo="give smaller rates")
            progress.loss, progress.answers, progress.step = progress.loss + loss, progress.answers + answers, progress.step + 1
            if place is not None and progress.step % config.keep_every == 0:
                _keep(place, progress, weights, best, optimizer)
        network.model.eval()
        record = {"epoch": epoch, "loss": progress.loss / max(1, progress.answers), "seconds": time.perf_counter() - began}
        if validate is not None:
            record["valid"] = validate()
        better = validate is None or record["valid"] > progress.best
        if better:
            best = {name: value.detach().clone() for name, value in weights.items()}
        _LOG.info("epoch %d: loss %.4f, validation %.4f", epoch, record["loss"], record.get("valid", math.nan))
        progress = Progress(
            epoch + 1, best=record["valid"] if better and validate is not None else progress.best,
            waited=0 if better else progress.waited + 1, history=[*progress.history, record],
        )  # fmt: skip
        if place is not None:
            _keep(place, progress, weights, best, optimizer)
    with torch.no_grad():
        for name, value in weights.items():
            value.copy_(best[name])
    network.model.eval()
    return progress.history


def steps_of(sequences: Sequences, config: TuningConfig, rng: np.random.Generator) -> list[list[NDArray[np.int64]]]:
    """Return for each step the rows of its passes: of like length, at most ``pass_tokens`` with pads, in random order."""
    lengths = sequences.tokens.lengths
    order = np.lexsort((rng.random(len(lengths)), lengths))  # rising, random among equals
    rising, passes, start = lengths[order], [], 0
    while start < len(order):
        longest = rising[start : start + max(1, config.pass_tokens // max(1, int(rising[start])))]
        padded = longest * np.arange(1, len(longest) + 1)  # tokens with pads, of so many rows
        count = max(1, int(np.searchsorted(padded, config.pass_tokens, side="right")))
        passes.append(order[start : start + count])
        start += count
    shuffled = [passes[i] for i in rng.permutation(len(passes))]
    return [shuffled[at : at + config.passes] for at in range(0, len(shuffled), config.passes)]


def _step(
    network: Network, sequences: Sequences, passes: list[NDArray[np.int64]], optimizer: torch.optim.Optimizer
) -> tuple[float, int]:
    """Take one step on the mean over all answers of its passes; return the sum of their losses, and how many they are."""
    optimizer.zero_grad(set_to_none=True)
    batches = [sequences.padded(rows) for rows in passes]
    answers = sum(int(learnt[:, 1:].sum()) for _, learnt in batches)
    total = 0.0
    for tokens, learnt in batches:
        loss = network.loss(tokens, learnt)
        (loss / answers).backward()
        total += float(loss.detach())
    nn.utils.clip_grad_norm_([value for _, value in network.trained()], _CLIP)
    optimizer.step()
    return total, answers


def _rate(done: float, warmup: float) -> float:
    """Return the share of the learning rate after a share of all steps."""
    return min(1.0, (done + 1e-3) / warmup) if done < warmup else (1 - done) / (1 - warmup)


# -- keeping ------------------------------------------------------------------------------
def _keep(
    place: Path, progress: Progress, weights: dict[str, Tensor], best: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Write weights, best weights and the optimizer's moments in one file, which takes the old one's place as a whole."""
    from safetensors.torch import save_file

    place.mkdir(parents=True, exist_ok=True)
    tensors = {f"weights.{name}": value.detach().cpu().contiguous() for name, value in weights.items()}
    tensors |= {f"best.{name}": value.cpu().contiguous() for name, value in best.items()}
    for at, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{at}.{name}": value.cpu().contiguous() for name, value in moments.items()}
    new = place / f"{_FILE}.new"
    save_file(tensors, new, metadata={_NOTE: json.dumps(asdict(progress))})
    os.replace(new, place / _FILE)


def _taken_up(place: Path, weights: dict[str, Tensor], best: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> Progress:
    """Take over what was kept, if anything was."""
    from safetensors import SafetensorError, safe_open

    if not (place / _FILE).is_file():
        return Progress()
    try:
        with safe_open(place / _FILE, framework="pt") as file, torch.no_grad():
            progress = Progress(**json.loads(file.metadata()[_NOTE]))
            for kind, held in (("weights", weights), ("best", best)):
                for name, value in held.items():
                    value.copy_(file.get_tensor(f"{kind}.{name}"))
            state: dict[int, dict[str, Tensor]] = {}
            for full in file.keys():  # noqa: SIM118  (no mapping)
                if full.startswith("optimizer."):
                    _, at, name = full.split(".")
                    state.setdefault(int(at), {})[name] = file.get_tensor(full)
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise RunError(f"cannot read a kept training ({error})", where=str(place), todo="remove the folder") from None
    _LOG.info("goes on in epoch %d after %d steps", progress.epoch, progress.step)
    return progress
