"""What a report says in words: its key findings, computed from the figures of the summary.

A system here is a mapping with every field present (see ``report.py``).  "Clear" means that the
paired test stays below the level after Holm's correction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from llm4rec.experiment.report_rankers import use_of_history
from llm4rec.experiment.report_words import named, signed

#: Two-sided level at which a corrected difference counts.
ALPHA: Final = 0.05


def paired(a: Mapping[str, Any], b: Mapping[str, Any], metric: str) -> dict[str, Any] | None:
    """The tested difference a - b on the cases that both answered, or None."""
    if (found := a["versus"].get(b["name"])) and found["metric"] == metric:
        return dict(found)
    if (found := b["versus"].get(a["name"])) and found["metric"] == metric:
        turned = {"low": found["high"], "high": found["low"], "difference": found["difference"]}
        return {**found, **{k: None if v is None else -v for k, v in turned.items()}}
    return None


def clear(difference: Mapping[str, Any] | None) -> bool:
    """Is a difference larger than chance explains, by the corrected test, or by its interval where there was no test?"""
    if difference is None:
        return False
    p = difference["p_holm"] if difference["p_holm"] is not None else difference["p"]
    if p is not None:
        return bool(p < ALPHA)
    low, high = difference["low"], difference["high"]
    return low is not None and high is not None and (low > 0 or high < 0)


def _best(systems: Sequence[Mapping[str, Any]], part: str, metric: str) -> Mapping[str, Any] | None:
    able = [s for s in systems if not s["control"] and metric in s["metrics"][part]]
    return max(able, key=lambda s: s["metrics"][part][metric]["mean"], default=None)


def findings(
    systems: Sequence[Mapping[str, Any]], metric: str, contamination: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The key findings, computed from the figures: question, answer, detail and the interval behind it.

    Whether rankers use the history, and whether models know the data by heart, is said where it
    speaks against them.
    """
    part = "all" if any(metric in s["metrics"]["all"] for s in systems) else "sample"
    plain = _best([s for s in systems if not s["text"]], part, metric)
    out = []
    if best := _best(systems, part, metric):
        figure = best["metrics"][part][metric]
        where = f"on all {figure['n']:,} cases" if part == "all" and figure["n"] else "on the sample"
        others = [s for s in systems if s is not best and not s["control"] and metric in s["metrics"][part]]
        level = [s["label"] for s in others if (d := paired(best, s, metric)) and not clear(d)]
        detail = f"{named(metric)} {_interval(figure)} {where}. "
        detail += f"Not told apart from {_listed(level)}." if level else "Every other system is clearly below it."
        if level == [] and not any(paired(best, s, metric) for s in others):
            detail = f"{named(metric)} {_interval(figure)} {where}."
        out.append({"question": "Which system is best?", "answer": best["label"], "detail": detail, "interval": None})
    text = _best([s for s in systems if s["text"] and not s["llm"]], part, metric)
    if plain:
        out.append(_question("Do text vectors help?", text, plain, part, metric, "system with a text encoder", "without text"))
    within = next((p for p in ("all", "sample") if _best([s for s in systems if s["llm"]], p, metric)), part)
    llm, other = (_best([s for s in systems if s["llm"] is flag], within, metric) for flag in (True, False))
    if other:
        out.append(_question("Does the LLM help?", llm, other, within, metric, "system with an LLM", "without an LLM"))
    if llm:
        out.append(_price(llm, other))
    return [*out, *_unread_history(systems), *_known_by_heart(contamination)]


def _unread_history(systems: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The finding about rankers to which another user's history is as good as the true one, if there are any."""
    judged = [
        (s["label"], use_of_history(stage["history"]["fake"], "fake", stage["history"]["metric"]), stage["history"])
        for s in systems
        for stage in s["diagnosis"]
        if stage["history"] is not None and stage["history"]["fake"] is not None
    ]
    found = [one for one in judged if one[1][0] != "used"]
    if not found:
        return []
    answer = "Not shown" if any(word == "unseen" for _, (word, _), _ in found) else "No"
    if len(found) < len(judged):
        answer = f"{answer} for {len(found)} of {len(judged)}"
    label, (_, sentence), history = found[0]
    others = [name for name, _, _ in found[1:]]
    gain = history["fake"]["gain"]
    return [{
        "question": "Do the LLM rankers use the history?", "answer": answer,
        "detail": f"{label}: {sentence}" + (f" Nor is a use seen for {_listed(others)}." if others else ""),
        "interval": gain, "sure": gain["low"] is not None and gain["high"] is not None and not gain["low"] <= 0 <= gain["high"],
        "number": f"{signed(gain['difference'])} {history['metric']}",
    }]  # fmt: skip


def _known_by_heart(contamination: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The finding about models that know the public files, if there are any; facts of the world are no contamination."""
    found = [one for one in contamination if one["by_heart"]]
    if not found:
        return []
    others = [one["model"] for one in found[1:]]
    detail = f"{found[0]['model']}: {found[0]['verdict']}. " + (f"The same holds for {_listed(others)}. " if others else "")
    return [{
        "question": "Does the LLM know the data by heart?", "answer": "Yes", "interval": None,
        "detail": f"{detail}What it remembers is no skill in ranking.",
    }]  # fmt: skip


def _question(
    question: str, a: Mapping[str, Any] | None, b: Mapping[str, Any], part: str, metric: str, kind: str, without: str
) -> dict[str, Any]:
    mean = b["metrics"][part][metric]["mean"]
    if a is None:
        detail = f"No {kind} took part. Best {without}: {b['label']}, {named(metric)} {mean:.4f}."
        return {"question": question, "answer": "Not asked", "detail": detail, "interval": None}
    difference = paired(a, b, metric)
    detail = f"{a['label']} against {b['label']}, the best {without}"
    if difference is None:
        detail += f": {a['metrics'][part][metric]['mean']:.4f} and {mean:.4f}, not tested as a pair."
        return {"question": question, "answer": "Untested", "detail": detail, "interval": None}
    up = difference["difference"] > 0
    answer = ("Yes" if up else "No, it costs accuracy") if clear(difference) else "Not shown"
    p = difference["p_holm"]
    n = f"{difference['n']:,} cases" if difference["n"] else "the shared cases"
    detail += f", on {n}" + ("." if p is None else f": p {_p(p)} after Holm.")
    return {
        "question": question, "answer": answer, "detail": detail, "interval": difference,
        "number": f"{signed(difference['difference'])} {named(metric)}", "sure": clear(difference),
    }  # fmt: skip


def _price(llm: Mapping[str, Any], other: Mapping[str, Any] | None) -> dict[str, Any]:
    queries = (llm["cases"] or 0) * max(1, len(llm["seeds"]))
    parts = []
    ms, base = llm["ms_per_query"], other["ms_per_query"] if other else None
    if ms and base and other:
        parts.append(f"{_times(ms / base)} the time of {other['label']}")
    cost = llm["cost"]
    if queries and (cost["tokens_in"] or cost["tokens_out"]):
        parts.append(f"{((cost['tokens_in'] or 0) + (cost['tokens_out'] or 0)) / queries:,.0f} tokens a query")
    if cost["usd"] is None or not queries:
        parts.append("money unknown (no price is set)")
    else:
        parts.append(f"US$ {1000 * cost['usd'] / queries:,.2f} per 1,000 queries" if cost["usd"] else "no money by the call")
    answer = f"{seconds(ms / 1000)} a query" if ms is not None else "Time not recorded"
    return {
        "question": "What does it cost?",
        "answer": answer,
        "interval": None,
        "detail": f"{llm['label']}: {', '.join(parts)}.",
    }


def _interval(figure: Mapping[str, Any]) -> str:
    span = "" if figure["low"] is None or figure["high"] is None else f" [{figure['low']:.4f}, {figure['high']:.4f}]"
    return f"{figure['mean']:.4f}{span}"


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else f"= {p:.3f}"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.3g} min"


def _listed(labels: Sequence[str]) -> str:
    shown = list(labels[:3]) + ([f"{len(labels) - 3} more"] if len(labels) > 3 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
