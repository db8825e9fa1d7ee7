"""Systems of several finished runs in one table, tested in pairs on the cases that they share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import RunError, did_you_mean
from llm4rec.core.columns import CANDIDATES, CASE, METRIC, SEED, SLICES, SYSTEM, USER, VALUE
from llm4rec.experiment.differences import below
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.spec import read_spec
from llm4rec.metrics import LOWER, PER_CASE, bootstrap_interval, holm, paired_test

_SEED = 0
#: A system: its run's name and its own.
Key = tuple[str, str]
#: From the names that a command line takes to those of ``slice_cases``.
_SLICES = {"head": "head", "tail": "tail", "cold": "cold", "short": "short_history", "long": "long_history"}


@dataclass(frozen=True, slots=True)
class Row:
    """One system of one run, beside the reference.

    Attributes:
        run, system, label: which.
        n: its cases; where one system of the table is sampled, the cases that all share.
        mean, low, high: of the metric, over these cases, values averaged over seeds.
        difference: its mean less the reference's; None for the reference itself.
        p, p_holm: of the paired test against the reference, plain and corrected: over the table for a reference that
            was named, over all pairs of its systems for the best one, which the same cases chose.
        deviation: of the paired differences over the cases; of predictions, over the users.
        detectable: smallest true difference that so many of them would show (two-sided .05, power .8).
        below: labels of the systems that are no worse in accuracy, time a query and money, and better in one.
        control: is it a control?
        fit_seconds, ms_per_query, tokens: cost, tokens over all queries.
        units: what is resampled: the cases, or the users who were asked for predictions.
        family: tests that ``p_holm`` is corrected for.
    """

    run: str
    system: str
    label: str
    n: int
    mean: float
    low: float
    high: float
    difference: float | None
    p: float | None
    p_holm: float | None
    deviation: float | None
    detectable: float | None
    below: tuple[str, ...]
    control: bool
    fit_seconds: float
    ms_per_query: float
    tokens: int
    units: int
    family: int


def compare(
    runs: Sequence[Path],
    *,
    metric: str | None = None,
    against: str | None = None,
    full: bool = False,
    slice_of: str | None = None,
) -> list[Row]:
    """Return the systems of all runs, the best first, on the cases that all of them answered.

    Args:
        runs: finished run directories of one split and one protocol.
        metric: such as ``ndcg@10``; by default the first run's primary one.  Of a task that predicts it is
            one that is kept per case, such as ``squared_error`` (which stands for ``rmse``).
        against: the reference, ``SYSTEM`` or ``RUN/SYSTEM``; by default the best that is no control.
        full: leave out systems that ran on a sample, so that the others are compared on all cases.
        slice_of: only the cases of a slice: ``head``, ``tail``, ``cold``, ``short`` or ``long`` (history).

    Raises:
        RunError: if runs cannot be compared, or something is not there.
    """
    answers = Answers(runs, full=full, slice_of=slice_of)
    metric = metric or answers.primary
    sign = 1 if metric in LOWER or metric in PER_CASE.values() else -1
    facts, values = answers.facts, {key: (t[CASE].to_numpy(), means(t)) for key, t in answers.of(metric).items()}
    shared = reduce(np.intersect1d, (cases for cases, _ in values.values()))
    if len(shared) < 2:
        what = "the systems share fewer than two cases" + ("" if slice_of is None else f" of the slice {slice_of!r}")
        raise RunError(what, todo="compare runs with the same sample" if slice_of is None else "look at all cases")
    on = {key: of[np.searchsorted(cases, shared)] for key, (cases, of) in values.items()}
    order = sorted(on, key=lambda key: sign * on[key].mean())
    reference = reference_of(order, facts, against)
    others = [key for key in order if key != reference]
    units = answers.units(metric, shared)
    tested = {key: units(of) for key, of in on.items()}
    family = len(order) * len(others) // 2 if against is None else len(others)  # the best was chosen by the same cases
    tests = {
        key: paired_test(tested[key], tested[reference], rng=np.random.default_rng(_SEED), family=family) for key in others
    }
    corrected = dict(zip(others, holm([tests[key].p for key in others], family=family), strict=True)) if others else {}
    names_of = {f"{i}": key for i, key in enumerate(order)}
    gains = {i: -sign * float(on[key].mean()) for i, key in names_of.items()}  # of an error, less is more
    over = below({i: facts[key] for i, key in names_of.items()}, gains)
    front = {names_of[i]: tuple(str(facts[names_of[j]]["label"]) for j in others) for i, others in over.items()}
    rows = []
    for key in order:
        interval, fact, test = bootstrap_interval(tested[key], rng=np.random.default_rng(_SEED)), facts[key], tests.get(key)
        rows.append(
            Row(
                key[0], key[1], fact["label"], len(shared), interval.mean, interval.low, interval.high,
                None if test is None else test.difference, None if test is None else test.p,
                None if test is None else float(corrected[key]), None if test is None else test.deviation,
                None if test is None else test.detectable, front[key], bool(fact["control"]), fact["fit_seconds"],
                fact["ms_per_query"], int((fact["llm"]["tokens_in"] or 0) + (fact["llm"]["tokens_out"] or 0)),
                len(tested[key]), family,
            )
        )  # fmt: skip
    return rows


class Answers:
    """What the systems of several runs scored, case by case.

    Args:
        runs, full, slice_of: as for :func:`compare`.

    Attributes:
        directories: the runs, by the name that tables call them by.
        facts: of each system, its part of the run's summary.

    Raises:
        RunError: if runs cannot be compared, or something is not there.
    """

    def __init__(self, runs: Sequence[Path], *, full: bool, slice_of: str | None) -> None:
        directories = [RunDirectory(Path(run)) for run in runs]
        self.directories = dict(zip(_names(directories), directories, strict=True))
        comparable(directories)
        self.facts: dict[Key, Mapping[str, Any]] = {
            (name, system): row
            for name, directory in self.directories.items()
            for system, row in directory.read_json("summary.json").items()
            if not (full and row["sampled"])
        }
        if not self.facts:
            raise RunError("hold no system that ran on all cases", where=", ".join(str(d.path) for d in directories))
        self._inside = None if slice_of is None else _slice(directories[0], slice_of)
        self._results = {name: directory.read_table("results.parquet") for name, directory in self.directories.items()}

    @property
    def primary(self) -> str:
        """The first run's primary metric."""
        return read_spec(next(iter(self.directories.values())) / "spec.toml").experiment.primary

    def of(self, metric: str) -> dict[Key, pl.DataFrame]:
        """Return for each system its values of a metric: ``case``, ascending, and a column for each seed."""
        metric = PER_CASE.get(metric, metric)
        found: dict[Key, pl.DataFrame] = {}
        for name, results in self._results.items():
            if metric not in (known := results[METRIC].unique().to_list()):
                raise RunError(
                    f"does not hold {metric}", where=str(self.directories[name].path), todo=did_you_mean(metric, known)
                )
            mine = results.filter(pl.col(METRIC) == metric)
            if self._inside is not None:
                mine = mine.filter(pl.col(CASE).is_in(self._inside))
            found |= {
                (name, str(system)): own.pivot(on=SEED, index=CASE, values=VALUE).sort(CASE)
                for (system,), own in mine.group_by(SYSTEM)
            }
        nothing = pl.DataFrame(schema={CASE: pl.Int64})
        return {key: found.get(key, nothing) for key in self.facts}

    def units(self, metric: str, cases: NDArray[np.int64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        """Return what turns values of these cases into those of the units that are resampled, with the same mean.

        Units are the cases, and of predictions the users, whose questions are not independent.
        """
        if PER_CASE.get(metric, metric) not in PER_CASE.values():
            return lambda values: values
        table = next(iter(self.directories.values())).read_table("cases.parquet").select(CASE, USER)
        users = pl.DataFrame({CASE: cases}).join(table, on=CASE, how="left", maintain_order="left")[USER].to_numpy()
        _, at = np.unique(users, return_inverse=True)
        n = int(at.max(initial=-1)) + 1
        return lambda values: np.asarray(np.bincount(at, values, minlength=n) * (n / len(values)))


def means(values: pl.DataFrame) -> NDArray[np.float64]:
    """Return float64[cases], averaged over seeds."""
    return np.asarray(values.drop(CASE).to_numpy().sum(axis=1) / max(1, values.width - 1), dtype=np.float64)


def comparable(directories: Sequence[RunDirectory]) -> None:
    """Raise ``RunError`` unless runs have one split, one protocol and the same candidates, if there are any."""
    rules = [_rules(directory) for directory in directories]
    for directory, found in zip(directories, rules, strict=True):
        if other := [rule for rule in found if found[rule] != rules[0].get(rule)]:
            what = f"has another {' and '.join(other)} than {directories[0].path}"
            raise RunError(what, where=str(directory.path), todo="compare runs of one split and protocol")


def _rules(directory: RunDirectory) -> dict[str, str]:
    """Return what two runs must have in common to be compared."""
    environment = directory.read_json("environment.json")
    try:
        rules = {"split": str(environment["split"]["fingerprint"]), "protocol": str(environment["protocol"])}
    except (KeyError, TypeError):
        raise RunError("environment.json names no split or protocol", where=str(directory.path), todo="run it again") from None
    cases = directory.read_table("cases.parquet")
    if CANDIDATES in cases.columns:  # another seed draws others, and another system proposes others, under the same name
        sets = cases.select(pl.concat_str(CASE, pl.col(CANDIDATES).list.join("\0"), separator="\0"))
        rules["set of candidates"] = hashlib.sha256("\n".join(sets.to_series()).encode()).hexdigest()
    return rules


def _slice(directory: RunDirectory, name: str) -> NDArray[np.int64]:
    """Return the case numbers of a slice."""
    if name not in _SLICES:
        raise RunError(f"{name!r} is no slice", todo=did_you_mean(name, _SLICES))
    cases = directory.read_table("cases.parquet")
    return cases.filter(pl.col(SLICES).list.contains(_SLICES[name]))[CASE].to_numpy()


def _names(directories: Sequence[RunDirectory]) -> list[str]:
    """Return a name for each run: its folder's, or the whole path where two folders have one name."""
    places = [d.path.resolve() for d in directories]
    if twice := [str(p) for p in places if places.count(p) > 1]:
        raise RunError("is named twice", where=twice[0], todo="name each run once")
    short = [p.name for p in places]
    return [s if short.count(s) == 1 else str(d.path) for s, d in zip(short, directories, strict=True)]


def reference_of(order: Sequence[Key], facts: Mapping[Key, Mapping[str, Any]], against: str | None) -> Key:
    """Return the system that others are tested against: the named one, or the first that is no control."""
    if against is None:
        return next((key for key in order if not facts[key]["control"]), order[0])
    found = [key for key in order if against in (key[1], f"{key[0]}/{key[1]}")]
    if len(found) != 1:
        names = [f"{run}/{system}" for run, system in order]
        if found:
            where = " or ".join("/".join(key) for key in found)
            raise RunError(f"{against!r} is a system of several runs", todo=f"write {where}")
        raise RunError(f"{against!r} is no system of these runs", todo=did_you_mean(against, names))
    return found[0]
