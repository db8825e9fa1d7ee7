"""What an audit looks at, and what a check is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from llm4rec.core import Cases, Config, Dataset, Ragged, RunError, Split
from llm4rec.core.columns import CANDIDATES, CASE, SYSTEM
from llm4rec.experiment.audit.bench import Bench
from llm4rec.experiment.audit.finding import Finding
from llm4rec.experiment.audit.served import Served, bench_serves, run_served
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.sections import Protocol
from llm4rec.experiment.spec import Spec


class AuditConfig(Config):
    """How hard the audit looks."""

    quick: bool = False
    """Leave out whatever has to fit a system."""
    permutations: int = Field(default=999, ge=99)
    """Random draws of a permutation test; the smallest p-value is 1 / (permutations + 1)."""
    level: float = Field(default=0.001, gt=0, lt=1)
    """A permutation test finds something at this p-value or below: one audit makes a dozen such tests, and
    a false alarm costs trust."""
    seed: int = Field(default=0, ge=0)
    """Of every draw."""

    @model_validator(mode="after")
    def _can_find(self) -> Self:
        least = 1 / (self.permutations + 1)
        if least > self.level:
            raise ValueError(f"{self.permutations} permutations give no p below {least:.2g}: more of them, or a higher level")
        return self


@dataclass(frozen=True)
class Subject:
    """What is audited.

    Attributes:
        split: the training part and the cases.
        config: how hard to look.
        protocol: the rules that are the same for all systems.
        spec: the specification, or None where a split alone is audited.
        dataset: the log that was split, or None.
        run: the finished run, or None where there is none.
        bench: fits the specification's systems; None where none ranks, or the candidates cannot be made.
    """

    split: Split
    config: AuditConfig = field(default_factory=AuditConfig)
    protocol: Protocol = field(default_factory=Protocol)
    spec: Spec | None = None
    dataset: Dataset | None = None
    run: RunDirectory | None = None
    bench: Bench | None = None

    @property
    def train(self) -> Dataset:
        """The training part."""
        return self.split.train

    @property
    def parts(self) -> dict[str, Cases]:
        """Both sets of cases by name."""
        return {"test": self.split.test, "validation": self.split.valid}

    @property
    def rules(self) -> Mapping[str, Any]:
        """The configuration of the split; empty for a split made by hand."""
        return dict(self.split.rules.get("split", {}))

    @property
    def kind(self) -> str:
        """The kind of the split; empty for a split made by hand."""
        return str(self.rules.get("kind", ""))

    @cached_property
    def trained_pairs(self) -> NDArray[np.int64]:
        """Sorted distinct keys of the training part's (user, item) pairs."""
        return np.unique(pair_keys(self.train.events["user"].to_numpy(), self.train.events["item"].to_numpy(), self.train))

    @cached_property
    def candidates(self) -> Ragged | None:
        """The items that each test case's lists are made of; None where that is the whole catalogue.

        Of a run those that it wrote down, so that no system has to be fitted for them.
        """
        if self.protocol.candidates is None or not self.served:
            return None
        if self.run is None:
            assert self.bench is not None  # else nothing was served
            return self.bench.question(self.split, self.bench.fitted()).cases.candidates
        cases = self.run.read_table("cases.parquet")
        if CANDIDATES not in cases.columns or len(cases) != len(self.split.test):
            raise RunError("cases.parquet lacks the candidates of its cases", where=str(self.run.path), todo="run it again")
        sets = cases.sort(CASE)[CANDIDATES]
        return Ragged.from_lengths(sets.list.len().to_numpy(), self.train.items.encode(sets.explode().drop_nulls()))

    @cached_property
    def served(self) -> dict[str, Served]:
        """What each system recommended: in the run, else as fitted now; empty where neither may be had."""
        if self.run is not None and self.spec is not None and self.protocol.task == "ranking":
            return run_served(self.run, self.spec, self.split)
        return {} if self.bench is None or self.config.quick else bench_serves(self.bench)

    @property
    def unserved(self) -> str:
        """Why there is nothing that the systems recommended."""
        if self.spec is None:
            return "a split alone has no systems"
        if self.protocol.task != "ranking":
            return "systems that predict have no lists"
        if self.bench is None:
            return "the candidates come from a system that asks a language model; audit the run instead"
        return "left out, as it fits systems: audit without --quick"

    @cached_property
    def profiles(self) -> dict[str, tuple[str, ...]]:
        """What a run's systems knew of each test case's user in words, by system."""
        if self.run is None or not (self.run / "profiles.parquet").is_file():
            return {}
        told, found = self.run.read_table("profiles.parquet"), {}
        for name in told[SYSTEM].unique().sort().to_list():
            texts = [""] * len(self.split.test)
            for case, text in told.filter(pl.col(SYSTEM) == name).select(CASE, "profile").iter_rows():
                texts[case] += f"\n{text}"
            found[f"profiles of {name}"] = tuple(texts)
        return found

    def rng(self) -> np.random.Generator:
        """Return the same generator for every check, so that none depends on which others run.

        It is no plain ``default_rng(seed)``: what is audited may have been drawn from one, and no draw of
        the null hypothesis may repeat it.
        """
        return np.random.default_rng([*b"audit", self.config.seed])


@dataclass(frozen=True, slots=True)
class Check:
    """A check: the question that it asks, and how it finds the answer.

    Attributes:
        question: for people.
        find: from the subject to findings, at least one.
        fits: does it fit systems?  Then ``quick`` leaves it out.
    """

    question: str
    find: Callable[[Subject], Iterable[Finding]]
    fits: bool = False


def pair_keys(users: NDArray[np.integer], items: NDArray[np.integer], dataset: Dataset) -> NDArray[np.int64]:
    """Return int64, one key for each (user, item)."""
    return users.astype(np.int64) * dataset.n_items + items


def truth_pairs(cases: Cases, dataset: Dataset) -> NDArray[np.int64]:
    """Return int64[m], the (user, item) keys of the truth of cases whose user is known."""
    users = cases.queries.users[cases.truth.rows]
    return pair_keys(users, cases.truth.values, dataset)[users >= 0]


def held(rows: Ragged, truth: Ragged, n_items: int) -> NDArray[np.bool_]:
    """Return bool[m]: does each value of ``truth`` stand in the same row of ``rows``?"""
    width = max(int(truth.lengths.max(initial=0)), 1)
    padded = truth.padded(width, align="left")
    return np.asarray(rows.contains(padded, n_items)[padded >= 0], dtype=bool)


def share(flags: NDArray[np.bool_]) -> float:
    """Return the mean; 0 of nothing."""
    return float(flags.mean()) if len(flags) else 0.0
