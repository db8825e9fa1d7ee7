"""A made environment: this interpreter and a stand-in script, under a peer's name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llm4rec.peers import HOME, PEERS, foreign

MADE = Path(__file__).parent / "made"


def environment(home: Path, peer: str, version: str | None = None) -> Path:
    """Make what looks like the environment of a peer, with this interpreter in it."""
    library = PEERS[peer]
    python = home / peer / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    packages = home / peer / "lib" / "python3.11" / "site-packages"
    (packages / f"{library.package}-{version or library.version}.dist-info").mkdir(parents=True)
    return python


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a made environment; scripts come from ``tests/peers/made``."""
    home = tmp_path_factory.mktemp("peers")
    environment(home, "recbole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(HOME, str(home))
        patch.setenv("LLM4REC_TEST_SCRIPTS", str(foreign.SCRIPTS))
        patch.setattr(foreign, "SCRIPTS", MADE)
        yield home


@pytest.fixture
def real() -> Path:
    """The folder of the real environments."""
    return Path(os.environ.get(HOME) or ".peers")
