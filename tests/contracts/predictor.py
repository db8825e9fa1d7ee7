"""The contract of what predicts ratings or clicks."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from llm4rec.core import Cases, Lists, Predictor, Queries, Ragged, Split
from llm4rec.data import as_clicks
from llm4rec.metrics import auc
from tests import rated
from tests.contracts.component import ComponentContract


def rmse(component: Any, cases: Cases) -> float:
    """Return the root mean squared error over every true item of the cases."""
    asked = cases.single()
    assert asked.values is not None
    return float(np.sqrt(np.mean((component.predict(asked.queries, asked.truth.values) - asked.values) ** 2)))


def area(component: Any, cases: Cases) -> float:
    """Return the AUC over every true item of cases whose values are 0 and 1."""
    asked = cases.single()
    assert asked.values is not None
    return auc(component.predict(asked.queries, asked.truth.values), asked.values > 0)


class PredictorContract(ComponentContract):
    """A predictor: float32[n], one item a query; in the made world as good as its kind can be."""

    world: ClassVar = rated.tastes()
    #: RMSE in the made world, at most; the noise alone is .5, the best biases without tastes about .95.
    expected: ClassVar[float] = 0.62
    #: AUC in the made world's clicks, at least.
    expected_auc: ClassVar[float] = 0.86
    #: Largest RMSE on MovieLens-100K, each user's last tenth, with the parameters ``floor_configs``; None: no floor.
    floor: ClassVar[float | None] = None
    #: Smallest AUC there of ratings from 4 on.
    floor_auc: ClassVar[float | None] = None
    floor_configs: ClassVar[dict[str, Any]] = {}

    _on_clicks: ClassVar[dict[type, Any]] = {}

    def asked(self) -> Cases:
        """Return the world's test questions."""
        return self.world.split.test.single()

    def answer(self, component: Any) -> Lists:
        asked = self.asked()
        items = asked.truth.values
        return Lists(items[:, None], component.predict(asked.queries, items)[:, None])

    @pytest.fixture
    def clicking(self) -> Any:
        """The component fitted to clicks, once for all tests of the class."""
        if type(self) not in self._on_clicks:
            split = as_clicks(self.world.split, self.world.threshold)
            self._on_clicks[type(self)] = self.fit(train=split.train, valid=split.valid)
        return self._on_clicks[type(self)]

    def test_predictions_are_float32_one_for_each_query(self, fitted: Any) -> None:
        asked = self.asked()
        predictions = fitted.predict(asked.queries, asked.truth.values)
        assert isinstance(fitted, Predictor)
        assert predictions.dtype == np.float32
        assert predictions.shape == (len(asked),)
        assert np.isfinite(predictions).all()

    def test_predictions_lie_within_the_training_values(self, fitted: Any) -> None:
        asked, values = self.asked(), self.world.split.train.events["value"].to_numpy()
        predictions = fitted.predict(asked.queries, asked.truth.values)
        assert predictions.min() >= values.min() - 1e-4
        assert predictions.max() <= values.max() + 1e-4

    def test_batch_equals_single(self, fitted: Any) -> None:
        asked = self.asked().take(np.arange(12))
        items = asked.truth.values
        whole = fitted.predict(asked.queries, items)
        single = [fitted.predict(asked.queries.take(np.array([i])), items[[i]])[0] for i in range(12)]
        np.testing.assert_allclose(whole, single, rtol=1e-4, atol=1e-5)

    def test_order_of_the_questions_changes_nothing(self, fitted: Any) -> None:
        asked = self.asked()
        turned = np.random.default_rng(4).permutation(len(asked))
        whole = fitted.predict(asked.queries, asked.truth.values)
        again = fitted.predict(asked.queries.take(turned), asked.truth.values[turned])
        np.testing.assert_allclose(again, whole[turned], rtol=1e-4, atol=1e-5)

    def test_the_answers_play_no_part(self, fitted: Any) -> None:
        asked = self.asked()
        other = Cases(asked.queries, asked.truth, asked.seen, values=5 - np.asarray(asked.values))
        a, b = (fitted.predict(c.queries, c.truth.values) for c in (asked, other))
        assert np.array_equal(a, b)

    def test_unknown_users_with_and_without_history(self, fitted: Any) -> None:
        known = self.asked().queries.take(np.arange(6))
        values = known.history_values
        unknown = Queries(np.full(6, -1), known.history, known.times, known.history_times, history_values=values)
        items = np.arange(6, dtype=np.int32)
        assert np.isfinite(fitted.predict(unknown, items)).all()
        nobody = fitted.predict(Queries.of(Ragged.empty(6)), np.zeros(6, np.int32))
        assert np.isfinite(nobody).all()
        assert np.ptp(nobody) < 1e-5, "equal questions, different answers"

    def test_no_questions(self, fitted: Any) -> None:
        assert fitted.predict(Queries.of(Ragged.empty(0)), np.empty(0, np.int32)).shape == (0,)

    def test_items_without_events(self, fitted: Any) -> None:
        train = self.world.split.train
        cold = np.flatnonzero(train.item_counts == 0).astype(np.int32)
        assert len(cold), "the world has an item without events"
        queries = self.asked().queries.take(np.zeros(len(cold), np.int64))
        assert np.isfinite(fitted.predict(queries, cold)).all()

    def test_asking_does_not_touch_the_question(self, fitted: Any) -> None:
        asked = self.asked()
        before = [a.copy() for a in (asked.queries.users, asked.queries.history.values, asked.queries.history_values)]
        fitted.predict(asked.queries, asked.truth.values)
        after = (asked.queries.users, asked.queries.history.values, asked.queries.history_values)
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))

    def test_finds_the_known_answer(self, fitted: Any) -> None:
        found = rmse(fitted, self.world.split.test)
        assert found <= self.expected, f"RMSE {found:.4f}"
        assert found > self.world.noise * 0.8, "better than the noise allows: it has seen the answers"

    def test_values_that_mean_nothing_teach_nothing(self) -> None:
        """Fitted to shuffled values it does no better than the mean."""
        split = self.world.split
        mixed = np.random.default_rng(0).permutation(split.train.events["value"].to_numpy())
        train = split.train.with_events(split.train.events.with_columns(pl.Series("value", mixed)))
        asked = split.test.single()
        floor = float(np.std(np.asarray(asked.values)))
        assert rmse(self.fit(train=train, valid=None), split.test) > 0.9 * floor

    def test_predicts_clicks(self, clicking: Any) -> None:
        split = as_clicks(self.world.split, self.world.threshold)
        asked = split.test.single()
        chances = clicking.predict(asked.queries, asked.truth.values)
        assert chances.dtype == np.float32
        assert chances.min() >= 0
        assert chances.max() <= 1
        found = area(clicking, split.test)
        assert found >= self.expected_auc, f"AUC {found:.4f}"
        # Chances, not scores: what is given .8 happens about so often.
        for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
            some = (chances >= low) & (chances <= high)
            if some.sum() >= 100:
                assert abs(chances[some].mean() - np.asarray(asked.values)[some].mean()) < 0.12

    @pytest.mark.assets
    def test_reaches_its_floors_on_real_data(self, request: pytest.FixtureRequest) -> None:
        if self.floor is None or self.floor_auc is None:
            pytest.skip("states no floor")
        split: Split = request.getfixturevalue("ml100k_ratings")
        config = self.component.Config.model_validate(self.floor_configs)
        for part, measure, wanted, sign in (
            (split, rmse, self.floor, -1),
            (as_clicks(split, 4.0), area, self.floor_auc, 1),
        ):
            component: Any = self.make(config).fit(part.train, valid=part.valid, rng=np.random.default_rng(0))
            found = measure(component, part.test)
            assert sign * found >= sign * wanted, f"{measure.__name__} is {found:.4f}, the floor is {wanted}"
