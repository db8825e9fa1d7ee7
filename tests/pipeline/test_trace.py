"""The trace: where each item stood, and why it left."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import Lists, Queries, Ragged, Vocabulary
from llm4rec.pipeline import Pipeline, PipelineConfig, Trace
from tests.pipeline.parts import N_ITEMS, SPLIT, Counting, forgetful, reverse

CASES = SPLIT.test
EXCLUDE = CASES.exclude("seen")


def trace(rankers: list[Any], k: int = 4, retrievers: int = 2, **config: Any) -> Trace:
    parts = {f"r{i}": Counting() for i in range(retrievers)}
    pipeline = Pipeline(parts, rankers, config=PipelineConfig.model_validate(config))
    pipeline.fit(SPLIT.train, valid=SPLIT.valid, rng=np.random.default_rng(5))
    return pipeline.run(CASES.queries, k, exclude=EXCLUDE)


def test_stages_are_named_in_order_and_say_where_their_lists_came_from() -> None:
    stages = trace([reverse(), reverse()], depth=(5, 3), candidates=8).stages
    assert [(s.name, s.kind, s.sources, s.depth) for s in stages] == [
        ("retrieve:r0", "retrieve", (), None),
        ("retrieve:r1", "retrieve", (), None),
        ("fuse", "fuse", ("retrieve:r0", "retrieve:r1"), None),
        ("rank:Ranks", "rank", ("fuse",), 5),
        ("rank:Ranks-2", "rank", ("rank:Ranks",), 3),
    ]
    assert all(s.seconds >= 0 for s in stages)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 6), st.integers(0, 6),
    st.sampled_from(["last", "drop"]), st.booleans(), st.integers(1, 3),
)  # fmt: skip
def test_every_candidate_is_in_the_answer_or_has_a_reason(
    candidates: int, k: int, depth: int, keep: int, omitted: str, tell: bool, retrievers: int
) -> None:
    t = trace([reverse(), forgetful(keep, tell=tell)], k, retrievers, candidates=candidates, depth=depth, omitted=omitted)
    for row in range(5):
        answer = t.lists.items[row].tolist()
        left = t.left(row)
        for stage in t.stages:
            for item in stage.lists.items[row][stage.lists.items[row] >= 0].tolist():
                assert (item in answer) != (item in left), "an item is in the answer or has left"
        for item, step in left.items():
            assert step.reason, f"item {item} left {step.stage} without a reason"
            assert step.rank is None
            assert t.journey(row, item)[-1] == step


def test_a_journey_tells_rank_score_and_reason() -> None:
    t = trace([reverse()], k=3, retrievers=1, candidates=8, depth=4)
    first = t.stages[0].lists
    best, beyond = int(first.items[0, 0]), int(first.items[0, 5])
    retrieved, ranked, final = t.journey(0, best)
    assert (retrieved.stage, retrieved.rank, retrieved.reason) == ("retrieve:r0", 1, None)
    assert retrieved.score == first.scores[0, 0]
    assert (ranked.stage, ranked.rank, ranked.reason) == ("rank:Ranks", 4, None)
    assert final == ("final", None, None, "below rank 3")
    assert t.journey(0, beyond)[1] == ("rank:Ranks", 6, t.stages[1].lists.scores[0, 5], "below depth 4")


def test_reasons_by_kind() -> None:
    t = trace([forgetful(1, tell=True)], k=10, candidates=6, depth=3, omitted="drop")
    fused = t.stage("fuse").lists.items[0]
    dropped = t.journey(0, int(fused[1]))[-1]
    assert (dropped.stage, dropped.rank) == ("rank:Ranks", None)
    assert dropped.reason == "dropped by the ranker: could not be read"
    kept = trace([forgetful(1, tell=False)], k=10, candidates=6, depth=3).journey(0, int(fused[1]))[-1]
    assert (kept.rank, kept.reason) == (2, "not placed by the ranker: left out by the ranker")
    assert "excluded" in {s.reason for s in t.journey(0, int(EXCLUDE[0][0]))}
    held = np.unique(np.concatenate([s.lists.items[0] for s in t.stages[:2]]))
    lost = np.setdiff1d(held[held >= 0], fused)
    assert len(lost), "the fusion cut something"
    assert t.journey(0, int(lost[0]))[-1].reason == f"below rank {t.stage('fuse').lists.k} of the fusion"
    nowhere = np.setdiff1d(np.arange(N_ITEMS), np.concatenate([held, EXCLUDE[0]]))
    assert {s.reason for s in t.journey(0, int(nowhere[0]))} == {f"not among the best {t.stages[0].lists.k}"}


def test_notes_of_all_stages_are_joined_in_what_a_pipeline_retrieves() -> None:
    pipeline = Pipeline({"r": Counting()}, [forgetful(2, tell=True), forgetful(1, tell=False)], config=PipelineConfig(depth=3))
    pipeline.fit(SPLIT.train, valid=None, rng=np.random.default_rng(0))
    lists = pipeline.retrieve(CASES.queries, 5, exclude=EXCLUDE)
    assert lists.notes is not None
    assert lists.notes[0].failures == ("shy", "unranked_candidate", "unranked_candidate", "unranked_candidate")


def test_as_dict_is_json_with_outside_ids() -> None:
    t = trace([forgetful(1, tell=True)], k=2, candidates=5, depth=3)
    vocabulary = SPLIT.train.items
    told = json.loads(json.dumps(t.as_dict(vocabulary)))
    assert [s["stage"] for s in told["stages"]] == [s.name for s in t.stages]
    assert [e["item"] for e in told["lists"][0]] == vocabulary.decode(t.lists.items[0])
    dropped = told["stages"][-1]["notes"][0]["dropped"][0]
    assert dropped["item"] in vocabulary
    assert dropped["reason"] == "could not be read"
    assert json.dumps(t.as_dict())


def test_a_single_retriever_has_a_trace_as_well() -> None:
    lists = Lists(np.array([[3, 1, -1]]), np.array([[2.0, 1.0, np.nan]]))
    t = Trace.of("ease", lists, 0.5, exclude=Ragged.of([[7]]))
    assert (t.stages[0].name, t.seconds, t.k) == ("retrieve:ease", 0.5, 3)
    assert t.left(0) == {}
    assert t.journey(0, 7)[0].reason == "excluded"
    assert [e["item"] for e in t.as_dict(Vocabulary([f"i{i}" for i in range(9)]))["lists"][0]] == ["i3", "i1"]
    assert Trace.of("x", Lists.empty(0, 3), 0.0).lists.items.shape == (0, 3)
    assert len(Queries.of(Ragged.empty(0))) == 0
