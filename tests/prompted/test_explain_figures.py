"""Figures of explainers: rows and records, fidelity, and controls that must lower the scores."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from llm4rec.core import Claim, DataError, Explanation, Lists, Queries, Ragged, SpecError
from llm4rec.data.explained import FILE, read_explained
from llm4rec.features.hashing import HashEncoder
from llm4rec.models.als import ALS
from llm4rec.models.ease import EASE
from llm4rec.models.item_knn import ItemKNN
from llm4rec.models.popular import Popular
from llm4rec.models.sasrec import SASRec, SASRecConfig
from llm4rec.models.text import TextRetriever, TextRetrieverConfig
from llm4rec.prompted import EvidenceExplainer, EvidenceExplainerConfig
from llm4rec.prompted.explain.controls import controls, derangement, flipped, foreign
from llm4rec.prompted.explain.evaluate import CORPUS, FIGURES, explanation_metrics
from llm4rec.prompted.explain.fidelity import by_ranking, by_retrieving, fidelity, without
from llm4rec.prompted.explain.mentions import Finder
from llm4rec.prompted.explain.verify import Verifier, verify_against
from tests import worlds
from tests.contracts.explainer import GroundedContract

WORLD = worlds.checkerboard()
TRAIN = WORLD.split.train
CASES = WORLD.split.test.take(np.arange(24))
LISTS = Lists(np.stack(list(CASES.truth)).astype(np.int32), np.tile(-np.arange(2, dtype=np.float32), (24, 1)))
CONFIG = EvidenceExplainerConfig()
VERIFIER = Verifier(TRAIN.item_table, CONFIG)


def fitted(**parts: Any) -> EvidenceExplainer:
    return EvidenceExplainer(EvidenceExplainerConfig(**parts)).fit(TRAIN, valid=None, rng=np.random.default_rng(0))


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


EXPLAINED = fitted().explain(CASES.queries, LISTS)


class TestCounts(GroundedContract):
    component = EvidenceExplainer
    configs: ClassVar[dict[str, Any]] = {"counts": True}


# -- the row --------------------------------------------------------------------------------
def test_evidence_is_true_and_says_nothing_else() -> None:
    found = explanation_metrics(EXPLAINED, CASES.queries, TRAIN, config=CONFIG, rng=rng())
    row = found.row
    assert list(row) == [name for name in FIGURES if name != "fidelity"]
    assert row["claim_precision"].mean == row["coverage"].mean == row["fmr"].mean == 1
    assert row["unsupported_mentions"].mean == row["unsupported_explanations"].mean == row["fallback_rate"].mean == 0
    assert row["unique_forms"].mean < row["usr"].mean <= 1
    assert row["div"].mean > 0
    for name, interval in row.items():
        assert np.isnan(interval.low) == (name in CORPUS)
    assert [(r.case, r.rank) for r in found.records] == [(case, rank) for case in range(24) for rank in (1, 2)]
    assert len(json.loads(json.dumps([r.as_json() for r in found.records]))) == 48


def test_figures_by_hand() -> None:
    """Three explanations of one case: a true one, a false one with praise, and one that was given up."""
    history = CASES.queries.history[0].tolist()
    item = int(LISTS.items[0, 0])
    title, genre = VERIFIER.names[history[0]], str(TRAIN.item_table["genres"][item])
    true = f'You watched "{title}".'
    praise = f"A superb {next(v for _, v in VERIFIER.values if v != genre)} film by Ann Lee."
    rows = [[Explanation(item, true), Explanation(item, praise), Explanation(item, "", failure="no_evidence")]]
    found = explanation_metrics(rows, CASES.queries.take(np.array([0])), TRAIN, config=CONFIG, rng=rng())
    row = {name: interval.mean for name, interval in found.row.items()}
    assert row["coverage"] == pytest.approx(2 / 3)
    assert row["fallback_rate"] == 0  # nothing stands in for it
    assert row["claim_precision"] == 1 / 2
    assert row["unsupported_mentions"] == 2 / 3
    assert row["unsupported_explanations"] == 1 / 2
    assert row["subjective_share"] == pytest.approx(1 / sum(r.verdict.n_words for r in found.records))
    assert row["usr"] == row["unique_forms"] == 1
    assert row["fmr"] == 0
    assert {c["outcome"] for r in found.records for c in r.as_json()["claims"]} == {"true", "false"}


def test_rows_and_queries_must_agree() -> None:
    with pytest.raises(ValueError, match="24 rows of explanations for 2 queries"):
        explanation_metrics(EXPLAINED, CASES.queries.take(np.arange(2)), TRAIN, rng=rng())


# -- counts ---------------------------------------------------------------------------------
def test_counts_are_said_and_true() -> None:
    explained = [e for row in fitted(counts=True).explain(CASES.queries, LISTS) for e in row]
    counted = [(e, c) for e in explained for c in e.claims if c.kind == "count"]
    assert counted
    for e, claim in counted:
        assert claim.span is not None
        assert e.sentence[slice(*claim.span)] == f"{claim.count} {claim.value}"


# -- evidence of the recommender itself -----------------------------------------------------
def small_sasrec() -> SASRec:
    return SASRec(SASRecConfig(width=16, epochs=30, length=10, dropout=0.0, learning_rate=0.01))


def text_retriever() -> TextRetriever:
    return TextRetriever(TextRetrieverConfig(encoder="words", template="{genres}"), encoder=HashEncoder())


@pytest.mark.parametrize("model", [EASE, ItemKNN, ALS, small_sasrec, text_retriever])
def test_evidence_follows_the_recommender(model: Any, tmp_path: Path) -> None:
    recommender = model().fit(TRAIN, valid=None, rng=np.random.default_rng(0))
    explainer = fitted(attributes=()).follow(recommender)
    explained = explainer.explain(CASES.queries, LISTS)
    cited = [e.claims[0].item for row in explained for e in row]
    genres = TRAIN.item_table["genres"].to_list()
    own = [
        genres[c] == genres[e.item] for c, e in zip(cited, (e for row in explained for e in row), strict=True) if c is not None
    ]
    assert all(own)
    explainer.save(tmp_path)
    assert EvidenceExplainer.load(tmp_path).explain(CASES.queries, LISTS) == explained


def test_following_a_recommender_without_similarities_gets_one_line() -> None:
    popular = Popular().fit(TRAIN, valid=None, rng=np.random.default_rng(0))
    with pytest.raises(SpecError, match="Popular has neither item weights nor item vectors"):
        fitted().follow(popular)


# -- fidelity -------------------------------------------------------------------------------
class Lean:
    """Recommends what its one favourite in the history leads to, and nothing else."""

    def __init__(self, cause: int, effect: int, n_items: int) -> None:
        self.cause, self.effect, self.n_items = cause, effect, n_items

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        scores = np.tile(-np.arange(self.n_items, dtype=np.float32), (len(queries), 1))
        for row, history in enumerate(queries.history):
            if self.cause in history:
                scores[row, self.effect] = 1.0
        return Lists.from_scores(scores, k, exclude=exclude)

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        lists = self.retrieve(queries, self.n_items, exclude=Ragged.empty(len(queries)))
        order = [np.flatnonzero(np.isin(row, shown)) for row, shown in zip(lists.items, candidates.items, strict=True)]
        return Lists(
            np.stack([row[at] for row, at in zip(lists.items, order, strict=True)]),
            np.stack([row[at] for row, at in zip(lists.scores, order, strict=True)]),
        )


QUERIES = Queries.of(Ragged.of([[0, 1, 2, 3, 0]] * 6))
SEEN = Ragged.of([[0, 1, 2, 3]] * 6)


def cites(*items: int) -> list[list[Explanation]]:
    return [[Explanation(15, "", tuple(Claim("history", i) for i in items))]] * 6


def test_fidelity_tells_the_cause_from_the_rest() -> None:
    system = by_retrieving(Lean(0, 15, 20), SEEN, 20)
    true = fidelity(system, QUERIES, cites(0), draws=4, rng=rng())
    # From the first place to the 12th: items 4 to 14 stand before it.
    np.testing.assert_allclose(true.cited, np.log2(12))
    np.testing.assert_allclose(true.random, 0)
    np.testing.assert_allclose(true.score, 1 + 15)
    false = fidelity(system, QUERIES, cites(1), draws=30, rng=rng())
    np.testing.assert_allclose(false.cited, 0)
    assert (false.random > 0).all()
    assert true.compare(rng()).difference > 0 > false.compare(rng()).difference


def test_fidelity_of_a_ranker_and_of_attributes_alone() -> None:
    shown = Lists(np.tile(np.array([15, 8, 9], np.int32), (6, 1)), np.tile(np.array([3, 2, 1], np.float32), (6, 1)))
    found = fidelity(by_ranking(Lean(0, 15, 20), shown), QUERIES, cites(0), draws=2, rng=rng())
    np.testing.assert_allclose(found.cited, np.log2(3))
    nothing = [[Explanation(15, "", (Claim("attribute", None, "genres", "x"),))]] * 6
    assert np.isnan(fidelity(by_retrieving(Lean(0, 15, 20), SEEN, 20), QUERIES, nothing, rng=rng()).gap).all()


def test_an_item_that_left_the_list_stands_behind_it_and_one_that_was_never_there_is_unknown() -> None:
    found = fidelity(by_retrieving(Lean(0, 15, 20), SEEN, 5), QUERIES, cites(0), draws=2, rng=rng())
    np.testing.assert_allclose(found.cited, np.log2(6))
    assert np.isnan(found.score).all()
    other = [[replace(cites(0)[0][0], item=19)]] * 6
    assert np.isnan(fidelity(by_retrieving(Lean(0, 15, 20), SEEN, 5), QUERIES, other, rng=rng()).gap).all()


def test_nothing_is_compared_where_there_are_not_enough_others() -> None:
    assert np.isnan(fidelity(by_retrieving(Lean(0, 15, 20), SEEN, 20), QUERIES, cites(0, 1, 2), rng=rng()).gap).all()
    windowed = fidelity(by_retrieving(Lean(0, 15, 20), SEEN, 20), QUERIES, cites(0), window=1, rng=rng())
    assert np.isnan(windowed.gap).all()  # the last event is the cited one


def test_deletion_takes_every_occurrence_and_what_stands_beside_it() -> None:
    queries = replace(
        QUERIES, history_times=np.tile(np.arange(5), 6), history_values=np.tile(np.arange(5, dtype=np.float32), 6)
    )
    left = without(queries, [np.array([0])] * 5 + [np.array([], np.int64)])
    assert left.history.tolist() == [[1, 2, 3]] * 5 + [[0, 1, 2, 3, 0]]
    assert left.history_times is not None
    assert left.history_values is not None
    assert left.history_times[:3].tolist() == left.history_values[:3].tolist() == [1, 2, 3]


def test_evidence_of_the_recommender_is_faithful_in_the_row() -> None:
    ease = EASE().fit(TRAIN, valid=None, rng=np.random.default_rng(0))
    system = by_retrieving(ease, CASES.seen, TRAIN.n_items)
    found = explanation_metrics(EXPLAINED, CASES.queries, TRAIN, system=system, window=None, rng=rng())
    assert found.row["fidelity"].n == 24
    assert not np.isnan([r.fidelity for r in found.records]).any()


# -- controls -------------------------------------------------------------------------------
def test_every_control_lowers_the_scores() -> None:
    found = controls(EXPLAINED, CASES.queries, VERIFIER, rng=rng())
    assert set(found) == {"swapped", "flipped", "foreign"}
    for control in found.values():
        assert control.changed > 24
        for test in (control.precision, control.support):
            assert test.difference > 0.2
            assert test.low > 0
            assert test.p < 0.01


def test_controls_of_texts_without_claims() -> None:
    bare = [[replace(e, claims=()) for e in row] for row in EXPLAINED]
    for control in controls(bare, CASES.queries, VERIFIER, rng=rng()).values():
        assert control.precision.p < 0.01
        assert control.precision.difference > 0.2


def test_explanations_against_themselves_do_not_fall() -> None:
    """The control of the controls: two cases with one history cannot be told apart by swapping."""
    same = CASES.queries.take(np.zeros(24, int))
    explained = fitted().explain(same, LISTS.take(np.zeros(24, int)))
    found = controls(explained, same, VERIFIER, rng=rng())["swapped"]
    assert found.precision.difference == 0
    assert found.precision.p == 1


def test_what_controls_change() -> None:
    history = CASES.queries.history[0].tolist()
    right = EXPLAINED[0][0]
    wrong = flipped(right, history, VERIFIER, rng())
    assert wrong is not None
    assert wrong.sentence != right.sentence
    assert [c.value for c in wrong.claims if c.value] != [c.value for c in right.claims if c.value]
    other = foreign(right, history, VERIFIER, rng())
    assert other is not None
    assert {c.item for c in other.claims}.isdisjoint(history)
    for changed in (wrong, other):
        for claim in changed.claims:
            assert claim.span is not None
            said = changed.sentence[slice(*claim.span)]
            assert said == (VERIFIER.names[claim.item or 0] if claim.kind == "history" else claim.value)
    bare = Explanation(right.item, "Just so.")
    assert flipped(bare, history, VERIFIER, rng()) is None
    assert foreign(bare, history, VERIFIER, rng()) is None


@pytest.mark.parametrize("n", [2, 3, 50])
def test_derangements_move_everybody(n: int) -> None:
    moved = derangement(n, rng())
    assert sorted(moved.tolist()) == list(range(n))
    assert (moved != np.arange(n)).all()


# -- the set of XRec ------------------------------------------------------------------------
@pytest.mark.shared
def test_xrec(shared_data: Path) -> None:
    explained = read_explained(shared_data / "xrec-amazon")
    assert len(explained) == 3000
    finder = Finder(explained.titles)
    other = derangement(300, rng())
    shares = []
    for evidence in (np.arange(300), other):
        verdicts = [verify_against(finder, explained.explanations[i], explained.sources(int(evidence[i]))) for i in range(300)]
        every, wrong = (
            sum(len(x) for x in several) for several in zip(*((v.mentions, v.unsupported) for v in verdicts), strict=True)
        )
        shares.append(1 - wrong / every)
    assert shares[0] > 2 * shares[1]
    assert shares[0] > 0.3


def test_a_folder_without_the_set_gets_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_explained(tmp_path)
    import gzip

    (tmp_path / FILE).write_bytes(gzip.compress(b'{"uid": 1}\n'))
    with pytest.raises(DataError, match="lacks the field 'iid'"):
        read_explained(tmp_path)
