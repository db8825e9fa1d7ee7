"""What a report says of the audit: ``audit.json``, which ``llm4rec audit`` writes; a run may be without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from llm4rec.experiment.report_files import entries, mapping, number, read_json

FILE: Final = "audit.json"
#: What needs attention first.
_ORDER: Final = ("leak", "warning", "ok", "not applicable")


def audited(run: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return the findings of an audit, those that need attention first; None where the run was not audited.

    Args:
        fingerprint: of the run's split; an audit of another one is said to be stale.
    """
    if not (run / FILE).exists():
        return None
    told = read_json(run / FILE)
    rows = [
        {
            **{k: str(mapping(row).get(k) or "") for k in ("check", "of", "measure", "verdict", "line")},
            "value": number(mapping(row).get("value")),
        }
        for row in entries(told.get("findings"))
    ]
    rows = [row for row in rows if row["verdict"] in _ORDER]
    return {
        "rows": sorted(rows, key=lambda row: _ORDER.index(row["verdict"])),
        "counts": {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in _ORDER},
        "quick": bool(mapping(told.get("config")).get("quick")),
        "stale": str(told.get("split") or "") != fingerprint,
    }
