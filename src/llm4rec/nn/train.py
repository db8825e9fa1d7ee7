"""The one training loop: epochs of batches, early stopping on the validation cases, best weights kept."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llm4rec.core import DataError, SpecError

log = logging.getLogger(__name__)


@contextmanager
def reduced_precision() -> Iterator[None]:
    """Let matrix products of float32 run in bfloat16 with float32 sums, where the processor has it.

    Weights, gradients, normalisation and softmax stay in float32.  On two cores with bfloat16 in
    hardware a training step takes about 0.6 of the time; elsewhere nothing changes.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def train(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Iterable[Any]],
    loss: Callable[[Any], Tensor],
    *,
    epochs: int,
    validate: Callable[[], float] | None,
    every: int = 1,
    patience: int = 10,
    average: float = 0.0,
    clip: float | None = None,
) -> list[dict[str, float]]:
    """Train ``module`` in place and leave it with its best weights, in evaluation mode.

    Args:
        module: what is trained.
        optimizer: over its parameters.
        batches: epoch number -> the epoch's batches.
        loss: batch -> scalar.
        epochs: at most so many.
        validate: figure to be maximised, asked every ``every`` epochs; None trains all epochs.
        every: epochs between validations.
        patience: validations without a new best before training stops.
        average: decay per step of an exponential moving average of the weights, which is then
            what is validated and kept (Polyak & Juditsky 1992); 0 uses the weights themselves.
        clip: largest norm of the gradient, or None.

    Returns:
        One record an epoch: ``epoch``, ``loss``, ``seconds``, and ``valid`` where it was asked.

    Raises:
        DataError: an epoch has no batch.
        SpecError: the loss or a weight is no finite number any more before there are best weights to return to.
    """
    history: list[dict[str, float]] = []
    best, best_weights, waited = float("-inf"), None, 0
    averaged = copy.deepcopy(module).eval() if average else module
    steps = 0
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        module.train()
        losses = []
        for batch in batches(epoch):
            optimizer.zero_grad(set_to_none=True)
            value = loss(batch)
            value.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(module.parameters(), clip)
            optimizer.step()
            losses.append(value.detach())
            if average:
                steps += 1
                decay = min(average, steps / (steps + 10))  # so that the random start is soon forgotten
                with torch.no_grad():
                    for kept, now in zip(averaged.parameters(), module.parameters(), strict=True):
                        kept.lerp_(now, 1 - decay)
        if not losses:
            todo = "what learns what follows what needs users with at least two events"
            raise DataError("there is nothing to learn from", where="training part", todo=todo)
        record = {"epoch": epoch, "loss": float(torch.stack(losses).mean()), "seconds": time.perf_counter() - start}
        # The loss is that of the weights before the last step, so they are looked at themselves.
        whole = all(bool(weight.isfinite().all()) for weight in module.parameters())
        if not whole or not math.isfinite(record["loss"]):
            if best_weights is None:
                what = f"training diverged in epoch {epoch}: the loss is {record['loss']}"
                what = f"{what} and weights are no finite numbers" if not whole else what
                raise SpecError(what, where="learning_rate", todo="give a smaller one")
            log.warning("training diverged in epoch %d; the best weights before it are kept", epoch)
            break
        history.append(record)
        if validate is not None and epoch % every == 0:
            module.eval()
            if averaged is not module:
                module_weights = copy.deepcopy(module.state_dict())
                module.load_state_dict(averaged.state_dict())
            record["valid"] = validate()
            log.info("epoch %d: loss %.4f, validation %.4f", epoch, record["loss"], record["valid"])
            if record["valid"] > best:
                best, waited = record["valid"], 0
                best_weights = copy.deepcopy(module.state_dict())
            else:
                waited += 1
            if averaged is not module:
                module.load_state_dict(module_weights)
            if waited >= patience:
                break
    if best_weights is not None:
        module.load_state_dict(best_weights)
    elif averaged is not module:
        module.load_state_dict(averaged.state_dict())
    module.eval()
    return history
