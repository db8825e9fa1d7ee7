"""The pipeline: retrievers, fusion, rankers, an explainer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import (
    Augmenter,
    Cases,
    Component,
    Dataset,
    Explainer,
    Explanation,
    Lists,
    NotFittedError,
    Queries,
    Ragged,
    Ranker,
    Resources,
    Retriever,
    RunError,
    SpecError,
)
from llm4rec.metrics import evaluate
from llm4rec.pipeline.config import PipelineConfig, Share
from llm4rec.pipeline.fusion import fuse
from llm4rec.pipeline.rerank import rerank
from llm4rec.pipeline.trace import Addition, Kind, StageRecord, Trace, added_columns
from llm4rec.pipeline.tune import GRID, Tunable, balanced, cautious_choice

_METRIC = "ndcg@10"


class Pipeline(Component[PipelineConfig]):
    """Retrieves with one or several retrievers, fuses, ranks the top anew, and keeps a trace.

    Every retriever gives ``candidates`` items; several are fused (see :func:`fuse`).  Each ranker
    in turn orders the first ``depth`` items anew, alone or mixed with the incoming scores; items
    below ``depth``, and those that a ranker was given and did not rank, follow (see :func:`rerank`).
    No stage may show an excluded item: that is asserted after each.

    A pipeline is itself a retriever, so pipelines can be nested.  It may share fitted parts with
    others: ``fit`` fits a part that is not fitted yet, and one that this pipeline fitted itself.

    Args:
        retrievers: at least one, by name.
        rankers: in order of use.
        explainer: asked by :meth:`explain` only.
        augmenters: in order of use; all parts that this pipeline fits see what they add to the item
            table, and every part what they add to the queries.  Retrievers that were fitted before
            know nothing of the former.
    """

    def __init__(
        self,
        retrievers: Mapping[str, Retriever],
        rankers: Sequence[Ranker] = (),
        explainer: Explainer | None = None,
        config: PipelineConfig | None = None,
        augmenters: Sequence[Augmenter] = (),
    ) -> None:
        super().__init__(config)
        self.augmenters: list[Any] = list(augmenters)
        self.retrievers: dict[str, Any] = dict(retrievers)
        self.rankers: list[Any] = list(rankers)
        self.explainer: Any = explainer
        self._own: set[int] = set()  # id() of the parts that this pipeline has fitted
        if not self.retrievers:
            raise SpecError("a pipeline needs at least one retriever")
        weights = self.config.fusion_weights
        if weights and weights != "auto" and (len(weights) != len(self.retrievers) or min(weights) < 0):
            raise SpecError(
                f"{list(weights)} for {len(self.retrievers)} retrievers",
                where="fusion_weights",
                todo='give one each, none below 0, or "auto"',
            )
        self.depths: list[int] = self._each("depth", lambda d: d >= 1, "at least 1")
        self.shares: list[Share] = self._each("weight", lambda w: w == "auto" or 0.0 <= w <= 1.0, '0 to 1, or "auto"')

    def _each(self, field: str, valid: Callable[[Any], bool], rule: str) -> list[Any]:
        """Return a field of the config as one value for each ranker; raises ``SpecError``."""
        given = getattr(self.config, field)
        values = list(given) if isinstance(given, tuple) else [given] * len(self.rankers)
        if len(values) != len(self.rankers):
            raise SpecError(
                f"{len(values)} values for {len(self.rankers)} rankers", where=field, todo="give one each, or one for all"
            )
        for value in values:
            if not valid(value):
                raise SpecError(f"{value!r} is not allowed", where=field, todo=f"give {rule}")
        return values

    @property
    def deterministic(self) -> bool:  # type: ignore[override]
        """Does every seed give the same lists, in every part?  An automatic weight is chosen on cases drawn by seed."""
        drawn = self._balances() or "auto" in self.shares or any(_unsettled(ranker) for ranker in self.rankers)
        return not drawn and all(getattr(part, "deterministic", True) for part in self._parts().values())

    def _parts(self) -> dict[str, Any]:
        """Return all parts under the names of their folders."""
        parts = {f"augmenter-{i}": part for i, part in enumerate(self.augmenters)}
        parts |= {f"retriever-{name}": part for name, part in self.retrievers.items()}
        parts |= {f"ranker-{i}": part for i, part in enumerate(self.rankers)}
        return parts if self.explainer is None else parts | {"explainer": self.explainer}

    def ranker_names(self) -> list[str]:
        """Return the rankers' names in the trace: their classes, numbered where one occurs again."""
        return _names(self.rankers)

    # -- fitting ----------------------------------------------------------------------------
    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Fit the parts, each once, then choose the weights that are ``"auto"`` on validation cases.

        A ranker that leaves a setting to be chosen (:class:`Tunable`) is fitted without validation cases
        and settled here, on the candidates that it is given and together with its weight.

        Raises ``SpecError`` for an automatic weight without validation cases.
        """
        for where, automatic in (("weight", "auto" in self.shares), ("fusion_weights", self._balances())):
            if valid is None and automatic:
                raise SpecError("an automatic weight needs validation cases", where=where, todo="give numbers")
        parts = list(self._parts().values())
        *streams, own = rng.spawn(len(parts) + 1)  # so that a part more changes nothing for the others
        done: set[int] = set()
        self.columns_: list[dict[str, int]] = []
        for part, stream in zip(parts, streams, strict=True):
            if id(part) not in done and (id(part) in self._own or not _is_fitted(part)):
                part.fit(train, valid=None if _unsettled(part) else valid, rng=stream)
                self._own.add(id(part))
            done.add(id(part))
            if len(self.columns_) < len(self.augmenters):  # augmenters come first
                richer = part.augment(train)
                self.columns_.append(added_columns(train, richer))
                train = richer
        self.n_items_ = train.n_items
        self.followed_ = self._followed()
        given = self.config.fusion_weights
        self.weights_: list[float] = []
        self.fusion_weights_: list[float] = [] if given == "auto" else list(given)
        self.tuning_: list[dict[str, Any]] = []
        if valid is not None and (self._balances() or "auto" in self.shares or any(map(self._settles, self.rankers))):
            chosen = np.sort(own.permutation(len(valid))[: self.config.tuning_cases])
            self._tune(valid.take(chosen))
        else:
            self.weights_ = [float(share) for share in self.shares]
        return self

    def _balances(self) -> bool:
        """Are the weights of the fusion this pipeline's to choose?"""
        return self.config.fusion_weights == "auto" and len(self.retrievers) > 1

    def _settles(self, ranker: Any) -> bool:
        """Is a ranker's setting this pipeline's to choose?  Not if it came fitted."""
        return id(ranker) in self._own and _unsettled(ranker)

    def _tune(self, cases: Cases) -> None:
        """Choose each automatic weight and open setting from a grid, with the stages before as they are."""
        exclude = cases.exclude("seen")
        queries = self._enriched(cases.queries)[0]
        stages = self._retrieve(queries, self.config.candidates, exclude)
        if self._balances():
            each = [stage.lists for stage in stages[:-1]]

            def gain(weights: Sequence[float]) -> NDArray[np.float64]:
                return evaluate(self._fuse(each, weights, self.config.candidates), cases.truth, [_METRIC])[_METRIC]

            self.fusion_weights_, tried = balanced(gain, len(each), self.config.tuning_errors)
            self.tuning_.append(
                {
                    "fusion": list(self.retrievers),
                    "cases": len(cases),
                    "weights": self.fusion_weights_,
                    "grid": [{"weights": list(weights), _METRIC: mean} for weights, mean in tried],
                }
            )
            lists = self._fuse(each, self.fusion_weights_, self.config.candidates)
        else:
            lists = stages[-1].lists
        for name, ranker, depth, share in zip(self.ranker_names(), self.rankers, self.depths, self.shares, strict=True):
            top, settles = lists.head(depth), self._settles(ranker)
            variants = ranker.variants(queries, top) if settles else {None: ranker.rank(queries, top)}
            shares = GRID if share == "auto" else (float(share),)
            choices = [(weight, setting) for weight in shares for setting in variants]
            if len(choices) > 1:
                gains = [
                    evaluate(self._join(lists, variants[setting], depth, weight), cases.truth, [_METRIC])[_METRIC]
                    for weight, setting in choices
                ]
                weights = np.array([weight for weight, _ in choices])
                weight, setting = choices[cautious_choice(np.stack(gains), weights, self.config.tuning_errors)]
                grid = [
                    {"weight": w, _METRIC: float(np.mean(gain))} | ({"setting": s} if settles else {})
                    for (w, s), gain in zip(choices, gains, strict=True)
                ]
                found = {"ranker": name, "cases": len(cases), "weight": weight, "grid": grid}
                self.tuning_.append(found | ({"setting": setting} if settles else {}))
            else:
                weight, setting = choices[0]
            if settles:
                ranker.settle(setting)
            self.weights_.append(weight)
            lists = self._join(lists, variants[setting], depth, weight)

    def _fuse(self, found: Sequence[Lists], weights: Sequence[float], width: int) -> Lists:
        config = self.config
        return fuse(found, config.fusion, weights or None, width, rrf_k=config.rrf_k, normalise=config.normalise)

    def _join(self, lists: Lists, ranked: Lists, depth: int, weight: float) -> Lists:
        return rerank(lists, ranked, depth=depth, weight=weight, omitted=self.config.omitted)

    def _followed(self) -> str:
        """Let the explainer, if it can, take its evidence from a retriever; return that one's name, or ""."""
        if self.explainer is not None and hasattr(self.explainer, "follow") and id(self.explainer) in self._own:
            for name, retriever in self.retrievers.items():
                try:
                    self.explainer.follow(retriever)
                except SpecError:  # it has no item weights or vectors: attributes and users it is
                    continue
                return name
        return ""

    def facts(self) -> dict[str, Any]:
        """Return what ``fit`` chose and found, as JSON values, for the record of a run."""
        return {
            "fusion_weights": dict(zip(self.retrievers, self.fusion_weights_, strict=False)),
            "weights": dict(zip(self.ranker_names(), self.weights_, strict=True)),
            "tuning": self.tuning_,
            "evidence_of": self.followed_,
            "memory": {
                name: vars(part).get("counts_", {}) for name, part in zip(_names(self.augmenters), self.augmenters, strict=True)
            },
        }

    # -- serving ----------------------------------------------------------------------------
    def run(self, queries: Queries, k: int, *, exclude: Ragged, idle: bool = True) -> Trace:
        """Return the trace of all stages; its ``lists`` are the ``k`` best items of each query.

        Args:
            idle: ask also a ranker whose weight is 0, which changes no list: for its diagnosis.
        """
        queries, additions = self._enriched(queries)
        stages = self._retrieve(queries, max(k, self.config.candidates), exclude)
        for name, ranker, depth, weight in zip(self.ranker_names(), self.rankers, self.depths, self.weights_, strict=True):
            if weight == 0 and self.config.omitted == "last" and not idle:
                continue
            lists, source = stages[-1].lists, stages[-1].name

            def answer(ranker: Any = ranker, lists: Lists = lists, depth: int = depth, weight: float = weight) -> Lists:
                return self._join(lists, ranker.rank(queries, lists.head(depth)), depth, weight)

            stages.append(self._stage(f"rank:{name}", "rank", answer, exclude, (source,), depth))
        return Trace(tuple(stages), k, exclude, additions)

    def asked(self, queries: Queries, trace: Trace) -> list[tuple[StageRecord, Any, Queries, Lists]]:
        """Return what each ranker was asked in a trace of these queries: its stage, itself, queries, candidates."""
        told = self._enriched(queries)[0]
        ranked = [stage for stage in trace.stages if stage.kind == "rank"]
        return [
            (stage, ranker, told, trace.stage(stage.sources[0]).lists.head(depth))
            for stage, ranker, depth in zip(ranked, self.rankers, self.depths, strict=True)
        ]

    def _enriched(self, queries: Queries) -> tuple[Queries, tuple[Addition, ...]]:
        """Return the queries with what the augmenters know of their users, and the record of it."""
        additions = []
        for name, augmenter, columns in zip(_names(self.augmenters), self.augmenters, self.columns_, strict=True):
            clock, before = time.perf_counter(), queries
            queries = augmenter.enrich(queries)
            told = None if queries.profiles is before.profiles else queries.profiles
            seconds = time.perf_counter() - clock
            additions.append(Addition(f"augment:{name}", columns, told, seconds, queries.profile_notes))
            queries = replace(queries, profile_notes=None)
        return queries, tuple(additions)

    def _retrieve(self, queries: Queries, width: int, exclude: Ragged) -> list[StageRecord]:
        """Return the stages before the rankers; the last one's lists are the candidates."""
        stages = []
        for name, retriever in self.retrievers.items():

            def answer(retriever: Any = retriever) -> Lists:
                return retriever.retrieve(queries, width, exclude=exclude)  # type: ignore[no-any-return]

            stages.append(self._stage(f"retrieve:{name}", "retrieve", answer, exclude))
        if len(stages) > 1:
            found = [stage.lists for stage in stages]

            def fused() -> Lists:
                return self._fuse(found, self.fusion_weights_, width)

            stages.append(self._stage("fuse", "fuse", fused, exclude, tuple(stage.name for stage in stages)))
        return stages

    def _stage(
        self,
        name: str,
        kind: Kind,
        answer: Callable[[], Lists],
        exclude: Ragged,
        sources: tuple[str, ...] = (),
        depth: int | None = None,
    ) -> StageRecord:
        """Run, time and check one stage; a part that breaks the rules of lists is a ``ValueError``."""
        clock = time.perf_counter()
        try:
            lists = answer()
            lists.check(self.n_items_, exclude=exclude)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return StageRecord(name, kind, lists, time.perf_counter() - clock, sources, depth)

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        """Return the ``k`` best items of each query, none of them excluded, with the notes of all stages.

        A ranker whose weight is 0 is not asked.
        """
        trace = self.run(queries, k, exclude=exclude, idle=False)
        return replace(trace.lists, notes=trace.notes)

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        """Return given candidates in the rankers' order; they have no scores to mix with, so weights do not count."""
        queries = self._enriched(queries)[0]
        for ranker, depth in zip(self.rankers, self.depths, strict=True):
            candidates = self._join(candidates, ranker.rank(queries, candidates.head(depth)), depth, 1.0)
        return candidates

    def explain(self, queries: Queries, lists: Lists) -> list[tuple[Explanation, ...]]:
        """Return the explainer's explanations; raises ``RunError`` if there is none."""
        if self.explainer is None:
            raise RunError("the pipeline has no explainer", todo="give it one")
        return self.explainer.explain(self._enriched(queries)[0], lists)  # type: ignore[no-any-return]

    # -- saving -----------------------------------------------------------------------------
    def save(self, folder: Path) -> None:
        """Write what ``fit`` chose, and each part that this pipeline fitted into a folder of its own."""
        super().save(folder)
        for name, part in self._parts().items():
            if id(part) in self._own:
                part.save(folder / name)

    def load_parts(self, folder: Path, resources: Resources | None = None) -> Self:
        """Read what ``save`` wrote into a newly built pipeline; parts that were not saved are left as they are."""
        try:
            saved = json.loads((folder / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise RunError(f"cannot read a saved pipeline ({error})", where=str(folder), todo="fit it again") from None
        if saved["class"] != type(self).__name__:
            raise RunError(f"holds a {saved['class']}, not a {type(self).__name__}", where=str(folder))
        self.augmenters = [self._loaded(p, folder / f"augmenter-{i}", resources) for i, p in enumerate(self.augmenters)]
        self.retrievers = {n: self._loaded(p, folder / f"retriever-{n}", resources) for n, p in self.retrievers.items()}
        self.rankers = [self._loaded(p, folder / f"ranker-{i}", resources) for i, p in enumerate(self.rankers)]
        if self.explainer is not None:
            self.explainer = self._loaded(self.explainer, folder / "explainer", resources)
        self.restore(saved["values"])
        return self

    def _loaded(self, part: Any, folder: Path, resources: Resources | None) -> Any:
        if not folder.is_dir():
            return part
        loaded = part.load_parts(folder, resources) if isinstance(part, Pipeline) else type(part).load(folder, resources)
        self._own.add(id(loaded))
        return loaded

    @classmethod
    def load(cls, folder: Path, resources: Resources | None = None) -> Self:
        """Refuse: a folder does not say which classes the parts have."""
        raise RunError("a pipeline is loaded into its parts", where=str(folder), todo="build it and call load_parts()")


def _names(parts: Sequence[Any]) -> list[str]:
    """Return the parts' names in the trace: their classes, numbered where one occurs again."""
    classes = [type(part).__name__ for part in parts]
    return [f"{c}-{classes[: i + 1].count(c)}" if c in classes[:i] else c for i, c in enumerate(classes)]


def _unsettled(part: Any) -> bool:
    """Does a part leave a setting to be chosen?"""
    return isinstance(part, Tunable) and part.unsettled


def _is_fitted(part: Any) -> bool:
    """Has a part learnt something, or nothing to learn?"""
    if not hasattr(part, "fit"):
        return True
    try:
        return bool(part.state())
    except NotFittedError:
        return False
