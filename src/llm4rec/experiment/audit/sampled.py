"""Would another set of candidates have named another winner?

Metrics over sampled negatives do not order systems as the same metrics over the whole catalogue do:
Krichene and Rendle, On Sampled Metrics for Item Recommendation, KDD 2020.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Cases, Ragged
from llm4rec.experiment.audit.finding import Finding, Verdict
from llm4rec.experiment.audit.subject import Subject
from llm4rec.experiment.protocol import draw_unseen
from llm4rec.metrics import evaluate

#: Negatives of a case, as most papers draw them.
_NEGATIVES = 100
#: Random numbers held at once.
_CELLS = 4_000_000


def sampled_candidates(subject: Subject) -> Iterator[Finding]:
    """Kendall's tau between the order of the systems under full ranking and among 100 sampled negatives.

    Negatives are drawn from the items that the user has not seen, uniformly and in proportion to training
    events.
    """
    bench, split = subject.bench, subject.split
    if bench is None or len(bench.names) < 2:
        yield Finding("sampled", "", "Kendall's tau", None, "not applicable", "there are no two systems to be put in order")
        return
    n_items = split.train.n_items
    cases, primary = split.test, bench.primary
    exclude = cases.exclude(subject.protocol.mask)
    systems = bench.fitted()
    means = {
        "full": {
            n: evaluate(bench.lists(c, cases, exclude), cases.truth, [primary])[primary].mean() for n, c in systems.items()
        }
    }
    rng = subject.rng()
    drawn = {
        "uniform": draw_unseen(cases, n_items, _NEGATIVES, rng),
        "popularity": _draw_popular(cases, split.train.item_counts, _NEGATIVES, rng),
    }
    for kind, negatives in drawn.items():
        candidates = _with_truth(negatives, cases.truth)
        means[kind] = {n: bench.among(c, cases, candidates, n_items).mean() for n, c in systems.items()}
        tau, swapped = _tau(means["full"], means[kind])
        winners = [max(m, key=lambda n: m[n]) for m in (means["full"], means[kind])]
        other = f"; the winner is {winners[1]}, not {winners[0]}" if winners[0] != winners[1] else ""
        verdict: Verdict = "warning" if subject.protocol.candidates is not None and swapped else "ok"
        line = f"{len(swapped)} pairs of systems change places{other}"
        if subject.protocol.candidates is None:
            line += ": this experiment ranks the whole catalogue; compare it with no sampled figures" if swapped else ""
        elif swapped:
            line += ": this experiment samples its candidates; rank the whole catalogue before naming a winner"
        yield Finding(
            "sampled", f"{_NEGATIVES} {kind}", "Kendall's tau with full ranking", tau, verdict, line,
            {"means": {k: {n: float(v) for n, v in m.items()} for k, m in means.items() if k in ("full", kind)},
             "changes": [list(p) for p in swapped]},
        )  # fmt: skip


def _tau(a: dict[str, float], b: dict[str, float]) -> tuple[float, list[tuple[str, str]]]:
    """Return Kendall's tau-a of two orders, and the pairs that change places."""
    names = list(a)
    pairs = [(x, y) for i, x in enumerate(names) for y in names[i + 1 :]]
    signs = [np.sign(a[x] - a[y]) * np.sign(b[x] - b[y]) for x, y in pairs]
    return float(np.mean(signs)), [p for p, s in zip(pairs, signs, strict=True) if s < 0]


def _draw_popular(cases: Cases, counts: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Return int32[n, size] unseen items that are not true, without replacement in proportion to their events.

    By Gumbel's trick: the largest of ``log(count) + noise``.
    """
    rows, batch = [], max(1, _CELLS // len(counts))
    with np.errstate(divide="ignore"):
        weight = np.log(counts).astype(np.float32)
    for start in range(0, len(cases), batch):
        part = cases.take(np.arange(start, min(start + batch, len(cases))))
        keys = weight + rng.gumbel(size=(len(part), len(counts))).astype(np.float32)
        keys[part.seen.rows, part.seen.values] = -np.inf
        keys[part.truth.rows, part.truth.values] = -np.inf
        width = min(size, len(counts))
        best = np.argpartition(-keys, width - 1, axis=1)[:, :width]
        rows.append(np.where(np.isneginf(np.take_along_axis(keys, best, 1)), -1, best))
    return np.concatenate(rows).astype(np.int32)


def _with_truth(negatives: NDArray[np.int32], truth: Ragged) -> Ragged:
    """Return each row's negatives and its truth, in order of inside id."""
    held = negatives >= 0
    items = np.concatenate([negatives[held], truth.values])
    rows = np.concatenate([np.nonzero(held)[0], truth.rows])
    order = np.lexsort((items, rows))
    return Ragged.from_lengths(np.bincount(rows, minlength=len(truth)), items[order])
