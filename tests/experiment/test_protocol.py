"""Candidate sets: who proposes them, and that nothing in them tells the truth apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import Cases, Dataset, SpecError
from llm4rec.core.ragged import Ragged
from llm4rec.data import load, make_split
from llm4rec.experiment.plan import Plan
from llm4rec.experiment.protocol import complement, draw_unseen, take_turns
from llm4rec.experiment.run import run
from llm4rec.experiment.spec import parse_spec, read_spec
from llm4rec.experiment.tune import tune
from llm4rec.models.ease import EASE
from tests import worlds


@pytest.mark.parametrize("mask", ["seen", "history", "none"])
def test_what_stops_early_looks_at_what_is_measured(log_folder: Path, mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is hidden from the lists that are measured, nothing is hidden from those that training is stopped by."""
    given: list[Cases] = []
    fit = EASE.fit

    def watched(self: EASE, train: Dataset, *, valid: Cases, rng: np.random.Generator) -> EASE:
        given.append(valid)
        return fit(self, train, valid=valid, rng=rng)

    monkeypatch.setattr(EASE, "fit", watched)
    path = log_folder / "spec.toml"
    path.write_text(path.read_text().replace("[data]", f"[protocol]\nmask = '{mask}'\n[tune]\ntrials = 1\n[data]", 1))
    spec = read_spec(path)
    alone = spec.model_copy(update={"systems": {"ease": spec.systems["ease"]}})
    run(alone, log_folder / "out")
    tune(alone, log_folder / "tuned")
    split = make_split(load(spec.data), spec.split)
    assert len(given) >= 2
    for cases in given:
        assert cases.seen.tolist() == split.valid.exclude(spec.protocol.mask).tolist()
        assert cases.truth.tolist() == split.valid.truth.tolist()
    assert (sum(given[0].seen.lengths) == 0) == (mask == "none")


def test_a_changed_file_makes_stale_what_reads_it(log_folder: Path) -> None:
    texts = log_folder / "texts.jsonl"
    texts.write_text('{"user": "u1", "item": "i1", "explanation": "a"}\n')
    path = log_folder / "spec.toml"
    path.write_text(path.read_text() + '[systems.p5]\ncomponent = "p5"\ntexts = "texts.jsonl"\nids = { scheme = "random" }\n')
    spec = read_spec(path)
    plan = Plan(spec, make_split(load(spec.data), spec.split))
    before = {name: plan.fit_key(name, 1) for name in ("p5", "ease")}
    assert {name: plan.fit_key(name, 1) for name in before} == before
    texts.write_text('{"user": "u1", "item": "i1", "explanation": "another"}\n')
    assert [plan.fit_key(name, 1) == before[name] for name in before] == [False, True]


def test_weights_that_are_chosen_on_drawn_cases_depend_on_the_seed(log_folder: Path) -> None:
    path = log_folder / "spec.toml"
    more = '[systems.{}]\nretrieve = ["ease", "text"]\nfusion = "weighted"\nnormalise = "zscore"\nfusion_weights = {}\n'
    path.write_text(path.read_text() + more.format("chosen", '"auto"') + more.format("given", "[0.3, 0.7]"))
    spec = read_spec(path)
    plan = Plan(spec, make_split(load(spec.data), spec.split))
    assert {name: plan.seeds(name) for name in ("chosen", "given")} == {"chosen": (1, 2), "given": (1,)}


def test_sources_take_turns_and_repetitions_cost_no_place() -> None:
    one, two = np.array([[9, 8, 7, 6]]), np.array([[9, 3, 2, 1]])
    assert take_turns([one, two], 4, None, 10)[0].tolist() == [3, 7, 8, 9]
    assert set(take_turns([one, two], 3, None, 10)[0].tolist()) == {9, 8, 3}


def test_the_truth_takes_the_last_place_and_stands_in_no_special_one() -> None:
    proposed = np.array([[5, 1, 2, 3], [0, 1, 2, 3]])
    chosen = take_turns([proposed], 3, Ragged.of([[4], [1]]), 6)
    assert chosen[0].tolist() == [1, 4, 5]
    assert chosen[1].tolist() == [0, 1, 2]


def test_short_lists_give_short_sets() -> None:
    chosen = take_turns([np.array([[2, -1, -1]])], 3, None, 6)
    assert chosen[0].tolist() == [2]


@given(
    st.lists(st.lists(st.integers(-1, 7), min_size=4, max_size=4), min_size=1, max_size=3),
    st.sets(st.integers(0, 7), min_size=1, max_size=3), st.integers(1, 9), st.booleans(),
)  # fmt: skip
def test_sets_are_those_of_the_rule_read_aloud(proposed: list[list[int]], truth: set[int], size: int, inject: bool) -> None:
    turns = [source[place] for place in range(4) for source in proposed if source[place] >= 0]
    order = list(dict.fromkeys([*(sorted(truth) if inject else []), *turns]))
    chosen = take_turns([np.array([s]) for s in proposed], size, Ragged.of([sorted(truth)]) if inject else None, 8)
    assert chosen[0].tolist() == sorted(order[:size])


def test_random_candidates_are_unseen_and_not_the_truth() -> None:
    cases = worlds.checkerboard().split.test
    drawn = draw_unseen(cases, 32, 5, np.random.default_rng(0))
    for row, seen, truth in zip(drawn, cases.seen, cases.truth, strict=True):
        assert len(set(row.tolist())) == 5
        assert not set(row.tolist()) & {*seen.tolist(), *truth.tolist()}


def test_complement_leaves_the_candidates() -> None:
    assert complement(Ragged.of([[1, 3]]), 5)[0].tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('sources = ["pop"]', "'pop' is no system"),
        ('sources = ["random", "random"]', "distinct"),
        ("inject = false", "would measure nothing"),
        ("sources = []", "at least 1"),
    ],
)
def test_what_cannot_be_a_source_says_so(table: str, message: str) -> None:
    text = f"""
[experiment]
name = "x"
[data]
set = "ml-100k"
[protocol.candidates]
{table}
[systems.popular]
component = "popular"
"""
    with pytest.raises(SpecError, match=message):
        parse_spec(text)
