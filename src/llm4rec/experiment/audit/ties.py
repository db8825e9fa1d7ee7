"""How much of a figure is the order of events that have the same time?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from llm4rec.core import Dataset
from llm4rec.core.columns import TIME, USER
from llm4rec.data import make_split
from llm4rec.experiment.audit.finding import Finding, Verdict
from llm4rec.experiment.audit.subject import Subject, share
from llm4rec.metrics import evaluate

#: Orders of equal times that are tried beside the file's own.
_ORDERS = 10
#: Standard deviation over orders, in standard errors over cases, that is too large to be passed over:
#: left out of account, it makes the error seem a tenth smaller than it is.
_LARGE = 0.5
#: Share of tied cases below which nobody has to care.
_FEW = 0.01


def tied_cases(subject: Subject) -> Iterator[Finding]:
    """Test cases whose query has the time of the event before it, so that the file's order decides what is truth."""
    queries = subject.split.test.queries
    measure = "share of test cases with a tie in time"
    if queries.history_times is None:
        yield Finding("ties", "", measure, None, "not applicable", "the histories carry no times")
        return
    some = queries.history.lengths > 0
    last = queries.history_times[queries.history.offsets[1:][some] - 1]
    value = share(last == queries.times[some])
    line = (
        "the order of the file decides which of their events is the answer: state the rule; tie-orders says what it moves"
        if value
        else "no answer hangs on the order of equal times"
    )
    yield Finding("ties", "", measure, value, "warning" if value > _FEW else "ok", line)


def tie_orders(subject: Subject) -> Iterator[Finding]:
    """The primary metric over several orders of equal times: the log is split and the systems are fitted again.

    Only systems that draw nothing themselves take part, so that what moves is the order alone.
    """
    bench, dataset = subject.bench, subject.dataset
    measure = "spread over orders of equal times"
    if bench is None or dataset is None or not bench.settled:
        yield Finding("tie-orders", "", measure, None, "not applicable", "there is no system that draws nothing and is quick")
        return
    if len(subject.split.test) < 2:
        yield Finding("tie-orders", "", measure, None, "not applicable", "one test case has no standard error")
        return
    spec, rng = bench.spec, subject.rng()
    names, primary = spec.experiment.names, spec.experiment.primary
    splits = [subject.split] + [make_split(_shuffled(dataset, rng), spec.split) for _ in range(_ORDERS)]
    if len({s.fingerprint for s in splits}) == 1:
        yield Finding("tie-orders", "", measure, 0.0, "ok", "every order of equal times makes the same split")
        return
    values: dict[str, list[dict[str, float]]] = {name: [] for name in bench.settled}
    error = {}
    for at, split in enumerate(splits):
        fitted = bench.fitted(bench.settled) if at == 0 else bench.fit(split, bench.settled)
        question = bench.question(split, fitted)
        for name in bench.settled:
            found = evaluate(bench.lists(fitted[name], question.cases, question.exclude), question.cases.truth, names)
            values[name].append({m: float(v.mean()) for m, v in found.items()})
            if at == 0:
                error[name] = float(found[primary].std(ddof=1) / np.sqrt(len(found[primary])))
    best = {max(values, key=lambda n: values[n][at][primary]) for at in range(len(splits))}
    for name, rows in values.items():
        figures = np.array([row[primary] for row in rows])
        low, high, deviation = figures.min(), figures.max(), float(figures.std(ddof=1))
        large = deviation > _LARGE * error[name]
        line = (
            f"{figures[0]:.4f} in the file's order, {low:.4f} to {high:.4f} in {len(splits)} orders; their standard deviation "
            f"of {deviation:.4f} stands beside a standard error of {error[name]:.4f} over cases"
        )
        line += ": report the mean over orders, or say that the order is the file's" if large else ""
        if len(best) > 1 and name in best:
            line += f"; the first place changes hands ({', '.join(sorted(best))})"
        spread = {m: [min(r[m] for r in rows), max(r[m] for r in rows)] for m in names}
        details = {"orders": len(splits), "low_high": spread, "deviation": deviation, "standard_error": error[name]}
        verdict: Verdict = "warning" if large else "ok"
        yield Finding("tie-orders", name, f"{measure}, {primary}", float(high - low), verdict, line, details)


def _shuffled(dataset: Dataset, rng: np.random.Generator) -> Dataset:
    """Return the log with the events of one user and time in random order; all other rows stay where they are."""
    user, time = (dataset.events[c].to_numpy() for c in (USER, TIME))
    places = np.lexsort((time, user))  # rows in the file's order within equal times
    rows = np.lexsort((rng.random(len(user)), time, user))
    moved = np.empty(len(user), dtype=np.int64)
    moved[places] = rows
    return replace(dataset, events=dataset.events[moved])
