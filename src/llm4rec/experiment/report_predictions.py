"""The report of a task that predicts: a page of tables, without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm4rec.experiment.report_files import mapping, number
from llm4rec.experiment.report_words import PREDICTED, named
from llm4rec.metrics import LOWER


def predictions(
    run: Path,
    spec: Mapping[str, Any],
    spec_text: str,
    environment: Mapping[str, Any],
    summary: Mapping[str, Any],
    systems: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what the page shows, but for the facts at its head."""
    experiment = mapping(spec.get("experiment"))
    primary = str(experiment.get("primary"))
    metrics = [m for m in PREDICTED if any(m in part for s in systems for part in s["metrics"].values())]
    metrics.sort(key=lambda m: m != primary)

    def mean(system: Mapping[str, Any], part: str) -> float:
        found = number(mapping(system["metrics"][part].get(primary)).get("mean"))
        return float("inf") if found is None else found if primary in LOWER else -found

    parts = [
        (title, part, sorted((s for s in systems if s["metrics"][part]), key=lambda s, p=part: mean(s, p)))  # type: ignore[misc]
        for title, part in (("All questions", "all"), ("The sample of questions on which slow systems ran", "sample"))
    ]
    labels = {s["name"]: s["label"] for s in systems}
    order = [s["name"] for _, _, rows in parts for s in rows]
    pairs = [
        {**d, "a": s["label"], "b": labels[other]}
        for i, s in enumerate(systems)
        for other, d in s["versus"].items()
        if other in labels and other in [t["name"] for t in systems[i + 1 :]]
    ]
    users = {n: mapping(mapping(row).get("users")) for n, row in summary.items()}
    return {
        "run_name": run.resolve().name,
        "title": str(experiment.get("name") or run.name),
        "experiment": experiment,
        "environment": environment,
        "spec_text": spec_text,
        "primary": primary,
        "metrics": metrics,
        "lower": LOWER,
        "parts": [part for part in parts if part[2]],
        "pairs": sorted(pairs, key=lambda p: (order.index(_name(labels, p["a"])), p["p"] is None, p["p"])),
        "users": users[order[0]] if order else {},
        "slices": sorted({kind for s in systems for kind in s["slices"]}),
        "definitions": [(named(m), PREDICTED[m]) for m in metrics],
    }


def _name(labels: Mapping[str, str], label: str) -> str:
    return next(name for name, found in labels.items() if found == label)
