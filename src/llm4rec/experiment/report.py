"""The report of a run: one self-contained page, made from the files of a finished run directory.

``write_report`` reads the run, computes what the page says in words, and hands figures and cases
to the page as one JSON value.  Drawing is the page's own work (``report/*.js``).  Titles, prompts
and answers are untrusted text: the templates escape, the JSON cannot end its element, scripts
write text nodes only, and the content security policy admits the page's own script by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import polars as pl
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from llm4rec.core.columns import CASE, SYSTEM
from llm4rec.core.errors import RunError
from llm4rec.experiment.report_audit import audited
from llm4rec.experiment.report_cases import collect, embed_cases, same_explained, scan
from llm4rec.experiment.report_contamination import contamination
from llm4rec.experiment.report_explanations import additions
from llm4rec.experiment.report_explanations import columns as explanation_columns
from llm4rec.experiment.report_files import FINE, entries, figures, mapping, number, numbers, read_json, read_toml, tested
from llm4rec.experiment.report_findings import ALPHA, findings
from llm4rec.experiment.report_predictions import predictions
from llm4rec.experiment.report_rankers import diagnoses
from llm4rec.experiment.report_words import DEFINITIONS, METRIC_NAMES, named

SCRIPTS: Final = ("dom.js", "leaderboard.js", "charts.js", "rankers.js", "explained.js", "cases.js", "page.js")
#: Keys of a system's table in the spec that say that it reads text.
TEXT_KEYS: Final = frozenset({"encoder", "llm"})


def write_report(run: Path) -> Path:
    """Write ``report.html`` into a finished run directory and return its path.

    Raises ``RunError`` where a file of the run is missing or cannot be read.
    """
    run = Path(run)
    if not run.is_dir():
        raise RunError("no such run directory", where=str(run))
    spec_text, spec = read_toml(run / "spec.toml")
    environment = read_json(run / "environment.json")
    summary = read_json(run / "summary.json")
    if not summary:
        raise RunError("holds no system", where=str(run / "summary.json"), todo="run the experiment again")
    systems = [_system(run, name, row, spec, environment) for name, row in summary.items()]
    if str(mapping(spec.get("protocol")).get("task") or "ranking") != "ranking":
        view = predictions(run, spec, spec_text, environment, summary, systems)
        facts = _facts(environment, max(int(s["cases"] or 0) for s in systems))
        page = _render("prediction.html.j2", view | {"facts": facts, "everything": flat(environment)})
        return _written(run / "report.html", page)
    order = {s["name"]: [stage["stage"] for stage in s["stages"]] for s in systems}
    embedded = embed_cases(run, order, _sample(run, [s["name"] for s in systems if s["sampled"]]))
    explained = [s for s in systems if s["explanation"]]
    known = contamination(run, _model_names(environment), systems)
    head = mapping(spec.get("experiment"))
    primary = _primary(head, systems)
    data = {
        "run": str(head.get("name") or run.name),
        "primary": primary,
        "names": METRIC_NAMES,
        "metrics": _metrics(systems, primary),
        "alpha": ALPHA,
        "fine": FINE,
        "protocol": str(environment.get("protocol") or "not recorded"),
        "systems": systems,
        "explained": {
            "columns": explanation_columns(explained),
            "same_cases": same_explained(run, [s["name"] for s in explained]),
        },
        "contamination": known,
        **embedded,
    }
    page = _render("page.html.j2", {
        "data": data,
        "spec": spec,
        "spec_text": spec_text,
        "environment": environment,
        "experiment": head,
        "systems": systems,
        "primary": primary,
        "diagnosed": any(s["diagnosis"] for s in systems),
        "facts": _facts(environment, embedded["all"]),
        "findings": findings(systems, primary, known),
        "rules": flat(environment.get("split") or {}),
        "everything": flat(environment),
        "definitions": [(METRIC_NAMES[name], text) for name, text in DEFINITIONS.items()],
        "run_name": run.resolve().name,
        "audit": audited(run, str(mapping(environment.get("split")).get("fingerprint") or "")),
    })  # fmt: skip
    return _written(run / "report.html", page)


def _written(out: Path, page: str) -> Path:
    part = out.with_suffix(".html.part")
    try:
        part.write_bytes(page.encode("utf-8", errors="replace"))
        part.replace(out)
    except OSError as error:
        raise RunError(f"cannot be written ({error.strerror})", where=str(out)) from None
    return out


# -- reading ------------------------------------------------------------------------------
def _sample(run: Path, sampled: Sequence[str]) -> list[int]:
    """Cases that the sampled systems answered: the LLM sample."""
    if not sampled:
        scan(run, "results")
        return []
    frame = scan(run, "results").filter(pl.col(SYSTEM).is_in(list(sampled))).select(pl.col(CASE).unique().sort())
    return collect(run, "results", frame)[CASE].to_list()


def _reads_text(table: Any, tables: Mapping[str, Any], depth: int = 0) -> bool:
    """Does a system's table in the spec, or one that it names, use an encoder or a language model?"""
    if isinstance(table, Mapping):
        return any((k in TEXT_KEYS and bool(v)) or _reads_text(v, tables, depth) for k, v in table.items())
    if isinstance(table, list):
        return any(_reads_text(v, tables, depth) for v in table)
    return depth < 3 and isinstance(table, str) and table in tables and _reads_text(tables[table], tables, depth + 1)


def _system(run: Path, name: str, row: Any, spec: Mapping[str, Any], environment: Mapping[str, Any]) -> dict[str, Any]:
    """One system's part of the summary with every field present, None or empty where unknown."""
    if not isinstance(row, Mapping):
        raise RunError(f"{name} is no JSON object", where=str(run / "summary.json"), todo="run the experiment again")
    tables = mapping(spec.get("systems"))
    metrics, sample = figures(row.get("metrics")), mapping(row.get("sample"))
    sampled = bool(row.get("sampled"))
    llm, weights = mapping(row.get("llm")), mapping(mapping(row.get("facts")).get("weights"))
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
                "weight": number(weights.get(str(s.get("stage") or "").partition(":")[2])),
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


def _model_names(environment: Mapping[str, Any]) -> dict[str, str]:
    """Language models by their name in the spec: the model's own."""
    known = {name: mapping(m) for name, m in mapping(environment.get("llms")).items()}
    return {name: str(m.get("name") or m.get("model") or name) for name, m in known.items()}


def _models(names: Any, environment: Mapping[str, Any]) -> str:
    """Names of a system's language models, with a word of warning where a model is the small embedded one."""
    known = _model_names(environment)
    labels = [known.get(n, n) for n in names or [] if isinstance(n, str)]
    small = any("smollm2-135m" in label.lower() for label in labels)
    return ", ".join(dict.fromkeys(labels)) + (": small model, weak at ranking" if small else "")


def _metrics(systems: Sequence[Mapping[str, Any]], primary: str) -> list[str]:
    """All accuracy metrics of the run, the primary one first, the others by k and name."""
    found = {m for s in systems for part in s["metrics"].values() for m in part}
    known = list(METRIC_NAMES)

    def key(metric: str) -> tuple[int, int, str]:
        name, _, k = metric.partition("@")
        return int(k) if k.isdigit() else 0, known.index(name) if name in known else len(known), name

    return [primary, *sorted(found - {primary}, key=key)]


def _primary(head: Mapping[str, Any], systems: Sequence[Mapping[str, Any]]) -> str:
    wanted = str(head.get("primary") or "ndcg@10")
    found = sorted({m for s in systems for part in s["metrics"].values() for m in part})
    return wanted if wanted in found or not found else found[0]


# -- the page -----------------------------------------------------------------------------
def flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Nested tables as (dotted key, value) rows; what is None or empty is left out."""
    if isinstance(value, Mapping):
        return [row for k, v in value.items() for row in flat(v, f"{path}.{k}" if path else str(k))]
    if isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
        return [row for i, v in enumerate(value, 1) for row in flat(v, f"{path}.{i}")]
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return [(path, text)] if text else []


def _facts(environment: Mapping[str, Any], cases: int) -> list[tuple[str, str, str]]:
    """What was compared on what: (name, value, small print) for the head of the page."""
    data, split = mapping(environment.get("dataset")), mapping(environment.get("split"))
    kinds = ("users", "items", "events", "training_events")
    size = [f"{data[k]:,} {k.replace('_', ' ')}" for k in kinds if number(data.get(k)) is not None]
    machine = mapping(environment.get("machine"))
    units = {"cores": "{:.0f} cores", "memory_gib": "{:.0f} GiB", "memory_gb": "{:.0f} GB"}
    plain = {k: v for k, v in machine.items() if isinstance(v, (str, int, float)) and not isinstance(v, bool) and v != ""}
    parts = [units.get(k, "{}").format(v) for k, v in plain.items()]
    started = str(environment.get("finished") or environment.get("started") or "")
    rules = mapping(split.get("rules"))
    kind = str((mapping(rules.get("split")) or rules).get("kind") or "")
    tied = number(mapping(rules.get("test")).get("tied_cases"))
    kind += "" if tied is None else f", {tied:,} with a tie in time for the last place"
    return [
        ("Data", str(data.get("name") or "unknown"), ", ".join(size) or "size not recorded"),
        ("Cases", f"{cases:,}", kind.replace("_", " ") or "split rule not recorded"),
        ("Protocol", str(environment.get("protocol") or "not recorded"), "the same for every system"),
        ("Split", str(split.get("fingerprint") or "unknown")[:12], f"data {str(data.get('fingerprint') or 'unknown')[:12]}"),
        ("Finished", started[:16].replace("T", " ") or "not recorded", f"LLM4Rec {environment.get('llm4rec') or '?'}"),
        ("Machine", parts[0] if parts else "not recorded", ", ".join(parts[1:4])),
    ]


def _asset(name: str) -> str:
    return (resources.files("llm4rec.experiment") / "report" / name).read_text(encoding="utf-8")


def embeddable(value: Any) -> Markup:
    """JSON that no HTML parser can mistake for the end of its element; nan and infinity become null."""

    def finite(v: Any) -> Any:
        if isinstance(v, Mapping):
            return {str(k): finite(x) for k, x in v.items()}
        if isinstance(v, (list, tuple)):
            return [finite(x) for x in v]
        return None if isinstance(v, float) and not math.isfinite(v) else v

    text = json.dumps(finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def _render(template: str, view: Mapping[str, Any]) -> str:
    script = "\n".join(['"use strict";', "(() => {", *map(_asset, SCRIPTS), "})();"])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"named": named, "embeddable": embeddable}
    return environment.get_template(template).render(
        **view, script=Markup(script), digest=digest, style=Markup(_asset("page.css"))
    )
