"""What an audit finds: one number, its verdict, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: ``leak``: figures of this split or system are wrong.  ``warning``: they are right, and mean less, or
#: something else, than they seem to.
Verdict = Literal["ok", "warning", "leak", "not applicable"]


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
