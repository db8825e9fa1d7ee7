"""Dialogues between people, as they are published."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm4rec.core import DataError
from llm4rec.data.dialogues import Dialogue, Said, dialogue_sets, read_requests, requests_of


@pytest.fixture
def shared(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLM4REC_SHARED", str(shared_data))
    return shared_data


def test_moments_need_a_seeker_and_a_film() -> None:
    lines = (
        Said("recommender", "Seen Heat?", ("Heat",)), Said("seeker", "Yes. And Up.", ("Up",)), Said("recommender", "Nice."),
        Said("recommender", "Try Alien, or Heat again.", ("Alien", "Heat")), Said("seeker", "No", ("Alien",)),
    )  # fmt: skip
    (request,) = requests_of(iter([Dialogue("d", lines)]))
    assert (request.at, request.before, request.truth) == (3, lines[:3], ("Alien", "Heat"))
    assert request.mentioned == ("Heat", "Up")


def test_unknown_sets_and_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="did you mean 'conv-redial'"):
        read_requests("conv-reddial")
    monkeypatch.setenv("LLM4REC_SHARED", str(tmp_path))
    with pytest.raises(DataError, match=r"dev\.tsv"):
        read_requests("conv-inspired")
    (tmp_path / "conv-redial").mkdir()
    (tmp_path / "conv-redial" / "valid_data.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_requests("conv-redial")


def test_every_set_has_its_terms() -> None:
    for info in dialogue_sets():
        assert info.licence
        assert info.citation
        assert info.origin.startswith("https://")


@pytest.mark.shared
def test_inspired(shared: Path) -> None:
    requests = read_requests("conv-inspired")
    first = requests[0]
    assert first.truth == ("Full Metal Jacket (1987)",)
    assert [said.side for said in first.before[:2]] == ["recommender", "seeker"]
    assert 'I guess the "future" portrayed' in " ".join(said.text for said in first.before)
    assert len({r.dialogue for r in requests}) <= 100


@pytest.mark.shared
def test_redial(shared: Path) -> None:
    requests = read_requests("conv-redial")
    first = requests[0]
    assert first.truth == ("The Shining (1980)", "What Lies Beneath (2000)")
    assert first.mentioned == ("The Babadook (2014)",)
    assert first.before[1].text == "Hi im looking for a good horroe movie like The Babadook"
    assert any(set(r.truth) & set(r.mentioned) for r in requests), "some films are named again"


@pytest.mark.shared
def test_logged_answers(shared: Path) -> None:
    requests = read_requests("conv-llm-replay")
    assert len(requests) == 228
    assert requests[0].truth == ("Hustlers",)
    assert requests[0].mentioned == ("Hustlers",)
    assert requests[0].before[0] == Said("recommender", "Hi! I'm here to help you chose a movie!")
    assert requests[0].before[-1].side == "seeker"
    assert str(requests[0].logged).startswith("1. The Big Sick")
