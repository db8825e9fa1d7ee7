"""Weights and settings are chosen together, on validation cases, and not because of noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from llm4rec.core import Cases, Component, Dataset, Lists, Queries
from llm4rec.models.ease import EASE
from llm4rec.pipeline import Pipeline, PipelineConfig
from llm4rec.pipeline.tune import Tunable, balanced, cautious_choice
from tests.pipeline.parts import SPLIT, Counting, NoConfig, reverse

WEIGHTS = np.linspace(0, 1, 11)


def test_without_caution_the_best_is_taken_and_of_equals_the_smallest_weight() -> None:
    values = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert cautious_choice(values, np.array([0.0, 0.7, 0.4]), 0.0) == 2
    assert cautious_choice(values[[0, 1]], np.array([0.0, 0.7]), 0.0) == 1


def test_a_clear_gain_is_taken() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(200)
    values = np.stack([base + 0.3 * weight + 0.05 * rng.normal(size=200) for weight in WEIGHTS])
    assert WEIGHTS[cautious_choice(values, WEIGHTS, 1.0)] >= 0.9


def test_among_settings_of_one_weight_the_best_mean_is_taken() -> None:
    values = np.array([[0.1, 0.1, 0.1], [0.4, 0.5, 0.6], [0.6, 0.5, 0.5]])
    assert cautious_choice(values, np.array([0.0, 0.5, 0.5]), 1.0) == 2


def test_noise_alone_seldom_gets_a_say() -> None:
    """A ranker that knows nothing: the best of the grid is often above 0, the cautious choice seldom."""
    taken: dict[float, list[float]] = {0.0: [], 1.0: []}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=150)
        values = np.stack([weight * noise + 0.3 * weight * rng.normal(size=150) for weight in WEIGHTS])
        for errors, weights in taken.items():
            weights.append(float(WEIGHTS[cautious_choice(values, WEIGHTS, errors)]))
    bold, cautious = (np.mean(np.array(taken[errors]) > 0) for errors in (0.0, 1.0))
    assert bold > 0.5
    assert cautious < 0.5 * bold
    assert np.mean(taken[1.0]) < 0.4 * np.mean(taken[0.0])


def peaked(at: Sequence[float], noise: float = 0.0, seed: int = 0) -> Callable[[Sequence[float]], NDArray[np.float64]]:
    """Return gains of 200 cases that are the higher the nearer the weights are to some."""
    rng = np.random.default_rng(seed)

    def gain(weights: Sequence[float]) -> NDArray[np.float64]:
        gap = float(np.abs(np.array(weights) - np.array(at)).sum())
        return np.asarray(1 - gap + noise * rng.normal(size=200))

    return gain


@pytest.mark.parametrize("at", [(0.7, 0.3), (1.0, 0.0), (0.2, 0.5, 0.3), (0.1, 0.1, 0.2, 0.6)])
def test_the_weights_of_a_fusion_are_found_to_a_step_of_the_grid(at: tuple[float, ...]) -> None:
    weights, tried = balanced(peaked(at), len(at), 1.0)
    assert sum(weights) == pytest.approx(1, abs=1e-3)
    assert np.abs(np.array(weights) - at).max() <= 0.1 + 1e-3
    assert tried[0][0] == tuple([round(1 / len(at), 4)] * len(at))
    assert max(tried, key=lambda row: row[1])[0] == tuple(weights)
    assert all(abs(sum(each) - 1) < 1e-3 for each, _ in tried), "a share that was tried was not what it says"


def test_equal_weights_stay_where_the_best_are_not_clearly_better() -> None:
    moved = [balanced(lambda _, rng=rng: rng.normal(size=150), 3, 3.0)[0] for rng in map(np.random.default_rng, range(20))]
    assert sum(weights != [0.3333] * 3 for weights in moved) <= 2
    assert balanced(lambda _: np.ones(50), 2, 1.0)[0] == [0.5, 0.5]


class Dial(Component[NoConfig]):
    """A ranker that knows the truth of every case under one setting, and turns it round under the others."""

    def __init__(self, right: float, truth: Mapping[int, set[int]], unsettled: bool = True) -> None:
        super().__init__()
        self.right, self.truth, self.unsettled = right, truth, unsettled
        self.saw_valid: list[bool] = []

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        self.saw_valid.append(valid is not None)
        self.setting_ = -1.0
        return self

    def settle(self, setting: float) -> None:
        self.setting_ = setting

    def variants(self, queries: Queries, candidates: Lists) -> Mapping[float, Lists]:
        return {setting: self._under(setting, queries, candidates) for setting in (0.0, 0.5, 1.0)}

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        return self._under(self.setting_, queries, candidates)

    def _under(self, setting: float, queries: Queries, candidates: Lists) -> Lists:
        known = np.array(
            [
                [item in self.truth[user] for item in row]
                for user, row in zip(queries.users.tolist(), candidates.items, strict=True)
            ]
        )
        sign = 1.0 if setting == self.right else -1.0
        return Lists.from_pools(candidates.items, np.where(candidates.items < 0, np.nan, sign * known))


def truth_of(*parts: Cases) -> dict[int, set[int]]:
    return {
        user: set(true.tolist())
        for cases in parts
        for user, true in zip(cases.queries.users.tolist(), cases.truth, strict=True)
    }


def fitted(ranker: Any, **parts: Any) -> Pipeline:
    pipeline = Pipeline({"random": Counting()}, [ranker], config=PipelineConfig(depth=32, tuning_cases=24, **parts))
    return pipeline.fit(SPLIT.train, valid=SPLIT.valid, rng=np.random.default_rng(0))


@pytest.mark.parametrize("right", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("weight", ["auto", 1.0])
def test_setting_and_weight_are_chosen_together(right: float, weight: Any) -> None:
    dial = Dial(right, truth_of(SPLIT.valid))
    assert isinstance(dial, Tunable)
    pipeline = fitted(dial, weight=weight)
    assert dial.setting_ == right
    assert dial.saw_valid == [False]
    (record,) = pipeline.facts()["tuning"]
    assert record["setting"] == right
    assert record["weight"] == pipeline.weights_[0] > 0.3
    assert len(record["grid"]) == (33 if weight == "auto" else 3)


def test_a_settled_ranker_and_one_that_came_fitted_are_left_alone() -> None:
    settled = Dial(0.5, truth_of(SPLIT.valid), unsettled=False)
    assert fitted(settled, weight=1.0).facts()["tuning"] == []
    assert settled.saw_valid == [True]
    assert settled.setting_ == -1.0
    came = Dial(0.5, truth_of(SPLIT.valid)).fit(SPLIT.train, valid=None, rng=np.random.default_rng(0))
    fitted(came, weight="auto")
    assert came.setting_ == -1.0


def test_without_validation_cases_an_open_setting_stays_as_it_was_fitted() -> None:
    dial = Dial(0.5, {})
    pipeline = Pipeline({"random": Counting()}, [dial]).fit(SPLIT.train, valid=None, rng=np.random.default_rng(0))
    assert dial.setting_ == -1.0
    assert pipeline.weights_ == [1.0]


def test_an_open_setting_depends_on_the_seed() -> None:
    assert not Pipeline({"ease": EASE()}, [Dial(0.5, {})]).deterministic
    assert Pipeline({"ease": EASE()}, [Dial(0.5, {}, unsettled=False)]).deterministic


def test_a_harmful_ranker_gets_no_weight() -> None:
    pipeline = Pipeline({"ease": EASE()}, [reverse()], config=PipelineConfig(depth=20, weight="auto", tuning_cases=30))
    pipeline.fit(SPLIT.train, valid=SPLIT.valid, rng=np.random.default_rng(0))
    assert pipeline.weights_ == [0.0]
