"""Do the lists keep the rules, do the figures follow from them, and how often does a tie decide?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from llm4rec.experiment.audit.finding import Finding
from llm4rec.experiment.audit.subject import Subject, share
from llm4rec.metrics import ACCURACY, evaluate, parse_metric

#: Share of cases with equal scores at the cut-off below which nobody has to care.
_FEW = 0.01


def rules_kept(subject: Subject) -> Iterator[Finding]:
    """Lists that show an item that they may not, one twice or outside of the catalogue, or scores that rise.

    What they may not show is what the mask hides, or where sets of candidates are ranked all but these.
    """
    if not subject.served:
        yield Finding("lists", "", "lists that break a rule", None, "not applicable", subject.unserved)
        return
    candidates, n_items = subject.candidates, subject.train.n_items
    of = subject.split.test.exclude(subject.protocol.mask) if candidates is None else candidates
    for name, served in subject.served.items():
        items = served.lists.items
        told = of.take(served.numbers).contains(items, n_items)  # not the complement of the sets, which is many times as large
        n = int(((told if candidates is None else ~told) & (items >= 0)).any(axis=1).sum())
        wrong = f"show what the mask ({subject.protocol.mask}) hides" if candidates is None else "show what is no candidate"
        line = f"{n} lists {wrong}: other rules than for the others"
        if not n:
            try:
                served.lists.check(n_items)
                line = f"no list shows {'a masked item' if candidates is None else 'what is no candidate'}, or an item twice"
            except ValueError as error:
                n, line = 1, f"{error}: its figures are no figures of lists"
        yield Finding("lists", name, "lists that break a rule", n, "leak" if n else "ok", line)


def score_ties(subject: Subject) -> Iterator[Finding]:
    """Cases in which the last item that counts has the score of the first that does not."""
    measure = "share of cases with a tie at the cut-off"
    if subject.spec is None or not subject.served:
        yield Finding("score-ties", "", measure, None, "not applicable", subject.unserved)
        return
    k = parse_metric(subject.spec.experiment.primary, ACCURACY)[1]
    for name, served in subject.served.items():
        if served.lists.k <= k:
            yield Finding("score-ties", name, measure, None, "not applicable", "its lists end at the cut-off")
            continue
        last, next_ = served.lists.scores[:, k - 1], served.lists.scores[:, k]
        value = share(last == next_)
        line = (
            f"the order of the inside ids decides what stands at {k}; a system that tells items apart has no such ties"
            if value > _FEW
            else f"what stands at {k} is decided by the system"
        )
        yield Finding("score-ties", name, f"{measure} {k}", value, "warning" if value > _FEW else "ok", line)


def recomputed(subject: Subject) -> Iterator[Finding]:
    """The largest difference between a figure that a run wrote down and the same figure of its stored lists."""
    measure = "largest difference of a figure from its list"
    if subject.run is None:
        yield Finding("recomputed", "", measure, None, "not applicable", "there is no finished run")
        return
    if not subject.served:
        yield Finding("recomputed", "", measure, None, "not applicable", subject.unserved)
    for name, served in subject.served.items():
        truth = subject.split.test.truth.take(served.numbers)
        again = evaluate(served.lists, truth, list(served.first))
        apart = [np.nan_to_num(np.abs(again[m] - v), nan=1.0) for m, v in served.first.items()]  # nan follows from no list
        value = max(float(a.max(initial=0.0)) for a in apart)
        wrong = value > 1e-9
        line = "figures do not follow from the lists: run it again" if wrong else "every figure follows from the stored lists"
        yield Finding("recomputed", name, measure, value, "leak" if wrong else "ok", line)
