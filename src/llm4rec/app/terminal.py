"""What the command line prints: progress, leaderboard, lists and tables."""

from __future__ import annotations

import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console
from rich.text import Text

from llm4rec.app.cells import bare_table, console_of_results, decimal, plain
from llm4rec.app.doctor import Finding
from llm4rec.core import RunError
from llm4rec.experiment.audit.finding import Verdict
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.estimate import Row as Asked
from llm4rec.experiment.tune import Tuned
from llm4rec.llm import Estimate
from llm4rec.metrics import LOWER

if TYPE_CHECKING:  # the audit loads every library that a system may need
    from llm4rec.experiment.audit.audit import Audit
    from llm4rec.experiment.item_ids import Inspected


@contextmanager
def narrator(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Give a function that tells what happens: a spinner in a terminal, plain lines elsewhere.

    A line that ends in ``...`` is work that begins; any other is a result and stays.
    """
    console = Console(stderr=True, highlight=False)
    start = time.monotonic()

    def stamp() -> str:
        minutes, seconds = divmod(int(time.monotonic() - start), 60)
        return f"{minutes:2d}:{seconds:02d}"

    if quiet:
        yield lambda line: None
    elif not console.is_terminal:
        yield lambda line: print(f"{stamp()}  {line}", file=sys.stderr, flush=True)
    else:
        with console.status("starting", spinner="dots") as status:

            def tell(line: str) -> None:
                if line.endswith("..."):
                    status.update(Text(line))
                else:
                    console.print(Text.assemble((stamp(), "dim"), "  ", line))

            yield tell


def print_leaderboard(run: Path) -> None:
    """Print a run's summary: systems on all cases, then all on the sample of the slow ones."""
    directory = RunDirectory(run)
    summary, environment = directory.read_json("summary.json"), directory.read_json("environment.json")
    try:
        spec = tomllib.loads((directory / "spec.toml").read_text(encoding="utf-8"))
        primary, kind, data = spec["experiment"]["primary"], spec["split"]["kind"], environment["dataset"]
        head = f"{data['name']}: {data['users']} users, {data['items']} items; {kind}; {environment['protocol']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"spec.toml or environment.json is broken ({error})"
        raise RunError(what, where=str(run), todo="run the experiment again") from None
    console = console_of_results()
    console.print(Text(head, "dim"))
    everyone = {n: s["metrics"] for n, s in summary.items() if not s["sampled"]}
    if everyone:
        cases = max(summary[n]["cases"] for n in everyone)
        _leaderboard(console, f"All {cases} cases", everyone, summary, primary)
    sampled = {n: s["sample"]["metrics"] for n, s in summary.items() if s["sample"]}
    if sampled:
        size = max(summary[n]["sample"]["n"] for n in sampled)
        _leaderboard(
            console, f"The sample of {size} cases on which systems with a language model ran", sampled, summary, primary
        )


def _leaderboard(
    console: Console, title: str, metrics: Mapping[str, Mapping[str, Any]], summary: Mapping[str, Any], primary: str
) -> None:
    k = primary.partition("@")[2]
    wanted = (primary, f"recall@{k}", "recall@100") if k else (primary, *next(iter(metrics.values())))
    shown = [m for m in dict.fromkeys(wanted) if all(m in v for v in metrics.values())]
    asks = any(summary[n]["uses_llm"] for n in metrics)
    table = bare_table(title=Text(title, "bold"), title_justify="left")
    table.add_column("system", overflow="fold")
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
        if name == primary:
            table.add_column("95 % interval", no_wrap=True)
    for column in ("fit s", "ms/query", *(("LLM tokens",) if asks else ())):
        table.add_column(column, justify="right", no_wrap=True)
    sign = 1 if primary in LOWER else -1

    def place(name: str) -> float:
        mean = metrics[name][primary]["mean"]
        return float("inf") if mean is None else sign * float(mean)  # what measures nothing stands last

    for name in sorted(metrics, key=place):
        system, cells = summary[name], []
        for metric in shown:
            value = metrics[name][metric]
            cells.append(decimal(value["mean"]))
            if metric == primary:
                cells.append(f"{decimal(value['low'])} - {decimal(value['high'])}")
        cells += [f"{system['fit_seconds']:.1f}", f"{system['ms_per_query']:.2f}"]
        if asks:
            tokens = (system["llm"]["tokens_in"] or 0) + (system["llm"]["tokens_out"] or 0)
            cells.append(f"{tokens:,}" if system["uses_llm"] else "")
        style = "dim" if system["control"] else ""
        table.add_row(Text(plain(system["label"]) + (" (control)" if system["control"] else "")), *cells, style=style)
    console.print()
    console.print(table)


def print_estimate(rows: Sequence[Asked], stand_ins: Sequence[str]) -> None:
    """Print what a run would ask its language models."""
    console = console_of_results()
    if not rows:
        console.print("no system asks a language model")
        return
    table = bare_table()
    for column in ("system", "model"):
        table.add_column(column, overflow="fold")
    for column in ("calls", "stored", "tokens in", "tokens out", "at most", "US$", "at most US$", "time"):
        table.add_column(column, justify="right", no_wrap=True)

    def line(system: str, llm: str, e: Estimate, usd: float | None, most: float | None) -> None:
        cells = [f"{e.calls:,}", f"{e.cached:,}", f"{e.tokens_in:,}", f"{e.tokens_out:,}", f"{e.most_in + e.most_out:,}"]
        money = ["unknown" if x is None else f"{x:.2f}" for x in (usd, most)]
        taken = "unknown" if e.seconds is None else f"{e.seconds:,.0f} s"
        table.add_row(Text(plain(system)), Text(plain(llm)), *cells, *money, taken)

    for row in rows:
        line(row.system, row.llm, row.estimate, row.usd, row.most_usd)
    if len(rows) > 1:
        known = [[m for m in money if m is not None] for money in ([r.usd for r in rows], [r.most_usd for r in rows])]
        sums = [sum(m) if len(m) == len(rows) else None for m in known]
        line("all", "", sum((row.estimate for row in rows[1:]), rows[0].estimate), *sums)
    console.print(table)
    if stand_ins:
        names = ", ".join(plain(name) for name in stand_ins)
        console.print(Text(f"not fitted yet, items drawn by popularity stood in: {names}", "dim"))
    console.print(Text("calls and tokens are estimates; nothing was asked, and nothing was written", "dim"))


def print_outcomes(tuned: Tuned) -> None:
    """Print what tuning came to: figures, then the parameters that changed."""
    console = console_of_results()
    metric = tuned.outcomes[0].metric
    console.print(Text(f"{metric} on {tuned.cases} validation cases; mean over the seeds", "dim"))
    table = bare_table()
    for column in ("system", "best", "default", "gain", "trial", "trials", "failed", "seeds", "seconds"):
        table.add_column(column, justify="left" if column == "system" else "right", overflow="fold")
    for o in tuned.outcomes:
        if o.best is None:
            figures = ["failed", "failed", "", ""]
        else:
            spread = "" if o.deviation is None else f" ± {decimal(o.deviation)}"
            own = ["failed", ""] if o.default is None or o.gain is None else [decimal(o.default), f"{o.gain:+.4f}"]
            figures = [decimal(o.best) + spread, *own, str(o.number)]
        count = f"{o.trials}{' (all)' if o.exhausted else ''}"
        table.add_row(Text(o.system), *figures, count, str(o.failed), str(o.seeds), f"{o.seconds:.0f}")
    console.print(table)
    for o in tuned.outcomes:
        if o.best is None:
            console.print(Text(f"{o.system}: every trial failed: {plain(o.error or '')}", "red"))
        elif o.number:
            console.print(Text(f"{o.system}: {', '.join(f'{k} = {v}' for k, v in o.params.items())}"))
        else:
            console.print(Text(f"{o.system}: nothing better than its own parameters was found"))
    for name, why in tuned.skipped.items():
        console.print(Text(f"{name}: not tuned: {why}", "dim"))


def print_recommendations(answer: Mapping[str, Any]) -> None:
    """Print one list, with what it was made from and why."""
    console = Console(highlight=False)
    recent = "; ".join(map(plain, answer["recent"])) or "none"
    console.print(Text(f"{plain(answer['label'])}, after {answer['history_length']} events; most recent: {recent}", "dim"))
    table = bare_table()
    for column in ("rank", "item", "title", "score"):
        table.add_column(column, justify="right" if column in ("rank", "score") else "left")
    if answer["why"]:
        table.add_column("why")
    for rank, (item, title, score) in enumerate(answer["list"], 1):
        why = [answer["why"].get(item, "")] if answer["why"] else []
        table.add_row(str(rank), Text(plain(item)), Text(plain(title)), f"{score:.4f}", *(Text(plain(w)) for w in why))
    console.print(table)


def print_sets(sets: Sequence[Any]) -> None:
    """Print the named sets."""
    table = bare_table()
    for column in ("name", "users", "items", "events", "here", "what it is; licence"):
        table.add_column(column, justify="right" if column in ("users", "items", "events") else "left")
    for info in sets:
        numbers = (f"{n:,}" for n in (info.users, info.items, info.events))
        table.add_row(info.name, *numbers, "yes" if info.available else "no", Text(f"{info.about}; {info.licence}"))
    console_of_results().print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print a mapping as two columns."""
    table = bare_table(show_header=False)
    for key, value in facts.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        table.add_row(Text(str(key), "dim"), Text(str(value)))
    console_of_results().print(table)


def print_findings(findings: Sequence[Finding]) -> bool:
    """Print the doctor's findings; say whether all is well."""
    console = console_of_results()
    for finding in findings:
        mark = {"good": Text("good  ", "green"), "note": Text("note  ", "yellow"), "bad": Text("bad   ", "red")}[
            finding.verdict
        ]
        console.print(Text.assemble(mark, finding.line))
    return all(f.verdict != "bad" for f in findings)


#: Colours of an audit's verdicts.
_VERDICTS: dict[Verdict, str] = {"ok": "green", "warning": "yellow", "leak": "bold red", "not applicable": "dim"}


def print_audit(audit: Audit) -> None:
    """Print what an audit found, one row for each number."""
    table = bare_table()
    for column in ("check", "verdict", "number", "what it is"):
        table.add_column(column, justify="right" if column == "number" else "left", overflow="fold")
    table.add_column("what it means, and what to do", overflow="fold", ratio=1)
    last = ""
    for finding in audit.findings:
        what = finding.measure + (f" ({finding.of})" if finding.of else "")
        number = "" if finding.value is None else f"{finding.value:.4g}"
        name = "" if finding.check == last else finding.check
        verdict = Text(finding.verdict, _VERDICTS[finding.verdict])
        table.add_row(name, verdict, number, Text(plain(what)), Text(plain(finding.line)))
        last = finding.check
    console = console_of_results()
    console.print(table)
    counts = {verdict: audit.count(verdict) for verdict in get_args(Verdict)}
    plural = {"leak": "leaks", "warning": "warnings"}
    told = ", ".join(f"{n} {verdict if n == 1 else plural.get(verdict, verdict)}" for verdict, n in counts.items())
    console.print(Text(f"{plain(audit.name)}: {told}", "bold"))


def print_ids(found: Sequence[Inspected]) -> None:
    """Print what schemes of item IDs are like: one row for each place in the IDs, and some IDs."""
    console = console_of_results()
    for one in found:
        report = one.report
        told = f"{report.n_items:,} items, {report.mean_depth:.1f} tokens each, {report.used:,} of {report.n_tokens:,} in use"
        if report.collisions is not None:
            told += f", {report.collisions:,} collisions resolved"
        table = bare_table()
        for column in (
            "token",
            "items",
            "used",
            "perplexity",
            "prefixes",
            "largest",
            "near texts",
            "same users",
            "shuffled",
        ):
            table.add_column(column, justify="right")
        for at, level in enumerate(report.levels, 1):
            shares = ("-" if share is None else f"{share:.3f}" for share in (level.text, level.events, level.chance))
            counts = (f"{count:,}" for count in (level.items, level.used))
            rest = (f"{level.perplexity:,.0f}", f"{level.prefixes:,}", f"{level.largest:,}")
            table.add_row(str(at), *counts, *rest, *shares)
        console.print(Text(plain(f"{one.name} ({_scheme(one)}): {told}"), "bold"))
        console.print(table)
        for item, words in one.examples:
            console.print(Text(f"  {plain(item)}: {plain(words)}"))


def _scheme(one: Inspected) -> str:
    """Return a scheme's name and control."""
    name = str(one.scheme.model_dump()["scheme"])
    return name if one.scheme.control == "none" else f"{name}, {one.scheme.control}"
