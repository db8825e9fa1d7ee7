"""The tasks that predict: each held-out event is a question, and each system says what value it will have.

A run of such a task is like any other, with the same files; here is what it does otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import Cases, DataError, Lists, Predictor, SpecError, Split, Training
from llm4rec.core.columns import CASE, SCORE, SEED, SYSTEM, VALUE
from llm4rec.data import as_clicks
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.protocol import Question
from llm4rec.experiment.sections import Protocol
from llm4rec.experiment.spec import Spec
from llm4rec.experiment.summary import Facts, label_of, usage_of
from llm4rec.metrics import Interval, compare_predictions, holm, one_class, prediction_intervals, prediction_means, slice_cases
from llm4rec.pipeline import Trace
from llm4rec.pipeline.trace import StageRecord

S = TypeVar("S", Split, Training)


def prepare(split: S, protocol: Protocol) -> S:
    """Return the split with the values that the task is about.

    Raises ``DataError`` for ratings that are all the same, and as ``as_clicks`` does.
    """
    if protocol.task == "click":
        return as_clicks(split, protocol.threshold)
    if protocol.task == "rating" and split.train.events[VALUE].n_unique() < 2:
        todo = "take data with ratings, or name their column in [data.columns]"
        raise DataError(f"the events of {split.train.name} have no ratings", where="protocol.task", todo=todo)
    return split


def refuse_unmeasured(spec: Spec, question: Question) -> None:
    """Raise ``DataError`` if the primary metric has nothing to measure: users with questions of both classes, for GAUC."""
    counts = _Judge(spec, question).users_of(np.arange(len(question.cases)))
    if spec.experiment.primary == "gauc" and counts["one_class"] == counts["asked"]:
        what = f"none of {counts['asked']} users has questions of both classes, so gauc measures nothing"
        todo = "take another primary metric, another threshold, or a split with more questions a user"
        raise DataError(what, where="experiment.primary", todo=todo)


def predict(component: Predictor, cases: Cases) -> Trace:
    """Ask for every case, which holds one item; the trace has one stage, whose lists hold the item and its prediction."""
    clock = time.perf_counter()
    predictions = component.predict(cases.queries, cases.truth.values)
    seconds = time.perf_counter() - clock
    if predictions.shape != (len(cases),) or predictions.dtype != np.float32:
        kind = type(component).__name__
        raise ValueError(f"{kind} predicts {predictions.dtype}{list(predictions.shape)}, not float32[{len(cases)}]")
    if not np.isfinite(predictions).all():
        what = f"{type(component).__name__} predicts values that are no finite numbers"
        raise SpecError(what, todo="its parameters are too extreme, or its training diverged")
    lists = Lists(cases.truth.values[:, None], predictions[:, None])
    return Trace((StageRecord("predict", "predict", lists, seconds),), 1)


def figure(spec: Spec, question: Question, rows: NDArray[np.int64], component: Predictor, metric: str) -> float:
    """Ask for the cases of some rows, and return a metric of the answers; nan where it measures nothing."""
    predictions = predict(component, question.cases.take(rows)).lists.scores[:, 0].astype(np.float64)
    return _Judge(spec, question).means(rows, predictions[None], (metric,))[metric]


def cases_with_values(table: pl.DataFrame, cases: Cases) -> pl.DataFrame:
    """Return the table of cases with the value of each case's item."""
    return table.with_columns(pl.Series(VALUE, cases.values, pl.Float32))


def summarise_predictions(
    spec: Spec, directory: RunDirectory, split: Split, question: Question, facts: Facts
) -> dict[str, Any]:
    """Return the content of ``summary.json``: one entry for each system, in the specification's order.

    Intervals and tests resample users.  A system on the sample of cases is compared with the others there.
    """
    judge = _Judge(spec, question)
    lists = directory.read_table("lists.parquet")
    found = {name: _predictions(lists, name) for name in spec.systems}
    masks = slice_cases(question.cases, split.train)
    components = [s.part.component for s in spec.systems.values() if s.part is not None and not s.label]
    several = any(len(numbers) < len(question.cases) for numbers, _ in found.values())
    primary, out = spec.experiment.primary, {}
    for name, system in spec.systems.items():
        numbers, predictions = found[name]
        mine = [f for (n, _), f in facts.items() if n == name]
        part, on_sample = system.part, np.isin(numbers, question.sample)
        assert part is not None  # a system of a task that predicts is one component
        metrics = judge.metrics(numbers, predictions)
        out[name] = {
            "label": system.label or label_of(name, part, components),
            "component": part.component,
            "family": part.entry.family,
            "uses_llm": system.uses_llm,
            "uses_text": bool(part.references("encoder") or part.references("llm")),
            "llm_names": sorted(part.references("llm")),
            "control": system.control,
            "note": system.note,
            "seeds": sorted(s for n, s in facts if n == name),
            "cases": len(numbers),
            "sampled": len(numbers) < len(question.cases),
            "metrics": metrics,
            "users": judge.users_of(numbers),
            "seed_deviation": judge.deviation(numbers, predictions) if len(predictions) > 1 else {},
            "sample": {
                "n": int(on_sample.sum()),
                "metrics": judge.metrics(numbers[on_sample], predictions[:, on_sample]),
            } if several else None,
            "slices": {
                kind: {
                    "n": int(mask[numbers].sum()),
                    "metrics": judge.metrics(numbers[mask[numbers]], predictions[:, mask[numbers]], (primary,)),
                }
                for kind, mask in masks.items() if mask[numbers].sum() >= 2
            },
            "beyond": {},
            "fit_seconds": float(np.mean([f["fit_seconds"] for f in mine])),
            "serve_seconds": float(np.mean([f["serve_seconds"] for f in mine])),
            "explain_seconds": 0.0,
            "ms_per_query": float(np.mean([1000 * f["serve_seconds"] / f["cases"] for f in mine])),
            "facts": {}, "additions": [], "diagnosis": {}, "explanation": {},
            "llm": usage_of(mine),
            "failures": {},
            "stages": [{**mine[0]["stages"][0], "depth": 1, "metrics": {m: f["mean"] for m, f in metrics.items()}}],
            "versus": {},
        }  # fmt: skip
    judge.compare(out, found, question.sample if several else None)
    return out


def _predictions(lists: pl.DataFrame, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return a system's case numbers int64[n] and its predictions float64[seeds, n]."""
    mine = lists.filter(pl.col(SYSTEM) == name).sort(SEED, CASE)
    n_seeds = mine[SEED].n_unique()
    numbers = mine[CASE].to_numpy().reshape(n_seeds, -1)[0]
    return numbers, mine[SCORE].to_numpy().astype(np.float64).reshape(n_seeds, -1)


class _Judge:
    """Measures predictions against the values of the cases."""

    def __init__(self, spec: Spec, question: Question) -> None:
        protocol, cases = spec.protocol, question.cases
        assert cases.values is not None  # a split gives every question its value
        self.clicks, self.names, self.primary = protocol.task == "click", protocol.metrics, spec.experiment.primary
        self.values, self.users = cases.values.astype(np.float64), cases.queries.users
        positive = 1.0 if self.clicks else protocol.threshold
        self.labels = None if positive is None else cases.values >= positive
        self.seed = spec.experiment.seeds[0]

    def _asked(self, numbers: NDArray[np.int64]) -> tuple[Any, Any, Any]:
        labels = None if self.labels is None else self.labels[numbers]
        return self.values[numbers], labels, self.users[numbers]

    def metrics(
        self, numbers: NDArray[np.int64], predictions: NDArray[np.float64], names: tuple[str, ...] | None = None
    ) -> dict[str, Any]:
        # One generator for each, so that an interval does not depend on who else runs.
        rng, asked = np.random.default_rng(self.seed), self._asked(numbers)
        found = prediction_intervals(names or self.names, predictions, *asked, clicks=self.clicks, rng=rng)
        return {name: _plain(interval) for name, interval in found.items()}

    def means(
        self, numbers: NDArray[np.int64], predictions: NDArray[np.float64], names: tuple[str, ...] | None = None
    ) -> dict[str, float]:
        """Return each metric over the questions; nan where there is nothing to measure."""
        return prediction_means(names or self.names, predictions, *self._asked(numbers), clicks=self.clicks)

    def deviation(self, numbers: NDArray[np.int64], predictions: NDArray[np.float64]) -> dict[str, float | None]:
        """Return each metric's standard deviation over seeds; None where there is nothing to measure."""
        rows = [self.means(numbers, row[None]) for row in predictions]
        found = {name: float(np.std([row[name] for row in rows], ddof=1)) for name in self.names}
        return {name: None if value != value else value for name, value in found.items()}

    def users_of(self, numbers: NDArray[np.int64]) -> dict[str, int]:
        """Return how many users were asked about, and how many of them GAUC leaves out."""
        _, labels, users = self._asked(numbers)
        return {"asked": len(np.unique(users)), "one_class": 0 if labels is None else one_class(labels, users)}

    def compare(
        self, out: dict[str, Any], found: Mapping[str, tuple[Any, NDArray[np.float64]]], sample: NDArray[np.int64] | None
    ) -> None:
        """Test every two systems on the questions that both answered, with Holm's correction over the table."""
        pairs, tests = list(combinations(out, 2)), []
        for first, second in pairs:
            (numbers, a), (others, b) = found[first], found[second]
            if sample is not None and (out[first]["sampled"] or out[second]["sampled"]):
                mine, theirs = np.isin(numbers, sample), np.isin(others, sample)
                numbers, a, b = numbers[mine], a[:, mine], b[:, theirs]
            rng = np.random.default_rng(self.seed)
            tests.append(compare_predictions(self.primary, a, b, *self._asked(numbers), clicks=self.clicks, rng=rng))
        tested = [(pair, test) for pair, test in zip(pairs, tests, strict=True) if test.n]  # users that the metric can judge
        for ((x, y), test), p_holm in zip(tested, holm([t.p for _, t in tested]), strict=True):
            metric = "squared_error" if self.primary == "rmse" else self.primary
            shared = {"metric": metric, "n": test.n, "p": test.p, "p_holm": float(p_holm)}
            out[x]["versus"][y] = shared | {"difference": test.difference, "low": test.low, "high": test.high}
            out[y]["versus"][x] = shared | {"difference": -test.difference, "low": -test.high, "high": -test.low}


def _plain(interval: Interval) -> dict[str, float | int | None]:
    return {k: None if v != v else v for k, v in asdict(interval).items()}
