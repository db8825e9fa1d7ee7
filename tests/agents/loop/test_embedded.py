"""The embedded language model for real as an agent: weak, and always to the end of its turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm4rec.agents.loop.agent import LLMAgent
from llm4rec.agents.loop.config import LoopConfig
from llm4rec.agents.tools import Session
from llm4rec.experiment.resources import open_model
from llm4rec.llm import LLMConfig, Store, Stored

pytestmark = [pytest.mark.assets, pytest.mark.slow]


@pytest.mark.parametrize("strategy", ["plan", "react"])
def test_a_turn_ends_in_an_answer_and_replays(asset: object, session: Session, tmp_path: Path, strategy: str) -> None:
    asset(LLMConfig().model)  # type: ignore[operator]
    config = LoopConfig.model_validate({"strategy": strategy, "max_steps": 3, "max_seconds": None})
    with Store(tmp_path / "llm.sqlite") as store:
        model = open_model(LLMConfig(), download=False)
        turn = LLMAgent(Stored(model, store), config).answer(session, "3 about cooking")
        again = LLMAgent(Stored(model, store, "replay"), config).answer(session, "3 about cooking")
    assert turn.text
    assert all(question.request.schema is not None for question in turn.asked)  # JSON, with a schema
    assert 1 <= len(turn.asked) <= 3
    assert turn.by == strategy or "no_candidate" in turn.failures  # then the rule agent stood in
    assert set(turn.failures) <= {"call_error", "call_refused", "no_candidate"}  # held to its schema, it fails in no other way
    assert (again.text, again.shown, again.by, again.failures) == (turn.text, turn.shown, turn.by, turn.failures)
    assert again.cost.calls == 0
