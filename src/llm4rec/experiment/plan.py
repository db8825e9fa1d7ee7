"""What a specification comes to: which systems run with which seeds, and the keys of what they make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from llm4rec.core import Split, Training
from llm4rec.data import DataConfig
from llm4rec.experiment.code import fingerprint
from llm4rec.experiment.sections import RANDOM
from llm4rec.experiment.spec import Spec

S = TypeVar("S", Split, Training)
#: Bytes of a file that is hashed whole.
_READ = 64 << 20


@dataclass
class Plan(Generic[S]):
    """Seeds, samples and keys of a specification on a split, or on what of it may be tuned on."""

    spec: Spec
    split: S

    def __post_init__(self) -> None:
        train = self.split.train  # the split's fingerprint leaves out what is told of items and users
        self._texts = digest([table.write_json() for table in (train.item_table, train.user_table)])

    def seeds(self, name: str) -> tuple[int, ...]:
        """Return the seeds that a system is run with: the first alone if chance plays no part, or a language model does."""
        system, seeds = self.spec.systems[name], self.spec.experiment.seeds
        chance = any(not p.entry.component.deterministic for p in system.parts) or system.draws
        return seeds if (chance or any(self.seeds(r) == seeds for r in system.retrieve)) and not system.uses_llm else seeds[:1]

    def fit_key(self, name: str, seed: int) -> str:
        """Return a hash of all that shapes a system's fit with a seed."""
        system = self.spec.systems[name]
        shapes = {
            "code": fingerprint(frozenset(p.entry.component.__module__ for p in system.parts)),
            "split": self.split.fingerprint,
            "mask": self.spec.protocol.mask,  # of the validation cases
            "texts": self._texts,
            "seed": seed,
            "files": {str(path): _content(path) for part in system.parts for path in sorted(_files(part.config))},
            "system": system.model_dump(mode="json", exclude={"label", "note", "against", "control", "sampled"}),
            "named": {
                kind: {n: tables[n].model_dump(mode="json") for part in system.parts for n in sorted(part.references(kind))}
                for kind, tables in (("llm", self.spec.llm), ("encoder", self.spec.encoder))
            },
            "retrieve": {r: self.fit_key(r, self.seed_of(r, seed)) for r in system.retrieve},
        }
        return digest(shapes)

    def key(self, name: str, seed: int) -> str:
        """Return a hash of all that shapes what a system makes with a seed: its fit, and what it is asked."""
        spec, first = self.spec, self.spec.experiment.seeds[0]
        sources = () if spec.protocol.candidates is None else spec.protocol.candidates.sources
        shapes = {
            "fit": self.fit_key(name, seed),
            "sampled": self.is_sampled(name),
            "protocol": spec.protocol.model_dump(mode="json"),
            "candidates": [self.fit_key(s, self.seed_of(s, first)) for s in sources if s != RANDOM],
            "experiment": spec.experiment.model_dump(mode="json", exclude={"name", "description", "seeds"}),
            "first": first,
        }
        return digest(shapes)

    def seed_of(self, name: str, seed: int) -> int:
        """Return the seed with which a system is part of one that runs with ``seed``."""
        seeds = self.seeds(name)
        return seed if seed in seeds else seeds[0]

    def asks_llm(self, name: str) -> bool:
        """Does a system, or one that it retrieves with, ask a language model?"""
        system = self.spec.systems[name]
        return system.uses_llm or any(self.asks_llm(r) for r in system.retrieve)

    def is_sampled(self, name: str) -> bool:
        """Is a system too slow for all cases?"""
        system = self.spec.systems[name]
        return system.sampled or system.uses_llm or any(self.is_sampled(r) for r in system.retrieve)


def _files(value: Any) -> set[Path]:
    """Return the files that a component's configuration names; their content shapes what it makes."""
    if isinstance(value, Path):
        return {value} if value.is_file() else set()
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, Mapping):
        value = list(value.values())
    return {path for one in value for path in _files(one)} if isinstance(value, (list, tuple)) else set()


def _content(path: Path) -> str:
    """Return a hash of a file; of one too large to be read at each command (a dump), its size and when it was written."""
    told = path.stat()
    return _hash(path, told.st_size, told.st_mtime_ns) if told.st_size <= _READ else f"{told.st_size} {told.st_mtime_ns}"


@cache
def _hash(path: Path, size: int, written: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def ranks_with_llm(spec: Spec, name: str) -> bool:
    """Does a language model shape a system's lists (not the explanations alone)?"""
    system = spec.systems[name]
    parts = (*system.augment, *system.rank, *(p for p in (system.part, system.choose) if p is not None))
    return any(p.references("llm") for p in parts) or any(ranks_with_llm(spec, r) for r in system.retrieve)


def as_published(data: DataConfig) -> DataConfig:
    """Return a data table without its filters."""
    return data.model_copy(update={"min_value": None, "user_core": 0, "item_core": 0})


def key_of(path: Path) -> str | None:
    """Return the key that a JSON file of this run carries, None if it is not there or broken."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def digest(value: Any) -> str:
    """Return a hash of a value's JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
