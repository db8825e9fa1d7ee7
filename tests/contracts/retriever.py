"""The contract of what finds items in the catalogue."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from llm4rec.core import Lists, Queries, Ragged, Retriever, Split
from tests.contracts.agreement import assert_same_lists
from tests.contracts.component import ComponentContract
from tests.contracts.evaluation import mean_metric, recall


class RetrieverContract(ComponentContract):
    """A retriever: lists of the asked length, by the rules, the same in every batch."""

    #: Recall at ``world.k`` that it reaches there; None: what the world expects of a correct model.
    expected: ClassVar[float | None] = None
    #: (metric, value) reached on MovieLens-100K: five-core, leave-one-out, full ranking, seen masked.
    floor: ClassVar[tuple[str, float] | None] = None
    #: Parameters there, and the seeds whose mean counts.
    floor_configs: ClassVar[dict[str, Any]] = {}
    floor_seeds: ClassVar[tuple[int, ...]] = (0,)
    #: False for approximate search and fusion, where a longer list may start otherwise.
    exact: ClassVar[bool] = True

    @property
    def n_items(self) -> int:
        return self.world.split.train.n_items

    def ask(self, component: Any, k: int = 10) -> Lists:
        cases = self.world.split.test
        return component.retrieve(cases.queries, k, exclude=cases.exclude("seen"))

    def test_is_a_retriever(self, fitted: Any) -> None:
        assert isinstance(fitted, Retriever)

    def test_keeps_the_rules_of_lists(self, fitted: Any) -> None:
        cases = self.world.split.test
        lists = self.ask(fitted)
        assert lists.items.shape == (len(cases), 10)
        lists.check(self.n_items, exclude=cases.exclude("seen"))

    def test_recovers_the_known_answer(self, fitted: Any) -> None:
        expected = self.world.expected if self.expected is None else self.expected
        assert expected > self.world.chance, "a floor at chance shows nothing"
        assert recall(self.ask(fitted), self.world.split.test, self.world.k) >= expected - 1e-9

    def test_one_at_a_time_equals_the_batch(self, fitted: Any) -> None:
        cases = self.world.split.test
        together = self.ask(fitted)
        for row in range(min(5, len(cases))):
            one = cases.take(np.array([row]))
            alone = fitted.retrieve(one.queries, 10, exclude=one.exclude("seen"))
            assert_same_lists(alone, together.take(np.array([row])))

    def test_order_of_cases_does_not_matter(self, fitted: Any) -> None:
        cases = self.world.split.test
        order = np.random.default_rng(7).permutation(len(cases))
        shuffled = cases.take(order)
        lists = fitted.retrieve(shuffled.queries, 10, exclude=shuffled.exclude("seen"))
        assert_same_lists(lists, self.ask(fitted).take(order))

    def test_exclusion_costs_no_places(self, fitted: Any) -> None:
        """With all but 6 items excluded at random, a list of 6 holds exactly those."""
        queries = self.world.split.test.queries
        rng = np.random.default_rng(3)
        keep = np.stack([rng.choice(self.n_items, size=6, replace=False) for _ in range(len(queries))])
        exclude = Ragged.of([np.setdiff1d(np.arange(self.n_items), row) for row in keep])
        lists = fitted.retrieve(queries, 6, exclude=exclude)
        lists.check(self.n_items, exclude=exclude)
        assert np.array_equal(np.sort(lists.items, axis=1), np.sort(keep, axis=1))

    def test_everything_excluded_gives_empty_lists(self, fitted: Any) -> None:
        queries = self.world.split.test.queries.take(np.arange(3))
        lists = fitted.retrieve(queries, 4, exclude=Ragged.of([np.arange(self.n_items)] * 3))
        assert lists.items.shape == (3, 4)
        assert (lists.lengths == 0).all()

    def test_k_beyond_the_catalogue(self, fitted: Any) -> None:
        queries = self.world.split.test.queries
        lists = fitted.retrieve(queries, self.n_items + 7, exclude=Ragged.empty(len(queries)))
        lists.check(self.n_items)
        assert lists.k == self.n_items + 7
        assert (lists.lengths == self.n_items).all()

    def test_a_longer_list_starts_with_the_shorter(self, fitted: Any) -> None:
        if not self.exact:
            pytest.skip("declares that it is not exact")
        assert_same_lists(self.ask(fitted, 15).head(10), self.ask(fitted, 10))

    def test_unknown_users_without_history(self, fitted: Any) -> None:
        lists = fitted.retrieve(Queries.of(Ragged.empty(3)), 5, exclude=Ragged.empty(3))
        lists.check(self.n_items)
        assert len(lists) == 3
        assert (lists.items == lists.items[:1]).all(), "equal questions, different answers"

    def test_unknown_users_with_history(self, fitted: Any) -> None:
        known = self.world.split.test.queries.take(np.arange(4))
        unknown = Queries(np.full(4, -1), known.history, known.times, known.history_times, known.history_behaviors)
        lists = fitted.retrieve(unknown, 5, exclude=known.history)
        lists.check(self.n_items, exclude=known.history)

    def test_empty_batch(self, fitted: Any) -> None:
        lists = fitted.retrieve(Queries.of(Ragged.empty(0)), 5, exclude=Ragged.empty(0))
        assert lists.items.shape == (0, 5)

    def test_asking_does_not_touch_the_question(self, fitted: Any) -> None:
        cases = self.world.split.test
        before = [a.copy() for a in (cases.queries.users, cases.queries.history.values, cases.seen.values)]
        self.ask(fitted)
        after = (cases.queries.users, cases.queries.history.values, cases.seen.values)
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))

    @pytest.mark.assets
    def test_reaches_its_floor_on_real_data(self, request: pytest.FixtureRequest) -> None:
        if self.floor is None:
            pytest.skip("states no floor")
        metric, floor = self.floor
        split: Split = request.getfixturevalue("ml100k_split")
        values = []
        for seed in self.floor_seeds:
            component: Any = self.make(self.component.Config.model_validate(self.floor_configs))
            component.fit(split.train, valid=split.valid, rng=np.random.default_rng(seed))
            values.append(mean_metric(component, split.test, metric))
        assert np.mean(values) >= floor, f"{metric} is {np.mean(values):.4f} ({values}), the floor is {floor}"
