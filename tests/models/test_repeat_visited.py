"""RepeatVisited: the contract, and a world in which people return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import Queries, Ragged
from llm4rec.models.repeat_visited import RepeatVisited, RepeatVisitedConfig
from tests import worlds
from tests.contracts import ScoringContract
from tests.contracts.evaluation import recall


class TestRepeatVisited(ScoringContract):
    component = RepeatVisited
    world = worlds.popularity()  # with seen items masked, it is popularity
    floor = ("recall@10", 0.080)


def ask(histories: Sequence[Sequence[int]], half_life: float) -> np.ndarray:
    model = RepeatVisited(RepeatVisitedConfig(half_life=half_life))
    model.fit(worlds.popularity().split.train, valid=None, rng=np.random.default_rng(0))
    return model.score(Queries.of(Ragged.of([np.asarray(h, dtype=np.int32) for h in histories])))


def test_finds_the_next_song_of_people_who_play_their_own_in_turn() -> None:
    """Users go round their own three items; with the half-life short, the one not heard longest comes last."""
    cases = worlds.cycle().split.test
    own = [np.tile(cases.queries.history[i][:3], 4)[:-1] for i in range(len(cases))]
    history = Ragged.of(own)
    again = replace(cases, queries=Queries.of(history), truth=Ragged.of([h[2:3] for h in own]), seen=history)
    model = RepeatVisited(RepeatVisitedConfig(half_life=0.0)).fit(
        worlds.cycle().split.train, valid=None, rng=np.random.default_rng(0)
    )
    free = model.retrieve(again.queries, 3, exclude=again.exclude("none"))
    assert recall(free, again, 3) == 1.0
    assert recall(model.retrieve(again.queries, 3, exclude=again.exclude("seen")), again, 3) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), max_size=9), min_size=1, max_size=4), st.sampled_from([0.0, 0.5, 3.0, 50.0]))
def test_own_items_stand_by_decayed_visits_above_all_others(histories: list[list[int]], half_life: float) -> None:
    scores = ask(histories, half_life)
    for history, row in zip(histories, scores, strict=True):
        ages = {item: [len(history) - 1 - at for at, x in enumerate(history) if x == item] for item in set(history)}
        strength = {i: sum(2 ** (-a / half_life) if half_life else 1 for a in of) for i, of in ages.items()}
        wanted = sorted(ages, key=lambda i: (round(strength[i], 9), -min(ages[i])))
        assert np.argsort(row, kind="stable")[len(row) - len(wanted) :].tolist() == wanted
        assert (np.delete(row, wanted) < 1.0).all()


def test_a_long_history_does_not_underflow() -> None:
    scores = ask([[*range(20)] * 200], 0.2)[0]
    assert np.argsort(scores)[-20:].tolist() == [*range(20)]


def test_the_half_life_decides_between_often_and_lately() -> None:
    often_lately = [[1, 1, 1, 2]]
    assert ask(often_lately, 0.0)[0].argmax() == 1
    assert ask(often_lately, 0.5)[0].argmax() == 2
