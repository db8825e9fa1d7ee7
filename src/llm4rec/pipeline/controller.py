"""A pipeline that chooses, for each request, which of several systems answers it.

The systems are its arms: whatever differs between them (retriever, ranker or none, how many candidates, filters) is
what is chosen.  Only the chosen one is asked, so that an expensive ranker costs what it is used for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import (
    Augmenter,
    Cases,
    Component,
    Config,
    Dataset,
    Explainer,
    Lists,
    Note,
    Queries,
    Ragged,
    Ranker,
    Resources,
    Retriever,
    SpecError,
)
from llm4rec.metrics import ACCURACY, evaluate, parse_metric
from llm4rec.pipeline.config import PipelineConfig
from llm4rec.pipeline.contexts import Context, Contexts
from llm4rec.pipeline.pipeline import Pipeline
from llm4rec.pipeline.trace import StageRecord


class ChooserConfig(Config):
    """What every chooser learns from."""

    cases: int = Field(500, ge=1)
    """Validation cases that it learns from, drawn with the seed of the run; each asks one arm."""
    batch: int = Field(50, ge=1)
    """Cases between two updates of what it knows: those of one batch are chosen for, then their rewards are seen."""
    metric: str = "ndcg@10"
    """Reward of a choice: the metric of the list that came of it."""
    costs: dict[str, float] = Field(default_factory=dict)
    """What asking an arm takes off the reward, in units of the metric, by arm; 0 unless given."""


C = TypeVar("C", bound=ChooserConfig)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which arm answers each request: int64[n], and a note for each request, or None."""

    arms: NDArray[np.int64]
    notes: tuple[Note, ...] | None = None


class Chooser(Component[C]):
    """Chooses arms in view of contexts, and learns from the rewards of arms that were chosen, never of others."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Learn nothing: a chooser learns from feedback."""
        return self

    @abstractmethod
    def begin(self, arms: Sequence[str], features: int) -> None:
        """Know nothing yet of so many arms and features (the constant among them)."""

    @abstractmethod
    def explore(self, context: Context, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return int64[n], the arms to learn most from, or to win most with, as the method has it."""

    @abstractmethod
    def learn(self, context: Context, arms: NDArray[np.int64], rewards: NDArray[np.float64]) -> None:
        """Take in the rewards float64[n] of the arms int64[n] that were chosen."""

    @abstractmethod
    def choose(self, context: Context) -> Choice:
        """Return the best arm for each request, to the best of its knowledge; each request is judged for itself."""

    def facts(self) -> dict[str, Any]:
        """Return what it has learnt, as JSON values."""
        return {}


class Controller(Pipeline):
    """A pipeline whose retrievers are arms, of which a chooser takes one for each request.

    ``fit`` plays the chooser on validation cases: it sees a batch of contexts, chooses an arm for each, and is
    told the reward of that arm alone, as in a live system.  Serving does not explore, and :meth:`feedback`
    takes in what became of lists later.

    Args:
        arms: fitted or fittable, by name; at least two.
        chooser: who chooses.
        rankers, explainer, config, augmenters: as in :class:`Pipeline`; rankers order what the arm returned.
    """

    def __init__(
        self,
        arms: Mapping[str, Retriever],
        chooser: Chooser[Any],
        rankers: Sequence[Ranker] = (),
        explainer: Explainer | None = None,
        config: PipelineConfig | None = None,
        augmenters: Sequence[Augmenter] = (),
    ) -> None:
        super().__init__(arms, rankers, explainer, config, augmenters)
        self.chooser, self.contexts = chooser, Contexts()
        if len(arms) < 2:
            raise SpecError("a controller needs at least two systems to choose from", where="retrieve")
        if unknown := sorted(set(chooser.config.costs) - set(arms)):
            raise SpecError(f"{unknown[0]!r} is none of the systems to choose from", where="choose.costs")
        parse_metric(chooser.config.metric, ACCURACY)  # raises for what is no metric of lists

    @property
    def deterministic(self) -> bool:  # type: ignore[override]
        """Never: the cases to learn from, and what is tried on them, are drawn."""
        return False

    # -- learning -----------------------------------------------------------------------------
    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Fit the parts, then let the chooser learn on validation cases; raises ``SpecError`` without any."""
        if valid is None or not len(valid):
            raise SpecError("a chooser learns on validation cases", where="choose", todo="take a split that has some")
        first, own = rng.spawn(2)
        super().fit(train, valid=valid, rng=first)
        c = self.chooser.config
        cases = valid.take(np.sort(own.permutation(len(valid))[: c.cases]))
        cases = cases.take(own.permutation(len(cases)))
        queries, exclude = self._enriched(cases.queries)[0], cases.exclude("seen")
        self.contexts.fit(train, valid=None, rng=own).settle(queries)
        context = self.contexts.of(queries)
        self.chooser.begin(list(self.retrievers), context.features.shape[1])
        plays, sums = np.zeros(len(self.retrievers), np.int64), np.zeros(len(self.retrievers))
        for start in range(0, len(cases), c.batch):
            rows = np.arange(start, min(start + c.batch, len(cases)))
            part = context.take(rows)
            arms = self.chooser.explore(part, own)
            lists = self._of_arms(arms, queries.take(rows), parse_metric(c.metric, ACCURACY)[1], exclude.take(rows))
            rewards = self._rewards(evaluate(lists, cases.truth.take(rows), [c.metric])[c.metric], arms)
            self.chooser.learn(part, arms, rewards)
            plays += np.bincount(arms, minlength=len(plays))
            sums += np.bincount(arms, weights=rewards, minlength=len(sums))
        self.learnt_ = {
            name: {"plays": int(n), "reward": float(s / n) if n else None}
            for name, n, s in zip(self.retrievers, plays, sums, strict=True)
        }
        return self

    def _rewards(self, gains: NDArray[np.float64], arms: NDArray[np.int64]) -> NDArray[np.float64]:
        costs = np.array([self.chooser.config.costs.get(name, 0.0) for name in self.retrievers])
        rewards: NDArray[np.float64] = np.asarray(gains, np.float64) - costs[arms]
        return rewards

    def chosen(self, queries: Queries) -> list[str]:
        """Return the name of the arm that answers each query, by what is known now."""
        names, arms = list(self.retrievers), self.chooser.choose(self.contexts.of(self._enriched(queries)[0])).arms
        return [names[arm] for arm in arms.tolist()]

    def feedback(self, queries: Queries, chosen: Sequence[str], rewards: NDArray[np.float64]) -> None:
        """Take in what became of lists.

        Args:
            queries: that were answered.
            chosen: the arms that answered them, as :meth:`chosen` told at that time: what is learnt in between may have
                changed the choice.
            rewards: float64[n], in units of the metric, costs not yet taken off.
        """
        names = list(self.retrievers)
        arms = np.array([names.index(name) for name in chosen], np.int64)
        self.chooser.learn(self.contexts.of(self._enriched(queries)[0]), arms, self._rewards(rewards, arms))

    def facts(self) -> dict[str, Any]:
        """Return what ``fit`` chose and found: for each arm how often it was tried and its mean reward, too."""
        return super().facts() | {"arms": self.learnt_, "chooser": self.chooser.facts()}

    # -- serving --------------------------------------------------------------------------------
    def _retrieve(self, queries: Queries, width: int, exclude: Ragged) -> list[StageRecord]:
        """Return one stage: the chosen arms' lists."""

        def answer() -> Lists:
            choice = self.chooser.choose(self.contexts.of(queries))
            lists = self._of_arms(choice.arms, queries, width, exclude)
            return lists if choice.notes is None else replace(lists, notes=_both(choice.notes, lists.notes))

        return [self._stage("retrieve:chosen", "retrieve", answer, exclude)]

    def _of_arms(self, arms: NDArray[np.int64], queries: Queries, k: int, exclude: Ragged) -> Lists:
        """Return the lists of the chosen arms, each arm asked once, and only for its own requests."""
        parts, order = [Lists.empty(0, k)], [np.empty(0, np.int64)]
        for at, retriever in enumerate(self.retrievers.values()):
            rows = np.flatnonzero(arms == at)
            if len(rows):
                parts.append(retriever.retrieve(queries.take(rows), k, exclude=exclude.take(rows)))
                order.append(rows)
        return Lists.concatenate(parts).take(np.argsort(np.concatenate(order), kind="stable"))

    # -- saving -----------------------------------------------------------------------------------
    def save(self, folder: Path) -> None:
        """Write what a pipeline writes, the chooser, and the scale of the contexts."""
        super().save(folder)
        self.chooser.save(folder / "chooser")
        self.contexts.save(folder / "contexts")

    def load_parts(self, folder: Path, resources: Resources | None = None) -> Self:
        """Read what ``save`` wrote into a newly built controller."""
        super().load_parts(folder, resources)
        self.chooser = type(self.chooser).load(folder / "chooser", resources)
        self.contexts = Contexts.load(folder / "contexts")
        return self


def _both(first: tuple[Note, ...], second: tuple[Note, ...] | None) -> tuple[Note, ...]:
    """Return for each request what the choice and the arm have to say."""
    if second is None:
        return first
    return tuple(
        replace(b, failures=(*a.failures, *b.failures), exchanges=(*a.exchanges, *b.exchanges))
        for a, b in zip(first, second, strict=True)
    )
