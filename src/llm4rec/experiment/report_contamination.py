"""What a report says of contamination: does a language model know the data set by heart?

``contamination.json`` of a run holds, for each language model by its name in the spec, the report of
``prompted/contamination.py``.  The verdicts are the probe's own.  A run may be without the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from llm4rec.experiment.report_files import entries, figure, mapping, number, numbers, read_json

FILE: Final = "contamination.json"

#: Test -> what it asks.
QUESTIONS: Final[Mapping[str, str]] = {
    "titles": "From an item’s id to its title",
    "rows": "From the rows before it in the file to the next row’s item",
}


def contamination(run: Path, models: Mapping[str, str], systems: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the probe found of each language model; empty where a run has no probe.

    Args:
        models: name in the spec -> the model's own name.
        systems: of the run, each with ``label`` and ``llm_names``.
    """
    if not (run / FILE).exists():
        return []
    out = []
    for name, report in read_json(run / FILE).items():
        told = mapping(report)
        tests = [_test(mapping(found)) for found in entries(told.get("findings")) if mapping(found)]
        out.append({
            "llm": name,
            "model": models[name] if models.get(name, name) != name else str(told.get("model") or name),
            "dataset": str(told.get("dataset") or "the data set"),
            "level": number(mapping(told.get("config")).get("level")),
            "systems": [s["label"] for s in systems if name in s["llm_names"]],
            "tests": tests,
            "left_out": {test: str(why) for test, why in mapping(told.get("left_out")).items()},
            "verdict": str(told.get("verdict") or "No verdict was recorded"),
            "by_heart": any(t["found"] and not t["attribute"] for t in tests),
        })  # fmt: skip
    return out


def _test(found: Mapping[str, Any]) -> dict[str, Any]:
    name = str(found.get("test") or "?")
    column = name.partition(":")[2] if name.startswith("attribute:") else ""
    told = found.get("found")
    return {
        "test": name,
        "attribute": bool(column),
        "asks": f"From an item’s title to its {column}" if column else QUESTIONS.get(name, ""),
        **{k: str(found.get(k) or "") for k in ("method", "measure", "verdict")},
        **{k: number(found.get(k)) for k in ("cases", "choices", "accuracy", "accuracy_chance")},
        **{k: figure(found.get(k)) for k in ("score", "chance", "difference", "written", "written_chance")},
        "found": told if isinstance(told, bool) else None,
        "failures": numbers(found.get("failures")),
    }
