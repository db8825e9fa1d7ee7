"""The systems of a specification, fitted for the audit and asked as a run would ask them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Cases, Dataset, Lists, Ragged, Split
from llm4rec.experiment.plan import Plan
from llm4rec.experiment.protocol import Question, complement, fit_cases
from llm4rec.experiment.resources import RunResources
from llm4rec.experiment.sections import RANDOM
from llm4rec.experiment.spec import Spec, order
from llm4rec.experiment.systems import build
from llm4rec.metrics import ACCURACY, evaluate, parse_metric
from llm4rec.models.markov import Markov, MarkovConfig
from llm4rec.models.popular import Popular, PopularConfig

#: The rules that every system has to beat: what is popular, and what most often followed the last item alone.
FLOORS: dict[str, Any] = {
    "popularity": lambda: Popular(),
    "last item": lambda: Markov(MarkovConfig.model_validate({"window": 1, "half_life": 0.05})),
}
#: Half-lives, in days, of the third rule, what is popular at the moment; and cases that the choice among them is made on.
_HALF_LIVES = (1.0, 3.0, 10.0, 30.0, 100.0)
_CHOOSING = 2_000
#: Items that are left out of lists, over the cases asked for at once.
_CELLS = 16_000_000


@dataclass
class Bench:
    """Fits systems, each once for a split: those that ask no language model, are not declared slow (``sampled``),
    and are no other library's.

    Args:
        spec: whose systems.
        split: that the specification makes.
        resources: their encoders.
    """

    spec: Spec
    split: Split
    resources: RunResources
    _fitted: dict[str, Any] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def opened(cls, spec: Spec, split: Split) -> Iterator[Bench]:
        """Give a bench with encoders; no language model is ever asked."""
        with tempfile.TemporaryDirectory() as folder:
            resources = RunResources({}, spec.encoder, Path(folder) / "llm.sqlite", "replay")
            try:
                yield cls(spec, split, resources)
            finally:
                resources.close()

    @cached_property
    def left_out(self) -> dict[str, str]:
        """The systems that are not fitted here, each after those that it retrieves with, and why."""
        plan, found = Plan(self.spec, self.split), dict[str, str]()
        for name in order(self.spec):
            system = self.spec.systems[name]
            if inner := [r for r in system.retrieve if r in found]:
                found[name] = f"retrieves with {inner[0]}"
            elif plan.asks_llm(name):
                found[name] = "asks a language model"
            elif plan.is_sampled(name):
                found[name] = "is declared sampled"
            elif any(p.entry.family == "peer" for p in system.parts):
                found[name] = "is another library's"
        return found

    @cached_property
    def names(self) -> list[str]:
        """The systems that can be fitted here, each after those that it retrieves with."""
        return [name for name in order(self.spec) if name not in self.left_out]

    @property
    def asks(self) -> bool:
        """Can the systems be asked as a run would ask them: do the candidates come without a language model?"""
        candidates = self.spec.protocol.candidates
        sources = () if candidates is None else candidates.sources
        return not any(Plan(self.spec, self.split).asks_llm(source) for source in sources if source != RANDOM)

    @cached_property
    def settled(self) -> list[str]:
        """Those among them that draw nothing and encode nothing: their figures move with the data alone."""
        chosen: list[str] = []
        for name in self.names:
            system = self.spec.systems[name]
            still = all(p.entry.component.deterministic and not p.references("encoder") for p in system.parts)
            if still and not system.draws and all(r in chosen for r in system.retrieve):
                chosen.append(name)
        return chosen

    @property
    def primary(self) -> str:
        """The metric that is compared."""
        return self.spec.experiment.primary

    @property
    def k(self) -> int:
        """The cut-off of the primary metric."""
        return parse_metric(self.primary, ACCURACY)[1]

    def fitted(self, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Return systems fitted on the split of the specification, each once."""
        wanted = self.names if names is None else list(names)
        self._fitted |= self.fit(self.split, wanted, self._fitted)
        return {n: self._fitted[n] for n in wanted}

    def fit(self, split: Split, names: Iterable[str], done: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return systems fitted on some split with the specification's first seed, and those that they retrieve with.

        Args:
            done: systems that are fitted on this split already.
        """
        out = dict(done or {})

        def visit(name: str) -> None:
            if name not in out:
                system = self.spec.systems[name]
                for inner in system.retrieve:
                    visit(inner)
                built = build(system, self.resources, {r: out[r] for r in system.retrieve})
                rng = np.random.default_rng(self.spec.experiment.seeds[0])
                out[name] = built.fit(split.train, valid=fit_cases(split, self.spec.protocol.mask), rng=rng)

        for name in names:
            visit(name)
        return out

    def floors(self, split: Split) -> dict[str, Any]:
        """Return the rules that every system has to beat, fitted; what is popular of late where events have real times."""
        rng = np.random.default_rng(0)
        valid = fit_cases(split, self.spec.protocol.mask)
        rules = {name: make().fit(split.train, valid=valid, rng=rng) for name, make in FLOORS.items()}
        if split.train.clock == "utc" and valid is not None:
            rules["popularity of late"] = self._of_late(split.train, valid, rng)
        return rules

    def _of_late(self, train: Dataset, valid: Cases, rng: np.random.Generator) -> Popular:
        """Return decaying popularity with the half-life that is best on validation cases."""
        cases = valid.take(np.sort(rng.permutation(len(valid))[:_CHOOSING]))
        tried = [Popular(PopularConfig(half_life_days=h)).fit(train, valid=None, rng=rng) for h in _HALF_LIVES]
        lists = (rule.retrieve(cases.queries, self.k, exclude=cases.seen) for rule in tried)
        means = [float(evaluate(found, cases.truth, [self.primary])[self.primary].mean()) for found in lists]
        return tried[int(np.argmax(means))]

    def question(self, split: Split, fitted: dict[str, Any]) -> Question:
        """Return what the specification asks on a split."""
        n_items = split.train.n_items
        return Question.of(self.spec, split.test, n_items, lambda name: self.fit(split, [name], fitted)[name])

    def lists(self, component: Any, cases: Cases, exclude: Ragged) -> Lists:
        """Return a system's lists, one place longer than the longest that is measured."""
        found: Lists = component.retrieve(cases.queries, self.spec.experiment.depth + 1, exclude=exclude)
        return found

    def among(self, component: Any, cases: Cases, candidates: Ragged, n_items: int) -> NDArray[np.float64]:
        """Return float64[n], the primary metric of a system that ranks given candidates alone."""
        values, batch = [], max(1, _CELLS // n_items)
        for start in range(0, len(cases), batch):
            rows = np.arange(start, min(start + batch, len(cases)))
            part, others = cases.take(rows), complement(candidates.take(rows), n_items)
            lists = component.retrieve(part.queries, self.k, exclude=others)
            values.append(evaluate(lists, part.truth, [self.primary])[self.primary])
        return np.concatenate(values)
