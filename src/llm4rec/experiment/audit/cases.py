"""Are the cases fair questions: not answered already, not answerable at all, not asked twice?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Cases
from llm4rec.core.columns import BEHAVIOR, ITEM, TIME, USER
from llm4rec.experiment.audit.finding import Finding, Verdict
from llm4rec.experiment.audit.subject import Subject, held, pair_keys, share, truth_pairs


def known_truth(subject: Subject) -> Iterator[Finding]:
    """True items that the query's history shows, or that training holds for the same user.

    Where repeats are kept, to have had the item before is fair.  To find it in training at the query's time or
    later is not: that event may be the answer itself.
    """
    keeps = subject.rules.get("repeats") == "keep"
    n_items = subject.train.n_items
    for part, cases in subject.parts.items():
        if not len(cases):
            continue
        in_history = held(cases.queries.history, cases.truth, n_items)
        in_training, late = _trained(cases, subject)
        for where, flags in (("history", in_history), ("training", in_training)):
            n, n_late = int(flags.sum()), int(late.sum()) if where == "training" else 0
            bad: Verdict = "leak" if n_late or not keeps else "warning"
            details: dict[str, float] = {"share": share(flags)} | ({"not_before_the_query": n_late} if n_late else {})
            if not n:
                line = f"no true item is in the user's own {where}"
            elif keeps and n_late:
                line = (
                    f"training holds {n_late} answers at the query's time or later, which no habit explains: "
                    "split by time order; if the file tells events twice, set duplicates"
                )
            elif keeps:
                line = f"repeats are kept: {share(flags):.1%} of the truth is had again; compare with RepeatVisited"
            else:
                line = f"the answer stands in the user's own {where}: drop repeats, or split again"
            yield Finding(
                "known-truth", f"{part}, {where}", f"true items in the user's {where}", n, bad if n else "ok", line, details
            )


def _trained(cases: Cases, subject: Subject) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for each true item of a known user: has training this pair, and has it at the query's time or later?"""
    train, pairs = subject.train, subject.trained_pairs
    users, items, times = (train.events[c].to_numpy() for c in (USER, ITEM, TIME))
    last = np.full(len(pairs) + 1, np.iinfo(np.int64).min)  # one place more, for what stands behind all pairs
    np.maximum.at(last, np.searchsorted(pairs, pair_keys(users, items, train)), times)
    asked = truth_pairs(cases, train)
    found = np.isin(asked, pairs)
    rows = cases.truth.rows[cases.queries.users[cases.truth.rows] >= 0]
    return found, found & (last[np.searchsorted(pairs, asked)] >= cases.queries.times[rows])


def shared_truth(subject: Subject) -> Iterator[Finding]:
    """(user, item) pairs that are truth both of validation and of the test, or twice within one."""
    keeps = subject.rules.get("repeats") == "keep"
    test, valid = (truth_pairs(c, subject.train) for c in (subject.split.test, subject.split.valid))
    both = len(np.intersect1d(test, valid))
    again = sum(len(p) - len(np.unique(p)) for p in (test, valid))
    n = both + again
    if not n:
        line = "no answer is asked for twice"
    elif keeps:
        line = "repeats are kept, so a user may be asked for one item twice"
    else:
        line = "what is chosen on validation has seen test answers: take each event for one part alone"
    yield Finding(
        "shared-truth", "", "answers asked for in two cases", n, ("warning" if keeps else "leak") if n else "ok", line,
        {"validation_and_test": both, "twice_in_one_part": again},
    )  # fmt: skip


def duplicate_events(subject: Subject) -> Iterator[Finding]:
    """Training events that repeat user, item, time and behaviour of another one."""
    events = subject.train.events
    exact = len(events) - events.n_unique([USER, ITEM, TIME, BEHAVIOR])
    pairs = len(events) - len(subject.trained_pairs)
    value = exact / max(len(events), 1)
    line = (
        f"{exact:,} events are told twice, which doubles their weight: set duplicates in [data], or mend the file"
        if exact
        else "no event is told twice" + (f"; {pairs:,} are of an item that the user has had before" if pairs else "")
    )
    yield Finding(
        "duplicate-events", "", "share of training events told twice", value, "warning" if exact else "ok", line,
        {"exact": exact, "same_user_and_item": pairs},
    )  # fmt: skip


def masked_truth(subject: Subject) -> Iterator[Finding]:
    """True items that the masking rule lets no list show."""
    cases, mask = subject.split.test, subject.protocol.mask
    if subject.protocol.task != "ranking":
        yield Finding("masked-truth", "", "share of the truth that the mask hides", None, "not applicable", "nothing is masked")
        return
    flags = held(cases.exclude(mask), cases.truth, subject.train.n_items)
    lost = np.bincount(cases.truth.rows, weights=~flags, minlength=len(cases)) == 0
    line = (
        f"{int(lost.sum())} cases can never be hit, by any system: set split.repeats to 'drop', or protocol.mask to 'none'"
        if flags.any()
        else f"the mask ({mask}) hides no true item"
    )
    yield Finding(
        "masked-truth", "", "share of the truth that the mask hides", share(flags), "warning" if flags.any() else "ok", line,
        {"cases_that_cannot_be_hit": int(lost.sum())},
    )  # fmt: skip


def disjoint_parts(subject: Subject) -> Iterator[Finding]:
    """Users (user-disjoint) or items (item-cold) of the test that training knows although it must not."""
    kind, train = subject.kind, subject.train
    if kind not in ("user-disjoint", "item-cold"):
        yield Finding(
            "disjoint", "", "test users or items that are in training", None, "not applicable",
            "only a user-disjoint or item-cold split promises this",
        )  # fmt: skip
        return
    column = USER if kind == "user-disjoint" else ITEM
    trained = np.unique(train.events[column].to_numpy())

    def asked(cases: Cases) -> np.ndarray:
        return np.unique(cases.queries.users if column == USER else cases.truth.values)

    for part, cases in subject.parts.items():
        known = np.intersect1d(asked(cases), trained)
        n = len(known)
        line = f"training knows {n} of the {part} {column}s, which are to be new" if n else f"every {part} {column} is new"
        yield Finding("disjoint", part, f"{part} {column}s that are in training", n, "leak" if n else "ok", line)


def cold_truth(subject: Subject) -> Iterator[Finding]:
    """True items without a training event: out of reach for whatever learns from events alone."""
    cold = subject.train.item_counts[subject.split.test.truth.values] == 0
    value = share(cold)
    meant = subject.kind == "item-cold"
    verdict: Verdict = "ok" if meant or value <= 0.05 else "warning"
    if meant:
        line = "as an item-cold split has it: systems without text stand at chance"
    elif value:
        line = "collaborative systems cannot find these: read the slices warm and cold apart"
    else:
        line = "training knows every true item"
    yield Finding("cold-truth", "", "share of the truth without training events", value, verdict, line)
