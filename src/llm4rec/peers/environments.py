"""The virtual environments of the peers: where they lie, what must be in them, and what to do when one is missing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llm4rec.core import LLM4RecError

#: Environment variable with the folder of the environments, one a peer; by default ``.peers`` in the working directory.
HOME: Final = "LLM4REC_PEERS"


class PeerError(LLM4RecError):
    """A peer's environment is not there, or its own code failed."""


@dataclass(frozen=True, slots=True)
class Library:
    """A peer: its name for people, its package, and the version whose behaviour was checked."""

    label: str
    package: str
    version: str


PEERS: Final[dict[str, Library]] = {
    "recbole": Library("RecBole", "recbole", "1.2.1"),
    "rectools": Library("RecTools", "rectools", "0.19.0"),
    "lenskit": Library("LensKit", "lenskit", "2025.8.1"),
}


def home() -> Path:
    """Return the folder of the environments."""
    return Path(os.environ.get(HOME) or ".peers").absolute()


def installed(peer: str) -> str | None:
    """Return the version of a peer in its environment, None if it is not there."""
    package = PEERS[peer].package
    found = sorted((home() / peer).glob(f"lib/python*/site-packages/{package}-*.dist-info"))
    return found[-1].name.removesuffix(".dist-info").removeprefix(f"{package}-") if found else None


def interpreter(peer: str) -> Path:
    """Return the Python of a peer's environment.

    Raises:
        PeerError: it is not there, or holds another version than the one that was checked.
    """
    library, python = PEERS[peer], home() / peer / "bin" / "python"
    version = installed(peer)
    if version is None or not python.exists():
        todo = f"run 'make peers' in a checkout of LLM4Rec, or name the folder of the environments in {HOME}"
        raise PeerError(f"{library.label} {library.version} is not installed in {python.parents[1]}", todo=todo)
    if version != library.version:
        raise PeerError(
            f"holds {library.label} {version}, and {library.version} is what was checked",
            where=str(python.parents[1]),
            todo="remove it and run 'make peers'",
        )
    return python
