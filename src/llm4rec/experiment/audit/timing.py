"""Does training hold what had not happened yet when a case was asked?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Cases, Dataset
from llm4rec.core.columns import ITEM, TIME, USER
from llm4rec.experiment.audit.finding import Finding
from llm4rec.experiment.audit.subject import Subject, share

_NEVER = np.iinfo(np.int64).max


def own_future(subject: Subject) -> Iterator[Finding]:
    """Training events of a user that are later than a query of the same user.

    An event at the very moment of the query is none: the log's order says that it came before; the check
    ``ties`` counts these.
    """
    for part, cases in subject.parts.items():
        if not len(cases):
            continue
        asked = _first_query(cases, subject.train)
        users, times = (subject.train.events[c].to_numpy() for c in (USER, TIME))
        later = times > asked[users]
        hit = np.unique(users[later])
        n, of = int(later.sum()), share(np.isin(cases.queries.users, hit))
        if n:
            line = f"{of:.1%} of the {part} cases are asked before some of their user's training events; split by time order"
        else:
            line = "no user's training events are later than the user's query"
        yield Finding(
            "own-future", part, "training events later than the same user's query", n, "leak" if n else "ok", line,
            {"cases": int(np.isin(cases.queries.users, hit).sum()), "share_of_cases": of},
        )  # fmt: skip


def others_future(subject: Subject) -> Iterator[Finding]:
    """Training events, of whomever, that are later than a test case's query: mean share over the cases."""
    measure = "share of training events later than a test case"
    if subject.train.clock != "utc":
        yield Finding(
            "others-future", "", measure, None, "not applicable",
            "the log has an order within each user, and no times to compare users by",
        )  # fmt: skip
        return
    cases, times = subject.split.test, np.sort(subject.train.events[TIME].to_numpy())
    after = 1.0 - np.searchsorted(times, cases.queries.times, side="right") / max(len(times), 1)
    value = float(after.mean())
    unborn = share(_unborn(cases, subject.train))
    details = {"median": float(np.median(after)), "truth_before_its_first_training_event": unborn}
    if subject.kind == "global-time":
        cut = min(int(c.queries.times.min()) for c in subject.parts.values() if len(c))
        n = int((times >= cut).sum())
        line = (
            f"{n} training events lie at or after the first query: nothing after the cut may train"
            if n
            else "all of training lies before the first query"
        )
        yield Finding("others-future", "", "training events at or after the cut", n, "leak" if n else "ok", line, details)
        return
    inherent = f"inherent to {subject.kind}" if subject.kind else "inherent to a split that is not by time"
    line = (
        f"counts and similarities hold other users' events from after the case; {unborn:.1%} of the true items had no "
        f"training event yet ({inherent}): report a global-time split beside it"
        if value > 0
        else "no training event is later than any test case"
    )
    yield Finding("others-future", "", measure, value, "warning" if value > 0 else "ok", line, details)


def history_times(subject: Subject) -> Iterator[Finding]:
    """History events that are later than their query."""
    measure = "history events later than their query"
    for part, cases in subject.parts.items():
        queries = cases.queries
        if not len(cases):
            continue
        if queries.history_times is None:
            yield Finding("history-times", part, measure, None, "not applicable", "the histories carry no times")
            continue
        n = int((queries.history_times > queries.times[queries.history.rows]).sum())
        rows = queries.history.rows
        backward = int(((np.diff(queries.history_times) < 0) & (np.diff(rows) == 0)).sum())
        if n:
            line = "histories show what came after the query: cut them at its time"
        elif backward:
            line = f"{backward} steps within histories go back in time: sequential models need them oldest first"
        else:
            line = "every history ends before its query, oldest event first"
        verdict = "leak" if n else "warning" if backward else "ok"
        yield Finding("history-times", part, measure, n, verdict, line, {"steps_back": backward})  # type: ignore[arg-type]


def _first_query(cases: Cases, train: Dataset) -> NDArray[np.int64]:
    """Return int64[n_users], the time of each user's first query; never for users without one."""
    asked = np.full(train.n_users, _NEVER)
    known = cases.queries.users >= 0
    np.minimum.at(asked, cases.queries.users[known], cases.queries.times[known])
    return asked


def _unborn(cases: Cases, train: Dataset) -> NDArray[np.bool_]:
    """Return bool[m]: does all that training knows of a true item lie after the query?"""
    first = np.full(train.n_items, _NEVER)
    np.minimum.at(first, train.events[ITEM].to_numpy(), train.events[TIME].to_numpy())
    born = first[cases.truth.values]
    return np.asarray((born != _NEVER) & (born > cases.queries.times[cases.truth.rows]), dtype=bool)
