"""The contract of what says why items were recommended."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from llm4rec.core import Cases, Claim, Dataset, Explainer, Explanation, Lists, Queries
from llm4rec.prompted.explain.evaluate import explanation_metrics
from tests.contracts.component import ComponentContract


def assert_true_claim(claim: Claim, item: int, history: set[int], dataset: Dataset) -> None:
    """Assert that a claim cites what the user has touched and what the catalogue says."""
    assert claim.kind in {"history", "attribute", "shared", "count"}
    if claim.kind == "count":
        having = [i for i in history if claim.value in str(dataset.item_table[claim.attribute][i])]
        assert claim.operator == "count="
        assert claim.count == len(having), f"claims {claim.count} of {having}"
        return
    if claim.kind in {"history", "shared"}:
        assert claim.item is not None, "a claim about the history cites no item"
        assert claim.item in history, f"claims that the user has touched {claim.item}"
    if claim.kind in {"attribute", "shared"}:
        assert claim.attribute in dataset.item_table.columns, f"claims an unknown attribute {claim.attribute!r}"
        assert claim.value, "a claim about an attribute states no value"
        for about in [item] + ([claim.item] if claim.kind == "shared" and claim.item is not None else []):
            cell = dataset.item_table[claim.attribute][about]
            words = [str(c) for c in cell] if isinstance(cell, list) or hasattr(cell, "to_list") else str(cell)
            assert str(claim.value) in words, f"claims {claim.attribute} = {claim.value!r} of an item with {cell!r}"


class ExplainerContract(ComponentContract):
    """An explainer: one explanation for each item in order; claims that can be checked."""

    n_cases: ClassVar[int] = 3
    n_listed: ClassVar[int] = 4

    @property
    def cases(self) -> Cases:
        return self.world.split.test.take(np.arange(self.n_cases))

    def lists(self) -> Lists:
        """Return lists with the truth first and unseen items behind it; the last list is one shorter."""
        everything = np.arange(self.world.split.train.n_items)
        rows = [
            np.concatenate([truth, np.setdiff1d(everything, np.concatenate([truth, seen]))])[: self.n_listed]
            for truth, seen in zip(self.cases.truth, self.cases.seen, strict=True)
        ]
        items = np.stack(rows).astype(np.int32)
        items[-1, -1] = -1
        return Lists(items, np.where(items < 0, np.nan, -np.arange(self.n_listed, dtype=np.float32)))

    def answer(self, component: Any) -> Lists:
        """Return the explanations in the form of lists: an item's score says whether it could be explained."""
        explained = component.explain(self.cases.queries, self.lists())
        items = np.full((self.n_cases, self.n_listed), -1, np.int32)
        for row, explanations in enumerate(explained):
            items[row, : len(explanations)] = [e.item for e in explanations]
        return Lists(items, np.where(items < 0, np.nan, 0.0).astype(np.float32))

    def explained(self, component: Any) -> list[tuple[Explanation, ...]]:
        return list(component.explain(self.cases.queries, self.lists()))

    def test_is_an_explainer(self, fitted: Any) -> None:
        assert isinstance(fitted, Explainer)

    def test_explains_each_item_in_order(self, fitted: Any) -> None:
        explained = self.explained(fitted)
        assert [[e.item for e in row] for row in explained] == self.lists().to_ragged().tolist()

    def test_says_something_or_says_why_not(self, fitted: Any) -> None:
        for explanation in (e for row in self.explained(fitted) for e in row):
            assert explanation.sentence.strip() or explanation.failure, "neither a sentence nor a failure"

    def test_claims_are_true(self, fitted: Any) -> None:
        dataset = self.world.split.train
        for history, row in zip(self.cases.queries.history, self.explained(fitted), strict=True):
            for explanation in row:
                for claim in explanation.claims:
                    assert_true_claim(claim, explanation.item, set(history.tolist()), dataset)

    def test_spans_lie_within_the_sentence(self, fitted: Any) -> None:
        for explanation in (e for row in self.explained(fitted) for e in row):
            for start, end in (c.span for c in explanation.claims if c.span is not None):
                assert 0 <= start < end <= len(explanation.sentence)

    def test_one_at_a_time_equals_the_batch(self, fitted: Any) -> None:
        lists, together = self.lists(), self.explained(fitted)
        for row in range(self.n_cases):
            one = np.array([row])
            alone = list(fitted.explain(self.cases.queries.take(one), lists.take(one)))
            assert [(e.item, e.sentence, e.claims) for e in alone[0]] == [(e.item, e.sentence, e.claims) for e in together[row]]

    def test_same_seed_same_sentences(self, fitted: Any) -> None:
        assert [[e.sentence for e in row] for row in self.explained(self.fit())] == [
            [e.sentence for e in row] for row in self.explained(fitted)
        ]

    def test_without_history(self, fitted: Any) -> None:
        queries = self.cases.queries
        nobody = Queries(np.full(self.n_cases, -1), queries.history.last(0), queries.times)
        for row in fitted.explain(nobody, self.lists()):
            for explanation in row:
                assert not [c for c in explanation.claims if c.kind in {"history", "shared"}]

    def test_empty_lists_and_no_cases(self, fitted: Any) -> None:
        assert [len(row) for row in fitted.explain(self.cases.queries, Lists.empty(self.n_cases, 4))] == [0] * self.n_cases
        assert list(fitted.explain(self.cases.queries.take(np.arange(0)), Lists.empty(0, 4))) == []


class GroundedContract(ExplainerContract):
    """An explainer whose sentences state their claims: they hold before the check of anybody's explanations."""

    def test_nothing_is_named_but_what_is_claimed(self, fitted: Any) -> None:
        found = explanation_metrics(
            self.explained(fitted),
            self.cases.queries,
            self.world.split.train,
            config=fitted.config,
            rng=np.random.default_rng(0),
        )
        assert found.records
        for record in found.records:
            assert set(record.verdict.outcomes) <= {"true"}
            assert record.verdict.unsupported == ()
