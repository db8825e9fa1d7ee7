"""What the report says of rankers, explanations and contamination: sentences follow figures, and any file is survived."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import RunError
from llm4rec.experiment.report_contamination import contamination
from llm4rec.experiment.report_explanations import MARKS, additions, columns, marked
from llm4rec.experiment.report_files import figures
from llm4rec.experiment.report_findings import findings
from llm4rec.experiment.report_rankers import diagnoses, use_of_history
from llm4rec.metrics import Interval
from llm4rec.prompted.contamination import ContaminationReport, Finding
from llm4rec.prompted.explain.evaluate import FIGURES
from tests.experiment.made_insight import ADDITIONS, CONTAMINATION, diagnosis

JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=8),
    lambda x: st.lists(x, max_size=4) | st.dictionaries(st.text(max_size=8), x, max_size=4),
    max_leaves=12,
)
PARTS = ("scoring", "controls", "answers", "position", "agreement", "popularity", "history")
INNER = (
    "first", "rank", "hit", "slope", "trials", "left_out", "mean", "low", "high", "n", "ranker", "truth", "excess",
    "difference", "metric", "true", "shuffled", "fake", "gain", "tau", "cases", "listings", "unusable", "incomplete",
    "unranked", "kinds",
)  # fmt: skip


def _gain(difference: float, half: float, tau: float | None = 0.5) -> dict[str, Any]:
    gain = {"difference": difference, "low": difference - half, "high": difference + half, "p": 0.5, "n": 30}
    return {"gain": gain, "tau": None if tau is None else {"mean": tau, "low": tau, "high": tau, "n": 30}}


@pytest.mark.parametrize(
    ("control", "word", "said"),
    [
        (
            _gain(0.05, 0.02),
            "used",
            "It uses the history: against another user’s, the true one gains +0.0500 nDCG@10 (+0.0300 to",
        ),
        (_gain(0.01, 0.02), "unseen", "No use of the history is seen"),
        (_gain(0.01, 0.02, None), "unseen", "No use of the history is seen"),
        (_gain(-0.05, 0.02), "harmful", "It would do better without the history as it is"),
        (_gain(0.0, 0.0, 1.0), "same", "It does not use the history"),
    ],
)
def test_a_control_is_put_into_words(control: dict[str, Any], word: str, said: str) -> None:
    found, sentence = use_of_history(control, "fake", "nDCG@10")
    assert found == word
    assert sentence.startswith(said)
    assert ("its order does change" in sentence.lower()) == (word == "unseen" and control["tau"] is not None)
    order = use_of_history(control, "shuffled", "nDCG@10")
    assert order[0] == word
    assert "the order of the history" in order[1]


@pytest.mark.parametrize(
    ("slope", "said"),
    [((0.36, 0.3, 0.4), "favours what is shown early"), ((-0.36, -0.4, -0.3), "favours what is shown late"),
     ((0.01, -0.1, 0.1), "No trend over the slots is seen")],
)  # fmt: skip
def test_slots_are_put_into_words(slope: tuple[float, float, float], said: str) -> None:
    value = diagnosis("llm_served")
    value["rank:served"]["position"]["slope"] = dict(zip(("mean", "low", "high"), slope, strict=True))
    (stage,) = diagnoses(value)
    assert said in stage["says"]["position"]
    assert "Slot 1 of 20 is placed first most often, in 22." in stage["says"]["position"]
    assert stage["says"]["position"].endswith("even: 5.0 %.")


def test_a_stage_without_listings_says_that_slots_cannot_matter() -> None:
    (stage,) = diagnoses(diagnosis("llm_embedded"))
    assert stage["position"] is None
    assert "scoring: likelihood" in stage["says"]["position"]
    assert "not seen to go with popularity more or less" in stage["says"]["popularity"]
    assert (
        diagnoses({"rank:x": {"scoring": "choice", "position": {"slots": 0, "first": [], "rank": []}}})[0]["position"] is None
    )


@given(st.dictionaries(st.sampled_from(PARTS), st.dictionaries(st.sampled_from(INNER), JSON) | JSON))
@settings(max_examples=150, deadline=None)
def test_any_diagnosis_is_survived(value: dict[str, Any]) -> None:
    for stage in diagnoses({"rank:x": value}):
        assert set(PARTS) < set(stage)
        assert all(isinstance(sentence, str) for sentence in stage["says"].values())


def test_columns_are_those_that_somebody_has() -> None:
    some = [{"explanation": figures({"usr": {"mean": 0.5}, "fidelity": {"mean": None}, "unknown": {"mean": 1.0}})}]
    assert [c["key"] for c in columns(some)] == ["usr"]
    assert columns([]) == []
    every = columns([{"explanation": dict.fromkeys(FIGURES)}])
    assert {c["key"] for c in every} == set(FIGURES) - {"fcr"}
    assert all(c["means"] == FIGURES[c["key"]] and c["better"] in (-1, 1) for c in every)


def test_additions_are_read_as_far_as_they_are_there() -> None:
    assert [a["columns"] for a in additions(ADDITIONS)] == [{"<u>facts</u>": 311, "keywords": 480}, {}]
    assert additions([{"columns": 3}, None, "x"]) == [{"name": "?", "columns": {}, "seconds": None}]
    assert additions(None) == []


def test_a_sentence_is_marked_where_claims_and_mentions_stand() -> None:
    sentence = "👍 You saw Up, a war film by Up Carter."
    claims = [{"span": [2, 12], "outcome": "true"}, {"span": [14, 24], "outcome": "false"}, {"span": None, "outcome": "false"}]
    stretches, missing = marked(sentence, claims, ["Up", "Carter", "Supernatural", "art"])
    assert stretches == [
        ["👍 ", ""], ["You saw ", "true"], ["Up", "unsupported"], [", ", ""], ["a war film", "false"], [" by Up ", ""],
        ["Carter", "unsupported"], [".", ""],
    ]  # fmt: skip
    assert missing == ["Supernatural", "art"]
    spans = marked(sentence, [], [{"text": "Up", "span": [28, 30]}, {"text": "gone", "span": [90, 99]}])
    assert spans == ([["👍 You saw Up, a war film by ", ""], ["Up", "unsupported"], [" Carter.", ""]], ["gone"])


SPANS = JSON | st.lists(st.integers(-2, 35), max_size=3)
CLAIMS = st.fixed_dictionaries({"span": SPANS, "outcome": JSON | st.sampled_from(MARKS)})


@given(st.text(max_size=30), st.lists(CLAIMS), st.lists(JSON, max_size=4))
@settings(max_examples=200, deadline=None)
def test_marks_never_change_a_sentence(sentence: str, claims: list[dict[str, Any]], unsupported: list[Any]) -> None:
    stretches, _ = marked(sentence, claims, unsupported)
    assert "".join(text for text, _ in stretches) == sentence
    assert {mark for _, mark in stretches} <= {"", *MARKS}


SYSTEMS = [{"label": "Served", "llm_names": ["served"]}, {"label": "Small", "llm_names": ["smollm"]}]


def test_contamination_is_read_and_only_the_file_counts(tmp_path: Path) -> None:
    assert contamination(tmp_path, {}, SYSTEMS) == []
    (tmp_path / "contamination.json").write_text(json.dumps(CONTAMINATION))
    served, small = contamination(tmp_path, {"smollm": "SmolLM2", "served": "served"}, SYSTEMS)
    assert (served["model"], served["systems"], served["by_heart"]) == ("gpt-<em>x</em>", ["Served"], True)
    assert [t["attribute"] for t in served["tests"]] == [False, False, True]
    assert (small["model"], small["by_heart"], small["level"]) == ("SmolLM2", False, 0.99)
    world = {"served": CONTAMINATION["served"] | {"findings": CONTAMINATION["served"]["findings"][1:]}}
    (tmp_path / "contamination.json").write_text(json.dumps(world))
    assert not contamination(tmp_path, {}, SYSTEMS)[0]["by_heart"]


def test_the_probe_s_own_report_is_read_whole(tmp_path: Path) -> None:
    high, low = Interval(0.9, 0.8, 1.0, 40), Interval(0.1, 0.0, 0.2, 40)
    finding = Finding(
        test="titles", method="choice", cases=50, choices=10.0, measure="accuracy", score=high, chance=low,
        difference=Interval(float("nan"), float("nan"), float("nan"), 0), accuracy=0.9, accuracy_chance=0.1,
        written=high, written_chance=None, found=None, failures={"refused": 20},
    )  # fmt: skip
    report = ContaminationReport("m", "films", "f", {"level": 0.99}, (finding,), {"rows": "none"}, "cannot tell")
    (tmp_path / "contamination.json").write_text(json.dumps({"served": report.to_json()}))
    (one,) = contamination(tmp_path, {}, SYSTEMS)
    (test,) = one["tests"]
    assert test["score"] == {"mean": 0.9, "low": 0.8, "high": 1.0, "n": 40}
    assert (test["chance"]["mean"], test["difference"]["mean"]) == (0.1, None)
    assert test["verdict"] == finding.verdict
    assert (test["written"]["mean"], test["written_chance"]["mean"], test["found"]) == (0.9, None, None)
    assert (test["failures"], test["asks"]) == ({"refused": 20}, "From an item’s id to its title")
    assert (one["dataset"], one["left_out"], one["verdict"], one["level"]) == ("films", {"rows": "none"}, "cannot tell", 0.99)


@pytest.mark.parametrize("content", ["", "[1]", "{", "\x00"])
def test_a_broken_contamination_file_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "contamination.json").write_text(content)
    with pytest.raises(RunError, match=r"contamination\.json"):
        contamination(tmp_path, {}, SYSTEMS)


@given(
    st.dictionaries(
        st.text(max_size=5), JSON | st.fixed_dictionaries({"findings": st.lists(JSON), "left_out": JSON, "config": JSON})
    )
)
@settings(max_examples=80, deadline=None)
def test_any_contamination_report_is_survived(tmp_path_factory: pytest.TempPathFactory, value: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "contamination.json").write_text(json.dumps(value))
    assert [one["llm"] for one in contamination(folder, {}, SYSTEMS)] == list(value)


def _diagnosed(label: str, control: dict[str, Any]) -> dict[str, Any]:
    history = {"metric": "ndcg@10", "true": {"mean": 0.3}, "fake": control}
    return {
        "name": label, "label": label, "llm": True, "text": True, "control": False, "seeds": [1], "versus": {}, "cases": 30,
        "metrics": {"all": {}, "sample": {}}, "ms_per_query": None, "diagnosis": diagnoses({"rank:x": {"history": history}}),
    }  # fmt: skip


def test_a_finding_names_rankers_that_do_not_use_the_history() -> None:
    def asked(*systems: dict[str, Any]) -> list[dict[str, Any]]:
        return [f for f in findings(systems, "ndcg@10") if "history" in f["question"]]

    assert asked(_diagnosed("A", _gain(0.05, 0.02))) == []
    (one,) = asked(_diagnosed("A", _gain(0.05, 0.02)), _diagnosed("B", _gain(0.0, 0.0, 1.0)))
    assert one["answer"] == "No for 1 of 2"
    assert one["detail"].startswith("B: It does not use the history")
    assert one["interval"]["difference"] == 0.0
    (both,) = asked(_diagnosed("A", _gain(0.01, 0.02)), _diagnosed("B", _gain(-0.05, 0.02)))
    assert both["answer"] == "Not shown"
    assert both["detail"].endswith("Nor is a use seen for B.")
    assert (both["sure"], both["number"]) == (False, "+0.0100 nDCG@10")


def test_a_finding_names_models_that_know_the_file(tmp_path: Path) -> None:
    (tmp_path / "contamination.json").write_text(json.dumps(CONTAMINATION))
    known = contamination(tmp_path, {}, SYSTEMS)
    (found,) = findings([], "ndcg@10", known)
    assert found["answer"] == "Yes"
    assert "gpt-<em>x</em>: the model has seen Made films" in found["detail"]
    assert findings([], "ndcg@10", known[1:]) == []
