"""A finished run, opened to answer: its data set, and its systems as they were measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm4rec.core import RunError, did_you_mean
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.plan import ranks_with_llm
from llm4rec.experiment.resources import CountedResources, RunResources
from llm4rec.experiment.spec import read_spec
from llm4rec.experiment.systems import build, restore


class OpenRun:
    """A run whose systems recommend.

    Args:
        path: of the run directory.

    Attributes:
        path: of the run directory.
        spec, summary: as the run wrote them.
        dataset: all events of the run, its test included.

    Raises:
        RunError: for what is no finished run, or one whose systems recommend no lists.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._directory = path, RunDirectory(path)
        self.summary, self.spec = self._directory.read_json("summary.json"), read_spec(self._directory / "spec.toml")
        if self.spec.protocol.task != "ranking":
            todo = "run a specification whose protocol.task is 'ranking'"
            raise RunError("its systems predict values and recommend no lists", where=str(path), todo=todo)
        self.dataset = self._directory.read_dataset()
        self._resources = RunResources(self.spec.llm, self.spec.encoder, self._directory.store)
        self._systems: dict[str, Any] = {}

    @property
    def best(self) -> str:
        """The system with the best primary metric, of those that ran on all cases and are no controls if there are any."""
        primary = self.spec.experiment.primary
        full = [n for n, s in self.summary.items() if not s["sampled"] and not s["control"]] or list(self.summary)
        return str(max(full, key=lambda n: self.summary[n]["metrics"][primary]["mean"]))

    def system(self, name: str) -> Any:
        """Return a fitted component or pipeline (of the first seed), opened on first use."""
        if name not in self.spec.systems:
            where = str(self._directory.path)
            raise RunError(f"has no system {name!r}", where=where, todo=did_you_mean(name, self.spec.systems))
        if name not in self._systems:
            system = self.spec.systems[name]
            inner = {r: self.system(r) for r in system.retrieve}
            folder = self._directory.model(name, self.spec.experiment.seeds[0])
            self._systems[name] = restore(build(system, self._resources, inner), folder, self._resources)
        return self._systems[name]

    def counted(self) -> CountedResources:
        """Return the run's encoders and language models, whose calls are counted apart from all others."""
        return CountedResources(self._resources)

    def apart(self, name: str, counted: CountedResources) -> Any:
        """Return a system whose language models are those of ``counted``; one that asks none is the shared one."""
        if not ranks_with_llm(self.spec, name):
            return self.system(name)
        self.system(name)  # raises for one that is not there
        system = self.spec.systems[name]
        inner = {r: self.apart(r, counted) for r in system.retrieve}
        folder = self._directory.model(name, self.spec.experiment.seeds[0])
        return restore(build(system, counted, inner), folder, counted)

    def close(self) -> None:
        """Close the store of model calls."""
        self._resources.close()
