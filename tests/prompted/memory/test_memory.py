"""Facts and the memory: identity, corrections, forgetting, time, and files that people edit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import DataError
from llm4rec.prompted.memory.facts import Evidence, Fact, FactError, moment
from llm4rec.prompted.memory.memory import Memory

SEEN = (Evidence("50", 100), Evidence("71", 200))
LIKES = Fact("user", "7", "attribute", "Drama", "history", "genres", 200, SEEN, detail="2 of 3")
PLOT = Fact(
    "item", "50", "knowledge", "A farm boy leaves home.", "wiki", time=900, evidence=(Evidence(url="http://x.test/50"),)
)
NOTE = Fact("item", "50", "text", "Long.", "catalogue", "length")
TASTE = Fact("user", "7", "profile", "This user likes dramas.", "some-model", time=200, evidence=SEEN)


# -- what a fact is -----------------------------------------------------------------------
def test_id_says_what_is_said_of_whom_by_whom() -> None:
    later = replace(LIKES, detail="9 of 30", time=999, evidence=(Evidence("8", 999),))
    assert later.id == LIKES.id, "the same fact, computed from a longer history"
    assert later.hash != LIKES.hash
    for other in (
        replace(LIKES, of="8"), replace(LIKES, text="Comedy"), replace(LIKES, source="hand"),
        replace(LIKES, attribute="mood"), replace(LIKES, kind="text"), replace(LIKES, replaces=PLOT.id),
    ):  # fmt: skip
        assert other.id != LIKES.id
    assert replace(TASTE, text="Other words.").id == TASTE.id, "one profile from each source"
    assert replace(TASTE, text="Other words.").hash != TASTE.hash


@pytest.mark.parametrize("wrong", [{"text": " "}, {"of": ""}, {"source": ""}, {"text": "x" * 20_001}, {"kind": "rumour"}])
def test_a_fact_needs_its_parts(wrong: dict[str, str]) -> None:
    with pytest.raises(FactError):
        replace(LIKES, **wrong)  # type: ignore[arg-type]


def test_moments() -> None:
    assert moment(None) is None
    assert moment(5) == 5
    assert moment("1997-09-20") == 874713600
    assert moment("1997-09-20T00:00:00.5") == 874713601, "not known before it is"
    assert moment("1997-09-20T02:00:00+02:00") == 874713600
    for wrong in ("yesterday", 1.5, True, 2**70, [1]):
        with pytest.raises(FactError):
            moment(wrong)


# -- the memory ---------------------------------------------------------------------------
def test_add_list_and_look_up() -> None:
    memory = Memory().add(LIKES, PLOT, NOTE)
    assert memory.list() == (LIKES, PLOT, NOTE)
    assert memory.list("item") == (PLOT, NOTE)
    assert memory.list("item", "50", "text") == (NOTE,)
    assert memory.list("item", "51") == ()
    assert memory[PLOT.id] == PLOT
    assert PLOT.id in memory
    assert TASTE.id not in memory
    with pytest.raises(DataError, match="is not in the memory"):
        memory["0" * 16]


def test_a_fact_that_is_computed_anew_takes_its_old_place() -> None:
    newer = replace(LIKES, time=300, detail="3 of 4")
    assert Memory([LIKES, PLOT]).add(newer).list() == (newer, PLOT)


def test_edit_keeps_the_old_one_and_says_so() -> None:
    before = Memory([LIKES, PLOT])
    after = before.edit(LIKES.id, "Melodrama", source="ann")
    assert before.list() == (LIKES, PLOT), "the old memory is what it was"
    (right,) = after.list("user")
    assert (right.text, right.source, right.replaces, right.evidence) == ("Melodrama", "ann", LIKES.id, SEEN)
    assert right.detail is None, "the count belongs to what was counted"
    assert after.list("user", superseded=True) == (LIKES, right)
    assert after.superseded(LIKES)
    assert not after.superseded(right)
    with pytest.raises(DataError, match=f"was corrected before; edit '{right.id}'"):
        after.edit(LIKES.id, "Comedy")
    again = after.edit(right.id, "Tragedy", source="ann")
    assert [f.text for f in again.list("user")] == ["Tragedy"]
    assert [f.text for f in again.add(replace(LIKES, detail="5 of 9")).list("user")] == ["Tragedy"], (
        "learnt anew, still corrected"
    )


def test_what_is_forgotten_leaves_no_word_and_is_not_learnt_again(tmp_path: Path) -> None:
    memory = Memory([LIKES, PLOT]).edit(LIKES.id, "Melodrama").forget(LIKES.id)
    assert memory.list(superseded=True) == (PLOT,), "its correction went with it"
    assert memory.add(LIKES, replace(LIKES, detail="9 of 9")).list() == (PLOT,)
    memory.save(tmp_path / "m.jsonl")
    assert "rama" not in (tmp_path / "m.jsonl").read_text()
    assert Memory.load(tmp_path / "m.jsonl") == memory
    with pytest.raises(DataError, match="was forgotten"):
        memory[LIKES.id]


def test_forgetting_a_correction_does_not_bring_back_what_it_corrected() -> None:
    memory = Memory([LIKES]).edit(LIKES.id, "Melodrama")
    (right,) = memory.list()
    twice = memory.edit(right.id, "Tragedy")
    for gone in (LIKES.id, right.id, twice.list()[0].id):
        assert len(twice.forget(gone)) == 0


def test_forget_a_whole_subject() -> None:
    memory = Memory([LIKES, TASTE, PLOT]).forget(subject="user", of="7")
    assert memory.list() == (PLOT,)
    assert memory.add(TASTE).list() == (PLOT,)
    for wrong in ({}, {"subject": "user"}, {"id_": LIKES.id, "subject": "user", "of": "7"}):
        with pytest.raises(DataError, match="forget takes"):
            memory.forget(**wrong)  # type: ignore[arg-type]


def test_frozen_knows_nothing_from_that_moment_on() -> None:
    memory = Memory([LIKES, PLOT, NOTE]).edit(LIKES.id, "Comedy", time=500)
    assert memory.frozen(200).list() == (NOTE,), "not what became known at the very moment"
    assert memory.frozen(201).list() == (LIKES, NOTE), "the correction came later"
    assert [f.text for f in memory.frozen(501).list()] == ["Long.", "Comedy"]
    assert len(memory.frozen(901).list()) == 3
    assert memory.forget(LIKES.id).frozen(300).add(LIKES).list() == (NOTE,), "forgotten at every moment"


# -- on disk ------------------------------------------------------------------------------
_words = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=30).filter(lambda t: t.strip())
_facts = st.builds(
    Fact, st.sampled_from(["item", "user"]), _words, st.sampled_from(["text", "attribute", "profile"]), _words, _words,
    st.none() | _words, st.none() | st.integers(-(2**40), 2**40),
    st.lists(st.builds(Evidence, _words, st.none() | st.integers(0, 2**40), st.none() | _words), max_size=3).map(tuple),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(facts=st.lists(_facts, max_size=6), edit=st.booleans(), forget=st.booleans())
def test_saved_and_loaded_it_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, facts: list[Fact], edit: bool, forget: bool
) -> None:
    memory = Memory(facts)
    if facts and edit:
        memory = memory.edit(facts[0].id, "right")
    if facts and forget:
        memory = memory.forget(facts[-1].id)
    path = tmp_path_factory.mktemp("m") / "memory.jsonl"
    memory.save(path)
    loaded = Memory.load(path)
    assert loaded == memory
    assert loaded.list() == memory.list()


def test_the_file_can_be_read_by_people(tmp_path: Path) -> None:
    Memory([LIKES, PLOT]).save(tmp_path / "m.jsonl")
    first, second = map(json.loads, (tmp_path / "m.jsonl").read_text().splitlines())
    assert first["subject"] == "user:7"
    assert first["evidence"] == [{"item": "50", "time": 100}, {"item": "71", "time": 200}]
    assert "time" not in Memory([NOTE]).list()[0].as_dict()
    assert second["text"] == "A farm boy leaves home."


def test_a_line_by_hand_needs_neither_id_nor_hash(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('\n{"subject": "item:50", "kind": "text", "text": "Slow.", "source": "ann", "time": "1997-09-20"}\n')
    assert Memory.load(path).list() == (Fact("item", "50", "text", "Slow.", "ann", time=874713600),)


GOOD = LIKES.as_dict()


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a JSON object"),
        (json.dumps({**GOOD, "text": "Comedy"}), 'its id does not fit.*delete "id" and "hash"'),
        (json.dumps({**GOOD, "detail": "9 of 9"}), "its hash does not fit"),
        (json.dumps({**GOOD, "evidence": []}), "its hash does not fit"),
        (json.dumps({**GOOD, "colour": 1}), "unknown field 'colour'"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "source"}), "'source' must be a text"),
        (json.dumps({**GOOD, "subject": "7"}), "'subject' must be 'item:ID' or 'user:ID'"),
        (json.dumps({**GOOD, "subject": "film:7"}), "'subject' must be"),
        (json.dumps({**GOOD, "kind": "rumour"}), "'kind' must be one of"),
        (json.dumps({**GOOD, "attribute": 5}), "'attribute' must be a text"),
        (json.dumps({**GOOD, "time": "soon"}), "'time' must be seconds or ISO 8601"),
        (json.dumps({**GOOD, "evidence": {}}), "'evidence' must be a list"),
        (json.dumps({**GOOD, "evidence": [{"page": 1}]}), "unknown field 'page' in 'evidence'"),
        (json.dumps({**GOOD, "evidence": [{"item": 50}]}), "'item' and 'url'"),
        (json.dumps(GOOD), "says again what line 1 says"),
        (json.dumps({"forgotten": "Drama"}), "must be the id of a fact"),
        (json.dumps({"forgotten": LIKES.id}), "line 1: was forgotten by line 3"),
        (json.dumps(replace(PLOT, replaces="0" * 16).as_dict()), "corrects '0000000000000000', which is not there"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{line}\n")
    with pytest.raises(DataError, match=what) as error:
        Memory.load(path)
    assert f"{path}, line {1 if 'line 1' in what and 'again' not in what else 3}" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Memory.load(tmp_path / "none.jsonl")
    (tmp_path / "m.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        Memory.load(tmp_path / "m.jsonl")


def test_saving_leaves_the_old_file_or_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.jsonl"
    Memory([LIKES]).save(path)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
    with pytest.raises(OSError, match="power cut"):
        Memory([PLOT]).save(path)
    assert Memory.load(path).list() == (LIKES,)
