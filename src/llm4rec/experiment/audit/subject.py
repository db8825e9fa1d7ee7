"""What an audit looks at, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Config, Dataset, Ragged, Split
from llm4rec.experiment.sections import Protocol
from llm4rec.experiment.spec import Spec

#: ``leak``: figures of this split or system are wrong.  ``warning``: they are right, and mean less, or
#: something else, than they seem to.
Verdict = Literal["ok", "warning", "leak", "not applicable"]


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


@dataclass(frozen=True)
class Subject:
    """What is audited.

    Attributes:
        split: the training part and the cases.
        config: how hard to look.
        protocol: the rules that are the same for all systems.
        spec: the specification, or None where a split alone is audited.
        dataset: the log that was split, or None.
    """

    split: Split
    config: AuditConfig = field(default_factory=AuditConfig)
    protocol: Protocol = field(default_factory=Protocol)
    spec: Spec | None = None
    dataset: Dataset | None = None

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

    def rng(self) -> np.random.Generator:
        """Return the same generator for every check, so that none depends on which others run.

        It is no plain ``default_rng(seed)``: what is audited may have been drawn from one, and no draw of
        the null hypothesis may repeat it.
        """
        return np.random.default_rng([*b"audit", self.config.seed])


@dataclass(frozen=True, slots=True)
class Finding:
    """One number with its verdict.

    Attributes:
        check: name of the check.
        of: what was looked at, where a check looks at several things.
        measure: what the number is.
        value: the number; None where there is none.
        verdict: see ``Verdict``.
        line: what the number means here, and what to do.
        details: further JSON values.
    """

    check: str
    of: str
    measure: str
    value: float | None
    verdict: Verdict
    line: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "check": self.check, "of": self.of, "measure": self.measure, "value": self.value,
            "verdict": self.verdict, "line": self.line, "details": dict(self.details),
        }  # fmt: skip


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
