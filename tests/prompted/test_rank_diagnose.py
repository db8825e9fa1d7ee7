"""The diagnoses of rankers find what was put into made listings, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from llm4rec.core import Lists, Note, Queries, Ragged, Trial
from llm4rec.llm.scripted import ScriptedModel
from llm4rec.llm.values import ScoreRequest
from llm4rec.prompted.rank.diagnose import (
    agreement,
    answer_failures,
    fake_history,
    history_sensitivity,
    popularity_bias,
    position_bias,
    shuffled_history,
)
from tests.prompted.test_rank import CASES, WORLD, label_scores, pools, ranker

K = 8


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def listings(score: Any, n: int = 60, each: int = 2) -> list[Note]:
    """Return notes of made trials; ``score(items, slots, noise)`` float[k] stands for the model."""
    draw = np.random.default_rng(5)
    notes = []
    for _ in range(n):
        items = draw.permutation(100)[:K]
        trials = []
        for _ in range(each):
            shown = draw.permutation(items)
            trials.append(Trial(tuple(shown.tolist()), tuple(score(shown, np.arange(K), draw.normal(size=K)).tolist())))
        notes.append(Note(trials=tuple(trials)))
    return notes


def primacy(items: Any, slots: Any, noise: Any) -> Any:
    return -slots + 2.0 * noise


def taste(items: Any, slots: Any, noise: Any) -> Any:
    return items + 0.0 * noise


def chance(items: Any, slots: Any, noise: Any) -> Any:
    return noise


# -- position -----------------------------------------------------------------------------
def test_a_bias_to_the_front_is_seen_as_one() -> None:
    found = position_bias(listings(primacy), rng=rng())
    assert found.slots == K
    assert found.trials == 120
    assert found.left_out == 0
    assert found.first[0].low > 1 / K > found.first[-1].high
    assert found.rank[0].high < 0.5 < found.rank[-1].low
    assert found.slope.low > 0.3


@pytest.mark.parametrize("score", [taste, chance])
def test_an_unbiased_ranker_is_cleared(score: Any) -> None:
    found = position_bias(listings(score, n=200), rng=rng())
    assert found.slope.low < 0 < found.slope.high
    assert sum(interval.mean for interval in found.first) == pytest.approx(1.0)
    assert np.mean([interval.mean for interval in found.rank]) == pytest.approx(0.5)
    assert sum(interval.low <= 1 / K <= interval.high for interval in found.first) >= K - 2


def test_hits_by_slot() -> None:
    """A model that finds the truth in the first slot alone."""
    draw = np.random.default_rng(1)
    notes, truth = [], []
    for _ in range(80):
        items = draw.permutation(50)[:K]
        true = int(items[0])
        trials = []
        for _ in range(8):
            shown = draw.permutation(items)
            scores = draw.uniform(size=K)
            scores[shown == true] = 2.0 if shown[0] == true else -1.0
            trials.append(Trial(tuple(shown.tolist()), tuple(scores.tolist())))
        notes.append(Note(trials=tuple(trials)))
        truth.append([true])
    found = position_bias(notes, Ragged.of(truth), rng=rng())
    assert found.hit is not None
    assert [interval.mean for interval in found.hit] == [1.0] + [0.0] * (K - 1)


def test_listings_of_another_length_or_without_an_answer_are_told() -> None:
    whole = Trial((1, 2, 3), (3.0, 2.0, float("nan")))
    notes = [Note(trials=(whole, whole, Trial((1, 2), (1.0, 2.0)), Trial((4, 5, 6), (float("nan"),) * 3)))]
    found = position_bias(notes, rng=rng())
    assert (found.slots, found.trials, found.left_out) == (3, 2, 2)
    assert [interval.mean for interval in found.rank] == [0.0, 0.5, 1.0]  # what was not placed comes last


def test_ties_share_their_places() -> None:
    found = position_bias([Note(trials=(Trial((1, 2, 3), (1.0, 1.0, 0.0)),))], rng=rng())
    assert [interval.mean for interval in found.first] == [0.5, 0.5, 0.0]
    assert [interval.mean for interval in found.rank] == [0.25, 0.25, 1.0]


# -- popularity ---------------------------------------------------------------------------
def test_popularity_bias_beside_that_of_the_truth() -> None:
    draw = np.random.default_rng(2)
    counts = draw.permutation(40)
    items = np.stack([draw.permutation(40)[:K] for _ in range(50)])
    truth = Ragged.of([[int(row[0])] for row in items])  # a random candidate: no popularity in it
    lover = Lists.from_pools(items, counts[items].astype(float))
    found = popularity_bias(lover, counts, truth, rng=rng())
    assert found.ranker.mean == pytest.approx(1.0)
    assert found.truth.low < 0 < found.truth.high
    assert found.excess.p < 0.01
    hater = popularity_bias(Lists.from_pools(items, -counts[items].astype(float)), counts, truth, rng=rng())
    assert hater.ranker.mean == pytest.approx(-1.0)


def test_correlations_are_spearmans() -> None:
    draw = np.random.default_rng(3)
    items = np.stack([draw.permutation(30)[:6] for _ in range(20)])
    scores, counts = draw.normal(size=items.shape), draw.integers(0, 5, size=30)
    lists = Lists.from_pools(items, scores)
    found = popularity_bias(lists, counts, Ragged.of([[0]] * 20), rng=rng())
    wanted = [
        stats.spearmanr(row_scores, counts[row]).statistic for row, row_scores in zip(lists.items, lists.scores, strict=True)
    ]
    assert found.ranker.mean == pytest.approx(np.nanmean(wanted))


def test_cases_without_truth_among_the_candidates_have_no_truth_to_compare() -> None:
    items = np.array([[0, 1, 2], [3, 4, 5]])
    found = popularity_bias(
        Lists.from_pools(items, np.ones((2, 3)) * [3, 2, 1]), np.arange(9), Ragged.of([[2], [8]]), rng=rng()
    )
    assert (found.ranker.n, found.truth.n, found.excess.n) == (2, 1, 1)


# -- agreement and failures -----------------------------------------------------------------
def test_agreement() -> None:
    assert agreement(listings(taste), rng=rng()).mean == 1.0
    assert abs(agreement(listings(chance, n=200), rng=rng()).mean) < 0.05
    mirrored = [Note(trials=(Trial((1, 2, 3), (3.0, 2.0, 1.0)), Trial((3, 2, 1), (3.0, 2.0, 1.0))))]
    assert agreement(mirrored, rng=rng()).mean == -1.0
    assert agreement([Note(trials=(Trial((1, 2), (1.0, 2.0)), Trial((1, 3), (1.0, 2.0))))], rng=rng()).n == 0


def test_agreement_is_kendalls() -> None:
    draw = np.random.default_rng(4)
    notes, wanted = [], []
    for _ in range(30):
        a, b = draw.integers(0, 5, size=(2, K)).astype(float)
        notes.append(Note(trials=(Trial(tuple(range(K)), tuple(a)), Trial(tuple(range(K)), tuple(b)))))
        wanted.append(stats.kendalltau(a, b).statistic)
    assert agreement(notes, rng=rng()).mean == pytest.approx(np.mean(wanted))


def test_failures_are_counted() -> None:
    nan = float("nan")
    notes = [
        Note(("omitted", "duplicate", "omitted"), trials=(Trial((1, 2), (1.0, nan)), Trial((2, 1), (1.0, 0.0)))),
        Note(("unreadable", "unranked"), trials=(Trial((1, 2), (nan, nan)),)),
    ]
    assert answer_failures(notes) == {
        "cases": 2,
        "listings": 3,
        "unusable": 1,
        "incomplete": 1,
        "unranked": 1,
        "kinds": {"duplicate": 1, "omitted": 2, "unreadable": 1},
    }


# -- history ------------------------------------------------------------------------------
def users() -> Queries:
    return Queries(
        np.arange(3, dtype=np.int32),
        Ragged.of([[1, 2, 3, 4], [5, 6], [7, 8, 9]]),
        np.array([10, 20, 30]),
        np.arange(9, dtype=np.int64),
        np.arange(9, dtype=np.int8),
        history_values=np.arange(9, dtype=np.float32),
    )


def test_shuffled_histories_hold_the_same_items_and_ratings_stay_with_them() -> None:
    given = users()
    pairs = dict(zip(given.history.values.tolist(), given.history_values.tolist(), strict=True))  # type: ignore[union-attr]
    for last in (None, 2):
        false = shuffled_history(given, np.random.default_rng(1), last)
        assert [sorted(row) for row in false.history] == [sorted(row) for row in given.history]
        assert dict(zip(false.history.values.tolist(), false.history_values.tolist(), strict=True)) == pairs  # type: ignore[union-attr]
        assert np.array_equal(false.history_times, given.history_times)  # type: ignore[arg-type]
    assert false.history[0][:2].tolist() == [1, 2]


def test_a_fake_history_is_somebody_elses() -> None:
    given = users()
    for seed in range(5):
        false = fake_history(given, np.random.default_rng(seed))
        assert sorted(map(tuple, false.history)) == sorted(map(tuple, given.history))
        assert all(tuple(a) != tuple(b) for a, b in zip(false.history, given.history, strict=True))
        assert false.users.tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="two queries"):
        fake_history(given.take(np.array([0])), np.random.default_rng(0))


def reads(what: str) -> ScriptedModel:
    """A model that likes what shares a word with the history (or its last line), or that reads nothing of it."""

    def scores(request: ScoreRequest) -> list[float]:
        assert not isinstance(request.prompt, str)
        text = request.prompt[-1].content
        lines = [line.split(" ", 1)[1] for line in text.split("order:\n")[1].splitlines()[: len(request.continuations)]]
        history = [line for line in text.splitlines() if line.startswith("- ")]
        if what == "last":
            history = history[-1:]
        known = set(" ".join(history).split()) if what != "nothing" else set()
        return [5.0 * len(known & set(line.split())) - 0.01 * (sum(map(ord, line)) % 97) for line in lines]

    return ScriptedModel(scores=scores, name=what)


def candidates(n: int) -> Lists:
    """Return the truth among random items, of the test's first n users."""
    draw = np.random.default_rng(9)
    cases = WORLD.split.test.take(np.arange(n))
    rows = []
    for truth, seen in zip(cases.truth, cases.seen, strict=True):
        others = draw.permutation(np.setdiff1d(np.arange(WORLD.split.train.n_items), np.concatenate([truth, seen])))
        rows.append(np.append(others[:K], truth[0]))
    items = np.stack(rows).astype(np.int32)
    return Lists(items, np.tile(-np.arange(K + 1, dtype=np.float32), (n, 1)))


@pytest.mark.parametrize("what", ["all", "nothing"])
def test_history_controls_tell_who_reads_it(what: str) -> None:
    cases = WORLD.split.test.take(np.arange(30))
    component = ranker(reads(what), scoring="choice", permutations=1, item="{title}", history=5)
    found = history_sensitivity(component, cases.queries, candidates(30), cases.truth, rng=rng(), last=5)
    if what == "nothing":
        assert found.fake.tau.mean == found.shuffled.tau.mean == 1.0
        assert found.fake.gain.difference == 0.0
    else:
        assert found.fake.gain.low > 0.1
        assert found.fake.gain.p < 0.01
        assert found.shuffled.gain.difference == 0.0  # it reads the history as a set
        assert found.shuffled.tau.mean == 1.0
    json.dumps(found.to_json(), allow_nan=False)


def test_order_matters_to_who_reads_the_end() -> None:
    cases = WORLD.split.test.take(np.arange(30))
    component = ranker(reads("last"), scoring="choice", permutations=1, item="{title}", history=5)
    found = history_sensitivity(component, cases.queries, candidates(30), cases.truth, rng=rng(), last=5)
    assert found.shuffled.tau.mean < 0.95


# -- of a real ranker's notes -----------------------------------------------------------------
def test_pure_position_bias_is_exposed_and_averaged_out() -> None:
    slots = ScriptedModel(scores=lambda request: [-float(i) for i in range(len(request.continuations))])
    once = ranker(slots, scoring="choice", permutations=1).rank(CASES.queries, pools())
    assert len({tuple(row) for row in np.argsort(once.items, axis=1).tolist()}) > 1
    ranked = ranker(slots, scoring="choice", permutations=2).rank(CASES.queries, pools())
    assert ranked.notes is not None
    found = position_bias(ranked.notes, rng=rng())
    assert [interval.mean for interval in found.first] == [1.0] + [0.0] * (K - 1)
    assert found.slope.mean == pytest.approx(1.0)
    assert agreement(ranked.notes, rng=rng()).mean == -1.0
    assert np.allclose(ranked.scores, ranked.scores[:, :1])
    fair = ranker(ScriptedModel(scores=label_scores), scoring="choice", permutations=2).rank(CASES.queries, pools())
    assert fair.notes is not None
    assert position_bias(fair.notes, rng=rng()).slope.mean == pytest.approx(0.0, abs=1e-9)
    assert agreement(fair.notes, rng=rng()).mean == 1.0


def test_everything_is_json() -> None:
    notes = listings(primacy, n=3)
    json.dumps(position_bias(notes, Ragged.of([[500]] * 3), rng=rng()).to_json(), allow_nan=False)
    json.dumps(position_bias([Note()], rng=rng()).to_json(), allow_nan=False)
    lists = Lists.from_pools([[1, 2]], [[2.0, 1.0]])
    json.dumps(popularity_bias(lists, np.ones(9, dtype=int), Ragged.of([[5]]), rng=rng()).to_json(), allow_nan=False)
    json.dumps(answer_failures(notes), allow_nan=False)
