"""What ``llm4rec compare`` prints: systems beside one reference, or each beside its own baseline."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from llm4rec.app.cells import bare_table, console_of_results, decimal, plain
from llm4rec.experiment.compare import Row
from llm4rec.experiment.planned import Effect
from llm4rec.metrics import cases_needed


def print_comparison(rows: Sequence[Row], *, markdown: bool) -> None:
    """Print systems of several runs beside their reference."""
    several = len({row.run for row in rows}) > 1
    asks = any(row.tokens for row in rows)
    head = ["mean", "95 % interval", "difference", "p", "p (Holm)", "detectable", "front", "fit s", "ms/query"]
    head = [*(("run",) if several else ()), "system", *head, *(("LLM tokens",) if asks else ())]
    cells = []
    for row in rows:
        tested = ["", "", "", ""] if row.difference is None or row.p is None or row.p_holm is None else [
            f"{row.difference:+.4f}", _p(row.p), _p(row.p_holm), decimal(row.detectable or 0.0)
        ]  # fmt: skip
        tested.append("" if row.control else "yes" if not row.below else f"below {plain(row.below[0])}"[:32])
        figures = [decimal(row.mean), f"{decimal(row.low)} - {decimal(row.high)}", *tested]
        cost = [f"{row.fit_seconds:.1f}", f"{row.ms_per_query:.2f}", *((f"{row.tokens:,}",) if asks else ())]
        cells.append([*((plain(row.run),) if several else ()), _name(row.label, row.control), *figures, *cost])
    above = f"{rows[0].n} cases; tested against the row without a difference"
    _print(head, cells, 2 if several else 1, above, _resolution(rows), markdown=markdown)


def print_effects(effects: Sequence[Effect], *, markdown: bool) -> None:
    """Print what systems have over their baselines, a row for each metric."""
    several = len({effect.run for effect in effects}) > 1
    numbers = {effect.n for effect in effects}
    head = ["metric", "mean", "baseline's", "difference", "95 % interval", "over seeds ±", "p", "p (Holm)"]
    head = [*(("run",) if several else ()), "system", "against", *head, *(("cases",) if len(numbers) > 1 else ())]
    cells, last = [], None
    for e in effects:
        who = [*((plain(e.run),) if several else ()), _name(e.label, e.control), plain(e.against)]
        spread = "" if e.deviation is None else decimal(e.deviation)
        figures = [decimal(e.mean), decimal(e.baseline), f"{e.difference:+.4f}", f"{e.low:+.4f} to {e.high:+.4f}", spread]
        figures += [_p(e.p), _p(e.p_holm), *((f"{e.n:,}",) if len(numbers) > 1 else ())]
        cells.append([*([""] * len(who) if who == last else who), e.metric, *figures])
        last = who
    most = max((effect.seeds for effect in effects), default=1)
    tested = f"{len(effects)} tests" + (f" on {effects[0].n:,} cases" if len(numbers) == 1 else "")
    below = f"{tested}, paired over cases{'' if most == 1 else f', values averaged over {most} seeds'}. " + _corrected(
        len(effects), effects[0].family if effects else 0
    )
    _print(head, cells, 4 if several else 3, "", below, markdown=markdown)


def _print(head: Sequence[str], cells: Sequence[Sequence[str]], words: int, above: str, below: str, *, markdown: bool) -> None:
    """Print a table whose first columns are words, between two lines."""
    if markdown:
        lines = [head, ["---"] * words + ["---:"] * (len(head) - words), *([c.replace("|", "\\|") for c in r] for r in cells)]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
        print("\n" + below)
        return
    table = bare_table()
    for at, column in enumerate(head):
        table.add_column(column, justify="left" if at < words else "right", overflow="fold" if at < words else "ellipsis")
    for line in cells:
        table.add_row(*map(Text, line))
    console = console_of_results()
    if above:
        console.print(Text(above, "dim"))
    console.print(table)
    console.print(Text(below, "dim"))


def _name(label: str, control: bool) -> str:
    return plain(label) + (" (control)" if control else "")


def _resolution(rows: Sequence[Row]) -> str:
    """Say which differences so many cases can show, by the system that is nearest to the reference."""
    tested = [r for r in rows if r.difference is not None and r.deviation and not r.control]
    if not tested:
        return "nothing was tested"
    near = min(tested, key=lambda r: abs(r.difference or 0.0))
    shown, deviation = near.detectable or 0.0, near.deviation or 0.0
    units = "cases" if near.units == near.n else "users"
    finer = next((d for d in (0.05, 0.02, 0.01, 0.005, 0.002) if d < shown / 1.5), 0.001)
    return (
        f"With {near.units:,} {units} a difference to {plain(near.label)} under {decimal(shown)} cannot be told from none "
        f"(two-sided .05, power .8); {cases_needed(finer, deviation):,} {units} would show {decimal(finer)}. "
        "Front: nobody is as good in accuracy, time a query and money, and better in one of them. "
        + _corrected(len(rows) - 1, near.family)
    )


def _corrected(tests: int, family: int) -> str:
    """Say what Holm's correction is over."""
    if family <= tests:
        return "Holm's correction is over all of them."
    return f"Holm's correction is over all {family:,} that could have been made, since the same cases chose the best."


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else decimal(round(p, 3))[:4]
