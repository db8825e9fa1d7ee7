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
from llm4rec.experiment.report_explanations import columns as explanation_columns
from llm4rec.experiment.report_files import FINE, mapping, number, read_json, read_toml
from llm4rec.experiment.report_findings import ALPHA, findings
from llm4rec.experiment.report_predictions import predictions
from llm4rec.experiment.report_systems import families, metrics_of, model_names, primary_of, read_system
from llm4rec.experiment.report_words import DEFINITIONS, METRIC_NAMES, named

SCRIPTS: Final = ("dom.js", "leaderboard.js", "charts.js", "rankers.js", "explained.js", "cases.js", "page.js")


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
    systems = [read_system(run, name, row, spec, environment) for name, row in summary.items()]
    if str(mapping(spec.get("protocol")).get("task") or "ranking") != "ranking":
        view = predictions(run, spec, spec_text, environment, summary, systems)
        facts = _facts(environment, max(int(s["cases"] or 0) for s in systems))
        page = _render("prediction.html.j2", view | {"facts": facts, "everything": flat(environment)})
        return _written(run / "report.html", page)
    order = {s["name"]: [stage["stage"] for stage in s["stages"]] for s in systems}
    embedded = embed_cases(run, order, _sample(run, [s["name"] for s in systems if s["sampled"]]))
    explained = [s for s in systems if s["explanation"]]
    known = contamination(run, model_names(environment), systems)
    head = mapping(spec.get("experiment"))
    primary = primary_of(head, systems)
    data = {
        "run": str(head.get("name") or run.name),
        "primary": primary,
        "names": METRIC_NAMES,
        "metrics": metrics_of(systems, primary),
        "alpha": ALPHA,
        "fine": FINE,
        "protocol": str(environment.get("protocol") or "not recorded"),
        "systems": systems,
        "families": families(systems),
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
