"""Arithmetic over the numbers of IDs: exercises, what is learnt, pre-conditioning, task vectors, controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llm4rec.core import SpecError
from llm4rec.generative.arithmetic import ArithmeticConfig, Exercises, with_arithmetic
from llm4rec.generative.p5 import P5, P5Config
from tests import worlds
from tests.contracts import ScoringContract
from tests.generative.made import properties

RNG = np.random.default_rng
CYCLE = worlds.cycle().split
SMALL: dict[str, Any] = {
    "ids": {"scheme": "sequential", "digits": 1}, "width": 32, "layers": 1, "heads": 2, "head_width": 16, "hidden": 32,
    "length": 1, "epochs": 7, "batch_size": 64, "learning_rate": 1e-2, "dropout": 0.0, "targets": 0, "tasks": ("sequential",),
    "whole_words": 32, "every": 10,
}  # fmt: skip


def p5(**arithmetic: Any) -> P5:
    given = {"steps": 4, "batch_size": 16} | arithmetic
    return P5(P5Config.model_validate(SMALL | {"epochs": 1, "every": 1, "arithmetic": given}))


@pytest.fixture(scope="module")
def plain() -> P5:
    return p5(mode="none").fit(CYCLE.train, valid=CYCLE.valid, rng=RNG(0))


def weights(model: P5) -> list[torch.Tensor]:
    return [value.detach() for value in model.network_.parameters()]


def same(one: P5, other: P5) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@pytest.mark.slow
class TestPreconditioned(ScoringContract):
    component = P5
    configs: ClassVar[dict[str, Any]] = SMALL | {
        "epochs": 10, "arithmetic": {"mode": "precondition", "steps": 20, "batch_size": 64},
    }  # fmt: skip
    world = worlds.cycle()
    expected = 0.8
    uses_valid = True


# -- exercises ------------------------------------------------------------------------------
@properties
@given(st.sampled_from(["successor", "comparison", "addition", "subtraction"]), st.integers(0, 1000))
def test_exercises_are_right_and_stay_among_the_numbers(plain_numbers: Any, kind: Any, seed: int) -> None:
    exercises = plain_numbers
    n = len(exercises.numbers)
    operands, results = exercises.draw(kind, 50, RNG(seed))
    a, b = operands[:, 0], operands[:, -1]
    assert operands.min() >= 0
    assert max(operands.max(), results.max()) < n
    right = {"successor": a + 1, "comparison": np.maximum(a, b), "addition": a + b, "subtraction": a - b}[kind]
    assert np.array_equal(results, right)


@pytest.fixture(scope="module")
def plain_numbers(plain: P5) -> Exercises:
    return Exercises.over(plain.alphabet_, 31)


def test_a_number_is_written_as_the_id_that_it_is(plain: P5, plain_numbers: Exercises) -> None:
    words, exercises = plain.alphabet_, plain_numbers
    digits = {int(token): word for token, word in zip(words.of_ids, words.ids.written(), strict=True)}
    assert ["".join(digits[t] for t in row.tolist()) for row in exercises.numbers] == [f"{n:02d}" for n in range(24)]
    prompts = exercises.ask("addition", np.array([[3, 14]]))
    tokens = prompts.tokens[0][prompts.real[0]].tolist()
    assert "".join(digits[t] for t in tokens if t in digits) == "0314"
    assert words.text.decode([t for t in tokens if t not in digits]) == "plus"
    assert sorted(set(prompts.words[0].tolist())) == [0, 1, 2], "a number is one word"


def test_the_shuffled_control_of_the_ids_leaves_the_numbers_alone() -> None:
    model = P5(P5Config.model_validate(SMALL | {"epochs": 1, "ids": {**SMALL["ids"], "control": "shuffled"}}))
    model.fit(CYCLE.train, valid=None, rng=RNG(0))
    numbers = Exercises.over(model.alphabet_, 31).numbers
    assert np.array_equal(numbers, np.sort(numbers.view("i8,i8").ravel(), order=["f0", "f1"]).view(np.int64).reshape(-1, 2))
    assert not np.array_equal(numbers, model.alphabet_.items[:-1])


# -- what is learnt -------------------------------------------------------------------------
def test_arithmetic_is_learnt_and_its_control_is_not() -> None:
    how: dict[str, Any] = {"mode": "precondition", "steps": 200, "batch_size": 64, "learning_rate": 1e-2}
    how["exercises"] = ("successor",)
    right = p5(**how).fit(CYCLE.train, valid=CYCLE.valid, rng=RNG(0)).arithmetic_["right"]
    control = p5(**how, control="shuffled").fit(CYCLE.train, valid=CYCLE.valid, rng=RNG(0)).arithmetic_["right"]
    assert right["successor"] > 0.8
    assert control["successor"] < 0.3


def test_only_numbers_can_be_reckoned_with() -> None:
    with pytest.raises(ValidationError, match="arithmetic needs IDs that are numbers"):
        P5Config.model_validate({"arithmetic": {"mode": "precondition"}, "ids": {"scheme": "random"}})


# -- pre-conditioning, task vectors -----------------------------------------------------------
def test_without_arithmetic_the_recommender_is_the_same(plain: P5) -> None:
    assert plain.arithmetic_ == {}
    zero = p5(mode="task-vector", factors=(0.0,)).fit(CYCLE.train, valid=CYCLE.valid, rng=RNG(0))
    assert same(zero, plain), "a factor of 0 is the tuned recommender itself"
    onto_base = p5(mode="task-vector", onto="base", factors=(0.0,)).fit(CYCLE.train, valid=CYCLE.valid, rng=RNG(0))
    assert same(onto_base, plain)


def test_a_factor_of_1_on_the_base_is_the_precondition(plain: P5) -> None:
    before = p5(mode="precondition").fit(CYCLE.train, valid=CYCLE.valid, rng=RNG(0))
    vector = p5(mode="task-vector", onto="base", factors=(1.0,)).fit(CYCLE.train, valid=CYCLE.valid, rng=RNG(0))
    assert all(torch.allclose(a, b, atol=1e-2) for a, b in zip(weights(before), weights(vector), strict=True))
    assert not same(before, plain)


class Line(torch.nn.Module):
    """One weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))


def added(config: dict[str, Any], best_at: float) -> tuple[float, dict[str, Any]]:
    """Learning adds 10, tuning adds 1; validation wants the weight at a place."""
    line = Line()

    def learn() -> dict[str, float]:
        line.weight.data += 10
        return {}

    def tune() -> list[dict[str, float]]:
        line.weight.data += 1
        return [{}]

    _, told = with_arithmetic(
        line,
        ArithmeticConfig.model_validate(config),
        learn=learn,
        tune=tune,
        validate=lambda: -abs(line.weight.item() - best_at),
    )
    return line.weight.item(), told


@pytest.mark.parametrize("onto", ["base", "tuned"])
def test_the_factor_is_chosen_on_the_validation_cases(onto: str) -> None:
    vector = {"mode": "task-vector", "onto": onto, "factors": (0.0, 0.2, 0.5)}
    for best_at, factor in ((1.0, 0.0), (3.2, 0.2), (100.0, 0.5)):
        weight, told = added(vector, best_at)
        assert told["factor"] == factor
        assert weight == pytest.approx(1 + 10 * factor)
        assert [f for f, _ in told["factors"]] == [0.0, 0.2, 0.5]
    assert added({"mode": "precondition"}, 0.0)[0] == 11
    assert added({"mode": "none"}, 0.0) == (1.0, {})


def test_a_factor_needs_validation_cases_or_to_be_the_only_one() -> None:
    with pytest.raises(SpecError, match=r"arithmetic.factors: .*validation cases.*; give one factor"):
        p5(mode="task-vector").fit(CYCLE.train, valid=None, rng=RNG(0))
    assert p5(mode="task-vector", factors=(0.1,)).fit(CYCLE.train, valid=None, rng=RNG(0)).arithmetic_["factor"] == 0.1


def test_what_was_learnt_is_saved(tmp_path: Path) -> None:
    model = p5(mode="task-vector").fit(CYCLE.train, valid=CYCLE.valid, rng=RNG(0))
    model.save(tmp_path)
    assert P5.load(tmp_path).arithmetic_ == model.arithmetic_
    assert set(model.arithmetic_["right"]) == {"successor", "comparison", "addition", "subtraction"}
