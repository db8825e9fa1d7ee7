"""The contract of what scores the whole catalogue, and so retrieves and ranks."""

from __future__ import annotations

from typing import Any

import numpy as np

from llm4rec.core import Lists, Queries, Ragged, Ranker, Scorer
from tests.contracts.agreement import assert_same_lists
from tests.contracts.retriever import RetrieverContract


class ScoringContract(RetrieverContract):
    """A scorer: float32[n, n_items], and retrieving and ranking agree with it."""

    def some_candidates(self, n: int, width: int = 7, *, seed: int = 5) -> Lists:
        """Return random candidate lists of different lengths, in random order."""
        rng = np.random.default_rng(seed)
        items = np.stack([rng.choice(self.n_items, size=width, replace=False) for _ in range(n)]).astype(np.int32)
        items[np.arange(width) >= rng.integers(1, width + 1, size=n)[:, None]] = -1
        scores = np.where(items < 0, np.nan, -np.arange(width, dtype=np.float32))
        return Lists(items, scores)

    def test_scores_are_float32_of_the_catalogue(self, fitted: Any) -> None:
        queries = self.world.split.test.queries
        scores = fitted.score(queries)
        assert isinstance(fitted, Scorer)
        assert scores.dtype == np.float32
        assert scores.shape == (len(queries), self.n_items)
        assert not np.isnan(scores).any()
        assert not np.isposinf(scores).any()

    def test_scores_of_no_queries(self, fitted: Any) -> None:
        assert fitted.score(Queries.of(Ragged.empty(0))).shape == (0, self.n_items)

    def test_retrieving_agrees_with_scoring(self, fitted: Any) -> None:
        cases = self.world.split.test
        wanted = Lists.from_scores(fitted.score(cases.queries), 10, exclude=cases.exclude("seen"))
        assert_same_lists(self.ask(fitted), wanted)

    def test_small_batches_change_nothing(self, fitted: Any) -> None:
        whole = self.ask(fitted)
        fitted.batch = 7  # on the instance; the class keeps its own
        try:
            assert_same_lists(self.ask(fitted), whole)
        finally:
            del fitted.batch

    def test_is_a_ranker_that_permutes(self, fitted: Any) -> None:
        queries = self.world.split.test.queries
        candidates = self.some_candidates(len(queries))
        ranked = fitted.rank(queries, candidates)
        assert isinstance(fitted, Ranker)
        ranked.check(self.n_items)
        assert np.array_equal(np.sort(ranked.items, axis=1), np.sort(candidates.items, axis=1))

    def test_ranking_agrees_with_scoring(self, fitted: Any) -> None:
        queries = self.world.split.test.queries
        ranked = fitted.rank(queries, self.some_candidates(len(queries)))
        scores = np.take_along_axis(fitted.score(queries), np.maximum(ranked.items, 0), axis=1)
        held = ranked.items >= 0
        finite = held & np.isfinite(scores)
        np.testing.assert_allclose(ranked.scores[finite], scores[finite], rtol=1e-4, atol=1e-5)

    def test_order_of_candidates_does_not_matter(self, fitted: Any) -> None:
        queries = self.world.split.test.queries
        candidates = self.some_candidates(len(queries))
        turned = Lists.from_pools(candidates.items, np.where(candidates.items < 0, np.nan, -candidates.scores))
        assert_same_lists(fitted.rank(queries, turned), fitted.rank(queries, candidates))

    def test_ranking_no_candidates(self, fitted: Any) -> None:
        queries = self.world.split.test.queries.take(np.arange(3))
        assert (fitted.rank(queries, Lists.empty(3, 4)).lengths == 0).all()
        assert len(fitted.rank(queries.take(np.arange(0)), Lists.empty(0, 4))) == 0
