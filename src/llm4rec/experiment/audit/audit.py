"""Audit a specification, a finished run, or a split: every check, one after the other."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from llm4rec.core import SpecError, Split, did_you_mean
from llm4rec.data import load, make_split
from llm4rec.experiment.audit.bench import Bench
from llm4rec.experiment.audit.checks import CHECKS
from llm4rec.experiment.audit.finding import Finding, Verdict
from llm4rec.experiment.audit.subject import AuditConfig, Subject
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.report import write_report
from llm4rec.experiment.sections import Protocol
from llm4rec.experiment.spec import read_spec

_LOG = logging.getLogger(__name__)

#: The file that an audit writes.
FILE = "audit.json"


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        name: of the experiment, or of the data set where a split was audited.
        fingerprint: of the split.
        config: how hard the audit looked.
        findings: in order of the checks.
    """

    name: str
    fingerprint: str
    config: AuditConfig
    findings: tuple[Finding, ...]

    def count(self, verdict: Verdict) -> int:
        """Return how many findings have a verdict."""
        return sum(f.verdict == verdict for f in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the content of ``audit.json``."""
        counts = Counter(f.verdict for f in self.findings)
        return {
            "name": self.name,
            "split": self.fingerprint,
            "config": self.config.model_dump(mode="json"),
            "verdicts": {v: counts[v] for v in get_args(Verdict)},
            "findings": [f.to_json() for f in self.findings],
        }


def audit(
    place: Path,
    out: Path | None = None,
    *,
    config: AuditConfig | None = None,
    only: Sequence[str] = (),
    tell: Callable[[str], None] = _LOG.info,
) -> tuple[Audit, Path]:
    """Audit a specification (a TOML file) or a finished run (its directory), and write ``audit.json``.

    Args:
        place: the file or directory.
        out: where to write; by default the run itself, or ``runs/NAME`` of the specification.  The report of
            a finished run there is written again, with the audit in it.
        config: how hard to look.
        only: names of checks; all of them unless given.
        tell: called with a line for people whenever a check begins.

    Returns:
        what was found, and the file.

    Raises:
        SpecError: for an unknown check, or a specification that cannot be read.
    """
    chosen(only)
    run = RunDirectory(place) if place.is_dir() else None
    spec = read_spec(place if run is None else run / "spec.toml")
    target = RunDirectory(out or (Path("runs") / spec.experiment.name if run is None else place))
    target.open()  # before the work, so that none is lost
    tell("data: reading and splitting ...")
    dataset = load(spec.data) if run is None else run.read_dataset()
    split = make_split(dataset, spec.split)
    with Bench.opened(spec, split) as bench:
        lists = bench if spec.protocol.task == "ranking" and bench.asks else None  # what predicts has no lists to look at
        subject = Subject(split, config or AuditConfig(), spec.protocol, spec, dataset, run, lists)
        found = examine(subject, only=only, tell=tell, name=spec.experiment.name)
    target.write_json(FILE, found.to_json())
    if target.holds("summary.json", "environment.json", "report.html"):
        write_report(target.path)
    return found, target / FILE


def audit_split(split: Split, *, config: AuditConfig | None = None, only: Sequence[str] = ()) -> Audit:
    """Audit a split alone, under the default protocol."""
    return examine(Subject(split, config or AuditConfig(), Protocol()), only=only)


def examine(
    subject: Subject, *, only: Sequence[str] = (), tell: Callable[[str], None] = _LOG.info, name: str | None = None
) -> Audit:
    """Ask every check, or those named."""
    findings: list[Finding] = []
    for check in chosen(only):
        if CHECKS[check].fits and subject.config.quick:
            findings.append(
                Finding(check, "", "", None, "not applicable", "left out, as it fits systems: audit without --quick")
            )
            continue
        tell(f"{check} ...")
        findings += CHECKS[check].find(subject)
    return Audit(name or subject.train.name, subject.split.fingerprint, subject.config, tuple(findings))


def chosen(only: Sequence[str]) -> list[str]:
    """Return the names of the checks to run, in order; raises ``SpecError`` for one that does not exist."""
    for check in only:
        if check not in CHECKS:
            raise SpecError(f"unknown check {check!r}", where="--only", todo=did_you_mean(check, CHECKS))
    return [check for check in CHECKS if not only or check in only]
