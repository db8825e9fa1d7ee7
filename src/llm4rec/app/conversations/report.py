"""The tables of conversations for people: Markdown, and one self-contained page with conversations to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from llm4rec.core.columns import CASE, SEED
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.report_words import signed

#: Conversations of each agent that the page shows.
_READ = 3


def write_conversations(folder: Path) -> Path:
    """Write ``table.md`` and ``report.html`` of finished conversations and return the page's path."""
    directory = RunDirectory(folder)
    summary = directory.read_json("summary.json")
    tables = {name: table(protocol) for name, protocol in summary.items()}
    judged = directory.read_json("preferences.json")
    pieces = [_markdown(p["label"], sentence(p), tables[n]) for n, p in summary.items()]
    pieces += [_markdown(p["label"], preferred(p), verdicts(p)) for p in judged.values()]
    directory.write_text("table.md", "\n\n".join(pieces) + "\n")
    turns = directory.read_table("turns.parquet")
    environment = Environment(
        loader=PackageLoader("llm4rec.app.conversations", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("report.html.j2").render(
        protocols=[
            {"name": n, **p, "said": sentence(p), "table": tables[n], "curve": _curve(p), "talks": _talks(turns, n)}
            for n, p in summary.items()
        ],
        preferences=[{**p, "said": preferred(p), "table": verdicts(p)} for p in judged.values()],
    )
    directory.write_text("report.html", page)
    return directory / "report.html"


def table(protocol: Mapping[str, Any]) -> list[list[str]]:
    """Return a protocol's table, its head first: the agents in order of the primary figure, the best one the reference."""
    rows, primary = protocol["agents"], protocol["primary"]
    several = any(r["sampled"] for r in rows.values())
    best = max((a for a in rows if not rows[a]["sampled"]), key=lambda a: rows[a]["metrics"][primary]["mean"] or 0.0)
    names = columns(protocol)
    asks = any(r["uses_llm"] for r in rows.values())
    on = next((r["cases"] for r in rows.values() if r["sampled"]), 0)
    head = [
        "agent",
        "n",
        primary,
        "95 % interval",
        *([f"{primary} on the sample of {on}"] if several else []),
        *names,
        f"against {rows[best]['label']}",
        "p (Holm)",
    ]
    head += ["tool errors", "ms a turn", *(["tokens", "US$"] if asks else [])]
    out = [head]
    for agent in sorted(rows, key=lambda a: -(rows[a]["metrics"][primary]["mean"] or 0.0)):
        row = rows[agent]
        figures = row["metrics"]
        mean, test, costs = figures[primary], row["versus"].get(best), row["costs"]
        label = row["label"] + (" (control)" if row["control"] else "") + (" (sample)" if several and row["sampled"] else "")
        told = [label, str(mean["n"]), _decimal(mean["mean"]), f"{_decimal(mean['low'])} to {_decimal(mean['high'])}"]
        told += [_decimal((row["sample"] or figures)[primary]["mean"])] if several else []
        told += [_decimal(figures[m]["mean"]) if m in figures else "" for m in names]
        told += ["", ""] if test is None else [signed(test["difference"], "{:+.3f}").replace("0.", "."), _p(test["p_holm"])]
        told += [f"{costs['tool_errors']:.2f}", f"{1000 * costs['seconds'] / max(1e-9, costs['requests']):.0f}"]
        if asks:
            told += [f"{costs['tokens']:,.0f}", "unknown" if costs["usd"] is None else f"{costs['usd']:.4f}"]
        out.append(told)
    return out


def columns(protocol: Mapping[str, Any]) -> list[str]:
    """Return the figures that a table shows besides the primary one."""
    turns, shown = protocol["turns"], protocol["shown"]
    match protocol["kind"]:
        case "multi-turn":
            return ["success@1", *(["success@3"] if turns > 3 else []), "turns", f"recall@1/{turns}"]
        case "target-free":
            return ["satisfaction@1", "found"]
        case "one-turn":
            return ["recall@1", "recall@5", f"recall@{shown}", "ndcg@10"]
        case _:
            return ["new recall@1", f"new recall@{shown}", "recall@1", "recall@10", f"recall@{shown}"]


def sentence(protocol: Mapping[str, Any]) -> str:
    """Say in a few words what a protocol is."""
    world, simulator = protocol["world"], protocol["simulator"]
    told = [f"World: {world['run']} ({world['dataset']}, {world['items']} items), tools ask {world['system']} by default."]
    if simulator is not None:
        told.append(f"Users: {simulator['kind']} simulator, patience {protocol['turns']}, {protocol['shown']} items a turn.")
        noise = f"wrong {simulator.get('wrong', 0)}, vague {simulator.get('vague', 0)}, overlooked {protocol['overlook']}"
        told.append(f"Noise: {noise}.")
    if "mapped" in protocol:
        m = protocol["mapped"]
        every = sum(m["truth"].values())
        told.append(
            f"{protocol['dialogues']}: {m['truth']['mapped']} of {every} true titles are in the catalogue "
            f"({m['truth']['ambiguous']} ambiguous, {m['truth']['unknown']} unknown), {m['repeated']} of them named before; "
            f"{m['cases']} of {m['requests']} requests have one that is."
        )
        if m["answers"]:
            told.append("Logged titles: " + ", ".join(f"{n} {kind}" for kind, n in sorted(m["answers"].items())) + ".")
    return " ".join(told)


_KNOWN = {
    "lists": "the held-out item on top, over a random list (control)",
    "explanations": "made for the user, over made for another (control)",
}


def preferred(judged: Mapping[str, Any]) -> str:
    """Say in a few words what was judged."""
    what = f"lists of {judged['k']}" if judged["of"] == "lists" else "explanations of the held-out item"
    sides = f"a: {judged['a']}, b: {judged['b']}, {what}, {judged['parts']['equal']} of them equal"
    return f"Judge: {judged['llm']}, each pair in both orders, {judged['repeats']} times each; {sides}."


def verdicts(judged: Mapping[str, Any]) -> list[list[str]]:
    """Return the table of a judge's verdicts and of its controls, its head first."""
    told = {
        "pairs": f"{judged['a']} over {judged['b']}", "identical": f"the same {judged['of'][:-1]} twice (control)",
        "known": _KNOWN[judged["of"]],
    }  # fmt: skip
    head = ["pairs", "decided", "a preferred", "95 % interval", "p", "first place taken", "orders agree", "kappa, orders"]
    out = [[*head, "kappa, repeats", "unreadable"]]
    for part, label in told.items():
        f = judged["parts"][part]
        between = "" if f["low"] is None else f"{_decimal(f['low'])} to {_decimal(f['high'])}"
        kappas = [_decimal(f[k]) for k in ("first", "consistency", "order_kappa", "repeat_kappa")]
        out.append(
            [label, str(f["n"]), _decimal(f["share"]), between, _p(f["p"]), *kappas, f"{f['unreadable']} of {f['answers']}"]
        )
    return out


# -- parts ----------------------------------------------------------------------------------
def _markdown(label: str, said: str, rows: Sequence[Sequence[str]]) -> str:
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    line = "|" + "---|" * len(rows[0])
    return "\n".join([f"### {label}", "", said, "", head, line, *body])


def _decimal(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}".removeprefix("0") if abs(value) < 1 else f"{value:.2f}"


def _p(value: float | None) -> str:
    return "" if value is None else "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _curve(protocol: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return success (or satisfaction) by turn for each agent, as points of a chart 600 wide and 200 high."""
    stem = {"multi-turn": "success", "target-free": "satisfaction"}.get(protocol["kind"])
    if stem is None:
        return []
    out = []
    for row in protocol["agents"].values():
        at = sorted((int(m.split("@")[1]), f["mean"] or 0.0) for m, f in row["metrics"].items() if m.startswith(f"{stem}@"))
        wide = max(1, protocol["turns"] - 1)
        points = " ".join(f"{600 * (t - 1) / wide:.0f},{200 * (1 - v):.0f}" for t, v in at)
        out.append({"label": row["label"], "points": points, "told": ", ".join(f"turn {t}: {v:.3f}" for t, v in at)})
    return out


def _talks(turns: pl.DataFrame, protocol: str) -> list[dict[str, Any]]:
    """Return the first conversations of each agent, to be read."""
    out = []
    mine = turns.filter(pl.col("protocol") == protocol)
    for (agent,), rows in mine.group_by(["agent"], maintain_order=True):
        for (_, case), talk in list(rows.group_by([SEED, CASE], maintain_order=True))[:_READ]:
            out.append({"agent": agent, "case": case, "rounds": talk.to_dicts()})
    return out
