"""Number encoding by arithmetic: a text-to-text model that knows how the numbers in item IDs stand to each other.

Sequential IDs are numbers, and near numbers are near items: those that users took one after the other.  To a
model they are tokens without order, until it has seen enough of them.  Here it is trained, before it recommends, on
arithmetic over the range of the IDs, written in the IDs' own tokens.  What it learns is used in two ways: as the weights that
the recommender starts from (*pre-condition*), or as a direction in the space of weights, ``theta_arithmetic - theta_base``,
of which a share is added to the base or to the tuned recommender (*task vector*: Ilharco et al., "Editing models with task
arithmetic", ICLR 2023, arXiv 2212.04089).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from llm4rec.core import Config, SpecError
from llm4rec.generative.alphabet import Alphabet, Part, Prompts
from llm4rec.generative.p5_network import Network
from llm4rec.nn.train import train

Exercise = Literal["successor", "comparison", "addition", "subtraction"]
#: Exercise -> what is asked; the answer is a number.
QUESTIONS: Mapping[Exercise, str] = {
    "successor": "what follows {a}",
    "comparison": "which is larger {a} or {b}",
    "addition": "{a} plus {b}",
    "subtraction": "{a} minus {b}",
}
#: Exercises of each kind that say what was learnt.
_ASKED = 512


class ArithmeticConfig(Config):
    """Parameters of the arithmetic."""

    mode: Literal["none", "precondition", "task-vector"] = "none"
    """``precondition``: the recommender starts from the model that has learnt arithmetic.  ``task-vector``: what arithmetic
    changed in the weights is added, times one of ``factors``.  ``none``: there is none."""
    onto: Literal["base", "tuned"] = "tuned"
    """``task-vector``: to what it is added: the model that the recommender starts from (which trains one recommender for
    each factor), or the trained recommender."""
    factors: tuple[float, ...] = Field((0.0, 0.05, 0.1, 0.2, 0.4), min_length=1)
    """``task-vector``: the shares that are tried, of which the best by NDCG@10 on the validation cases is kept, the first of
    equals.  0 leaves the model without arithmetic."""
    exercises: tuple[Exercise, ...] = Field(("successor", "comparison", "addition", "subtraction"), min_length=1)
    """What is trained on, as often each."""
    steps: int = Field(2000, ge=1)
    """Training steps, each on exercises of one kind."""
    batch_size: int = Field(256, ge=2)
    """Exercises in a step."""
    learning_rate: float = Field(2e-3, gt=0)
    """Of AdamW."""
    control: Literal["none", "shuffled"] = "none"
    """``shuffled``: each exercise has the answer of another one: as much training, and no arithmetic."""


@dataclass(frozen=True)
class Exercises:
    """Exercises over the numbers that are IDs.

    Attributes:
        alphabet: in which IDs are written.
        numbers: int64[n, depth], the tokens of each number: the IDs in order of their tokens.
        words: number of the last whole word of a prompt.
    """

    alphabet: Alphabet
    numbers: NDArray[np.int64]
    words: int

    @classmethod
    def over(cls, alphabet: Alphabet, words: int) -> Exercises:
        """Take the numbers that name items; raises ``SpecError`` if there are fewer than two."""
        ids = alphabet.items[:-1]
        if len(ids) < 2:
            raise SpecError("needs at least two items", where="arithmetic")
        return cls(alphabet, ids[np.lexsort(ids.T[::-1])], words)

    def draw(self, kind: Exercise, m: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the operands int64[m, 1 or 2] and the results int64[m] of m exercises; all lie among the numbers."""
        n = len(self.numbers)
        if kind == "successor":
            a = rng.integers(n - 1, size=m)
            return a[:, None], a + 1
        high = rng.integers(n, size=m)
        low = rng.integers(high + 1)
        if kind == "addition":
            return np.stack([low, high - low], 1), high
        if kind == "subtraction":
            return np.stack([high, low], 1), high - low
        return rng.permuted(np.stack([high, low], 1), axis=1), high

    def ask(self, kind: Exercise, operands: NDArray[np.int64]) -> Prompts:
        """Write the questions as prompts."""
        parts: dict[str, Part] = {}
        for name, column in zip("ab", operands.T, strict=False):
            tokens = self.numbers[column]
            begins = np.zeros(tokens.shape, dtype=np.bool_)
            begins[:, 0] = True
            parts[name] = tokens, begins
        return self.alphabet.prompts(QUESTIONS[kind], len(operands), parts, self.words)


def learn(network: Network, exercises: Exercises, config: ArithmeticConfig, rng: np.random.Generator) -> dict[str, float]:
    """Train a network on arithmetic; return for each exercise the share of fresh draws whose answer it writes in full."""

    def batches(_: int) -> Iterator[Exercise]:
        kinds = np.arange(config.steps) % len(config.exercises)
        return (config.exercises[i] for i in rng.permutation(kinds))

    def loss(kind: Exercise) -> Tensor:
        operands, results = exercises.draw(kind, config.batch_size, rng)
        if config.control == "shuffled":
            results = rng.permutation(results)
        return network.loss(exercises.ask(kind, operands), exercises.numbers[results], 0.0)

    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=0.0, fused=True)
    train(network, optimizer, batches, loss, epochs=1, validate=None, clip=1.0)
    return {kind: _right(network, exercises, kind, rng) for kind in config.exercises}


def _right(network: Network, exercises: Exercises, kind: Exercise, rng: np.random.Generator) -> float:
    """Return the share of exercises whose answer the network writes, token by token the likeliest."""
    operands, results = exercises.draw(kind, _ASKED, rng)
    with torch.inference_mode():
        steps = network.steps(exercises.ask(kind, operands))
        states, zero, right = steps.begin(), torch.zeros((_ASKED, 1), dtype=torch.int64), np.ones(_ASKED, dtype=np.bool_)
        for wanted in exercises.numbers[results].T:
            token = steps.logits(states[:, 0], None).argmax(1, keepdim=True)
            right &= token[:, 0].numpy() == wanted
            states = steps.advance(zero, token)
    return float(right.mean())


def with_arithmetic(
    network: nn.Module,
    config: ArithmeticConfig,
    *,
    learn: Callable[[], dict[str, float]],
    tune: Callable[[], list[dict[str, float]]],
    validate: Callable[[], float] | None,
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Train a recommender, and bring arithmetic in as ``config`` says.

    Args:
        network: the base; left as the recommender.
        config: the mode.
        learn: trains it on arithmetic.
        tune: trains it to recommend, under the same draws each time.
        validate: NDCG@10 on the validation cases, or None where there are none.

    Returns:
        The record of the recommender's training, and of arithmetic: ``right`` (share of exercises), ``factors`` (their
        validation figures) and ``factor``, the one chosen.

    Raises:
        SpecError: if a factor is to be chosen without validation cases.
    """
    if config.mode == "none":
        return tune(), {}
    if config.mode == "task-vector" and validate is None and len(config.factors) > 1:
        what = "the factor is chosen on validation cases, and there are none"
        raise SpecError(what, where="arithmetic.factors", todo="give one factor")
    base = _weights(network)
    right = learn()
    if config.mode == "precondition":
        return tune(), {"right": right}
    vector = [after - before for after, before in zip(_weights(network), base, strict=True)]
    history: list[dict[str, float]] = []
    if config.onto == "tuned":
        _set(network, base)
        history = tune()
        base = _weights(network)
    best, figures, chosen = -np.inf, [], (config.factors[0], base, history)
    for factor in config.factors:
        _set(network, [weight + factor * step for weight, step in zip(base, vector, strict=True)])
        if config.onto == "base":
            history = tune()
        figures.append(0.0 if validate is None else validate())
        if figures[-1] > best:
            best, chosen = figures[-1], (factor, _weights(network), history)
    factor, weights, history = chosen
    _set(network, weights)
    tried = [list(pair) for pair in zip(config.factors, figures, strict=True)] if validate is not None else []
    return history, {"right": right, "factors": tried, "factor": factor}


def _weights(network: nn.Module) -> list[Tensor]:
    return [weight.detach().clone() for weight in network.parameters()]


def _set(network: nn.Module, weights: list[Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(network.parameters(), weights, strict=True):
            weight.copy_(value)
