"""Conversations: deterministic, blind to what is wanted, and decided by code."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm4rec.agents.engine import Engine, Served
from llm4rec.agents.rule import RuleAgent
from llm4rec.agents.simulate.controls import GivenAgent, ListeningAgent
from llm4rec.agents.simulate.facets import Facets
from llm4rec.agents.simulate.leak import scan
from llm4rec.agents.simulate.measure import fits, list_figures, talk_figures, taste_figures
from llm4rec.agents.simulate.people import goals
from llm4rec.agents.simulate.rule import RuleSimulator, RuleSimulatorConfig
from llm4rec.agents.simulate.spoken import LLMSimulator
from llm4rec.agents.simulate.talk import NEUTRAL, Goal, Talk, TalkConfig, checked, hold
from llm4rec.agents.simulate.values import Action, Facet, Line, Scene, Simulator, Utterance, Wish
from llm4rec.agents.tools import Session, toolbox
from llm4rec.agents.turn import Agent, Turn
from llm4rec.llm import ChatRequest
from llm4rec.llm.scripted import ScriptedModel
from tests.agents.simulate.conftest import AGENTS, Talking
from tests.worlds import topics

SIMULATORS: dict[str, Simulator] = {
    "rule": RuleSimulator(),
    "noisy": RuleSimulator(RuleSimulatorConfig(wrong=0.3, vague=0.3)),
    "llm": LLMSimulator(ScriptedModel(lambda request: f"Hm. {request.messages[-1].content[-90:]}")),
}


class Oracle(GivenAgent):
    """Knows what is wanted."""


class Mute:
    """Says nothing and shows nothing."""

    name = "mute"

    def answer(self, session: Session, text: str) -> Turn:
        return Turn((), (), session, "")

    def steps(self, session: Session, text: str):  # type: ignore[no-untyped-def]
        yield self.answer(session, text)


def heard(talks: Sequence[Talk]) -> list[list[tuple[str, str]]]:
    """Return all that was said, and by whom."""
    return [
        [(kind, words) for r in t.rounds for kind, words in (("user", r.action.text), ("agent", r.turn.text if r.turn else ""))]
        for t in talks
    ]


# -- contracts ------------------------------------------------------------------------------
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_contract(talking: Talking, engine: Engine, agent: str, simulator: str) -> None:
    talks = talking(agent, SIMULATORS[simulator], turns=4)
    assert heard(talks) == heard(talking(agent, SIMULATORS[simulator], turns=4)), "not deterministic"
    for talk in talks:
        assert talk.outcome in {"accepted", "left", "patience"}
        assert 1 <= len(talk.rounds) <= 4
        for r in talk.rounds:
            assert not scan(r.action.text, talk.goal.secrets), "the user gave it away"
            if r.turn is None:
                assert r.action.act == "leave"
                continue
            held = r.turn.session.candidates
            # Taken is what was shown by id and wanted, whatever anybody said.
            assert set(r.taken) == set(r.shown) & talk.goal.targets
            assert r.shown == r.turn.shown[:5]
            assert held is None or set(r.shown) <= set(held.items.tolist())
        assert (talk.outcome == "accepted") == any(r.taken for r in talk.rounds)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_simulators_are_blind(talking: Talking, engine: Engine, simulator: str) -> None:
    """Neither scene nor prompt holds the title or the id, though the agent shows and names the item all the time."""
    scenes: list[Scene] = []

    class Watched:
        name = "watched"

        def speak(self, given: Sequence[Scene]) -> list[Utterance]:
            scenes.extend(given)
            return SIMULATORS[simulator].speak(given)

    class Telling(Mute):
        def answer(self, session: Session, text: str) -> Turn:
            names = engine.catalogue.names
            every = GivenAgent("all", range(len(names))).answer(session, text)
            return dataclasses.replace(every, text="\n".join(names) + "\nHow about one of these?")

    talks = talking(Telling, Watched(), turns=3, overlook=0.999)
    assert len(scenes) == 3 * len(talks)
    for scene in scenes:
        goal = next(t.goal for t in talks if t.goal.case == scene.seed[1])
        told = repr(scene)
        assert not scan(told, goal.secrets)


def test_one_user_alone_speaks_as_among_others() -> None:
    wish = Wish((Facet("genres", "space"), Facet("year", "1990", True)), (Facet("genres", "music"),), ("genres", "year"))
    scenes = [Scene(wish, seed=(1, case, 0)) for case in range(20)]
    simulator = RuleSimulator(RuleSimulatorConfig(wrong=0.5))
    together = simulator.speak(scenes)
    assert together == [simulator.speak([s])[0] for s in scenes]
    assert len({u.action.text for u in together}) > 4, "wordings vary"


# -- known success ----------------------------------------------------------------------------
def test_an_oracle_succeeds_at_once_and_a_mute_agent_never(engine: Engine, facets: Facets, people: list[Goal]) -> None:
    config = TalkConfig()
    for goal in people:
        oracle = GivenAgent("oracle", sorted(goal.targets))
        (talk,) = hold([goal], lambda a=oracle: a, RuleSimulator(), lambda g: Session(engine, None, g.user), facets, config, 1)  # type: ignore[misc]
        figures = talk_figures(talk, config)
        assert (talk.outcome, len(talk.rounds)) == ("accepted", 1)
        assert figures["success"] == figures["success@1"] == figures["recall@1/1"] == figures["turns"] == 1
        (talk,) = hold([goal], Mute, RuleSimulator(), lambda g: Session(engine, None, g.user), facets, config, 1)
        figures = talk_figures(talk, config)
        assert (talk.outcome, figures["success"], figures["turns"]) == ("left", 0, 8)


def test_naming_is_not_showing(engine: Engine, facets: Facets, people: list[Goal]) -> None:
    """A title in the agent's words decides nothing."""

    class Namer(Mute):
        def answer(self, session: Session, text: str) -> Turn:
            return Turn((), (), session, "\n".join(engine.catalogue.names))

    talks = hold(people, Namer, RuleSimulator(), lambda g: Session(engine, None, g.user), facets, TalkConfig(), 1)
    assert not any(t.found for t in talks)


def test_who_listens_finds_more(fitted: dict[str, object]) -> None:
    """Two things are said of a film, one a turn: who remembers both is left with few that fit both."""
    train = topics().split.train
    decades = [str(1980 + 10 * (item % 4)) for item in range(train.n_items)]  # have nothing to do with the topics
    mixed = dataclasses.replace(train, item_table=train.item_table.with_columns(pl.Series("year", decades)))
    engine = Engine(mixed, {"popular": Served("popular", "POPULAR", lambda: fitted["popular"], ranks=True)}, "popular")
    facets, tools = Facets(engine.catalogue, 2), toolbox(engine)
    people = goals(engine, topics().split.test, facets, 48, several=False, seed=1, first=1)
    config = TalkConfig(turns=2, shown=1)

    def rate(name: str) -> float:
        def make() -> Agent:
            return AGENTS[name](tools, config.shown)

        talks = hold(people, make, RuleSimulator(), lambda g: Session(engine, None, g.user), facets, config, 1)
        return float(np.mean([bool(t.found) for t in talks]))

    assert rate("listening") > rate("deaf") + 0.1 > rate("echo") + 0.1 == 0.1


def test_overlooking_delays(talking: Talking) -> None:
    sharp = talking("listening", overlook=0.0, turns=3)
    blind = talking("listening", overlook=0.9, turns=3)
    assert sum(bool(t.found) for t in blind) < sum(bool(t.found) for t in sharp)
    seen = [talk_figures(t, TalkConfig(turns=3))["recall@5/3"] for t in blind]
    assert sum(seen) > sum(bool(t.found) for t in blind), "what is overlooked was in the list"


def test_the_same_users_meet_every_agent(talking: Talking) -> None:
    first = [[t.rounds[0].action.text for t in talking(name)] for name in ("rule", "popular", "echo")]
    assert first[0] == first[1] == first[2]
    assert first[0] != [t.rounds[0].action.text for t in talking("rule", seed=2)]


def test_of_a_transcript_the_users_lines_are_read_and_the_oldest_forgotten(session: Session) -> None:
    """Cooking and music exclude each other: the later word counts; what the recommender said does not."""
    text = "Show me 3.\nUser: cooking\nRecommender: What about space? No music!\nUser: music"
    turn = ListeningAgent(RuleAgent(toolbox(session.engine)), 3).answer(session, text)
    genres = session.engine.catalogue.table["genres"]
    assert [genres[i] for i in turn.shown] == ["music"] * 3


# -- the rules -------------------------------------------------------------------------------
WISH = Wish((Facet("genres", "space"), Facet("year", "1990", True)), (Facet("genres", "music"),), ("genres", "year"))


def after(wish: Wish, answer: str, *proposals: frozenset[Facet], taken: int = 0, dull: int = 0) -> Action:
    opening = RuleSimulator().act(Scene(wish, seed=(1,)))
    lines = (Line("user", opening.text), Line("agent", answer))
    scene = Scene(wish, (), (opening,), lines, proposals, taken, dull, seed=(1, 1))
    return RuleSimulator().act(scene)


def test_acts() -> None:
    assert after(WISH, "Which genre do you like?").act == "answer"
    assert after(WISH, "Which genre do you like?").conveys == (Facet("genres", "space"),)
    assert after(WISH, "From which year?").conveys == (Facet("year", "1990", True),)
    assert after(WISH, "Nothing fits.").act == "inform"
    refusal = after(WISH, "1. X", frozenset({Facet("genres", "music"), Facet("genres", "space")}))
    assert refusal.act == "reject"
    assert refusal.refuses == (Facet("genres", "music"),)
    assert "music" in refusal.text
    late = after(WISH, "1. X", frozenset({Facet("year", "1980", True), Facet("genres", "space")}))
    assert "after the 1980s" in late.text
    assert after(WISH, "1. X", frozenset(), taken=1).act == "accept"
    assert after(WISH, "1. X", dull=3).act == "leave"


def test_noise_is_marked_and_said() -> None:
    always_wrong = RuleSimulator(RuleSimulatorConfig(wrong=1.0))
    action = always_wrong.act(Scene(Wish((Facet("genres", "space"),), (Facet("genres", "music"),)), seed=(3,)))
    assert (action.noise, action.conveys) == ("wrong", (Facet("genres", "music"),))
    assert "space" not in action.text
    vague = RuleSimulator(RuleSimulatorConfig(vague=1.0))
    assert vague.act(Scene(WISH, actions=(action,), seed=(3,))).noise == "vague"


def test_leaks_are_replaced_and_counted(talking: Talking, engine: Engine, people: list[Goal]) -> None:
    """A model that knows titles by heart lets them slip: none is sent."""

    def said(request: ChatRequest) -> str:
        return request.messages[-1].content.rpartition("Say this: ")[2]

    blabber = LLMSimulator(ScriptedModel(lambda r: f"I want {said(r)} " + ", ".join(engine.catalogue.names)))
    talks = talking("popular", blabber, turns=2)
    leaked = [(talk, r) for talk in talks for r in talk.rounds if r.leaked]
    assert len(leaked) >= 3
    for talk, r in leaked:
        assert r.draft.startswith("I want ")
        assert scan(r.draft, talk.goal.secrets)
        assert not scan(r.action.text, talk.goal.secrets)
        assert r.action.text == r.speaking.instead, "what is sent instead is the rules' own"  # type: ignore[union-attr]


def test_words_that_leak_even_by_rule_become_neutral(people: list[Goal]) -> None:
    title = people[0].secrets[0].titles[0]
    leak = Action("inform", f"Give me {title}", (Facet("genres", "space"),))
    action, draft, kinds = checked(Utterance(leak, instead=f"Or {title}"), people[0].secrets)
    assert (action.text, draft, kinds) == (NEUTRAL, leak.text, ("title",))
    assert action.conveys == (), "what was not said was not conveyed"


def test_a_model_that_fails_is_counted_and_the_rules_speak(talking: Talking) -> None:
    silent = LLMSimulator(ScriptedModel(lambda request: "   "))
    talks = talking("listening", silent, turns=2)
    assert heard(talks) == heard(talking("listening", turns=2))
    assert {f for t in talks for r in t.rounds for f in r.speaking.failures} == {"empty"}  # type: ignore[union-attr]


def test_the_model_is_told_what_to_say_and_who_it_is(talking: Talking) -> None:
    asked: list[str] = []

    def answer(request: ChatRequest) -> str:
        asked.append("\n".join(message.content for message in request.messages))
        return '"Whatever you say."'

    talks = talking("popular", LLMSimulator(ScriptedModel(answer)), turns=2)
    assert "Say this: ask for a recommendation; you want: " in asked[0]
    assert "You chose lately: " in asked[0]
    said = talks[0].rounds[0]
    assert said.speaking.failures == ("omitted",)  # type: ignore[union-attr]
    assert said.action == RuleSimulator().act(Scene(talks[0].goal.wish, seed=(1, talks[0].goal.case, 0)))


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ("A space film, please.", None), ("Anything.", "omitted"), ("Space, or music.", "added"),
        ("1. Space 2. More", "role"), ("I love spaceships", "omitted"), ("User: \"Space!\"", None),
    ],
)  # fmt: skip
def test_words_have_to_say_what_the_record_says(said: str, failure: str | None) -> None:
    known = [Facet("genres", value) for value in ("space", "music", "cooking")]
    simulator = LLMSimulator(ScriptedModel([said]), known=known)
    (utterance,) = simulator.speak([Scene(Wish((known[0],)), seed=(1,))])
    assert utterance.failures == (() if failure is None else (failure,))
    rule = RuleSimulator().act(Scene(Wish((known[0],)), seed=(1,)))
    assert utterance.instead == (rule.text if failure is None else None)
    assert (utterance.action == rule) == (failure is not None)
    assert utterance.action.conveys == rule.conveys
    assert (utterance.draft == said) == (failure is not None)


# -- figures ----------------------------------------------------------------------------------
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_figures_keep_their_order(engine: Engine, facets: Facets, people: list[Goal], data: st.DataObject) -> None:
    """Whatever lists an agent shows: more turns and longer lists find no less, and what is taken was shown."""
    config = TalkConfig(turns=3, shown=3, overlook=data.draw(st.sampled_from([0.0, 0.5])))
    lists = data.draw(st.lists(st.lists(st.integers(0, 39), max_size=6, unique=True), min_size=3, max_size=3))
    goal = data.draw(st.sampled_from(people))

    class Drawn(Mute):
        turn = 0

        def answer(self, session: Session, text: str) -> Turn:
            self.turn += 1
            return GivenAgent("drawn", lists[self.turn - 1]).answer(session, text)

    (talk,) = hold([goal], Drawn, RuleSimulator(), lambda g: Session(engine, None, g.user), facets, config, 1)
    figures = talk_figures(talk, config)
    by_turn = [figures[f"success@{t}"] for t in (1, 2, 3)]
    assert by_turn == sorted(by_turn)
    assert by_turn[-1] == figures["success"]
    for t in (1, 2, 3):
        assert figures[f"recall@1/{t}"] <= figures[f"recall@3/{t}"]
        assert figures[f"success@{t}"] <= figures[f"recall@3/{t}"]
        if config.overlook == 0:
            shown = any(goal.targets & set(items[:3]) for items in lists[:t])
            assert figures[f"success@{t}"] == figures[f"recall@3/{t}"] == float(shown)


def test_tastes(engine: Engine, facets: Facets) -> None:
    many = goals(engine, topics().split.test, facets, 8, several=True, seed=1, first=1)
    config = TalkConfig(turns=3, stops=False)
    for goal in many:
        assert len(goal.targets) == 3
        fit = fits(facets, goal.targets)
        assert fit.max() <= 1 + 1e-9
        assert fit[sorted(goal.targets)].min() > 0.4
        given = GivenAgent("oracle", sorted(goal.targets))
        (talk,) = hold([goal], lambda a=given: a, RuleSimulator(), lambda g: Session(engine, None, g.user), facets, config, 1)  # type: ignore[misc]
        figures = taste_figures(talk, config, facets)
        assert figures["found"] == 1
        assert figures["satisfaction@1"] == pytest.approx(fit[sorted(goal.targets)].mean())
        assert talk.outcome == "finished"
        assert talk.rounds[1].action.act == "accept"


def test_lists_are_measured_as_everywhere(engine: Engine, people: list[Goal]) -> None:
    talks = []
    for goal in people[:2]:
        talk = Talk(goal, Mute(), Session(engine))
        (target,) = goal.targets
        others = [i for i in range(40) if i != target][:20]
        shown = (*others[:2], target, *others[2:9])
        talk.rounds.append(dataclasses.replace(hold_one(goal, engine), shown=shown))
        talks.append(talk)
    figures = list_figures(talks, [sorted(people[0].targets), []], 10)
    assert (figures[0]["recall@1"], figures[0]["recall@5"], figures[0]["ndcg@10"]) == (0, 1, 0.5)
    assert np.isnan(figures[1]["recall@5"])


def hold_one(goal: Goal, engine: Engine):  # type: ignore[no-untyped-def]
    facets = Facets(engine.catalogue, 2)
    return hold([goal], Mute, RuleSimulator(), lambda g: Session(engine), facets, TalkConfig(turns=1), 1)[0].rounds[0]


# -- who they are -----------------------------------------------------------------------------
def test_people_know_their_past_and_not_their_future(engine: Engine, people: list[Goal]) -> None:
    cases = topics().split.test
    for goal in people:
        history = engine.users.history(str(goal.user)).items.tolist()
        assert sorted(history) == sorted(cases.queries.history[goal.case].tolist())
        assert goal.targets <= set(cases.truth[goal.case].tolist())
        assert not goal.targets & set(history)
        told = " ".join(goal.persona)
        assert not scan(told, goal.secrets)
        (target,) = goal.targets
        assert set(goal.wish.facets) <= Facets(engine.catalogue, 2).of(target)
        assert not set(goal.wish.decoys) & Facets(engine.catalogue, 2).of(target)


def test_given_personas_are_told_but_for_what_gives_the_item_away(engine: Engine, facets: Facets) -> None:
    train = topics().split.train
    names = engine.catalogue.names
    tastes = pl.Series("tastes", [["I like it calm.", *names]] * train.n_users)
    engine.dataset = dataclasses.replace(train, user_table=train.user_table.with_columns(tastes))
    for goal in goals(engine, topics().split.test, facets, 4, several=False, seed=1, first=1, told="tastes"):
        assert goal.persona[0] == "I like it calm."
        assert len(names) - 6 < len(goal.persona) <= len(names)
        assert not scan("; ".join(goal.persona), goal.secrets)


def test_what_single_items_have_is_no_facet(engine: Engine) -> None:
    every = Facets(engine.catalogue, 11).all
    assert every == [] or all(f.attribute != "title" for f in every)
    assert {f.attribute for f in Facets(engine.catalogue, 2).all} == {"genres", "year"}
    assert all(f.decade == (f.attribute == "year") for f in Facets(engine.catalogue, 2).all)
