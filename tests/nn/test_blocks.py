"""Dropout drops the stated share, and attention sees what it may."""

from __future__ import annotations

import copy

import pytest
import torch

from llm4rec.nn.blocks import CausalBlock, Dropout, causal_bias


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(share: float) -> None:
    torch.manual_seed(0)
    out = Dropout(share).train()(torch.ones(300, 1001))  # a number of values that is no multiple of four
    assert (out == 0).float().mean().item() == pytest.approx(share, abs=0.005)
    assert out.mean().item() == pytest.approx(1.0, abs=0.01)
    assert out.unique().tolist() == pytest.approx([0.0, 1 / (1 - share)])


def test_dropout_is_governed_by_the_seed_and_off_in_evaluation() -> None:
    x = torch.ones(50, 7)
    torch.manual_seed(1)
    one = Dropout(0.5)
    first, second = one(x), one(x)
    torch.manual_seed(1)
    assert torch.equal(Dropout(0.5)(x), first)
    assert not torch.equal(first, second)
    assert torch.equal(copy.deepcopy(one).eval()(x), x)


def test_dropout_passes_the_gradient_of_what_it_kept() -> None:
    x = torch.ones(20, 20, requires_grad=True)
    out = Dropout(0.3)(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, out.detach())


def test_bias_shows_the_past_and_hides_pads() -> None:
    bias = causal_bias(torch.tensor([[False, True, True]]))
    assert (bias[0, 0] == 0).tolist() == [[True, False, False], [False, True, False], [False, True, True]]


def test_heads_see_by_their_own_bias() -> None:
    torch.manual_seed(0)
    block, x = CausalBlock(8, 2, 0.0).eval(), torch.randn(1, 3, 8)
    shared = causal_bias(torch.ones(1, 3, dtype=torch.bool))
    own = torch.cat([shared, shared + torch.eye(3) * 5], 1)  # the second head looks at itself
    assert not torch.allclose(block(x, shared), block(x, own))
    torch.testing.assert_close(block(x, shared), block(x, shared.expand(1, 2, 3, 3)))
