"""User memory: what is told of a user, from which events, and what it is worth in a made world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from llm4rec.core import (
    Cases,
    Component,
    Config,
    Dataset,
    Lists,
    ModelError,
    NotFittedError,
    Queries,
    Ragged,
    SpecError,
    Vocabulary,
)
from llm4rec.llm import ChatReply, ChatRequest, ScriptedModel
from llm4rec.models.popular import Popular
from llm4rec.pipeline import Pipeline, PipelineConfig
from llm4rec.prompted.memory.facts import Evidence, Fact
from llm4rec.prompted.memory.memory import Memory
from llm4rec.prompted.memory.users import UserMemory, UserMemoryConfig
from llm4rec.prompted.wording import load_prompt
from tests.contracts.evaluation import recall
from tests.prompted.memory.world import MUTE

TITLES = ["Alien", "Aliens", "Big Night", "Contact", "Dune", "Emma"]
GENRES = [["Horror", "Space"], ["Action", "Space"], ["Comedy"], ["Drama", "Space"], ["Drama"], ["Comedy", "Drama"]]
YEARS = [1979, 1986, 1996, 1997, None, 1996]


def films(*events: tuple[int, int, int, float], clock: Any = "utc") -> Dataset:
    """Return a data set of six films and three users, with events (user, item, time, rating)."""
    table = pl.DataFrame({"item": range(6), "title": TITLES, "year": YEARS, "genres": GENRES})
    user, item, time, value = zip(*(events or ((0, 0, 1, 1.0), (1, 1, 2, 5.0))), strict=True)
    log = pl.DataFrame({"user": user, "item": item, "time": time, "value": value, "behavior": [0] * len(user)})
    users, items = Vocabulary(["ann", "bob", "eve"]), Vocabulary([f"f{i}" for i in range(6)])
    return Dataset("films", users, items, log, table, pl.DataFrame({"user": range(3)}), clock=clock)


def asked(*rows: tuple[int, list[int], list[float]], time: int = 1000, start: int = 100) -> Queries:
    """Return queries of (user, history, ratings); events ten seconds apart."""
    history = Ragged.of([items for _, items, _ in rows])
    step = np.arange(len(history.values)) - np.repeat(history.offsets[:-1], history.lengths)
    return Queries(
        np.array([user for user, _, _ in rows]), history, np.full(len(rows), time), start + 10 * step,
        history_values=np.array([v for _, _, values in rows for v in values], np.float32),
    )  # fmt: skip


def fitted(train: Dataset | None = None, **config: Any) -> UserMemory:
    memory = UserMemory(UserMemoryConfig.model_validate(config))
    return memory.fit(films() if train is None else train, valid=None, rng=np.random.default_rng(0))


def profile(memory: UserMemory, queries: Queries) -> str:
    (told,) = memory.enrich(queries).profiles or ()
    return told


# -- short term ---------------------------------------------------------------------------
def test_each_event_has_its_own_rating() -> None:
    """In an earlier prototype ratings stood beside the wrong items."""
    memory = fitted(short_term=2, favourites=0)
    told = memory.enrich(asked((0, [0, 1, 2], [1, 2, 3]), (1, [], []), (2, [5, 4], [5, 0.5]))).profiles
    assert told == (
        "Lately: watched Aliens (1986), rated 2; watched Big Night (1996), rated 3.",
        "",
        "Lately: watched Emma (1996), rated 5; watched Dune, rated 0.5.",
    )


def test_what_is_done_again_counts_as_done_last() -> None:
    again = asked((0, [0, 1, 0], [5, 4, 5]))
    assert profile(fitted(short_term=2, favourites=0), again) == (
        "Lately: watched Aliens (1986), rated 4; watched Alien (1979), rated 5."
    )


@pytest.mark.parametrize("seed", range(5))
def test_ratings_and_times_follow_their_items_in_any_batch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [(int(rng.integers(3)), rng.integers(6, size=n).tolist(), []) for n in rng.integers(0, 9, size=12)]
    queries = asked(*((u, items, [i + 0.5 for i in items]) for u, items, _ in rows)).take(rng.permutation(12))
    for row, facts in enumerate(fitted(short_term=4, favourites=0).recall(queries).facts):
        events = list(dict.fromkeys(queries.history[row][-4:].tolist()))
        assert sorted(f.text for f in facts) == sorted(
            f"watched {TITLES[i]}{f' ({YEARS[i]})' if YEARS[i] else ''}, rated {i + 0.5:g}" for i in events
        )
        assert all(f.evidence[0].item == f"f{TITLES.index(f.text[8:].split(' (')[0].split(',')[0])}" for f in facts)


def test_without_ratings_none_are_told() -> None:
    same = films((0, 0, 1, 1.0), (1, 1, 2, 1.0))
    assert "rated" not in profile(fitted(same), asked((0, [0, 3], [1, 1])))
    unknown = replace(asked((0, [0, 3], [1, 1])), history_values=None, history_times=None)
    told = fitted().recall(unknown)
    assert "rat" not in told.profiles[0]
    assert all(e.time is None for f in told.facts[0] for e in f.evidence)


# -- long term ----------------------------------------------------------------------------
def test_favourites_are_counted_with_their_evidence() -> None:
    queries = asked((0, [0, 1, 3, 2, 5], [5, 4, 3, 1, 2]))
    (facts,) = fitted(short_term=0, at_least=2, evidence=2).recall(queries).facts
    assert [(f.attribute, f.text, f.detail) for f in facts] == [("genres", "Space", "3 of 5, mean rating 4.0")]
    (space,) = facts
    assert space.evidence == (Evidence("f1", 110), Evidence("f3", 120)), "the newest of them"
    assert (space.source, space.time, space.subject, space.of) == ("history", 120, "user", "ann")


def test_favourites_go_by_tf_idf_of_what_was_liked() -> None:
    queries = asked((0, [2, 5, 4, 3, 0], [4, 4, 4, 4, 4]))
    (facts,) = fitted(short_term=0, at_least=1, favourites=2, attributes=("genres",)).recall(queries).facts
    worth = {"Comedy": 2 * np.log(6 / 2), "Drama": 3 * np.log(6 / 3), "Space": 2 * np.log(6 / 3), "Horror": 1 * np.log(6)}
    best = sorted(worth, key=lambda genre: -worth[genre])[:2]
    assert [f.text for f in facts] == best
    disliked = asked((0, [2, 5, 4, 3, 0], [1, 1, 5, 5, 5]))
    (facts,) = fitted(short_term=0, at_least=1, favourites=2, attributes=("genres",)).recall(disliked).facts
    assert "Comedy" not in [f.text for f in facts]


def test_decades_and_chosen_columns() -> None:
    queries = asked((0, [2, 5, 3], [4, 4, 4]))
    told = profile(fitted(short_term=0, attributes=("decade",)), queries)
    assert told == "Favourite decade: 1990s (3 of 3, mean rating 4.0)."
    with pytest.raises(SpecError, match="no column 'genre'"):
        fitted(attributes=("genre",))


# -- nothing from later ---------------------------------------------------------------------
def test_only_the_history_of_the_query_counts() -> None:
    queries = asked((0, [0, 1], [5, 5]), time=200)
    little = fitted(films((0, 0, 100, 1.0), (1, 1, 110, 5.0)))
    later = fitted(films((0, 0, 100, 1.0), (1, 1, 110, 5.0), (0, 5, 300, 5.0), (0, 2, 301, 5.0), (0, 4, 302, 5.0)))
    assert profile(little, queries) == profile(later, queries)


def test_stated_facts_count_from_their_time_on(tmp_path: Path) -> None:
    stated = [
        Fact("user", "ann", "text", "Hates cruelty.", "ann", time=500), Fact("user", "ann", "text", "Is a doctor.", "ann"),
        Fact("user", "bob", "text", "Is a pilot.", "bob"),
    ]  # fmt: skip
    Memory(stated).save(tmp_path / "m.jsonl")
    memory = fitted(memory=tmp_path / "m.jsonl", short_term=0, favourites=0)
    for time, told in ((400, "Is a doctor."), (500, "Is a doctor."), (501, "Hates cruelty. Is a doctor.")):
        assert profile(memory, asked((0, [1], [5]), time=time)) == told
    assert profile(memory, asked((-1, [1], [5]))) == "", "nobody in particular"


# -- hands on it --------------------------------------------------------------------------
def test_facts_are_listed_edited_and_forgotten_for_good(tmp_path: Path) -> None:
    memory = fitted(short_term=1, attributes=("genres",))
    queries = asked((0, [0, 1, 3], [5, 5, 5]))
    known = memory.facts(queries)
    (space,) = known.list("user", "ann", "attribute")
    (event,) = known.list("user", "ann", "event")
    memory.memory_ = known.edit(space.id, "Space opera", source="ann").forget(event.id)
    assert profile(memory, queries) == "Favourite genres: Space opera."
    later = asked((0, [0, 1, 3, 1, 0], [5, 5, 5, 4, 4]))
    assert profile(memory, later) == ("Favourite genres: Space opera. Lately: watched Alien (1979), rated 4."), (
        "what was corrected stays so with a longer history"
    )
    memory.save(tmp_path)
    assert profile(UserMemory.load(tmp_path), later) == profile(memory, later)
    assert profile(memory, asked((1, [0, 1, 3], [5, 5, 5]))).startswith("Favourite genres: Space (3 of 3"), "of ann alone"


def test_a_correction_counts_at_the_moment_of_what_it_corrects() -> None:
    """Half of the users' last events share the time of the query."""
    memory = fitted(short_term=0, attributes=("genres",))
    queries = asked((0, [0, 1, 3], [5, 5, 5]), time=120)
    memory.memory_ = (known := memory.facts(queries)).edit(known.list("user")[0].id, "Space opera")
    assert profile(memory, queries) == "Favourite genres: Space opera."
    assert "opera" not in profile(memory, replace(queries, times=np.array([119])))


def test_a_kept_fact_that_no_longer_follows_is_not_told() -> None:
    memory = fitted(short_term=0, attributes=("genres",))
    memory.memory_ = memory.facts(asked((0, [0, 1, 3], [5, 5, 5])))
    assert "Space" in profile(memory, asked((0, [0, 1], [5, 5])))
    assert profile(memory, asked((0, [2, 5], [5, 5]), time=2000)) == "Favourite genres: Comedy (2 of 2, mean rating 5.0)."


def test_profiles_are_appended() -> None:
    queries = replace(asked((0, [0], [5]), (1, [], [])), profiles=("Ann.", "Bob."))
    told = fitted(favourites=0).enrich(queries).profiles
    assert told == ("Ann. Lately: watched Alien (1979), rated 5.", "Bob.")


def test_unfitted() -> None:
    with pytest.raises(NotFittedError):
        UserMemory().enrich(asked((0, [0], [5])))


# -- written by a model -------------------------------------------------------------------
def test_profile_and_reflection_with_evidence_and_notes() -> None:
    model = ScriptedModel(
        lambda r: "Lately, this user laughs." if "Lately, the oldest first" in r.messages[0].content else "This user dreams."
    )
    memory = writing(model, write=("profile", "reflection"), lately=1, favourites=1, attributes=("genres",))
    told = memory.recall(asked((0, [0, 1, 2], [5, 4, 3]), (1, [3], [4]), (2, [], [])))
    assert told.profiles == (
        "This user dreams. Lately, this user laughs. Favourite genres: Space (2 of 3, mean rating 4.5).",
        "This user dreams.",
        "",
    )
    assert [len(note.exchanges) for note in told.notes] == [2, 1, 0], "nothing is asked where there is nothing to say"
    written = next(f for f in told.facts[0] if f.kind == "profile")
    assert (written.source, written.time, written.evidence[-1]) == ("scripted", 120, Evidence("f2", 120))
    prompt = told.notes[0].exchanges[0].prompt
    assert "- genres: Space (2 of 3, mean rating 4.5)" in prompt
    assert "- watched Alien (1979), rated 5\n- watched Aliens (1986), rated 4\n- watched Big Night (1996), rated 3\n" in prompt
    reflection = told.notes[0].exchanges[1].prompt
    assert reflection.index("Aliens") < reflection.index("Lately") < reflection.index("Big Night")


def writing(model: ScriptedModel | None, **config: Any) -> UserMemory:
    given = {"llm": "any", "write": ("profile",), "short_term": 0, "favourites": 0} | config
    return UserMemory(UserMemoryConfig.model_validate(given), model).fit(films(), valid=None, rng=np.random.default_rng(0))


def test_failures_are_told_by_kind_and_nothing_is_made_up() -> None:
    replies = iter(
        [ChatReply("", failure="refused", detail="no"), ChatReply("One. Tw", failure="truncated"), ChatReply("Fine.")]
    )
    told = writing(ScriptedModel(lambda r: next(replies))).recall(asked((0, [0], [5]), (1, [1], [5]), (2, [2], [5])))
    assert told.profiles == ("", "One.", "Fine.")
    assert [note.failures for note in told.notes] == [("refused",), ("truncated",), ()]


def test_what_was_forgotten_is_not_shown_to_the_model() -> None:
    model = ScriptedModel(lambda r: "This user dreams.")
    memory = writing(model, short_term=3)
    queries = asked((0, [0, 2], [5, 5]))
    known = memory.facts(queries)
    secret = next(f for f in known.list("user", "ann", "event") if "Big Night" in f.text)
    memory.memory_ = known.forget(secret.id)
    model.asked.clear()
    assert "Big Night" not in profile(memory, queries)
    (request,) = model.asked
    assert isinstance(request, ChatRequest)
    assert "Alien" in request.messages[0].content
    assert "Big Night" not in request.messages[0].content


def test_an_edited_profile_stays_until_somebody_changes_it() -> None:
    memory = writing(ScriptedModel(lambda r: f"This user has seen {r.messages[0].content.count('watched ')} films."))
    queries = asked((0, [0, 2], [5, 5]))
    known = memory.facts(queries)
    memory.memory_ = known.edit(known.list("user", "ann", "profile")[0].id, "I only watch comedies.", source="ann")
    assert profile(memory, queries) == profile(memory, asked((0, [0, 2, 5], [5, 5, 5]))) == "I only watch comedies."


def test_model_and_what_it_writes_go_together() -> None:
    for wrong in ({"llm": "any"}, {"write": ("profile",)}):
        with pytest.raises(ValidationError, match="llm and write go together"):
            UserMemoryConfig.model_validate(wrong)
    with pytest.raises(ModelError, match="made without a language model"):
        writing(None).enrich(asked((0, [0], [5])))


def test_an_own_template_is_checked_when_it_is_read(tmp_path: Path) -> None:
    own = tmp_path / "mine.j2"
    own.write_text("{{ history | join('; ') }}")
    told = writing(ScriptedModel(lambda r: "Fine."), profile_template=str(own)).recall(asked((0, [0, 2], [5, 4])))
    assert told.notes[0].exchanges[0].prompt == "watched Alien (1979), rated 5; watched Big Night (1996), rated 4"
    for text, what in (("{{ histroy }}", "did you mean 'history'"), ("Hello.", "does not name 'history'")):
        own.write_text(text)
        load_prompt.cache_clear()
        with pytest.raises(SpecError, match=what):
            writing(ScriptedModel(), profile_template=str(own))


# -- the control --------------------------------------------------------------------------
def test_somebody_elses_memory_from_before_the_query() -> None:
    train = films((0, 0, 10, 5.0), (0, 1, 20, 4.0), (1, 2, 15, 3.0), (1, 5, 500, 2.0), (2, 3, 400, 1.0))
    memory = fitted(train, control="shuffled", favourites=0)
    for user in range(3):
        for time in (12, 16, 450, 600):
            (facts,) = memory.recall(asked((user, [4], [5.0]), time=time)).facts
            assert all(f.of != train.users.ids[user] for f in facts), "not the own memory"
            assert all(f.time is not None and f.time < time for f in facts), "nothing from later"
            assert not any("Dune" in f.text for f in facts)
    assert profile(memory, asked((0, [4], [5.0]), time=12)) == "", "nobody else has a history by then"
    late = profile(memory, asked((0, [4], [5.0]), time=600))
    assert late in (
        "Lately: watched Big Night (1996), rated 3; watched Emma (1996), rated 2.",
        "Lately: watched Contact (1997), rated 1.",
    )


def test_lent_histories_are_saved(tmp_path: Path) -> None:
    memory = UserMemory(UserMemoryConfig(control="shuffled")).fit(MUTE.split.train, valid=None, rng=np.random.default_rng(0))
    memory.save(tmp_path)
    queries = MUTE.split.test.queries
    assert UserMemory.load(tmp_path).enrich(queries).profiles == memory.enrich(queries).profiles
    assert len(set(memory.enrich(queries).profiles or ())) > 5


def test_without_real_times_any_history_can_be_lent() -> None:
    train = films((0, 0, 1, 5.0), (1, 2, 1, 3.0), (2, 3, 1, 1.0), clock="order")
    assert profile(fitted(train, control="shuffled"), asked((0, [4], [5.0]), time=1)).startswith("Lately: watched")


# -- what it is worth -----------------------------------------------------------------------
class ReadsConfig(Config):
    """Parameters of the ranker below."""


class Reads(Component[ReadsConfig]):
    """Ranks first what is of a genre that the profile names; knows nothing else."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Reads:
        self.genres_ = [row[0] for row in train.item_table["genres"].to_list()]
        return self

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        told = queries.profiles or ("",) * len(queries)
        scores = np.array(
            [
                [float(self.genres_[i] in words) - 1e-3 * i for i in row]
                for row, words in zip(candidates.items, told, strict=True)
            ]
        )
        return Lists.from_pools(candidates.items, np.where(candidates.items < 0, np.nan, scores))


def test_a_ranker_that_reads_the_profile_needs_the_right_one() -> None:
    cases = MUTE.split.test
    figures = {}
    for control in ("none", "shuffled", "absent"):
        config = UserMemoryConfig(control="shuffled" if control == "shuffled" else "none", attributes=("genres",))
        augmenters = [] if control == "absent" else [UserMemory(config)]
        pipeline = Pipeline({"popular": Popular()}, [Reads()], config=PipelineConfig(depth=40), augmenters=augmenters)
        pipeline.fit(MUTE.split.train, valid=None, rng=np.random.default_rng(0))
        trace = pipeline.run(cases.queries, MUTE.k, exclude=cases.exclude("seen"))
        figures[control] = recall(trace.lists, cases, MUTE.k)
        for addition in trace.additions:
            assert addition.profiles is not None
            assert all("Favourite genres" in told for told in addition.profiles), "the trace shows what was told"
    assert figures["none"] == MUTE.expected
    assert figures["shuffled"] < MUTE.chance + 0.2
    assert figures["absent"] < MUTE.chance + 0.2
