"""Run an experiment: fit, serve and measure every system under one protocol, resumably."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import Cases, Dataset, Ragged, RunError, SpecError, Split
from llm4rec.core.columns import SEED, SYSTEM
from llm4rec.data import load, make_split
from llm4rec.experiment.diagnosis import diagnose
from llm4rec.experiment.directory import TABLES, RunDirectory
from llm4rec.experiment.environment import describe_environment
from llm4rec.experiment.explaining import figures, judge
from llm4rec.experiment.plan import Plan, as_published, digest, key_of, ranks_with_llm
from llm4rec.experiment.predict import cases_with_values, predict, prepare, refuse_unmeasured, summarise_predictions
from llm4rec.experiment.protocol import Question, fit_cases
from llm4rec.experiment.report import write_report
from llm4rec.experiment.resources import RunResources
from llm4rec.experiment.spec import Spec, order
from llm4rec.experiment.summary import summarise
from llm4rec.experiment.systems import build, restore
from llm4rec.experiment.tables import (
    cases_table,
    catalog_table,
    explanations_table,
    lists_table,
    notes_table,
    profiles_table,
    results_table,
)
from llm4rec.llm import Mode, Tally
from llm4rec.metrics import check_invariants, errors, evaluate
from llm4rec.pipeline import Pipeline, Trace
from llm4rec.prompted.contamination import probe_contamination

_LOG = logging.getLogger(__name__)

#: What a whole run holds beside its parts and models.
WHOLE = (
    "spec.toml", "summary.json", "report.html", "cases.parquet", "catalog.parquet", *(f"{table}.parquet" for table in TABLES),
    "models/dataset/dataset.json", *(f"models/dataset/{table}.parquet" for table in ("events", "users", "items", "hidden")),
)  # fmt: skip


def run(spec: Spec, out: Path, *, mode: Mode = "use", tell: Callable[[str], None] = _LOG.info) -> Path:
    """Run an experiment in ``out`` and return the path of its report; continues what was begun there.

    Args:
        spec: what to run.
        out: the run directory; made if it is not there.
        mode: of the store of LLM calls: ``use``, ``refresh`` or ``replay``.
        tell: called with a line for people whenever something begins (``...``) or ends.
    """
    directory = RunDirectory(out)
    directory.open()
    with directory.lock():
        directory.sweep()
        started = time.time()
        tell("data: reading and splitting ...")
        dataset = load(spec.data)
        split = prepare(make_split(dataset, spec.split), spec.protocol)
        tell(f"data: {dataset!r}, {len(split.test)} test cases")
        if not len(split.valid):
            _LOG.warning(
                "the %s split leaves no validation case: what would stop early by them trains to the end", spec.split.kind
            )
        resources = RunResources(spec.llm, spec.encoder, directory.store, mode, spec.budget)
        resources.open_store()  # every run directory holds one
        try:
            return _Runner(spec, directory, Plan(spec, split), resources, tell).run(dataset, started)
        finally:
            resources.close()


@contextmanager
def _of(name: str) -> Iterator[None]:
    """Say of a specification's error within whose parameters it is about."""
    try:
        yield
    except SpecError as error:
        where = f"systems.{name}" if error.where is None else f"systems.{name}.{error.where}"
        raise SpecError(error.what, where=where, todo=error.todo) from None


@dataclass
class _Runner:
    spec: Spec
    directory: RunDirectory
    plan: Plan[Split]
    resources: RunResources
    tell: Callable[[str], None]
    _fitted: dict[tuple[str, int], tuple[Any, float]] = field(default_factory=dict)

    @cached_property
    def question(self) -> Question:
        """What every system is asked; systems that propose candidates are fitted for it."""
        seed, split = self.spec.experiment.seeds[0], self.plan.split
        return Question.of(self.spec, split.test, split.train.n_items, lambda name: self._component(name, seed)[0])

    @property
    def predicts(self) -> bool:
        """Is each case one item whose value is asked for?"""
        return self.spec.protocol.task != "ranking"

    def run(self, dataset: Dataset, started: float) -> Path:
        """Do what is not yet done."""
        keys = {(name, seed): self.plan.key(name, seed) for name in order(self.spec) for seed in self.plan.seeds(name)}
        shown = digest([[list(k), v] for k, v in keys.items()] + [self.spec.dump()])
        todo = [pair for pair, key in keys.items() if not self._is_done(*pair, key)]
        if done := len(keys) - len(todo):
            self.tell(f"{done} of {len(keys)} fits and servings are done already")
        if todo or key_of(self.directory / "environment.json") != shown or not self._is_whole():
            if self.predicts:
                refuse_unmeasured(self.spec, self.question)
            for name, _ in todo:
                for part in self.spec.systems[name].parts:
                    part.entry.component.ready(part.config)
            # From here to the end the tables may be of two specifications: a run cut off between is not whole.
            (self.directory / "environment.json").unlink(missing_ok=True)
            self._write_ground(dataset)
            for name, seed in todo:
                self._system(name, seed)
            self._probe()
            self._put_together(started, shown)
        return self.directory / "report.html"

    def _is_done(self, name: str, seed: int, key: str) -> bool:
        """Are a system's part and model there and whole?  To refresh is to serve again whatever asks a language model."""
        if key_of(self.directory.model(name, seed) / "fit.json") != self.plan.fit_key(name, seed):
            return False
        part = self.directory.part(name, seed)
        fresh = self.resources.mode == "refresh" and self.plan.asks_llm(name)
        tables = [f"parts/{name}/{seed}/{table}.parquet" for table in TABLES]
        return not fresh and key_of(part / "part.json") == key and self.directory.holds(*tables)

    def _is_whole(self) -> bool:
        spec = self.directory / "spec.toml"
        return self.directory.holds(*WHOLE) and spec.read_bytes() == self.spec.dump().encode()

    # -- one system ---------------------------------------------------------------------------
    def _system(self, name: str, seed: int) -> None:
        """Fit, serve and measure one system with one seed."""
        label = f"{name} (seed {seed})" if len(self.plan.seeds(name)) > 1 else name
        before = self.resources.tallies()
        self.tell(f"{label}: fitting ...")
        component, fit_seconds = self._component(name, seed)
        rows = self.question.rows(self.plan.is_sampled(name))
        cases, exclude = self.question.cases.take(rows), self.question.exclude.take(rows)
        self.tell(f"{label}: serving {len(rows)} cases ...")
        clock = time.perf_counter()
        with _of(name):
            trace = self._serve(name, component, cases, exclude)
        serve_seconds = time.perf_counter() - clock
        results = self._measure(trace, cases, exclude)
        clock, explained, judged = time.perf_counter(), rows[:0], None
        if isinstance(component, Pipeline) and component.explainer is not None:
            explained = self.question.sample[: self.spec.experiment.explain]  # the same cases for every explainer
            self.tell(f"{label}: explaining {len(explained)} cases ...")
            first = np.searchsorted(rows, explained)
            shown = trace.lists.take(first).head(self.spec.experiment.explain_top)
            explanations = component.explain(cases.queries.take(first), shown)
        cost, explain_seconds = self._cost(before), time.perf_counter() - clock
        if len(explained):
            self.tell(f"{label}: checking {sum(map(len, explanations))} explanations ...")
            draws = 0 if ranks_with_llm(self.spec, name) else self.spec.experiment.fidelity
            told = cases.take(first), exclude.take(first), self.plan.split.train
            judged = judge(explanations, component, *told, draws=draws, seed=self.spec.experiment.seeds[0])
        diagnosis: dict[str, Any] = {}
        if isinstance(component, Pipeline) and component.rankers and self.spec.systems[name].uses_llm:
            self.tell(f"{label}: diagnosing ...")
            experiment = self.spec.experiment
            diagnosis = diagnose(
                component, trace, cases, self.plan.split.train.item_counts,
                controls=experiment.diagnose, metric=experiment.primary, seed=experiment.seeds[0],
            )  # fmt: skip
        tables = {
            "lists": lists_table(trace, rows, self.plan.split.train),
            "results": results_table(results, rows),
            "notes": notes_table(trace, rows, self.plan.split.train),
            "profiles": profiles_table(trace, rows),
            "explanations": explanations_table(judged, explained, self.plan.split.train),
        }
        part = {
            "key": self.plan.key(name, seed),
            "cases": len(rows),
            "fit_seconds": fit_seconds,
            "serve_seconds": serve_seconds,
            "explain_seconds": explain_seconds,
            "llm": cost,
            "diagnosis": diagnosis,
            "explanation": {} if judged is None else figures(judged),
            "stages": [{"stage": s.name, "kind": s.kind, "seconds": s.seconds, "given": s.depth} for s in trace.stages],
            "additions": [{"name": a.name, "columns": dict(a.columns), "seconds": a.seconds} for a in trace.additions],
            "facts": component.facts() if isinstance(component, Pipeline) else {},
        }
        self._write_part(name, seed, part, tables)
        primary = next(iter(results)) if self.predicts else self.spec.experiment.primary
        served = f"served {len(rows)} cases in {serve_seconds:.1f} s"
        self.tell(f"{label}: {primary} {results[primary].mean():.4f}, fit {fit_seconds:.1f} s, {served}")

    def _serve(self, name: str, component: Any, cases: Cases, exclude: Ragged) -> Trace:
        """Ask a fitted component or pipeline for the cases."""
        if self.predicts:
            return predict(component, cases)
        clock, depth = time.perf_counter(), self.spec.experiment.depth
        if isinstance(component, Pipeline):
            return component.run(cases.queries, depth, exclude=exclude)
        lists = component.retrieve(cases.queries, depth, exclude=exclude)
        return Trace.of(name, lists, time.perf_counter() - clock, exclude=exclude)

    def _measure(self, trace: Trace, cases: Cases, exclude: Ragged) -> dict[str, NDArray[np.float64]]:
        """Return what is kept of the answer for each case, float64[n] by name."""
        if self.predicts:
            values: Any = cases.values
            return errors(trace.lists.scores[:, 0], values, clicks=self.spec.protocol.task == "click")
        trace.lists.check(self.plan.split.train.n_items, exclude=exclude)
        results = evaluate(trace.lists, cases.truth, self.spec.experiment.names)
        check_invariants(results)
        return results

    def _cost(self, before: Mapping[str, Tally]) -> dict[str, Any]:
        """Return what the models have been asked since, by name: the tally, the money it took, what it is worth."""
        cost = {}
        for name, model in self.resources.models().items():
            tally = model.tally - before.get(name, Tally())
            if tally.calls or tally.cached:
                cost[name] = tally.to_json() | {"usd": tally.worth(model.price), "usd_paid": tally.paid(model.price)}
        return cost

    def _component(self, name: str, seed: int) -> tuple[Any, float]:
        """Return a system's fitted component, and the seconds of its fit with those of all that it retrieves with.

        It comes from memory, from its folder, or is fitted now.
        """
        if (name, seed) not in self._fitted:
            system, folder, key = self.spec.systems[name], self.directory.model(name, seed), self.plan.fit_key(name, seed)
            inner = {r: self._component(r, self.plan.seed_of(r, seed)) for r in system.retrieve}
            built = build(system, self.resources, {r: component for r, (component, _) in inner.items()})
            restored = self._restored(built, folder) if key_of(folder / "fit.json") == key else None
            if restored is not None:
                component, seconds = restored
            else:
                clock = time.perf_counter()
                split = self.plan.split
                with _of(name):
                    valid = fit_cases(split, self.spec.protocol.mask)
                    component = built.fit(split.train, valid=valid, rng=np.random.default_rng(seed))
                seconds = time.perf_counter() - clock
                with self.directory.writing(f"models/{name}/{seed}") as scratch:
                    component.save(scratch)
                    (scratch / "fit.json").write_text(json.dumps({"key": key, "seconds": seconds}) + "\n")
            self._fitted[name, seed] = component, seconds + sum(fit for _, fit in inner.values())
        return self._fitted[name, seed]

    def _restored(self, built: Any, folder: Path) -> tuple[Any, float] | None:
        """Return a saved component and the seconds of its fit; None, and a line in the log, if its files are broken."""
        try:
            seconds = float(json.loads((folder / "fit.json").read_text())["seconds"])
            return restore(built, folder, self.resources), seconds
        except (RunError, OSError, ValueError, KeyError, TypeError) as error:
            _LOG.warning("%s: is fitted again, as what was saved cannot be read (%s)", folder, error)
            return None

    def _write_part(self, name: str, seed: int, part: dict[str, Any], tables: dict[str, pl.DataFrame]) -> None:
        tag = {SYSTEM: pl.lit(name), SEED: pl.lit(seed)}
        with self.directory.writing(f"parts/{name}/{seed}") as scratch:
            scratch.mkdir()
            for table, rows in tables.items():
                schema: Any = TABLES[table]
                rows.with_columns(**tag).select(schema.keys()).cast(schema).write_parquet(scratch / f"{table}.parquet")
            (scratch / "part.json").write_text(json.dumps(part, indent=2) + "\n")

    def _probe(self) -> None:
        """Ask the models that the specification names what they know of the data by heart.

        They are asked about the set as it was published, without the specification's filters.
        """
        asked = self.spec.contamination
        if not asked.llm:
            (self.directory / "contamination.json").unlink(missing_ok=True)
            return
        published, found = load(as_published(self.spec.data)), {}
        for name in asked.llm:
            self.tell(f"contamination: probing {name} ...")
            found[name] = probe_contamination(self.resources.llm(name), published, asked).to_json()
            self.tell(f"contamination: {name}: {found[name]['verdict']}")
        self.directory.write_json("contamination.json", found)

    # -- the run's own tables -----------------------------------------------------------------
    def _write_ground(self, dataset: Dataset) -> None:
        """Write what does not depend on any system."""
        self.directory.write_text("spec.toml", self.spec.dump())
        self.directory.write_dataset(dataset)
        cases = cases_table(self.question.cases, self.plan.split.train, self.question.sample)
        if self.predicts:
            cases = cases_with_values(cases, self.question.cases)
        self.directory.write_table("cases.parquet", cases)
        self.directory.write_table("catalog.parquet", catalog_table(self.plan.split.train))

    def _put_together(self, started: float, key: str) -> None:
        """Make the run's tables, summary and report of all parts."""
        self.tell("summary: intervals and tests ...")
        parts = [(name, seed) for name in self.spec.systems for seed in self.plan.seeds(name)]
        for table in TABLES:
            pieces = [pl.read_parquet(self.directory.part(*p) / f"{table}.parquet") for p in parts]
            self.directory.write_table(f"{table}.parquet", pl.concat(pieces))
        facts = {p: json.loads((self.directory.part(*p) / "part.json").read_text()) for p in parts}
        summary_of = summarise_predictions if self.predicts else summarise
        summary = summary_of(self.spec, self.directory, self.plan.split, self.question, facts)
        self.directory.write_json("summary.json", summary)
        environment = describe_environment(self.spec, self.plan.split, self.resources, started)
        self.directory.write_json("environment.json", environment)
        self.tell("report ...")
        write_report(self.directory.path)
        self.directory.write_json("environment.json", environment | {"key": key})  # last: now the run is whole
