"""Checks of a machine: what would stop a run, said before it does."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import Literal

from llm4rec.assets import ASSETS, folder, home, is_cached
from llm4rec.experiment.environment import machine, packages
from llm4rec.peers import PEERS, installed


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    verdict: Literal["good", "note", "bad"]
    line: str


def examine() -> list[Finding]:
    """Look at Python, processor, libraries, cache and assets."""
    found = [
        Finding("good" if sys.version_info >= (3, 11) else "bad", f"Python {sys.version.split()[0]} (needs 3.11 or later)"),
    ]
    here = machine()
    found.append(Finding("good", f"{here['processor']}, {here['cores']} cores, {here['memory_gib']} GiB"))
    if here["bfloat16"]:
        found.append(Finding("good", "bfloat16 in hardware: local language models run in it"))
    else:
        found.append(Finding("note", "no bfloat16 in hardware: local language models run in float32, at about half the speed"))
    for name, version in packages().items():
        found.append(Finding("bad" if version == "missing" else "good", f"{name} {version}"))
    found.append(_cache())
    for name in ASSETS:
        there = is_cached(name)
        line = (
            f"{name}: {folder(name)}"
            if there
            else f"{name} is not here yet; it is fetched on first use, or now by 'llm4rec data get {name}'"
        )
        found.append(Finding("good" if there else "note", line))
    found += _peers()
    return found


def _peers() -> list[Finding]:
    """Say which libraries can be run beside ours; none is needed."""
    found = []
    for name, library in PEERS.items():
        version = installed(name)
        if version == library.version:
            found.append(Finding("good", f"peer {library.label} {version}"))
        else:
            there = f"is version {version}, not {library.version}" if version else "is not here"
            line = f"peer {library.label} {there}; a system with peer = '{name}:...' needs 'make peers'"
            found.append(Finding("note", line))
    return found


def _cache() -> Finding:
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return Finding("bad", f"{folder} cannot be made ({error.strerror}); set LLM4REC_HOME to a folder that can be written")
    if not os.access(folder, os.W_OK):
        return Finding("bad", f"{folder} cannot be written; set LLM4REC_HOME to a folder that can")
    free = shutil.disk_usage(folder).free / 2**30
    verdict: Literal["good", "note"] = "good" if free > 2 else "note"
    return Finding(verdict, f"{folder} has {free:.1f} GiB free (the default models need about 1)")
