"""What a run was made with: versions, machine, fingerprints, assets and models."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import llm4rec
from llm4rec.assets import ASSETS
from llm4rec.core import Split
from llm4rec.experiment.resources import RunResources
from llm4rec.experiment.spec import Spec
from llm4rec.peers import PEERS, PeerConfig

_PACKAGES = (
    "numpy", "scipy", "polars", "pydantic", "torch", "transformers", "sentence-transformers", "faiss-cpu", "implicit", "openai",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Return what the computations ran on; nothing that names the machine or its owner."""
    processor = platform.processor() or platform.machine()
    flags: set[str] = set()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
            if line.startswith("flags"):
                flags = set(line.split(":", 1)[1].split())
                break
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    return {
        "processor": processor,
        "cores": cores,
        "memory_gib": None if memory is None else round(memory, 1),
        "bfloat16": bool(flags & {"avx512_bf16", "amx_bf16"}),
        "system": f"{platform.system()} {platform.machine()}",
    }


def packages() -> dict[str, str]:
    """Return the versions of the libraries that shape results."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def describe_environment(spec: Spec, split: Split, resources: RunResources, started: float) -> dict[str, Any]:
    """Return the content of ``environment.json``."""
    train = split.train
    used = {spec.data.set or "", *(c.model for c in spec.llm.values()), *(c.model for c in spec.encoder.values())}
    configs = [part.config for system in spec.systems.values() for part in system.parts]
    libraries = {config.library for config in configs if isinstance(config, PeerConfig)}
    return {
        "llm4rec": llm4rec.__version__,
        "python": platform.python_version(),
        "machine": machine(),
        "packages": packages(),
        "peers": {library: PEERS[library].version for library in sorted(libraries)},
        "seeds": list(spec.experiment.seeds),
        "dataset": {
            "name": train.name,
            "users": train.n_users,
            "items": train.n_items,
            "training_events": len(train.events),
            "fingerprint": train.fingerprint(),
        },
        "split": {"fingerprint": split.fingerprint, "rules": dict(split.rules)},
        "protocol": spec.protocol.title,
        "assets": {name: dict(ASSETS[name].members) for name in sorted(set(ASSETS) & used)},
        "llms": {name: {"name": model.name, **model.identity} for name, model in resources.models().items()},
        "abilities": resources.abilities(),
        "git": _commit(),
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "finished": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """Return the commit of the source tree that runs, if it is one."""
    root = Path(llm4rec.__file__).parent
    command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
