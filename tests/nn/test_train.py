"""The training loop: stops, keeps the best, averages; and leaves global settings alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from llm4rec.core import SpecError
from llm4rec.nn.train import reduced_precision, train


def _setting(learning_rate: float = 0.1) -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
    return module, torch.optim.SGD(module.parameters(), lr=learning_rate)


def _towards_one(module: nn.Linear) -> object:
    return lambda batch: ((module(batch) - 1.0) ** 2).mean()


def test_trains_all_epochs_without_validation() -> None:
    module, optimizer = _setting()
    records = train(module, optimizer, lambda _: [torch.ones(1, 1)] * 3, _towards_one(module), epochs=20, validate=None)  # type: ignore[arg-type]
    assert len(records) == 20
    assert module.weight.item() == pytest.approx(1.0, abs=1e-3)
    assert not module.training
    assert records[0]["loss"] > records[-1]["loss"]


def test_stops_after_patience_and_returns_to_the_best() -> None:
    module, optimizer = _setting()
    figures = iter([0.1, 0.5, 0.3, 0.2, 0.9])
    seen: list[float] = []

    def validate() -> float:
        seen.append(module.weight.item())
        return next(figures)

    records = train(
        module, optimizer, lambda _: [torch.ones(1, 1)], _towards_one(module), epochs=50, validate=validate, patience=2
    )  # type: ignore[arg-type]
    assert len(records) == 4, "two looks without a better figure after the second"
    assert module.weight.item() == pytest.approx(seen[1])


def test_validates_every_so_many_epochs() -> None:
    module, optimizer = _setting()
    records = train(
        module, optimizer, lambda _: [torch.ones(1, 1)], _towards_one(module), epochs=6, validate=lambda: 1.0, every=3
    )  # type: ignore[arg-type]
    assert [r["epoch"] for r in records if "valid" in r] == [3, 6]


def test_average_lies_behind_the_weights() -> None:
    module, optimizer = _setting(0.4)
    train(module, optimizer, lambda _: [torch.ones(1, 1)], _towards_one(module), epochs=3, validate=None)  # type: ignore[arg-type]
    plain = module.weight.item()
    module, optimizer = _setting(0.4)
    train(module, optimizer, lambda _: [torch.ones(1, 1)], _towards_one(module), epochs=3, validate=None, average=0.9)  # type: ignore[arg-type]
    assert 0.0 < module.weight.item() < plain


def test_reduced_precision_ends_with_its_block() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(RuntimeError), reduced_precision():
        assert torch.get_float32_matmul_precision() == "medium"
        raise RuntimeError
    assert torch.get_float32_matmul_precision() == before


def test_a_loss_that_is_no_number_ends_training_at_the_best_weights_or_in_one_line() -> None:
    """On the plain parabola steps of 1.5 overshoot by a factor of two, until nothing is finite."""
    module, optimizer = _setting(1.5)
    with pytest.raises(SpecError, match=r"learning_rate: training diverged in epoch \d+: the loss is (inf|nan)"):
        train(module, optimizer, lambda _: [torch.ones(1, 1)], _towards_one(module), epochs=500, validate=None)  # type: ignore[arg-type]
    module, optimizer = _setting(1.5)
    figures = iter([0.1, 0.5])
    records = train(
        module, optimizer, lambda _: [torch.ones(1, 1)], _towards_one(module), epochs=500, patience=500,
        validate=lambda: next(figures, 0.0),
    )  # type: ignore[arg-type]  # fmt: skip
    assert module.weight.item() == pytest.approx(1 - (-2.0) ** 2), "two steps: the second look was the best"
    assert len(records) < 500
    assert all(r["loss"] < float("inf") for r in records)


@pytest.mark.parametrize("validated", [False, True])
def test_a_last_step_that_breaks_the_weights_is_no_answer(validated: bool) -> None:
    """The loss of an epoch's last batch is that of the weights before its step, and says nothing of those after it."""
    module, optimizer = _setting(1e30)
    huge = torch.full((1, 1), 1e10)
    with pytest.raises(SpecError, match=r"training diverged in epoch 1: .* weights are no finite numbers"):
        train(
            module, optimizer, lambda _: [huge], _towards_one(module), epochs=1, validate=(lambda: 0.0) if validated else None
        )  # type: ignore[arg-type]
