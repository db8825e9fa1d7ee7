"""Losses of models that score the whole catalogue by inner products with item vectors."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from llm4rec.core import Config

#: Logits held at once by :func:`linear_cross_entropy`: 6 MiB in float32, about a core's own cache.
_CELLS = 3 << 19
#: Rows of a product are filled up to a multiple of this, because kernels are prepared for each new shape.
_ROUND = 128


class LossConfig(Config):
    """How the next item is told from the others; see :func:`next_item_loss`."""

    loss: Literal["softmax", "sampled-softmax", "in-batch", "bce", "gbce", "bpr"] = "softmax"
    """Over the whole catalogue, or against ``negatives``: a softmax with items drawn evenly or from the
    batch's targets, binary cross-entropy, that calibrated (gSASRec), or pairs (BPR)."""
    negatives: int = Field(256, ge=1)
    """Items drawn at random for the losses other than ``softmax``."""
    share_negatives: bool = True
    """Draw them once for a whole batch, which is one matrix product; otherwise anew for each position."""
    correct: bool = False
    """``sampled-softmax`` and ``in-batch``: weigh the negatives by how often each is drawn, so that the loss
    estimates ``softmax``."""
    calibration: float = Field(0.75, ge=0, le=1)
    """``gbce``: 0 is ``bce``, 1 takes all of the overconfidence out that sampling brings in."""
    smoothing: float = Field(0.1, ge=0, lt=1)
    """Label smoothing of the softmax losses."""


def next_item_loss(states: Tensor, items: Tensor, targets: Tensor, config: LossConfig, popularity: Tensor) -> Tensor:
    """Return the mean loss of states whose next items are known.

    With logits ``z_j = state . item_j``, target ``i`` and K negatives, drawn evenly from the n items
    but for ``in-batch`` (one that is drawn as its own target's negative counts for nothing):

    - softmax: ``-log(exp z_i / sum over all j of exp z_j)``
    - sampled-softmax: the same over i and the negatives; with ``correct`` a negative counts
      ``1 / (K q_j)`` times, where ``q_j`` is the chance to draw it (Bengio & Senecal 2008), without it
      once, as in eSASRec (2025)
    - in-batch: the same with negatives drawn from the batch's targets, so that ``q_j`` is popularity
      (Yi et al., *Sampling-Bias-Corrected Neural Modeling*, RecSys 2019; the target itself is not
      corrected, after Khrylchenko et al., *Correcting the LogQ Correction*, RecSys 2025)
    - bce: ``-log s(z_i) - sum over negatives of log(1 - s(z_j))``, over K + 1, with the sigmoid ``s``
      (Kang & McAuley 2018 for K = 1)
    - gbce: the same with ``s(z_i) ** b`` in place of ``s(z_i)``, ``b = a (t (1 - 1/a) + 1/a)``,
      ``a = K / (n - 1)``, at most 1, and ``t`` the calibration (Petrov & Macdonald, *gSASRec*, RecSys 2023)
    - bpr: ``-sum over negatives of log s(z_i - z_j)``, over K (Rendle et al. 2009)

    Args:
        states: float[m, d].
        items: float[n, d].
        targets: int64[m], rows of ``items``.
        config: which loss.
        popularity: float[n], how often each item is a target in training, for ``in-batch``.
    """
    if config.loss == "softmax":
        return linear_cross_entropy(states, items, targets, config.smoothing)
    m, n, k = len(states), len(items), config.negatives
    pool = targets if config.loss == "in-batch" else torch.arange(n, device=states.device)
    drawn = pool[torch.randint(len(pool), (k,) if config.share_negatives else (m, k), device=states.device)]
    # Looked up together, so that one dense gradient of the items is made, not two.
    rows = F.embedding(torch.cat([targets, drawn.flatten()]), items)
    positive = (states * rows[:m]).sum(-1)  # [m]
    others = rows[m:]
    if config.share_negatives:
        negative = (F.pad(states, (0, 0, 0, -m % _ROUND)) @ others.T)[:m]  # [m, k]
    else:
        negative = (others.view(m, k, -1) @ states[:, :, None])[:, :, 0]  # [m, k]
    own = drawn == targets[:, None]  # [m, k]
    if config.loss in ("sampled-softmax", "in-batch"):
        weighed = negative
        if config.correct:
            chance = popularity[drawn] / popularity.sum() if config.loss == "in-batch" else torch.full((), 1 / n)
            weighed = negative - (k * chance).log().to(negative)
        logits = torch.cat([positive[:, None], weighed.masked_fill(own, float("-inf"))], 1)
        mean = (positive + negative.masked_fill(own, 0).sum(1)) / (1 + k - own.sum(1))
        return (logits.logsumexp(1) - (1 - config.smoothing) * positive - config.smoothing * mean).mean()
    if config.loss == "bpr":
        return F.softplus(negative - positive[:, None]).masked_fill(own, 0).sum(1).mean() / k
    rate = min(1.0, k / (n - 1))
    power = config.calibration * (rate - 1) + 1 if config.loss == "gbce" else 1.0  # b: t (a - 1) + 1
    wrong = F.softplus(negative).masked_fill(own, 0).sum(1)
    return (power * F.softplus(-positive) + wrong).mean() / (k + 1)


def linear_cross_entropy(states: Tensor, items: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return ``cross_entropy(states @ items.T, targets, label_smoothing=smoothing)``, a few rows at a time.

    The gradients are made in the forward pass, from logits that are still in the cache and never all
    held: memory is that of the two gradients and 6 MiB (32 rows of logits, if those are more).  On a processor
    this takes about a quarter of the time of the plain way.  Products round as
    :func:`llm4rec.nn.train.reduced_precision` lets them; exponentials and sums do not.  A gradient of
    the gradient does not exist.

    Args:
        states: float[m, d].
        items: float[n, d].
        targets: int64[m], in ``[0, n)``.
        smoothing: share of each target's weight that is spread evenly over all n items.
    """
    loss: Tensor = _LinearCrossEntropy.apply(states, items, targets, smoothing)
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        m, n = len(states), len(items)
        rows = min(512, max(32, _CELLS // n // 32 * 32))
        for_states, for_items = torch.empty_like(states), torch.zeros_like(items)
        held = states.new_empty(rows, n)
        losses = states.new_empty(m)
        for start in range(0, m, rows):
            x, at = states[start : start + rows], targets[start : start + rows]
            here = len(x)
            x = F.pad(x, (0, 0, 0, rows - here))  # one shape for all
            z = torch.mm(x, items.T, out=held)
            target = z[:here].gather(1, at[:, None])
            top = z.amax(1, keepdim=True)
            e = z.sub_(top).exp_()
            total = e.sum(1, keepdim=True)
            losses[start : start + here] = ((top + total.log())[:here] - (1 - smoothing) * target)[:, 0]
            # softmax = e / total, but to divide the d columns after the product is less than the n before it
            share = total.reciprocal_()
            share[here:] = 0
            for_states[start : start + here] = (torch.mm(e, items) * share)[:here]
            for_items.addmm_(e.T, x * share)
        # What the targets take: 1 - smoothing at their own place, smoothing / n everywhere.
        for_states.sub_(items[targets], alpha=1 - smoothing)
        for_items.index_add_(0, targets, states, alpha=smoothing - 1)
        if smoothing:
            mean = items.mean(0)
            losses -= smoothing * (states @ mean)
            for_states.sub_(mean, alpha=smoothing)
            for_items.sub_(states.sum(0), alpha=smoothing / n)
        ctx.save_for_backward(for_states.div_(m), for_items.div_(m))
        return losses.mean()

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, Tensor, None, None]:
        for_states, for_items = ctx.saved_tensors
        return for_states * above, for_items * above, None, None
