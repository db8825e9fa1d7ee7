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
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import polars as pl
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from llm4rec.core.columns import CASE, SYSTEM
from llm4rec.core.errors import RunError
from llm4rec.experiment.report_cases import collect, embed_cases, scan
from llm4rec.experiment.report_findings import ALPHA, METRIC_NAMES, findings, named

SCRIPTS: Final = ("dom.js", "leaderboard.js", "charts.js", "cases.js", "page.js")
#: Keys of a system's table in the spec that say that it reads text.
TEXT_KEYS: Final = frozenset({"encoder", "llm"})


DEFINITIONS: Final[Mapping[str, str]] = {
    "ndcg": "Discounted gain of the truth's ranks, 1/log2(rank + 1) over the first k, divided by that of a perfect list.",
    "recall": "Share of a case's true items among its first k. With one true item a case, equal to Hit.",
    "hit": "Share of cases with at least one true item among the first k.",
    "mrr": "1/rank of the first true item, 0 where it is not among the first k.",
    "map": "Precision at the ranks of the true items among the first k, over the lesser of k and their number.",
    "precision": "Share of the first k items that are true.",
    "coverage": "Share of the catalogue that appears in at least one list's first k. It grows with the number of lists.",
    "gini": "How unevenly recommendations fall on the catalogue: 0 all items alike, near 1 a few items alone.",
    "novelty": "Mean self-information of the shown items, -log2 of their share of training events, in bits.",
    "diversity": "One less the mean cosine of the pairs of items within a list, over their attributes (genres, tags).",
    "popularity": "Mean popularity percentile of the shown items, 0 to 1; .5 for a random list. High means popularity bias.",
}


def write_report(run: Path) -> Path:
    """Write ``report.html`` into a finished run directory and return its path.

    Raises ``RunError`` where a file of the run is missing or cannot be read.
    """
    run = Path(run)
    if not run.is_dir():
        raise RunError("no such run directory", where=str(run))
    spec_text, spec = _spec(run)
    environment = _table(run, "environment.json")
    summary = _table(run, "summary.json")
    if not summary:
        raise RunError("holds no system", where=str(run / "summary.json"), todo="run the experiment again")
    systems = [_system(run, name, row, spec, environment) for name, row in summary.items()]
    order = {s["name"]: [stage["stage"] for stage in s["stages"]] for s in systems}
    embedded = embed_cases(run, order, _sample(run, [s["name"] for s in systems if s["sampled"]]))
    head = _mapping(spec.get("experiment"))
    primary = _primary(head, systems)
    data = {
        "run": str(head.get("name") or run.name),
        "primary": primary,
        "names": METRIC_NAMES,
        "metrics": _metrics(systems, primary),
        "alpha": ALPHA,
        "protocol": str(environment.get("protocol") or "not recorded"),
        "systems": systems,
        **embedded,
    }
    page = _render({
        "data": data,
        "spec": spec,
        "spec_text": spec_text,
        "environment": environment,
        "experiment": head,
        "systems": systems,
        "primary": primary,
        "facts": _facts(environment, embedded["all"]),
        "findings": findings(systems, primary),
        "rules": flat(environment.get("split") or {}),
        "everything": flat(environment),
        "definitions": [(METRIC_NAMES[name], text) for name, text in DEFINITIONS.items()],
        "run_name": run.resolve().name,
    })  # fmt: skip
    out = run / "report.html"
    part = out.with_suffix(".html.part")
    try:
        part.write_bytes(page.encode("utf-8", errors="replace"))
        part.replace(out)
    except OSError as error:
        raise RunError(f"cannot be written ({error.strerror})", where=str(out)) from None
    return out


# -- reading ------------------------------------------------------------------------------
def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        todo = "run the experiment again, it continues where it stopped"
        raise RunError("file is missing", where=str(path), todo=todo) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot be read ({error})", where=str(path), todo="run the experiment again") from None


def _spec(run: Path) -> tuple[str, dict[str, Any]]:
    text = _text(run / "spec.toml")
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RunError(f"is not TOML ({error})", where=str(run / "spec.toml")) from None


def _table(run: Path, name: str) -> dict[str, Any]:
    text = _text(run / name)
    try:
        value = json.loads(text)
    except ValueError as error:
        raise RunError(f"is not JSON ({error})", where=str(run / name), todo="run the experiment again") from None
    if not isinstance(value, dict):
        raise RunError("is no JSON object", where=str(run / name), todo="run the experiment again")
    return value


def _sample(run: Path, sampled: Sequence[str]) -> list[int]:
    """Cases that the sampled systems answered: the LLM sample."""
    if not sampled:
        scan(run, "results")
        return []
    frame = scan(run, "results").filter(pl.col(SYSTEM).is_in(list(sampled))).select(pl.col(CASE).unique().sort())
    return collect(run, "results", frame)[CASE].to_list()


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    real = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if real else None


def _figures(value: Any) -> dict[str, dict[str, float | None]]:
    """Metrics by name, each with mean, low, high and n, whatever is missing set to None."""
    out = {}
    for name, figure in _mapping(value).items():
        parts = figure if isinstance(figure, Mapping) else {"mean": figure}
        if _number(parts.get("mean")) is not None:
            out[name] = {part: _number(parts.get(part)) for part in ("mean", "low", "high", "n")}
    return out


def _numbers(value: Any) -> dict[str, float]:
    return {str(k): v for k, v in _mapping(value).items() if _number(v) is not None}


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
    tables = _mapping(spec.get("systems"))
    figures, sample = _figures(row.get("metrics")), _mapping(row.get("sample"))
    sampled = bool(row.get("sampled"))
    llm, weights = _mapping(row.get("llm")), _mapping(_mapping(row.get("facts")).get("weights"))
    uses_llm = bool(row.get("uses_llm"))
    table = {k: v for k, v in _mapping(tables.get(name)).items() if k not in ("label", "note", "description", "component")}
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
        "sampled": sampled,
        "seeds": [s for s in row.get("seeds") or [] if isinstance(s, int)],
        "cases": _number(row.get("cases")),
        "metrics": {
            "all": {} if sampled else figures,
            "sample": _figures(sample.get("metrics")) or (figures if sampled else {}),
        },
        "seed_deviation": _numbers(row.get("seed_deviation")),
        "slices": {
            str(k): {"n": _number(_mapping(v).get("n")), "metrics": _figures(_mapping(v).get("metrics"))}
            for k, v in _mapping(row.get("slices")).items()
        },
        "beyond": _numbers(row.get("beyond")),
        **{k: _number(row.get(k)) for k in ("fit_seconds", "serve_seconds", "ms_per_query", "parameters")},
        "cost": {k: _number(llm.get(k)) for k in ("calls", "cached", "tokens_in", "tokens_out", "usd")},
        "failures": _numbers(row.get("failures")),
        "stages": [
            {
                "stage": str(s.get("stage") or "?"),
                "kind": str(s.get("kind") or str(s.get("stage") or "").partition(":")[0]),
                "depth": _number(s.get("depth")),
                "given": _number(s.get("given")) or _number(table.get("depth")),
                "weight": _number(weights.get(str(s.get("stage") or "").partition(":")[2])),
                "metrics": {k: f["mean"] for k, f in _figures(s.get("metrics")).items()},
            }
            for s in row.get("stages") or []
            if isinstance(s, Mapping)
        ],
        "versus": {
            str(k): {
                "metric": str(v.get("metric") or ""),
                **{p: _number(v.get(p)) for p in ("n", "difference", "low", "high", "p", "p_holm")},
            }
            for k, v in _mapping(row.get("versus")).items()
            if isinstance(v, Mapping) and _number(v.get("difference")) is not None
        },
    }


def _models(names: Any, environment: Mapping[str, Any]) -> str:
    """Names of a system's language models, with a word of warning where a model is the small embedded one."""
    known = _mapping(environment.get("llms"))
    found = [_mapping(known.get(n)) for n in names or [] if isinstance(n, str)]
    labels = [str(m.get("name") or m.get("model") or n) for m, n in zip(found, names or [], strict=False)]
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
    data, split = _mapping(environment.get("dataset")), _mapping(environment.get("split"))
    kinds = ("users", "items", "events", "training_events")
    size = [f"{data[k]:,} {k.replace('_', ' ')}" for k in kinds if _number(data.get(k)) is not None]
    machine = _mapping(environment.get("machine"))
    units = {"cores": "{:.0f} cores", "memory_gib": "{:.0f} GiB", "memory_gb": "{:.0f} GB"}
    plain = {k: v for k, v in machine.items() if isinstance(v, (str, int, float)) and not isinstance(v, bool) and v != ""}
    parts = [units.get(k, "{}").format(v) for k, v in plain.items()]
    started = str(environment.get("finished") or environment.get("started") or "")
    rules = _mapping(split.get("rules"))
    kind = str((_mapping(rules.get("split")) or rules).get("kind") or "")
    tied = _number(_mapping(rules.get("test")).get("tied_cases"))
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


def _render(view: Mapping[str, Any]) -> str:
    script = "\n".join(['"use strict";', "(() => {", *map(_asset, SCRIPTS), "})();"])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=FunctionLoader(_asset), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"named": named, "embeddable": embeddable}
    return environment.get_template("page.html.j2").render(
        **view, script=Markup(script), digest=digest, style=Markup(_asset("page.css"))
    )
