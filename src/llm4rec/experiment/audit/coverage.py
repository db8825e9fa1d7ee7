"""Whom does the audit look at?"""

from __future__ import annotations

from collections.abc import Iterator

from llm4rec.experiment.audit.finding import Finding
from llm4rec.experiment.audit.subject import Subject


def left_out(subject: Subject) -> Iterator[Finding]:
    """Systems that the audit does not fit, so that the checks that fit systems say nothing of them."""
    measure, bench = "systems that are not fitted here", subject.bench
    if bench is None:
        yield Finding("systems", "", measure, None, "not applicable", subject.unserved)
        return
    told = "; ".join(f"{name} {why}" for name, why in bench.left_out.items())
    if not told:
        line = f"all {len(bench.names)} are"
    elif subject.run is not None:
        line = f"{told}: their lists are those of the run; shuffled, tie-orders and sampled leave them out"
    else:
        line = f"{told}: nothing that they recommend is looked at; run the experiment, and audit the run"
    yield Finding("systems", "", measure, len(bench.left_out), "warning" if told else "ok", line, {"why": bench.left_out})
