"""The pipeline: the retriever's contract, and what its stages may and may not do."""
# ruff: noqa: RUF012 (the hooks of a contract are class attributes)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import Component, Lists, NotFittedError, Ragged, Retriever, RunError, SpecError
from llm4rec.models.ease import EASE, EASEConfig
from llm4rec.models.item_knn import ItemKNN
from llm4rec.models.popular import Popular
from llm4rec.pipeline import Pipeline, PipelineConfig
from llm4rec.prompted import EvidenceExplainer, EvidenceExplainerConfig
from tests.contracts import RetrieverContract, assert_same_lists
from tests.contracts.evaluation import mean_metric, recall
from tests.pipeline.parts import N_ITEMS, SPLIT, Counting, Explains, forgetful, identity, oracle, reverse

CASES = SPLIT.test
EXCLUDE = CASES.exclude("seen")


def fitted(pipeline: Pipeline, seed: int = 0) -> Pipeline:
    return pipeline.fit(SPLIT.train, valid=SPLIT.valid, rng=np.random.default_rng(seed))


class PipelineContract(RetrieverContract):
    component = Pipeline
    saves = False  # a pipeline is loaded into its parts: see below
    exact = False  # with more places the retrievers give more candidates, and fusion sees other ranks


class TestSingleRetriever(PipelineContract):
    exact = True

    def make(self, config: Any) -> Component[Any]:
        return Pipeline({"ease": EASE()}, config=config)


class TestFusionAndRankers(PipelineContract):
    configs = {"candidates": 30, "fusion": "weighted", "fusion_weights": [1.0, 0.2], "depth": [6, 4], "weight": [0.5, 1.0]}

    def make(self, config: Any) -> Component[Any]:
        two = {"ease": EASE(), "popular": Popular()}
        return Pipeline(two, [ItemKNN(), EASE()] if config.weight != 1.0 else [], config=config)


class TestAutomaticWeight(PipelineContract):
    configs = {"weight": "auto", "depth": 32, "tuning_cases": 20}
    uses_valid = True

    def make(self, config: Any) -> Component[Any]:
        return Pipeline({"popular": Popular()}, [ItemKNN()], config=config)

    def test_recovers_the_known_answer(self, fitted: Any) -> None:
        """Popularity knows nothing here, so the ranker gets a say, and then the list is right."""
        assert fitted.facts()["weights"]["ItemKNN"] > 0.0
        assert recall(self.ask(fitted), self.world.split.test, self.world.k) == 1.0

    def test_fits_without_validation_cases(self) -> None:
        with pytest.raises(SpecError, match="weight: an automatic weight needs validation cases"):
            self.fit(valid=None)


class TestAutomaticFusion(PipelineContract):
    configs = {"fusion_weights": "auto", "tuning_cases": 20}
    uses_valid = True

    def make(self, config: Any) -> Component[Any]:
        return Pipeline({"popular": Popular(), "knn": ItemKNN()}, config=config)

    def test_recovers_the_known_answer(self, fitted: Any) -> None:
        """Popularity knows nothing here, and equal ranks would let it into the list."""
        weights = fitted.facts()["fusion_weights"]
        assert weights["knn"] > weights["popular"]
        assert recall(self.ask(fitted), self.world.split.test, self.world.k) == 1.0

    def test_fits_without_validation_cases(self) -> None:
        with pytest.raises(SpecError, match="fusion_weights: an automatic weight needs validation cases"):
            self.fit(valid=None)


class TestNested(PipelineContract):
    def make(self, config: Any) -> Component[Any]:
        inner = Pipeline({"ease": EASE(), "knn": ItemKNN()}, [EASE()], config=PipelineConfig(depth=6))
        return Pipeline({"inner": inner, "knn": ItemKNN()}, config=config)


# -- what rankers may do ------------------------------------------------------------------
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 5), st.sampled_from([0.0, 0.3, 1.0]))
def test_never_excluded_never_twice(candidates: int, k: int, depth: int, keep: int, weight: float) -> None:
    config = PipelineConfig(candidates=candidates, depth=depth, weight=weight)
    pipeline = fitted(Pipeline({"a": Counting(), "b": Counting()}, [reverse(), forgetful(keep, tell=False)], config=config))
    trace = pipeline.run(CASES.queries, k, exclude=EXCLUDE)
    for stage in trace.stages:
        stage.lists.check(N_ITEMS, exclude=EXCLUDE)
    assert trace.lists.items.shape == (len(CASES), k)
    room = N_ITEMS - EXCLUDE.lengths
    assert (trace.lists.lengths == np.minimum(k, room)).all(), "exclusion or a ranker cost places"


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_a_ranker_that_changes_nothing_changes_nothing(weight: float) -> None:
    ease = EASE().fit(SPLIT.train, valid=None, rng=np.random.default_rng(0))
    plain = fitted(Pipeline({"ease": ease})).retrieve(CASES.queries, 10, exclude=EXCLUDE)
    ranked = fitted(Pipeline({"ease": ease}, [identity()], config=PipelineConfig(depth=5, weight=weight)))
    lists = ranked.retrieve(CASES.queries, 10, exclude=EXCLUDE)
    assert np.array_equal(lists.items, plain.items)
    assert lists.notes is None


def test_a_ranker_that_knows_the_truth_puts_it_first() -> None:
    truth = dict(zip(CASES.queries.users.tolist(), (int(t[0]) for t in CASES.truth), strict=True))
    pipeline = fitted(
        Pipeline({"random": Counting()}, [oracle(truth)], config=PipelineConfig(candidates=N_ITEMS, depth=N_ITEMS))
    )
    lists = pipeline.retrieve(CASES.queries, 5, exclude=EXCLUDE)
    assert lists.items[:, 0].tolist() == [truth[u] for u in CASES.queries.users.tolist()]


def test_a_ranker_gets_its_depth_and_no_more() -> None:
    ranker = reverse()
    pipeline = fitted(Pipeline({"random": Counting()}, [ranker], config=PipelineConfig(candidates=20, depth=6)))
    trace = pipeline.run(CASES.queries, 12, exclude=EXCLUDE)
    before, after = (stage.lists.items for stage in trace.stages)
    assert ranker.given[-1].k == 6
    assert np.array_equal(after[:, :6], before[:, :6][:, ::-1])
    assert np.array_equal(after[:, 6:], before[:, 6:])


@pytest.mark.parametrize(("omitted", "calls"), [("last", 0), ("drop", 1)])
def test_a_ranker_without_a_say_is_not_asked_when_serving(omitted: str, calls: int) -> None:
    ranker = forgetful(3, tell=False)
    config = PipelineConfig.model_validate({"weight": 0.0, "depth": 5, "omitted": omitted})
    pipeline = fitted(Pipeline({"ease": EASE()}, [ranker], config=config))
    before = len(ranker.given)
    served = pipeline.retrieve(CASES.queries, 10, exclude=EXCLUDE)
    assert len(ranker.given) - before == calls
    measured = pipeline.run(CASES.queries, 10, exclude=EXCLUDE)  # a run does ask, to diagnose it
    assert len(ranker.given) - before == calls + 1
    assert_same_lists(served, measured.lists)


def test_candidates_of_a_long_list_are_not_cut_at_the_number_of_candidates() -> None:
    pipeline = fitted(Pipeline({"random": Counting()}, config=PipelineConfig(candidates=3)))
    assert (pipeline.retrieve(CASES.queries, 9, exclude=EXCLUDE).lengths == 9).all()


def test_an_unreadable_answer_is_counted_and_leaves_the_order() -> None:
    plain = fitted(Pipeline({"random": Counting()}), seed=3).run(CASES.queries, 6, exclude=EXCLUDE)
    pipeline = fitted(Pipeline({"random": Counting()}, [forgetful(0, tell=True)], config=PipelineConfig(depth=4)), seed=3)
    trace = pipeline.run(CASES.queries, 6, exclude=EXCLUDE)
    assert len(plain.lists) == len(trace.lists)
    assert all(n.failures == ("shy",) + ("unranked_candidate",) * 4 for n in trace.stages[-1].notes)
    assert np.array_equal(trace.stages[0].lists.items, trace.stages[1].lists.items)


# -- parts that break the rules -----------------------------------------------------------
def test_a_retriever_that_ignores_exclude_is_caught_by_name() -> None:
    class Careless(Counting):
        def retrieve(self, queries: Any, k: int, *, exclude: Ragged) -> Lists:
            return super().retrieve(queries, k, exclude=Ragged.empty(len(queries)))

    pipeline = fitted(Pipeline({"good": Counting(), "careless": Careless()}))
    with pytest.raises(ValueError, match="retrieve:careless: a list holds an excluded item"):
        pipeline.run(CASES.queries, 10, exclude=EXCLUDE)


def test_a_ranker_that_makes_items_up_is_caught_by_name() -> None:
    from tests.pipeline.parts import Ranks

    inventive = Ranks(lambda queries, c: Lists(np.full_like(c.items, 3) * 0 + np.arange(c.k, dtype=np.int32), c.scores))
    pipeline = fitted(Pipeline({"random": Counting()}, [inventive]))
    with pytest.raises(ValueError, match=r"rank:Ranks: a ranker returned an item that it was not given"):
        pipeline.run(CASES.queries, 5, exclude=EXCLUDE)


# -- fitting ------------------------------------------------------------------------------
def test_parts_are_fitted_once_and_fitted_parts_are_left_alone() -> None:
    shared = Counting().fit(SPLIT.train, valid=None, rng=np.random.default_rng(9))
    order = shared.order_.copy()
    new = Counting()
    pipeline = fitted(Pipeline({"shared": shared, "new": new}, [new]))
    assert (shared.fits_, new.fits_) == (1, 1)
    assert np.array_equal(shared.order_, order)
    fitted(pipeline)
    assert (shared.fits_, new.fits_) == (1, 2), "a second fit is for the pipeline's own parts"
    fitted(Pipeline({"new": new}))
    assert new.fits_ == 2


def test_a_further_ranker_does_not_change_what_the_retriever_draws() -> None:
    one, two = Counting(), Counting()
    fitted(Pipeline({"a": one}))
    fitted(Pipeline({"a": two}, [Counting()]))
    assert np.array_equal(one.order_, two.order_)


def test_evidence_comes_from_the_first_retriever_that_has_item_weights() -> None:
    explainer = EvidenceExplainer(EvidenceExplainerConfig.model_validate({"attributes": (), "item": "{item}"}))
    pipeline = fitted(Pipeline({"popular": Popular(), "ease": EASE(EASEConfig(l2=5.0))}, explainer=explainer))
    assert pipeline.facts()["evidence_of"] == "ease"
    assert explainer.near_.shape == (N_ITEMS, N_ITEMS)
    assert fitted(Pipeline({"popular": Popular()}, explainer=Explains())).facts()["evidence_of"] == ""


def test_the_automatic_weight_is_the_best_on_validation_cases_and_recorded() -> None:
    pipeline = Pipeline({"random": Counting()}, [ItemKNN()], config=PipelineConfig(weight="auto", depth=20, tuning_cases=30))
    fitted(pipeline)
    (record,) = pipeline.facts()["tuning"]
    figures = {row["weight"]: row["ndcg@10"] for row in record["grid"]}
    assert record["cases"] == 30
    assert record["weight"] == pipeline.weights_[0]
    assert figures[record["weight"]] == max(figures.values())
    assert max(figures.values()) > figures[0.0], "the weight must move the figures"


def test_the_tuning_cases_are_drawn_with_the_seed() -> None:
    def tuned(seed: int) -> Any:
        pipeline = Pipeline({"ease": EASE()}, [Popular()], config=PipelineConfig(weight="auto", tuning_cases=15))
        return fitted(pipeline, seed).facts()

    assert tuned(1) == tuned(1)
    assert tuned(1) != tuned(2)


def test_asked_before_it_is_fitted() -> None:
    ease = EASE().fit(SPLIT.train, valid=None, rng=np.random.default_rng(0))
    with pytest.raises(NotFittedError):
        Pipeline({"ease": ease}).run(CASES.queries, 3, exclude=EXCLUDE)


def test_seeds_matter_if_they_matter_to_a_part() -> None:
    assert Pipeline({"ease": EASE()}, [ItemKNN()]).deterministic
    assert not Pipeline({"ease": EASE(), "random": Counting()}).deterministic
    assert not Pipeline({"inner": Pipeline({"random": Counting()})}).deterministic
    assert isinstance(Pipeline({"ease": EASE()}), Retriever)


# -- bad settings -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"fusion_weights": (1.0,)}, r"fusion_weights: \[1.0\] for 2 retrievers; give one each, none below 0"),
        ({"fusion_weights": (1.0, -1.0)}, "none below 0"),
        ({"depth": (1, 2)}, "depth: 2 values for 1 rankers; give one each, or one for all"),
        ({"depth": 0}, "depth: 0 is not allowed; give at least 1"),
        ({"weight": 1.5}, r"weight: 1.5 is not allowed; give 0 to 1"),
    ],
)
def test_settings_that_do_not_fit_the_parts_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Pipeline({"a": Counting(), "b": Counting()}, [identity()], config=PipelineConfig.model_validate(config))


def test_a_pipeline_of_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="needs at least one retriever"):
        Pipeline({})


# -- explaining and saving ------------------------------------------------------------------
def test_explaining_is_left_to_the_explainer() -> None:
    pipeline = fitted(Pipeline({"ease": EASE()}, explainer=Explains()))
    lists = pipeline.retrieve(CASES.queries, 3, exclude=EXCLUDE)
    explained = pipeline.explain(CASES.queries, lists)
    assert [[e.item for e in row] for row in explained] == lists.items.tolist()
    with pytest.raises(RunError, match="the pipeline has no explainer"):
        Pipeline({"ease": EASE()}).explain(CASES.queries, lists)


def build(shared: EASE) -> Pipeline:
    inner = Pipeline({"random": Counting()}, [ItemKNN()], config=PipelineConfig(weight=0.5))
    return Pipeline({"shared": shared, "inner": inner}, [Popular()], config=PipelineConfig(weight="auto", depth=7))


def test_what_it_fitted_is_saved_and_loaded_into_new_parts(tmp_path: Path) -> None:
    shared = EASE(EASEConfig(l2=5.0)).fit(SPLIT.train, valid=None, rng=np.random.default_rng(0))
    pipeline = fitted(build(shared))
    pipeline.save(tmp_path / "p")
    assert sorted(p.name for p in (tmp_path / "p").iterdir() if p.is_dir()) == ["ranker-0", "retriever-inner"]
    loaded = build(shared).load_parts(tmp_path / "p")
    assert loaded.facts() == pipeline.facts()
    wanted = pipeline.retrieve(CASES.queries, 8, exclude=EXCLUDE)
    assert_same_lists(loaded.retrieve(CASES.queries, 8, exclude=EXCLUDE), wanted)


def test_loading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot read a saved pipeline"):
        Pipeline({"ease": EASE()}).load_parts(tmp_path / "nothing")
    EASE().fit(SPLIT.train, valid=None, rng=np.random.default_rng(0)).save(tmp_path / "ease")
    with pytest.raises(RunError, match="holds a EASE, not a Pipeline"):
        Pipeline({"ease": EASE()}).load_parts(tmp_path / "ease")
    with pytest.raises(RunError, match="loaded into its parts"):
        Pipeline.load(tmp_path / "ease")


@pytest.mark.assets
def test_a_cascade_keeps_what_its_parts_reach_on_real_data(ml100k_split: Any) -> None:
    """Fusion lies above the weaker part; a strong ranker over a weak retriever makes up for it."""
    split = ml100k_split

    def figure(pipeline: Pipeline) -> float:
        pipeline.fit(split.train, valid=split.valid, rng=np.random.default_rng(0))
        return mean_metric(pipeline, split.test, "ndcg@10")

    ease, knn, popular = EASE(), ItemKNN(), Popular()
    alone = {name: figure(Pipeline({name: part})) for name, part in (("ease", ease), ("knn", knn), ("popular", popular))}
    assert figure(Pipeline({"ease": ease, "knn": knn})) > min(alone["ease"], alone["knn"])
    cascade = Pipeline({"popular": popular}, [ease], config=PipelineConfig(candidates=200, depth=200, weight="auto"))
    assert figure(cascade) > 1.3 * alone["popular"]
