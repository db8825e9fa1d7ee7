"""A world as conversations need it: an engine that knows nothing of what is held out, and who talks to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llm4rec.agents.engine import Engine
from llm4rec.agents.simulate.facets import Facets
from llm4rec.agents.simulate.moments import Mapped, Moment, introduced, mapped, matcher_of
from llm4rec.agents.simulate.people import goals
from llm4rec.agents.simulate.talk import Goal
from llm4rec.agents.toolbox import Toolbox
from llm4rec.agents.tools import Session, toolbox
from llm4rec.app.conversations.spec import Protocol, World
from llm4rec.app.opening import open_engine
from llm4rec.core import Cases, RunError, SpecError, did_you_mean
from llm4rec.data import make_split
from llm4rec.data.dialogues import read_requests
from llm4rec.experiment.opened import OpenRun
from llm4rec.experiment.plan import key_of
from llm4rec.experiment.run import run
from llm4rec.experiment.spec import read_spec
from llm4rec.llm import Mode


@dataclass
class Bench:
    """A world, opened.

    Args:
        world: its table.
        folder: where its run is made, if it has to be.
        mode: of the store of model calls of its run.
        tell: called with a line for people.
    """

    world: World
    folder: Path
    mode: Mode
    tell: Callable[[str], None]

    @cached_property
    def path(self) -> Path:
        """The run's directory, made or continued first where the world is a specification."""
        if self.world.run is not None:
            return self.world.run
        assert self.world.spec is not None
        run(read_spec(self.world.spec), self.folder, mode=self.mode, tell=self.tell)
        return self.folder

    @cached_property
    def opened(self) -> OpenRun:
        """The run."""
        opened = OpenRun(self.path)
        if self.world.system is not None:
            opened.system(self.world.system)  # raises for one that is not there
        return opened

    @cached_property
    def key(self) -> str:
        """What the run was made of."""
        key = key_of(self.path / "environment.json")
        if key is None:
            raise RunError("is not finished", where=str(self.path), todo="run its specification to the end")
        return f"{key} {self.system}"

    @property
    def system(self) -> str:
        """The system that the tools ask by default."""
        return self.world.system or self.opened.best

    @cached_property
    def _cases(self) -> tuple[Engine, Cases]:
        """An engine over the training part, and the test cases."""
        split = make_split(self.opened.dataset, self.opened.spec.split)
        return open_engine(self.opened, self.system, split.train), split.test

    @property
    def cases(self) -> Cases:
        """The test cases."""
        return self._cases[1]

    @property
    def engine(self) -> Engine:
        """The engine: histories end where the test begins."""
        return self._cases[0]

    @cached_property
    def tools(self) -> Toolbox[Session]:
        """The tools over the engine."""
        return toolbox(self.engine)

    @cached_property
    def _facets(self) -> dict[int, Facets]:
        return {}

    def facets(self, least: int) -> Facets:
        """Return the facets of the catalogue."""
        if least not in self._facets:
            self._facets[least] = Facets(self.engine.catalogue, least)
        return self._facets[least]

    # -- who talks ------------------------------------------------------------------------
    def goals(self, protocol: Protocol, seed: int, first: int) -> list[Goal]:
        """Return the goals of a protocol's users (see :func:`llm4rec.agents.simulate.people.goals`)."""
        engine, cases = self._cases
        several, told = protocol.kind == "target-free", protocol.persona
        if told and told not in engine.dataset.user_table.columns:
            todo = did_you_mean(told, engine.dataset.user_table.columns)
            raise SpecError(f"users have no column {told!r}", where="protocols: persona", todo=todo)
        return goals(
            engine, cases, self.facets(protocol.least), protocol.users, several=several, seed=seed, first=first, told=told
        )

    # -- dialogues ------------------------------------------------------------------------
    def moments(self, protocol: Protocol, first: int) -> tuple[list[Moment], Mapped]:
        """Return the moments of a protocol's set over the catalogue, drawn by seed, and how much of the set that is."""
        assert protocol.dialogues is not None
        whole = mapped(read_requests(protocol.dialogues), matcher_of(self.engine), protocol.dialogues)
        if not whole.moments:
            raise RunError("none of its films is in the catalogue", where=protocol.dialogues, todo="take another world")
        rows = np.random.default_rng(first).permutation(len(whole.moments))[: protocol.users]
        drawn = [whole.moments[i] for i in rows.tolist()]
        introduced(self.engine, drawn)
        return drawn, whole

    def facts(self) -> dict[str, Any]:
        """Return what the world is, for the summary."""
        dataset = self.opened.dataset
        return {
            "run": self.opened.spec.experiment.name, "dataset": dataset.name, "users": dataset.n_users,
            "items": dataset.n_items, "split": self.opened.spec.split.kind, "system": self.system,
        }  # fmt: skip

    def close(self) -> None:
        """Close the run, if it was opened."""
        if "opened" in self.__dict__:
            self.opened.close()
