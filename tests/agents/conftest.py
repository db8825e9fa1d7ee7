"""A made world as an engine: four topics, films of which nobody has seen some, titles that try to give orders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llm4rec.agents.engine import Engine, Served
from llm4rec.agents.memory import MemoryStore
from llm4rec.agents.storage import open_database
from llm4rec.agents.tools import Session
from llm4rec.models.ease import EASE
from llm4rec.models.popular import Popular
from llm4rec.prompted.explain.templated import EvidenceExplainer
from tests.worlds import topics


@pytest.fixture(scope="session")
def fitted() -> dict[str, object]:
    train, rng = topics().split.train, np.random.default_rng(0)
    return {
        "ease": EASE().fit(train, valid=None, rng=rng),
        "popular": Popular().fit(train, valid=None, rng=rng),
        "why": EvidenceExplainer().fit(train, valid=None, rng=rng),
    }


@pytest.fixture
def engine(fitted: dict[str, object]) -> Engine:
    served = [Served(name, name.upper(), lambda name=name: fitted[name], ranks=True) for name in ("ease", "popular")]
    return Engine(topics().split.train, {s.name: s for s in served}, "ease")


@pytest.fixture
def memory(tmp_path: Path) -> MemoryStore:
    return MemoryStore(open_database(tmp_path / "memory.sqlite"))


@pytest.fixture
def session(engine: Engine, memory: MemoryStore) -> Session:
    return Session(engine, memory, "user0")
