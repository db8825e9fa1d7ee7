"""The contracts hold for correct components, and each of their tests fails for a wrong one."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from llm4rec.core import (
    Cases,
    Claim,
    Component,
    Config,
    Dataset,
    Explanation,
    Lists,
    Note,
    Queries,
    Ragged,
    ScoringComponent,
)
from tests import worlds
from tests.contracts import AugmenterContract, ExplainerContract, RankerContract, ScoringContract


class NeighbourConfig(Config):
    """Parameters of the reference component."""

    power: float = 1.0
    """Exponent of the co-occurrence counts."""


class Neighbour(ScoringComponent[NeighbourConfig]):
    """Scores an item by how often it was touched together with those of the history."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Neighbour:
        m = train.matrix().toarray()
        self.weights_ = ((m.T @ m) ** self.config.power).astype(np.float32)
        return self

    def score(self, queries: Queries) -> np.ndarray:
        x = np.zeros((len(queries), len(self.weights_)), np.float32)
        x[queries.history.rows, queries.history.values] = 1.0
        return np.asarray(x @ self.weights_)


class TestNeighbour(ScoringContract):
    component = Neighbour


class NeighbourRanker(Neighbour):
    """The same, asked as a ranker that drops what scores nothing and says so."""

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        full = super().rank(queries, candidates)
        keep = full.scores > 0
        notes = tuple(
            Note(dropped=dict.fromkeys(full.items[i][(full.items[i] >= 0) & ~keep[i]].tolist(), "scores nothing"))
            for i in range(len(full))
        )
        return dataclasses.replace(Lists.from_pools(np.where(keep, full.items, -1), full.scores), notes=notes)


class TestNeighbourRanker(RankerContract):
    component = NeighbourRanker


class Because(Component[NeighbourConfig]):
    """Explains by the last item of the history and the genre."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Because:
        self.genres_ = train.item_table["genres"].to_list()
        return self

    def explain(self, queries: Queries, lists: Lists) -> list[tuple[Explanation, ...]]:
        out = []
        for history, row in zip(queries.history, lists.to_ragged(), strict=True):
            told = []
            for item in row.tolist():
                claims = [Claim("attribute", attribute="genres", value=self.genres_[item], span=(0, 5))]
                if len(history):
                    claims.append(Claim("history", item=int(history[-1])))
                told.append(Explanation(item, "It is what you like.", tuple(claims)))
            out.append(tuple(told))
        return out


class TestBecause(ExplainerContract):
    component = Because


class Topical(Component[NeighbourConfig]):
    """Adds how often an item was touched early on, and tells of the last item of the history."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Topical:
        self.titles_ = train.item_table["title"].to_list()
        self.notes_ = [f"item of {title}" for title in self.titles_]
        return self

    def augment(self, dataset: Dataset) -> Dataset:
        column = pl.Series("notes", self.notes_)
        return dataclasses.replace(dataset, item_table=dataset.item_table.with_columns(column))

    def enrich(self, queries: Queries) -> Queries:
        before = queries.profiles or ("",) * len(queries)
        last = [self.titles_[int(row[-1])] if len(row) else "nothing" for row in queries.history]
        return dataclasses.replace(queries, profiles=tuple(f"{b} {x}".strip() for b, x in zip(before, last, strict=True)))


class TestTopical(AugmenterContract):
    component = Topical


# -- a wrong component fails ---------------------------------------------------------------
class Leaky(Neighbour):
    """Adds the number of the row in the batch to the scores."""

    def score(self, queries: Queries) -> np.ndarray:
        scores = super().score(queries)
        rows = np.arange(len(queries))
        scores[rows, rows % scores.shape[1]] += 100
        return scores


class Writing(Neighbour):
    """Writes to the histories it was given."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Writing:
        super().fit(train, valid=valid, rng=rng)
        values = train.histories.items.values
        values.setflags(write=True)
        values[0] = (values[0] + 1) % train.n_items
        return self


class Careless(Neighbour):
    """Ignores the exclusion."""

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        return Lists.from_scores(self.score(queries), k)


class Short(Neighbour):
    """Takes the best k first and excludes afterwards, so that places are lost."""

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        best = Lists.from_scores(self.score(queries), k)
        gone = exclude.contains(best.items, len(self.weights_))
        return Lists.from_pools(np.where(gone, -1, best.items), best.scores, k)


class Random(Neighbour):
    """Knows nothing, and lies about the seed."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Random:
        w = rng.random((train.n_items, train.n_items))
        self.weights_ = w.astype(np.float32)
        return self


class Peeking(Neighbour):
    """Learns from the validation answers without saying so."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Peeking:
        super().fit(train, valid=valid, rng=rng)
        if valid is not None:
            self.weights_[:, valid.truth.values] += 5
        return self


class Forgetful(Neighbour):
    """Keeps what it learnt where ``save`` does not look."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Forgetful:
        super().fit(train, valid=valid, rng=rng)
        self.bonus = np.arange(train.n_items, dtype=np.float32) * 100
        return self

    def score(self, queries: Queries) -> np.ndarray:
        return super().score(queries) + getattr(self, "bonus", 0)


class Double(Neighbour):
    """Scores in float64."""

    def score(self, queries: Queries) -> np.ndarray:
        return super().score(queries).astype(np.float64)


class UnknownConfig(Config):
    power: float
    steps: int = 3


class Undocumented(Component[UnknownConfig]):
    """Its parameters have no description."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Undocumented:
        return self


class Inventing(NeighbourRanker):
    """Puts an item in the list that was no candidate."""

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        ranked = super().rank(queries, candidates)
        items = ranked.items.copy()
        items[:, 0] = np.where(items[:, 0] >= 0, np.setdiff1d(np.arange(len(self.weights_)), candidates.items)[0], -1)
        return dataclasses.replace(ranked, items=items)


class Silent(NeighbourRanker):
    """Drops candidates without a word."""

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        return dataclasses.replace(super().rank(queries, candidates), notes=None)


class Positional(NeighbourRanker):
    """Ranks by the place of the candidate."""

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        return candidates


class Lying(Because):
    """Claims that the user has touched the item it recommends."""

    def explain(self, queries: Queries, lists: Lists) -> list[tuple[Explanation, ...]]:
        return [
            tuple(dataclasses.replace(e, claims=(*e.claims, Claim("history", item=e.item))) for e in row)
            for row in super().explain(queries, lists)
        ]


class Skipping(Because):
    """Explains all but the last item."""

    def explain(self, queries: Queries, lists: Lists) -> list[tuple[Explanation, ...]]:
        return [row[:-1] for row in super().explain(queries, lists)]


class Foreseeing(Topical):
    """Adds the number of all events, also of those after the query."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Foreseeing:
        super().fit(train, valid=valid, rng=rng)
        self.notes_ = [f"touched {n} times" for n in train.item_counts.tolist()]
        return self


class Rewriting(Topical):
    """Writes over a column, and drops the oldest event of each history."""

    def augment(self, dataset: Dataset) -> Dataset:
        titles = pl.Series("title", self.notes_)
        return dataclasses.replace(super().augment(dataset), item_table=dataset.item_table.with_columns(titles, notes=titles))

    def enrich(self, queries: Queries) -> Queries:
        longest = max(1, int(queries.history.lengths.max(initial=0)) - 1)
        return Queries(queries.users, queries.history.last(longest), queries.times, profiles=super().enrich(queries).profiles)


class Counting(Topical):
    """Tells each user the place in the batch."""

    def enrich(self, queries: Queries) -> Queries:
        return dataclasses.replace(queries, profiles=tuple(f"number {row}" for row in range(len(queries))))


class Idle(Topical):
    """Adds nothing."""

    def augment(self, dataset: Dataset) -> Dataset:
        return dataset

    def enrich(self, queries: Queries) -> Queries:
        return queries


def _run(contract: type, component: type, test: str, tmp_path: Any, **attributes: Any) -> None:
    case = type("Case", (contract,), {"component": component, **attributes})()
    method = getattr(case, test)
    names = method.__func__.__code__.co_varnames[1 : method.__func__.__code__.co_argcount]
    method(**{n: tmp_path if n == "tmp_path" else case.fit() for n in names})


WRONG: list[tuple[type, type, str]] = [
    (ScoringContract, Leaky, "test_one_at_a_time_equals_the_batch"),
    (ScoringContract, Leaky, "test_order_of_cases_does_not_matter"),
    (ScoringContract, Leaky, "test_small_batches_change_nothing"),
    (ScoringContract, Careless, "test_keeps_the_rules_of_lists"),
    (ScoringContract, Careless, "test_everything_excluded_gives_empty_lists"),
    (ScoringContract, Careless, "test_retrieving_agrees_with_scoring"),
    (ScoringContract, Short, "test_exclusion_costs_no_places"),
    (ScoringContract, Short, "test_a_longer_list_starts_with_the_shorter"),
    (ScoringContract, Random, "test_recovers_the_known_answer"),
    (ScoringContract, Random, "test_other_seed_same_answer_if_deterministic"),
    (ScoringContract, Peeking, "test_validation_answers_do_not_matter_unless_declared"),
    (ScoringContract, Forgetful, "test_save_and_load_give_the_same_answer"),
    (ScoringContract, Double, "test_scores_are_float32_of_the_catalogue"),
    (ScoringContract, Undocumented, "test_config_states_each_parameter_once_with_its_meaning"),
    (RankerContract, Inventing, "test_ranks_the_candidates_and_nothing_else"),
    (RankerContract, Silent, "test_ranks_the_candidates_and_nothing_else"),
    (RankerContract, Positional, "test_order_of_candidates_does_not_matter_unless_declared"),
    (ExplainerContract, Lying, "test_claims_are_true"),
    (ExplainerContract, Skipping, "test_explains_each_item_in_order"),
    (AugmenterContract, Foreseeing, "test_nothing_comes_from_the_time_of_the_query_or_later"),
    (AugmenterContract, Rewriting, "test_the_rest_of_the_data_is_as_it_was"),
    (AugmenterContract, Rewriting, "test_the_rest_of_the_queries_is_as_it_was"),
    (AugmenterContract, Counting, "test_the_rest_of_the_queries_is_as_it_was"),
    (AugmenterContract, Counting, "test_one_at_a_time_equals_the_batch"),
    (AugmenterContract, Counting, "test_order_of_queries_does_not_matter"),
    (AugmenterContract, Idle, "test_is_an_augmenter_that_adds"),
]


@pytest.mark.parametrize(("contract", "component", "test"), WRONG, ids=[f"{c.__name__}-{t}" for _, c, t in WRONG])
def test_a_wrong_component_fails(contract: type, component: type, test: str, tmp_path: Any) -> None:
    with pytest.raises(AssertionError if component is not Careless else (AssertionError, ValueError)):
        _run(contract, component, test, tmp_path)


def test_writing_to_the_data_is_noticed(tmp_path: Any) -> None:
    """On a world of its own: the component spoils it, and numpy may refuse where polars owns the memory."""
    with pytest.raises((AssertionError, ValueError)):
        _run(
            ScoringContract,
            Writing,
            "test_fit_does_not_touch_the_data",
            tmp_path,
            world=worlds.checkerboard.__wrapped__(seed=9),
        )


class Pickling(Neighbour):
    """Saves a pickle beside the arrays."""

    name: ClassVar[str] = "pickling"

    def save(self, folder: Any) -> None:
        import pickle

        super().save(folder)
        (folder / "more.dat").write_bytes(pickle.dumps({"a": 1}))


def test_a_pickle_is_noticed(tmp_path: Any) -> None:
    with pytest.raises(AssertionError, match="is a pickle"):
        _run(ScoringContract, Pickling, "test_save_and_load_give_the_same_answer", tmp_path)


# -- the worlds state the truth about themselves -----------------------------------------------
@pytest.mark.parametrize("make", worlds.WORLDS, ids=lambda f: f.__name__)
def test_worlds_are_what_they_say(make: Any) -> None:
    world = make()
    split = world.split
    for cases in (split.valid, split.test):
        assert len(cases)
        assert not cases.seen.contains(cases.truth.padded(8), split.train.n_items)[cases.truth.padded(8) >= 0].any()
    train = split.train.events
    pairs = set(zip(train["user"].to_list(), train["item"].to_list(), strict=True))
    asked = {(u, i) for u, t in zip(split.test.queries.users.tolist(), split.test.truth, strict=True) for i in t.tolist()}
    assert not pairs & asked, "the training part holds an answer"
    assert 0 < world.chance < world.expected <= 1
    assert make() is world, "one world for all tests"
