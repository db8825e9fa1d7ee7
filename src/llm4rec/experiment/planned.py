"""Systems of finished runs against baselines, in several metrics: each against the same one, or each against its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from llm4rec.core import RunError
from llm4rec.core.columns import CASE
from llm4rec.experiment.compare import Answers, Key, means, reference_of
from llm4rec.experiment.spec import read_spec
from llm4rec.metrics import LOWER, PER_CASE, holm, paired_test

_SEED = 0


@dataclass(frozen=True, slots=True)
class Effect:
    """What a system has over its baseline in one metric.

    Attributes:
        run, system, label, control: which system.
        against: label of its baseline.
        metric: such as ``ndcg@10``.
        n: cases that both have.
        mean, baseline: of the system and of its baseline over these cases, values averaged over seeds.
        difference, low, high: mean less baseline, with its bootstrap interval over the cases.
        p, p_holm: of the paired test over cases (of predictions, over users), plain and corrected for ``family`` tests:
            every one of the table, or, where the baseline is the best by the same cases, those of all pairs.
        seeds: seeds over which the difference is known.
        deviation: of the difference over these seeds; None with fewer than two.  A baseline that chance plays no
            part in has one seed, and is the same beside each of the system's.
    """

    run: str
    system: str
    label: str
    control: bool
    against: str
    metric: str
    n: int
    mean: float
    baseline: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    seeds: int
    deviation: float | None
    family: int


def effects(
    runs: Sequence[Path],
    *,
    metrics: Sequence[str] = (),
    against: str | None = None,
    planned: bool = False,
    full: bool = False,
    slice_of: str | None = None,
) -> list[Effect]:
    """Return each system beside its baseline in each metric, on the cases that the two have both answered.

    Args:
        runs: finished run directories of one split and one protocol.
        metrics: such as ``ndcg@10``; by default the first run's primary one.
        against: the baseline of all others, ``SYSTEM`` or ``RUN/SYSTEM``; by default the best in the first metric that is
            no control.
        planned: instead, the baseline of each system is the one that its own specification names (``against``), and
            systems without one are baselines alone.
        full: leave out systems that ran on a sample of the cases.
        slice_of: only the cases of a slice, as for :func:`llm4rec.experiment.compare.compare`.

    Raises:
        RunError: if runs cannot be compared, no comparison is planned, or something is not there.
    """
    answers = Answers(runs, full=full, slice_of=slice_of)
    metrics = tuple(dict.fromkeys(metrics)) or (answers.primary,)
    values = {metric: answers.of(metric) for metric in metrics}
    pairs = _planned(answers) if planned else _all_against(answers, values[metrics[0]], metrics[0], against)
    chosen = against is None and not planned  # the best, by the same cases: then all pairs are the family
    tests = len(pairs) * len(metrics)
    family = tests * (len(pairs) + 1) // 2 if chosen else tests
    found = [_effect(answers, a, b, metric, values[metric], family) for a, b in pairs for metric in metrics]
    corrected = holm([effect.p for effect in found], family=family) if found else ()
    return [replace(effect, p_holm=float(p)) for effect, p in zip(found, corrected, strict=True)]


def _planned(answers: Answers) -> list[tuple[Key, Key]]:
    """Return the systems whose specification names a baseline, with it, in the specifications' order."""
    pairs = []
    for run, directory in answers.directories.items():
        for name, system in read_spec(directory / "spec.toml").systems.items():
            own, other = (run, name), (run, system.against)
            if system.against and own in answers.facts and other in answers.facts:
                pairs.append((own, other))
    if not pairs:
        where = ", ".join(str(directory.path) for directory in answers.directories.values())
        raise RunError(
            "no system names a baseline", where=where, todo="say against = 'SYSTEM' in [systems.NAME], and run again"
        )
    return pairs


def _all_against(
    answers: Answers, values: Mapping[Key, pl.DataFrame], metric: str, against: str | None
) -> list[tuple[Key, Key]]:
    """Return all systems but one with that one, the best first."""
    sign = 1 if metric in LOWER or metric in PER_CASE.values() else -1
    order = sorted(values, key=lambda key: sign * float(means(values[key]).mean()) if len(values[key]) else np.inf)
    reference = reference_of(order, answers.facts, against)
    return [(key, reference) for key in order if key != reference]


def _effect(answers: Answers, a: Key, b: Key, metric: str, values: Mapping[Key, pl.DataFrame], family: int) -> Effect:
    """Test a system against another one; ``p_holm`` is still the plain one."""
    shared = np.intersect1d(values[a][CASE].to_numpy(), values[b][CASE].to_numpy())
    if len(shared) < 2:
        what = f"{a[1]!r} and {b[1]!r} share fewer than two of these cases"
        raise RunError(
            what, where=str(answers.directories[a[0]].path), todo="look at all cases, or at systems that ran on them"
        )
    mine, other = (values[key].filter(pl.col(CASE).is_in(shared)) for key in (a, b))
    units = answers.units(metric, shared)
    test = paired_test(units(means(mine)), units(means(other)), rng=np.random.default_rng(_SEED), family=family)
    over_seeds = _over_seeds(mine, other)
    fact = answers.facts[a]
    return Effect(
        a[0], a[1], fact["label"], bool(fact["control"]), answers.facts[b]["label"], metric, len(shared),
        float(means(mine).mean()), float(means(other).mean()), test.difference, test.low, test.high, test.p, test.p,
        len(over_seeds), float(np.std(over_seeds, ddof=1)) if len(over_seeds) > 1 else None, family,
    )  # fmt: skip


def _over_seeds(a: pl.DataFrame, b: pl.DataFrame) -> list[float]:
    """Return the mean difference under each seed that both have; one with a single seed has it under all of the other's."""
    one, other = ({c: float(frame[c].to_numpy().mean()) for c in frame.columns if c != CASE} for frame in (a, b))
    if len(one) == 1 or len(other) == 1:
        return [x - y for x in one.values() for y in other.values()]
    return [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
