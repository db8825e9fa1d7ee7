"""Choose the parameters of every system on validation cases, with equal budgets; no test case is built here."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import AssetError, ModelError, SpecError, Training, did_you_mean
from llm4rec.data import load, make_training
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.plan import Plan, digest, ranks_with_llm
from llm4rec.experiment.predict import figure, prepare
from llm4rec.experiment.protocol import Question, fit_cases
from llm4rec.experiment.resources import EncoderResources
from llm4rec.experiment.search import Params, Search, search_of
from llm4rec.experiment.sections import RANDOM, Tune
from llm4rec.experiment.spec import Spec, System, order
from llm4rec.experiment.systems import build
from llm4rec.experiment.trials import FATAL, Record, TrialLog, ended, lost
from llm4rec.metrics import ACCURACY, LOWER, evaluate, parse_metric

_LOG = logging.getLogger(__name__)
_BEST, _TRIALS = "best.toml", "trials.jsonl"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What tuning a system came to.

    Attributes:
        system: its name.
        metric: what was to become large (of an error, small); values are means over the validation cases and the seeds.
        default, best: with the specification's own parameters and with those chosen; None where they failed.
        deviation: of the best value over the seeds; None with one seed.
        number: of the chosen trial; 0 keeps the specification's own parameters.
        params: those chosen, as far as they were searched.
        trials, failed: fits with the first seed, and how many of them failed.
        exhausted: did the search end because nothing else was left to try?
        seeds: fits behind ``default`` and ``best`` each.
        seconds: of all fits and answers, with those of the finalists.
        error: of the first trial that failed.
    """

    system: str
    metric: str
    default: float | None
    best: float | None
    deviation: float | None
    number: int
    params: Params
    trials: int
    failed: int
    exhausted: bool
    seeds: int
    seconds: float
    error: str | None

    @property
    def gain(self) -> float | None:
        """By how much ``best`` is better than ``default``; None where one of them failed."""
        return None if self.best is None or self.default is None else _sign(self.metric) * (self.best - self.default)


@dataclass(frozen=True, slots=True)
class Tuned:
    """What ``tune`` came to.

    Attributes:
        path: of the specification with the chosen parameters.
        cases: validation cases.
        outcomes: of the systems that were tuned.
        skipped: why others were not.
    """

    path: Path
    cases: int
    outcomes: tuple[Outcome, ...]
    skipped: Mapping[str, str]


def tune(
    spec: Spec,
    out: Path,
    *,
    systems: Sequence[str] | None = None,
    command: str = "llm4rec tune",
    tell: Callable[[str], None] = _LOG.info,
) -> Tuned:
    """Tune systems of a specification in ``out``; continues what was begun there.

    Systems are tuned in order, a pipeline after those that it retrieves with and over them as they
    came out.  ``out/trials.jsonl`` is appended to; ``out/best.toml`` is written at the end.

    Args:
        spec: with or without a table ``[tune]``.
        systems: names; by default all that have something to search.
        command: what people would type to repeat it, for the head of ``best.toml``.
        tell: called with a line for people whenever something begins (``...``) or ends.

    Raises:
        SpecError: a system that was asked for cannot be tuned, or a range does not fit.
        RunError: the log cannot be read, or another process is at work in ``out``.
    """
    for name in systems or ():
        if name not in spec.systems:
            raise SpecError(f"{name!r} is no system", where="--systems", todo=did_you_mean(name, spec.systems))
    config = spec.tune or Tune.model_validate({})
    searches, skipped = _searches(spec, systems)
    directory = RunDirectory(out)
    directory.open()
    with directory.lock():
        directory.sweep()
        tell("data: reading and splitting ...")
        training = prepare(make_training(load(spec.data), spec.split), spec.protocol)
        tell(f"data: {training.train!r}, {len(training.valid)} validation cases")
        tuner = _Tuner(spec, config, training, TrialLog(directory / _TRIALS), EncoderResources(spec.encoder), tell)
        outcomes = tuple(tuner.tune(name, search) for name, search in searches.items())
        renamed = spec.experiment.model_copy(update={"name": f"{spec.experiment.name}-tuned"})
        best = tuner.tuned.model_copy(update={"experiment": renamed, "tune": config})
        head = _head(command, len(training.valid), config, outcomes, skipped)
        directory.write_text(_BEST, head + best.dump())
    return Tuned(out / _BEST, len(training.valid), outcomes, skipped)


def _searches(spec: Spec, systems: Sequence[str] | None) -> tuple[dict[str, Search], dict[str, str]]:
    """Return the systems to tune with their spaces, in the order of their fits, and why others are not tuned."""
    searches: dict[str, Search] = {}
    skipped: dict[str, str] = {}
    for name in order(spec):
        if systems is not None and name not in systems:
            continue
        search = search_of(spec, name)
        like = spec.systems[name].like
        if systems is None and like and spec.systems[name].control:
            skipped[name] = f"a control, like {like}, whose parameters it takes over"
            continue
        if ranks_with_llm(spec, name):
            why = 'a language model shapes its lists; weight = "auto" chooses how far they follow it'
        elif search is not None:
            searches[name] = search
            continue
        elif len(spec.systems[name].retrieve) == 1:
            why = "a pipeline of one retriever has nothing to search: tune what it retrieves with"
        else:
            why = "no parameter has a range"
        if systems is not None:
            todo = f"give ranges in [tune.space.{name}]" if search is None else "leave it out"
            raise SpecError(f"cannot be tuned: {why}", where=f"systems.{name}", todo=todo)
        skipped[name] = why
    if not searches:
        raise SpecError("no system has anything to search", where="systems", todo="give ranges in [tune.space.SYSTEM]")
    return searches, skipped


@dataclass
class _Tuner:
    """Tunes one system after the other; ``tuned`` is the specification as far as it has come."""

    spec: Spec
    config: Tune
    training: Training
    log: TrialLog
    resources: EncoderResources
    tell: Callable[[str], None]
    tuned: Spec = field(init=False)
    _fitted: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tuned = self.spec

    @property
    def metric(self) -> str:
        """What is to become large, or small if it is an error."""
        return self.config.metric or self.spec.experiment.primary

    @property
    def predicts(self) -> bool:
        """Is each case one item whose value is asked for?"""
        return self.spec.protocol.task != "ranking"

    @property
    def depth(self) -> int:
        """Length of the lists that are asked for."""
        return max(self.spec.experiment.depth, parse_metric(self.metric, ACCURACY)[1])

    def _plan(self, spec: Spec) -> Plan[Training]:
        """Return what a specification comes to with the seeds of the search."""
        experiment = self.spec.experiment.model_copy(update={"seeds": self.config.seeds})
        return Plan(spec.model_copy(update={"experiment": experiment}), self.training)

    @cached_property
    def given(self) -> Plan[Training]:
        """What the specification came to before anything was tuned: who proposes candidates is taken from there."""
        return self._plan(self.spec)

    @cached_property
    def question(self) -> Question:
        """The validation cases under the specification's protocol."""
        plan, train = self.given, self.training.train
        return Question.of(self.spec, self.training.valid, train.n_items, lambda n: self._retriever(plan, n, plan.seeds(n)[0]))

    @property
    def _proposers(self) -> list[str]:
        """Keys of the fits of the systems that propose candidates."""
        candidates = self.spec.protocol.candidates
        names = () if candidates is None else candidates.sources
        return [self.given.fit_key(n, self.given.seeds(n)[0]) for n in names if n != RANDOM]

    def tune(self, name: str, search: Search) -> Outcome:
        """Search one system's parameters, let the best trials meet again with other seeds, and take the best over."""
        search = search_of(self.tuned, name) or search  # what it is like may have been tuned since
        plan, question, sign = self._plan(self.tuned), self.question, _sign(self.metric)
        first, *more = plan.seeds(name)
        own: Params = {key: search.own_value(key) for key in search.ranges}
        shapes = {
            "fit": plan.fit_key(name, first),
            "ranges": {key: [type(space).__name__, asdict(space)] for key, space in search.ranges.items()},
            "fixed": search.fixed,
            "draws": [self.config.sampler, self.config.seed],
            "metric": self.metric,
            "protocol": self.spec.protocol.model_dump(mode="json"),
            "candidates": self._proposers,
            "experiment": [self.spec.experiment.sample, self.spec.experiment.seeds[0], 0 if self.predicts else self.depth],
        }
        trial = _Trials(self, plan, name, search, digest(shapes), question.rows(plan.is_sampled(name)))
        if others := [r for r in self.log.records if r.system == name and r.key != trial.key and r.state == "done"]:
            self.tell(f"{name}: {len(others)} trials in the log are of another specification, search or code: left out")
        past: list[Record] = []
        exhausted = False
        while self._goes_on(past):
            number, params = len(past), own
            if number:
                proposed = search.propose(
                    [(r.params, None if r.value is None else sign * r.value) for r in past],
                    sampler=self.config.sampler, seed=self.config.seed, name=name, number=number,
                )  # fmt: skip
                if exhausted := proposed is None:
                    self.tell(f"{name}: after {number} trials nothing else is left to try")
                    break
                params = proposed
            past.append(trial(number, params, first))
        again = _best(past, self.config.finalists, sign) if more else []
        if more and past[0].value is not None and past[0] not in again:
            again.append(past[0])  # so that the gain over it is one over the same seeds
        chosen = again or _best(past, len(past), sign)
        rounds = {r.number: [r, *(trial(r.number, r.params, seed) for seed in more)] for r in chosen}
        values = {n: [r.value for r in runs if r.value is not None] for n, runs in rounds.items()}
        means = {n: float(np.mean(v)) for n, v in values.items() if len(v) == 1 + len(more)}
        number = max(means, key=lambda n: (sign * means[n], -n)) if means else 0
        if number:
            self.tuned = self.tuned.with_params(name, search.with_params(past[number].params))
        every = {id(r): r for r in (*past, *(r for runs in rounds.values() for r in runs))}.values()
        return Outcome(
            name, self.metric, means.get(0), means.get(number),
            float(np.std(values[number], ddof=1)) if more and means else None,
            number, past[number].params, len(past), sum(r.value is None for r in past), exhausted, 1 + len(more),
            sum(r.seconds or 0.0 for r in every), next((r.error for r in every if r.error is not None), None),
        )  # fmt: skip

    def _goes_on(self, past: Sequence[Record]) -> bool:
        """Does the budget allow another trial?  The first one is always made."""
        if not past:
            return True
        enough = self.config.trials is not None and len(past) >= self.config.trials
        late = self.config.seconds is not None and sum(r.seconds or 0.0 for r in past) >= self.config.seconds
        return not (enough or late)

    def _retriever(self, plan: Plan[Training], name: str, seed: int) -> Any:
        """Return a fitted system for others to retrieve with; from memory, or fitted now."""
        key = plan.fit_key(name, seed)
        if key not in self._fitted:
            self.tell(f"{name}: fitting ...")
            self._fitted[key] = self.fit(plan, name, plan.spec.systems[name], seed)
        return self._fitted[key]

    def retrievers(self, plan: Plan[Training], name: str, seed: int) -> dict[str, Any]:
        """Return what a system retrieves with, fitted."""
        return {r: self._retriever(plan, r, plan.seed_of(r, seed)) for r in plan.spec.systems[name].retrieve}

    def fit(self, plan: Plan[Training], name: str, system: System, seed: int) -> Any:
        """Build and fit a system, without its explainer."""
        built = build(system.model_copy(update={"explain": None}), self.resources, self.retrievers(plan, name, seed))
        valid = fit_cases(self.training, self.spec.protocol.mask)
        return built.fit(self.training.train, valid=valid, rng=np.random.default_rng(seed))


@dataclass(frozen=True)
class _Trials:
    """The trials of one system: from the log, or made now."""

    tuner: _Tuner
    plan: Plan[Training]
    name: str
    search: Search
    key: str
    rows: NDArray[np.int64]

    def __call__(self, number: int, params: Params, seed: int) -> Record:
        """Return how a trial ended; what an attempt without end has left is begun again."""
        log, tell = self.tuner.log, self.tuner.tell
        if (known := ended(log.of(self.key), number, seed)) is not None:
            return known
        begun = Record(
            key=self.key, system=self.name, number=number, seed=seed, params=dict(params), state="begun",
            metric=self.tuner.metric,
        )  # fmt: skip
        label = f"{self.name}: trial {number}" + (f", seed {seed}" if seed != self.plan.seeds(self.name)[0] else "")
        if (times := lost(log.of(self.key), number, seed)) >= FATAL:
            why = f"its process ended {times} times within this trial; it may need more memory than there is"
            end = begun.model_copy(update={"state": "failed", "seconds": 0.0, "error": why})
        else:
            self.tuner.retrievers(self.plan, self.name, seed)  # fitted before the clock runs
            log.append(begun)
            tell(f"{label} ...")
            clock = time.perf_counter()
            try:
                end = begun.model_copy(update={"state": "done", "value": self._measure(params, seed)})
            except (AssetError, ModelError, KeyboardInterrupt):  # not the parameters' fault
                log.append(begun.model_copy(update={"state": "stopped"}))
                raise
            except Exception as error:
                why = " ".join(f"{type(error).__name__}: {error}".split())[:500]
                end = begun.model_copy(update={"state": "failed", "error": why})
            end = end.model_copy(update={"seconds": round(time.perf_counter() - clock, 3)})
        log.append(end)
        came = f"failed ({end.error})" if end.value is None else f"{end.metric} {end.value:.4f}"
        tell(f"{label}: {came}, {end.seconds:.1f} s")
        return end

    def _measure(self, params: Params, seed: int) -> float:
        """Fit with parameters, and return the metric's mean over the validation cases."""
        tuner = self.tuner
        changed = self.plan.spec.with_params(self.name, self.search.with_params(params)).systems[self.name]
        component = tuner.fit(self.plan, self.name, changed, seed)
        if tuner.predicts:
            value = figure(tuner.spec, tuner.question, self.rows, component, tuner.metric)
        else:
            cases, exclude = tuner.question.cases.take(self.rows), tuner.question.exclude.take(self.rows)
            lists = component.retrieve(cases.queries, tuner.depth, exclude=exclude)
            lists.check(tuner.training.train.n_items, exclude=exclude)
            value = float(evaluate(lists, cases.truth, [tuner.metric])[tuner.metric].mean())
        if not math.isfinite(value):
            raise ValueError(f"{tuner.metric} is {value}")
        return value


def _sign(metric: str) -> int:
    """Return -1 for an error, of which less is better, else 1."""
    return -1 if metric in LOWER else 1


def _best(past: Sequence[Record], n: int, sign: int) -> list[Record]:
    """Return the ``n`` best trials that did not fail, the earlier of equals first."""
    done = [r for r in past if r.value is not None]
    return sorted(done, key=lambda r: (-sign * (r.value or 0.0), r.number))[:n]


def _head(command: str, cases: int, config: Tune, outcomes: Sequence[Outcome], skipped: Mapping[str, str]) -> str:
    """Return comments for the head of ``best.toml``."""
    bounds = (config.trials and f"{config.trials} trials", config.seconds and f"{config.seconds:g} s of trials")
    budget = " or ".join(bound for bound in bounds if bound)
    lines = [
        f"Parameters chosen on {cases} validation cases by: {' '.join(command.split())}",
        f"Budget of each system: {budget}. The validation figure of what was chosen by it is too good: judge by test cases.",
    ]
    for o in outcomes:
        if o.best is None:
            lines.append(f"  {o.system}: every trial failed ({o.error}); own parameters")
            continue
        spread = "" if o.deviation is None else f" (deviation {o.deviation:.4f} over {o.seeds} seeds)"
        own = "failed" if o.default is None else f"{o.default:.4f}"
        lines.append(f"  {o.system}: {o.metric} {o.best:.4f}{spread}, own parameters {own}; trial {o.number} of {o.trials}")
    lines += [f"  {name}: not tuned: {why}" for name, why in skipped.items()]
    return "".join(f"# {line}\n" for line in lines) + "\n"
