"""The contract of what puts given candidates in order."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from llm4rec.core import Cases, Lists, Ranker
from tests.contracts.agreement import assert_same_lists
from tests.contracts.component import ComponentContract


class RankerContract(ComponentContract):
    """A ranker: a new order of the candidates; what is missing is told in the notes."""

    #: Cases that are asked, and candidates of each.
    n_cases: ClassVar[int] = 6
    n_candidates: ClassVar[int] = 8
    #: True if the order of the candidates may change the result (position bias is then measured elsewhere).
    order_matters: ClassVar[bool] = False
    #: True if the place of a case in the batch may change the result.
    batch_matters: ClassVar[bool] = False

    @property
    def cases(self) -> Cases:
        return self.world.split.test.take(np.arange(self.n_cases))

    def candidates(self, *, seed: int = 0) -> Lists:
        """Return unseen items in random order with the truth among them; the last list is two shorter."""
        rng = np.random.default_rng(seed)
        everything = np.arange(self.world.split.train.n_items)
        rows = []
        for truth, seen in zip(self.cases.truth, self.cases.seen, strict=True):
            others = rng.permutation(np.setdiff1d(everything, np.concatenate([truth, seen])))
            rows.append(rng.permutation(np.concatenate([truth, others])[: self.n_candidates]))
        items = np.stack(rows).astype(np.int32)
        items[-1, -2:] = -1
        scores = np.where(items < 0, np.nan, -np.arange(self.n_candidates, dtype=np.float32))
        return Lists(items, scores)

    def answer(self, component: Any) -> Lists:
        return component.rank(self.cases.queries, self.candidates())

    def test_is_a_ranker(self, fitted: Any) -> None:
        assert isinstance(fitted, Ranker)

    def test_ranks_the_candidates_and_nothing_else(self, fitted: Any) -> None:
        candidates, ranked = self.candidates(), self.answer(fitted)
        ranked.check(self.world.split.train.n_items)
        assert len(ranked) == len(candidates)
        for row, (asked, got) in enumerate(zip(candidates.to_ragged(), ranked.to_ragged(), strict=True)):
            assert set(got.tolist()) <= set(asked.tolist()), f"row {row}: an item that was no candidate"
            told = set() if ranked.notes is None else set(ranked.notes[row].dropped)
            missing = set(asked.tolist()) - set(got.tolist())
            assert missing <= told, f"row {row}: {sorted(missing - told)} were dropped without a word"
            assert told <= set(asked.tolist()), f"row {row}: tells of items that were no candidates"

    def test_one_at_a_time_equals_the_batch(self, fitted: Any) -> None:
        if self.batch_matters:
            pytest.skip("declares that the batch matters")
        candidates, together = self.candidates(), self.answer(fitted)
        for row in range(self.n_cases):
            one = np.array([row])
            assert_same_lists(fitted.rank(self.cases.queries.take(one), candidates.take(one)), together.take(one))

    def test_order_of_cases_does_not_matter(self, fitted: Any) -> None:
        if self.batch_matters:
            pytest.skip("declares that the batch matters")
        order = np.random.default_rng(7).permutation(self.n_cases)
        shuffled = fitted.rank(self.cases.queries.take(order), self.candidates().take(order))
        assert_same_lists(shuffled, self.answer(fitted).take(order))

    def test_order_of_candidates_does_not_matter_unless_declared(self, fitted: Any) -> None:
        if self.order_matters:
            pytest.skip("declares that the order of candidates matters")
        candidates = self.candidates()
        turned = Lists.from_pools(candidates.items, np.where(candidates.items < 0, np.nan, -candidates.scores))
        assert_same_lists(fitted.rank(self.cases.queries, turned), self.answer(fitted))

    def test_no_candidates(self, fitted: Any) -> None:
        ranked = fitted.rank(self.cases.queries, Lists.empty(self.n_cases, self.n_candidates))
        assert len(ranked) == self.n_cases
        assert (ranked.lengths == 0).all()

    def test_one_candidate(self, fitted: Any) -> None:
        ranked = fitted.rank(self.cases.queries, self.candidates().head(1))
        ranked.check(self.world.split.train.n_items)
        assert len(ranked) == self.n_cases

    def test_no_cases(self, fitted: Any) -> None:
        nobody = np.arange(0)
        assert len(fitted.rank(self.cases.queries.take(nobody), Lists.empty(0, self.n_candidates))) == 0

    def test_candidates_are_not_touched(self, fitted: Any) -> None:
        candidates = self.candidates()
        items, scores = candidates.items.copy(), candidates.scores.copy()
        fitted.rank(self.cases.queries, candidates)
        assert np.array_equal(candidates.items, items)
        assert np.array_equal(candidates.scores, scores, equal_nan=True)
