"""The controller: in a made world the best arm depends on the request and is known; only the chosen arm is asked."""
# ruff: noqa: RUF012 (the hooks of a contract are class attributes)

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm4rec.core import Cases, Component, Lists, Queries, Ragged, SpecError, Split
from llm4rec.llm import ChatReply, ChatRequest, ScriptedModel
from llm4rec.metrics import evaluate
from llm4rec.models.ease import EASE
from llm4rec.models.popular import Popular
from llm4rec.pipeline import Controller
from llm4rec.pipeline.advisor import Advisor, AdvisorConfig
from llm4rec.pipeline.bandit import Bandit, BanditConfig
from llm4rec.pipeline.contexts import FEATURES, Context, Contexts
from llm4rec.pipeline.controller import Chooser
from tests.contracts import RetrieverContract, assert_same_lists
from tests.worlds import topics


def shortened(cases: Cases) -> Cases:
    """Cut the histories of every other case to two items."""
    keep = [row[-2:] if at % 2 else row for at, row in enumerate(cases.queries.history)]
    queries = cases.queries
    return replace(cases, queries=Queries(queries.users, Ragged.of(keep), queries.times))


WORLD = topics().split
SPLIT = Split(
    **{f: getattr(WORLD, f) for f in WORLD.__dataclass_fields__ if f not in ("valid", "test")},
    valid=shortened(WORLD.valid), test=shortened(WORLD.test),
)  # fmt: skip
WANTED = [np.concatenate([WORLD.valid.truth[c], WORLD.test.truth[c]]) for c in range(len(WORLD.test))]
CASE_OF = {int(u): c for c, u in enumerate(WORLD.test.queries.users)}


class Knows:
    """Knows what users with short histories want, or with long ones, or all; counts who asks."""

    def __init__(self, short: bool, long: bool) -> None:
        self.short, self.long, self.asked = short, long, 0

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        self.asked += len(queries)
        scores = np.zeros((len(queries), SPLIT.train.n_items), np.float32)
        for row, (user, history) in enumerate(zip(queries.users.tolist(), queries.history, strict=True)):
            if self.short if len(history) <= 2 else self.long:
                scores[row, WANTED[CASE_OF[user]]] = 1.0
        return Lists.from_scores(scores - np.arange(SPLIT.train.n_items, dtype=np.float32) * 1e-3, k, exclude=exclude)


def arms() -> dict[str, Any]:
    return {"for short": Knows(True, False), "for long": Knows(False, True), "for all": Knows(True, True)}


def fitted(chooser: Chooser[Any], seed: int = 0, **given: Any) -> Controller:
    controller = Controller(given or arms(), chooser)
    return controller.fit(SPLIT.train, valid=SPLIT.valid, rng=np.random.default_rng(seed))


def answers(controller: Controller, cases: Cases = SPLIT.test) -> Lists:
    return controller.retrieve(cases.queries, 10, exclude=cases.exclude("seen"))


def chosen(controller: Controller, cases: Cases = SPLIT.test) -> list[str]:
    names = list(controller.retrievers)
    return [names[a] for a in controller.chooser.choose(controller.contexts.of(cases.queries)).arms]


def bandit(**config: Any) -> Bandit:
    return Bandit(BanditConfig.model_validate({"batch": 8, **config}))


DEAR = {"costs": {"for all": 0.5}}
BEST = ["for short" if len(row) <= 2 else "for long" for row in SPLIT.test.queries.history]


# -- the known answer ---------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["linucb", "thompson"])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_arm_is_found_for_each_kind_of_request(method: str, seed: int) -> None:
    controller = fitted(bandit(method=method, **DEAR), seed)
    assert chosen(controller) == BEST
    gains = evaluate(answers(controller), SPLIT.test.truth, ["ndcg@10"])["ndcg@10"]
    assert gains.mean() > 0.99
    for arm in ("for short", "for long"):
        alone = controller.retrievers[arm].retrieve(SPLIT.test.queries, 10, exclude=SPLIT.test.exclude("seen"))
        assert evaluate(alone, SPLIT.test.truth, ["ndcg@10"])["ndcg@10"].mean() < 0.8


def test_what_an_arm_costs_decides_between_equals() -> None:
    assert set(chosen(fitted(bandit(costs={"for short": 0.5, "for long": 0.5})))) == {"for all"}
    assert "for all" not in chosen(fitted(bandit(**DEAR)))


def test_only_the_chosen_arm_is_asked() -> None:
    parts = arms()
    controller = fitted(bandit(**DEAR), **parts)
    assert sum(arm.asked for arm in parts.values()) == len(SPLIT.valid)
    facts = controller.facts()["arms"]
    assert {name: arm.asked for name, arm in parts.items()} == {name: fact["plays"] for name, fact in facts.items()}
    for arm in parts.values():
        arm.asked = 0
    answers(controller)
    assert [arm.asked for arm in parts.values()] == [BEST.count(name) for name in parts]


def test_it_learns_from_the_validation_cases_it_is_given_alone() -> None:
    parts = arms()
    controller = fitted(bandit(cases=10, **DEAR), **parts)
    assert sum(arm.asked for arm in parts.values()) == 10
    again = fitted(bandit(cases=10, **DEAR))
    assert_same_lists(answers(controller), answers(again))
    assert np.array_equal(controller.chooser.theta, again.chooser.theta)
    with pytest.raises(SpecError, match="validation cases"):
        Controller(arms(), bandit()).fit(SPLIT.train, valid=None, rng=np.random.default_rng(0))


def test_feedback_changes_what_is_chosen() -> None:
    controller = fitted(bandit(**DEAR))
    short = SPLIT.test.take(np.flatnonzero([b == "for short" for b in BEST]))
    for _ in range(20):
        taken = controller.chosen(short.queries)
        assert taken == list(chosen(controller, short))
        controller.feedback(short.queries, taken, np.where(np.array(taken) == "for short", -1.0, 0.8))
    assert "for short" not in chosen(controller, short)


def test_feedback_is_of_the_arm_that_answered_whatever_would_be_chosen_now() -> None:
    controller = fitted(bandit(**DEAR))
    before = controller.chooser.precision_.copy()
    controller.feedback(SPLIT.test.queries, ["for all"] * len(SPLIT.test), np.zeros(len(SPLIT.test)))
    changed = [bool((a != b).any()) for a, b in zip(controller.chooser.precision_, before, strict=True)]
    assert [name for name, did in zip(controller.retrievers, changed, strict=True) if did] == ["for all"]


def test_what_was_learnt_is_saved(tmp_path: Path) -> None:
    controller = fitted(bandit(**DEAR))
    controller.save(tmp_path)
    again = Controller(arms(), bandit(**DEAR)).load_parts(tmp_path)
    assert_same_lists(answers(again), answers(controller))
    assert again.facts() == controller.facts()


@pytest.mark.parametrize(
    ("names", "config", "says"),
    [
        (["for all"], {}, "at least two"),
        (["for all", "for long"], {"costs": {"nobody": 1.0}}, "'nobody' is none"),
        (["for all", "for long"], {"metric": "ndgc@10"}, "ndcg"),
    ],
)
def test_wrong_controllers_are_one_line(names: list[str], config: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        Controller({n: arms()[n] for n in names}, bandit(**config))


# -- the bandit's arithmetic ----------------------------------------------------------------------
def test_weights_are_those_of_ridge_regression_on_the_arms_own_requests() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(200), rng.normal(size=(200, len(FEATURES)))])
    context, arm, reward = Context(x, x[:, 1:]), rng.integers(0, 2, 200), rng.normal(size=200)
    learner = bandit(ridge=3.0)
    learner.begin(["a", "b"], x.shape[1])
    for rows in np.array_split(np.arange(200), 7):
        learner.learn(context.take(rows), arm[rows], reward[rows])
    for a in range(2):
        own, r = x[arm == a], reward[arm == a]
        expected = np.linalg.solve(own.T @ own + 3.0 * np.eye(x.shape[1]), own.T @ r)
        assert np.allclose(learner.theta[a], expected)


def test_an_arm_that_nobody_knows_is_tried_and_draws_are_as_wide_as_they_should_be() -> None:
    x = np.zeros((4_000, 1 + len(FEATURES)))
    x[:, 0] = 1.0
    context = Context(x, x[:, 1:])
    for method in ("linucb", "thompson"):
        learner = bandit(method=method, alpha=0.5)
        learner.begin(["known", "new"], x.shape[1])
        learner.learn(context, np.zeros(4_000, np.int64), np.full(4_000, 0.2))
        tried = learner.explore(context, np.random.default_rng(1)).mean()
        # The new arm's reward is drawn from N(0, .5^2), and .2 is beaten with probability 1 - Phi(.4).
        assert tried == 1.0 if method == "linucb" else abs(tried - 0.3446) < 0.03
        assert learner.choose(context).arms.max() == 0  # serving does not explore


# -- contexts ---------------------------------------------------------------------------------------
def test_contexts_measure_what_they_say() -> None:
    contexts = Contexts().fit(SPLIT.train, valid=None, rng=np.random.default_rng(0))
    history = Ragged.of([np.array([0, 1, 2]), np.array([], np.int32)])
    times = np.array([0, 86_400, 2 * 86_400])
    queries = Queries(np.array([0, -1]), history, np.array([3 * 86_400, 5]), history_times=times, texts=("a", ""))
    raw = contexts.of(queries).raw
    share = contexts.percentiles_[:3]
    assert np.allclose(raw[0], [np.log(4), share.mean(), share[2], np.log(86_401), np.log(86_401), 1.0])
    assert np.allclose(raw[1], 0)
    assert contexts.of(queries).words(1) == "nothing is known of the user"
    assert contexts.of(queries).words(0).startswith("about 3 interactions, items of the ")
    settled = contexts.settle(SPLIT.valid.queries).of(SPLIT.valid.queries)
    assert np.allclose(settled.features[:, 1:].mean(axis=0), 0)
    assert np.allclose(settled.features[:, 0], 1)
    assert np.allclose(settled.features[:, 1].std(), 1)
    assert settled.short.tolist() == [len(row) <= 2 for row in SPLIT.valid.queries.history]


# -- the language model -------------------------------------------------------------------------------
def advisor(answer: Any, **config: Any) -> Advisor:
    about = {"for short": "good for users of whom little is known", "for long": "good for users with a long history"}
    return Advisor(AdvisorConfig.model_validate({"llm": "m", "about": about, "batch": 8, **config}), ScriptedModel(answer))


def sensible(request: ChatRequest) -> str:
    short = "about 2 interactions" in request.messages[-1].content
    return json.dumps({"system": "for short" if short else "for long"})


def test_a_language_model_chooses_from_what_it_is_told() -> None:
    thinking = advisor(sensible)
    controller = fitted(thinking)
    model: Any = thinking.model
    assert model.asked == []  # nobody is asked while it learns
    trace = controller.run(SPLIT.test.queries, 10, exclude=SPLIT.test.exclude("seen"))
    assert evaluate(trace.lists, SPLIT.test.truth, ["ndcg@10"])["ndcg@10"].mean() > 0.99
    assert chosen(controller) == BEST
    assert len(model.asked) == 2 * len({m.messages for m in model.asked})  # requests that read alike are one question
    prompt = model.asked[0].messages[-1].content
    assert "- for short: good for users of whom little is known" in prompt
    assert "for short: 0." in prompt.split("What they brought")[1]
    assert trace.notes is not None
    assert all(len(note.exchanges) == 1 and not note.failures for note in trace.notes)


@pytest.mark.parametrize("answer", ["the first one", '{"system": "nobody"}', ChatReply("", failure="unreachable")])
def test_an_answer_that_cannot_be_used_is_counted_and_the_best_arm_so_far_answers(answer: Any) -> None:
    controller = fitted(advisor(lambda _: answer))
    assert set(chosen(controller)) == {"for all"}
    lists = answers(controller)
    assert lists.notes is not None
    assert all(len(note.failures) == 1 for note in lists.notes)


def test_a_saved_advisor_takes_the_model_of_the_run(tmp_path: Path) -> None:
    class Run:
        def llm(self, _: str) -> ScriptedModel:
            return ScriptedModel(sensible)

        def encoder(self, _: str) -> None:
            return None

    fitted(advisor(sensible)).save(tmp_path)
    again = Controller(arms(), advisor(sensible)).load_parts(tmp_path, Run())
    assert chosen(again) == BEST


# -- the contract -------------------------------------------------------------------------------------
class TestController(RetrieverContract):
    component = Controller
    configs = {"candidates": 20}
    uses_valid = True
    saves = False  # a pipeline is loaded into its parts: see above
    exact = False
    expected = 0.5  # one of its arms knows nothing

    def make(self, config: Any) -> Component[Any]:
        return Controller({"ease": EASE(), "popular": Popular()}, bandit(), config=config)

    def test_fits_without_validation_cases(self) -> None:
        with pytest.raises(SpecError, match="validation cases"):
            self.fit(valid=None)
