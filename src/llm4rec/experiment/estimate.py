"""What a run's language models would be asked, and what that would take, before anything is asked."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Cases, Dataset, Queries, ScoringComponent, Split
from llm4rec.data import load, make_split
from llm4rec.experiment.diagnosis import diagnose
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.plan import Plan, as_published, key_of
from llm4rec.experiment.protocol import Question, fit_cases
from llm4rec.experiment.resources import DryResources
from llm4rec.experiment.spec import Spec, order
from llm4rec.experiment.systems import build, restore
from llm4rec.llm import Estimate
from llm4rec.models.popular import PopularConfig
from llm4rec.pipeline import Pipeline
from llm4rec.prompted.contamination import probe_contamination


@dataclass(frozen=True, slots=True)
class Row:
    """What one system would ask one model."""

    system: str
    llm: str
    estimate: Estimate
    usd: float | None
    most_usd: float | None


class _StandIn(ScoringComponent[PopularConfig]):
    """Items drawn by popularity: each system's own draw, as each would find other items."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Draw."""
        noise = np.random.default_rng(zlib.crc32(self._name.encode())).gumbel(size=train.n_items)
        self.scores_ = (np.log(train.item_counts + 1.0) + noise).astype(np.float32)
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return the draw for every query."""
        return np.tile(self.scores_, (len(queries), 1))


@dataclass
class _Rehearsal:
    """Serves every system that asks a language model, with models that ask nobody."""

    plan: Plan[Split]
    directory: RunDirectory
    resources: DryResources
    stand_ins: list[str] = field(default_factory=list)
    _fitted: dict[str, Any] = field(default_factory=dict)

    def component(self, name: str) -> Any:
        """Return a system as it was fitted, else fitted now where it asks a model, else a stand-in."""
        if name not in self._fitted:
            spec, split, seed = self.plan.spec, self.plan.split, self.plan.spec.experiment.seeds[0]
            system, folder = spec.systems[name], self.directory.model(name, seed)
            inner = {r: self.component(r) for r in system.retrieve}
            rng = np.random.default_rng(seed)
            if key_of(folder / "fit.json") == self.plan.fit_key(name, seed):
                component = restore(build(system, self.resources, inner), folder, self.resources)
            elif system.part is not None and not self.plan.asks_llm(name):
                component = _StandIn(name).fit(split.train, valid=None, rng=rng)
                self.stand_ins.append(name)
            else:
                component = build(system, self.resources, inner).fit(
                    split.train, valid=fit_cases(split, spec.protocol.mask), rng=rng
                )
            self._fitted[name] = component
        return self._fitted[name]

    def serve(self, name: str, question: Question) -> None:
        """Ask a system all that a run would."""
        experiment = self.plan.spec.experiment
        rows = question.rows(self.plan.is_sampled(name))
        cases, exclude = question.cases.take(rows), question.exclude.take(rows)
        component = self.component(name)
        if not isinstance(component, Pipeline):
            component.retrieve(cases.queries, experiment.depth, exclude=exclude)
            return
        trace = component.run(cases.queries, experiment.depth, exclude=exclude)
        if component.explainer is not None:
            first = np.arange(min(len(rows), experiment.explain))
            component.explain(cases.queries.take(first), trace.lists.take(first).head(experiment.explain_top))
        if component.rankers:
            counts = self.plan.split.train.item_counts
            diagnose(
                component,
                trace,
                cases,
                counts,
                controls=experiment.diagnose,
                metric=experiment.primary,
                seed=experiment.seeds[0],
            )


def estimate(spec: Spec, out: Path, *, tell: Callable[[str], None]) -> tuple[list[Row], list[str]]:
    """Return what the run would ask, and the systems for which items drawn by popularity stand in.

    Nothing is asked or written.  What ``out`` holds of an earlier run is used: answers in its
    store are not counted again, and fitted systems are restored.  A system that is not fitted yet
    and asks no language model is replaced by items drawn by popularity: the prompts then speak of
    other items, in about as many tokens.  What is asked only after certain answers is not counted.
    """
    directory = RunDirectory(out)
    tell("data: reading and splitting ...")
    plan = Plan(spec, make_split(load(spec.data), spec.split))
    resources = DryResources(spec.llm, spec.encoder, directory.store)
    rehearsal = _Rehearsal(plan, directory, resources)
    rows = []
    try:
        question = Question.of(spec, plan.split.test, plan.split.train.n_items, rehearsal.component)
        for name in order(spec):
            if not plan.asks_llm(name):
                continue
            tell(f"{name}: counting what it would ask ...")
            before = resources.estimates()
            rehearsal.serve(name, question)
            rows += _rows(name, spec, before, resources.estimates())
        for llm in spec.contamination.llm:
            before, asked = resources.estimates(), spec.contamination
            if asked.method == "auto":  # a run finds out by asking
                scored = spec.llm[llm].backend != "server"
                asked = asked.model_copy(update={"method": "likelihood" if scored else "choice"})
            probe_contamination(resources.llm(llm), load(as_published(spec.data)), asked)
            rows += _rows("contamination", spec, before, resources.estimates())
    finally:
        resources.close()
    return rows, rehearsal.stand_ins


def _rows(system: str, spec: Spec, before: Mapping[str, Estimate], after: Mapping[str, Estimate]) -> list[Row]:
    """Return what was counted between two moments, one row a model."""
    rows = []
    for llm, counted in after.items():
        asked, price = counted - before.get(llm, Estimate()), spec.llm[llm].price
        if asked.calls or asked.cached:
            rows.append(Row(system, llm, asked, asked.usd(price), asked.most_usd(price)))
    return rows
