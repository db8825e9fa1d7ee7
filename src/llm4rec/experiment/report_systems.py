"""The systems of a run as its report and its pages show them: every field present, None or empty where unknown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from llm4rec.core.errors import RunError
from llm4rec.experiment.report_explanations import additions
from llm4rec.experiment.report_files import entries, figures, mapping, number, numbers, tested
from llm4rec.experiment.report_rankers import diagnoses
from llm4rec.experiment.report_words import METRIC_NAMES

#: Keys of a system's table in the spec that say that it reads text.
TEXT_KEYS: Final = frozenset({"encoder", "llm"})
#: Colours of families that no rule gives one, in the order in which they are taken; see the style sheet.
PALETTE: Final = ("blue", "orange", "violet", "pink", "sky")
SHAPES: Final = ("circle", "square", "triangle", "diamond", "wedge", "hexagon")
_GREY, _RED, _GREEN = (re.compile(p) for p in ("popul|random|control|baseline", "llm|prompt|cascade", "text|content|encoder"))


def _reads_text(table: Any, tables: Mapping[str, Any], depth: int = 0) -> bool:
    """Does a system's table in the spec, or one that it names, use an encoder or a language model?"""
    if isinstance(table, Mapping):
        return any((k in TEXT_KEYS and bool(v)) or _reads_text(v, tables, depth) for k, v in table.items())
    if isinstance(table, list):
        return any(_reads_text(v, tables, depth) for v in table)
    return depth < 3 and isinstance(table, str) and table in tables and _reads_text(tables[table], tables, depth + 1)


def read_system(run: Path, name: str, row: Any, spec: Mapping[str, Any], environment: Mapping[str, Any]) -> dict[str, Any]:
    """One system's part of the summary with every field present, None or empty where unknown."""
    if not isinstance(row, Mapping):
        raise RunError(f"{name} is no JSON object", where=str(run / "summary.json"), todo="run the experiment again")
    tables = mapping(spec.get("systems"))
    metrics, sample = figures(row.get("metrics")), mapping(row.get("sample"))
    sampled = bool(row.get("sampled"))
    llm, chosen = mapping(row.get("llm")), mapping(row.get("facts"))
    weights = {"rank": mapping(chosen.get("weights")), "retrieve": mapping(chosen.get("fusion_weights"))}
    uses_llm = bool(row.get("uses_llm"))
    table = {k: v for k, v in mapping(tables.get(name)).items() if k not in ("label", "note", "description", "component")}
    return {
        "name": name,
        "label": str(row.get("label") or name),
        "component": str(row.get("component") or ""),
        "family": str(row.get("family") or "other"),
        "llm": uses_llm,
        "text": uses_llm or bool(row.get("uses_text", _reads_text(table, tables))),
        "control": bool(row.get("control")),
        "note": str(row.get("note") or ""),
        "models": _models(row.get("llm_names"), environment),
        "llm_names": [n for n in row.get("llm_names") or [] if isinstance(n, str)],
        "sampled": sampled,
        "seeds": [s for s in row.get("seeds") or [] if isinstance(s, int)],
        "cases": number(row.get("cases")),
        "metrics": {
            "all": {} if sampled else metrics,
            "sample": figures(sample.get("metrics")) or (metrics if sampled else {}),
        },
        "seed_deviation": numbers(row.get("seed_deviation")),
        "standard_errors": numbers(row.get("standard_errors")),
        "slices": {
            str(k): {
                "n": number(mapping(v).get("n")),
                "metrics": figures(mapping(v).get("metrics")),
                "versus": tested(mapping(v).get("versus")),
            }
            for k, v in mapping(row.get("slices")).items()
        },
        "beyond": numbers(row.get("beyond")),
        **{k: number(row.get(k)) for k in ("fit_seconds", "serve_seconds", "ms_per_query", "parameters")},
        "cost": {k: number(llm.get(k)) for k in ("calls", "cached", "tokens_in", "tokens_out", "usd")},
        "failures": numbers(row.get("failures")),
        "stages": [
            {
                "stage": str(s.get("stage") or "?"),
                "kind": str(s.get("kind") or str(s.get("stage") or "").partition(":")[0]),
                "depth": number(s.get("depth")),
                "given": number(s.get("given")) or number(table.get("depth")),
                "weight": _weight(str(s.get("stage") or ""), weights),
                "metrics": {k: f["mean"] for k, f in figures(s.get("metrics")).items()},
            }
            for s in row.get("stages") or []
            if isinstance(s, Mapping)
        ],
        "diagnosis": diagnoses(row.get("diagnosis")),
        "explanation": figures(row.get("explanation")),
        "additions": additions(row.get("additions")),
        "versus": tested(row.get("versus")),
        "below": {part: [n for n in entries(names) if isinstance(n, str)] for part, names in mapping(row.get("below")).items()},
    }


def _weight(stage: str, weights: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return what a stage such as ``rank:llm`` or ``retrieve:ease`` counts against the others, None where it is not said."""
    kind, _, part = stage.partition(":")
    return number(weights.get(kind, {}).get(part))


def model_names(environment: Mapping[str, Any]) -> dict[str, str]:
    """Language models by their name in the spec: the model's own."""
    known = {name: mapping(m) for name, m in mapping(environment.get("llms")).items()}
    return {name: str(m.get("name") or m.get("model") or name) for name, m in known.items()}


def _models(names: Any, environment: Mapping[str, Any]) -> str:
    """Names of a system's language models, with a word of warning where a model is the small embedded one."""
    known = model_names(environment)
    labels = [known.get(n, n) for n in names or [] if isinstance(n, str)]
    small = any("smollm2-135m" in label.lower() for label in labels)
    return ", ".join(dict.fromkeys(labels)) + (": small model, weak at ranking" if small else "")


def metrics_of(systems: Sequence[Mapping[str, Any]], primary: str) -> list[str]:
    """All accuracy metrics of the run, the primary one first, the others by k and name."""
    found = {m for s in systems for part in s["metrics"].values() for m in part}
    known = list(METRIC_NAMES)

    def key(metric: str) -> tuple[int, int, str]:
        name, _, k = metric.partition("@")
        return int(k) if k.isdigit() else 0, known.index(name) if name in known else len(known), name

    return [primary, *sorted(found - {primary}, key=key)]


def primary_of(head: Mapping[str, Any], systems: Sequence[Mapping[str, Any]]) -> str:
    wanted = str(head.get("primary") or "ndcg@10")
    found = sorted({m for s in systems for part in s["metrics"].values() for m in part})
    return wanted if wanted in found or not found else found[0]


def families(systems: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return one colour and one shape for each family, so that neither has to be seen to tell them apart."""
    found: dict[str, dict[str, str]] = {}
    for system in systems:
        family = system["family"]
        if family in found:
            continue
        name, at, taken = family.lower(), len(found), {f["color"] for f in found.values()}
        color = "grey" if _GREY.search(name) else "red" if system["llm"] or _RED.search(name) else None
        color = color or ("green" if _GREEN.search(name) else None)
        if color is None or color in taken:
            color = next((c for c in PALETTE if c not in taken), PALETTE[at % len(PALETTE)])
        found[family] = {"color": color, "shape": SHAPES[at % len(SHAPES)]}
    return found
