"""The fused cross-entropy is cross-entropy, and sampled losses are what their papers say."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import llm4rec.nn.losses as losses
from llm4rec.nn.losses import LossConfig, linear_cross_entropy, next_item_loss


def _made(m: int, n: int, d: int = 5, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    states = torch.randn(m, d, generator=g, dtype=dtype, requires_grad=True)
    items = torch.randn(n, d, generator=g, dtype=dtype, requires_grad=True)
    return states, items, torch.randint(n, (m,), generator=g)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70), st.integers(2, 90), st.sampled_from([0.0, 0.1, 0.7]), st.integers(0, 99))
def test_fused_is_plain_cross_entropy(m: int, n: int, smoothing: float, seed: int) -> None:
    """Value and gradients, for any number of chunks (rows are few here), above a gradient that is not one."""
    states, items, targets = _made(m, n, seed=seed)
    before = losses._CELLS
    losses._CELLS = 1  # 32 rows at once
    try:
        got = linear_cross_entropy(states, items, targets, smoothing)
    finally:
        losses._CELLS = before
    wanted = F.cross_entropy(states @ items.T, targets, label_smoothing=smoothing)
    torch.testing.assert_close(got, wanted)
    for a, b in zip(
        torch.autograd.grad(3 * got, [states, items]), torch.autograd.grad(3 * wanted, [states, items]), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_fused_passes_gradcheck() -> None:
    states, items, targets = _made(40, 7, d=3)
    assert torch.autograd.gradcheck(lambda s, i: linear_cross_entropy(s, i, targets, 0.1), (states, items))


def test_fused_survives_large_logits() -> None:
    states, items, targets = _made(20, 30, dtype=torch.float32)
    got = linear_cross_entropy(states * 1e3, items, targets)
    torch.testing.assert_close(got, F.cross_entropy(states * 1e3 @ items.T, targets))


def test_fused_never_holds_all_logits() -> None:
    """4,096 states and 4,096 items would be 64 MiB of logits; no single new array is near it."""
    states, items, targets = _made(4096, 4096, dtype=torch.float32)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        linear_cross_entropy(states, items, targets).backward()
    assert max(e.cpu_memory_usage for e in profile.events()) < 16 << 20


def _by_hand(states: Tensor, items: Tensor, targets: Tensor, config: LossConfig, drawn: Tensor) -> Tensor:
    """The formulas of the docstring, one state at a time."""
    n, k = len(items), config.negatives
    out = []
    for s, i, row in zip(states, targets.tolist(), drawn.tolist(), strict=True):
        negative = [items[j] @ s for j in row if j != i]
        positive = items[i] @ s
        if config.loss == "sampled-softmax":
            shift = math.log(n / k) if config.correct else 0.0
            whole = torch.stack([positive, *[z + shift for z in negative]]).logsumexp(0)
            mean = torch.stack([positive, *negative]).mean()
            out.append(whole - (1 - config.smoothing) * positive - config.smoothing * mean)
        elif config.loss == "bpr":
            out.append(sum(-F.logsigmoid(positive - z) for z in negative) / k)
        else:
            a = min(1.0, k / (n - 1))
            power = a * (config.calibration * (1 - 1 / a) + 1 / a) if config.loss == "gbce" else 1.0
            right = -power * F.logsigmoid(positive)
            out.append((right + sum(-torch.log(1 - torch.sigmoid(z)) for z in negative)) / (k + 1))
    return torch.stack(out).mean()


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        {"loss": "sampled-softmax", "smoothing": 0.0},
        {"loss": "sampled-softmax", "smoothing": 0.2, "correct": True},
        {"loss": "bce"},
        {"loss": "gbce", "calibration": 0.6},
        {"loss": "bpr"},
    ],
    ids=str,
)
def test_sampled_losses_follow_their_formulas(kind: dict[str, object], share: bool) -> None:
    config = LossConfig.model_validate({"negatives": 6, "share_negatives": share} | kind)
    states, items, targets = _made(50, 9)  # so few items that a target is often drawn as a negative
    torch.manual_seed(3)
    got = next_item_loss(states, items, targets, config, torch.ones(9))
    torch.manual_seed(3)
    drawn = torch.randint(9, (6,) if share else (50, 6)).expand(50, 6)
    wanted = _by_hand(states, items, targets, config, drawn)
    torch.testing.assert_close(got, wanted)
    for a, b in zip(torch.autograd.grad(got, [states, items]), torch.autograd.grad(wanted, [states, items]), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("loss", ["sampled-softmax", "in-batch"])
def test_corrected_sampling_estimates_the_full_softmax(loss: str) -> None:
    """Also where the popular are drawn more often: item j is a target in proportion to j + 1."""
    states, items, _ = _made(4000, 40, d=4)
    torch.manual_seed(0)
    popularity = torch.arange(1.0, 41.0)
    targets = torch.multinomial(popularity, 4000, replacement=True)
    full = next_item_loss(states, items, targets, LossConfig(smoothing=0.0), popularity)
    kind = {"loss": loss, "negatives": 20, "share_negatives": False, "smoothing": 0}
    few = {
        correct: next_item_loss(
            states, items, targets,
            LossConfig.model_validate(kind | {"correct": correct}),
            popularity,
        )
        for correct in (True, False)
    }  # fmt: skip
    assert few[True].item() == pytest.approx(full.item(), rel=0.1)
    assert few[False].item() < 0.85 * full.item()


def test_in_batch_negatives_are_the_targets_of_others() -> None:
    """With one target for all there is nothing to tell apart; its own negative counts for nothing."""
    states, items, _ = _made(20, 30)
    config = LossConfig(loss="in-batch", smoothing=0.0)
    loss = next_item_loss(states, items, torch.full((20,), 7), config, torch.ones(30))
    assert loss.item() == pytest.approx(0.0)
    two = next_item_loss(states, items, torch.arange(20) % 2, config, torch.ones(30))
    grad = torch.autograd.grad(two, items)[0].abs().sum(1)
    assert (grad > 0).nonzero().flatten().tolist() == [0, 1]


def test_gbce_without_calibration_is_bce() -> None:
    states, items, targets = _made(20, 30)
    values = []
    for kind in ({"loss": "bce"}, {"loss": "gbce", "calibration": 0.0}):
        torch.manual_seed(1)
        values.append(next_item_loss(states, items, targets, LossConfig.model_validate(kind), torch.ones(30)))
    torch.testing.assert_close(*values)
