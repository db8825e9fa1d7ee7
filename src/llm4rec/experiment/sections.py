"""The tables of a specification that say what is measured, and under which rules."""

from __future__ import annotations

from typing import Any, Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from llm4rec.core import Config, Mask, SpecError
from llm4rec.metrics import ACCURACY, PREDICTION, parse_metric
from llm4rec.prompted.excerpts import ContaminationConfig

#: A source of candidates that is no system.
RANDOM = "random"
#: The longest lists and the largest seed that every part can hold.
_LONGEST, _LARGEST_SEED = 10_000, 2**31 - 1

#: What is asked of the systems: lists, the rating of a given item, or the chance that it is clicked.
Task = Literal["ranking", "rating", "click"]
#: Predicting task -> its metrics, the first of which is primary unless the specification says otherwise.
PREDICTED: Final[dict[str, tuple[str, ...]]] = {
    "rating": ("rmse", "mae", "auc", "gauc"),
    "click": ("logloss", "auc", "gauc", "rmse", "mae"),
}


class Experiment(Config):
    """``[experiment]``: what is measured, and on how much."""

    name: str
    """Of the experiment; also of its default run directory, ``runs/NAME``."""
    description: str = ""
    """One or two sentences for the report's head."""
    seeds: tuple[int, ...] = Field((1,), min_length=1)
    """Each system whose fit depends on chance is run once for each seed."""
    metrics: tuple[str, ...] = ("recall", "hit", "ndcg", "mrr", "map", "precision")
    """Accuracy metrics; of a task that predicts, all that it has."""
    ks: tuple[int, ...] = Field((5, 10, 20, 50, 100), min_length=1)
    """Cut-offs of every metric of lists, which are as long as the largest."""
    primary: str = "ndcg@10"
    """The metric that orders the leaderboard and that systems are tested on; ``rmse`` for the task
    ``rating`` and ``logloss`` for ``click`` unless it is given."""
    sample: int = Field(200, ge=2)
    """Test cases, drawn by seed, on which systems with a language model in them run."""
    explain: int = Field(20, ge=0)
    """Cases of the sample for which explanations are written."""
    explain_top: int = Field(3, ge=1)
    """Items from the top of a list that are explained."""

    fidelity: int = Field(10, ge=0)
    """Random history items deleted beside the cited ones, so many times, to see whether the explained
    item's rank rests on what its explanation cites; 0 leaves it out, as do systems that a language
    model ranks for."""
    diagnose: int = Field(30, ge=0)
    """Cases of the sample on which a language model ranks again with shuffled and with fake histories."""

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        if "/" in value or "\\" in value or not value.strip(". ") or not value.isprintable() or len(value.encode()) > 200:
            raise ValueError("must name a folder, without '/'")
        return value

    @field_validator("seeds", "ks")
    @classmethod
    def _distinct(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        most = _LARGEST_SEED if info.field_name == "seeds" else _LONGEST
        if len(set(value)) != len(value) or min(value) < 1 or max(value) > most:
            raise ValueError(f"must be distinct and at least 1, and at most {most}")
        return value

    @field_validator("metrics", "primary")
    @classmethod
    def _measured(cls, value: Any, info: ValidationInfo) -> Any:
        if set([value] if info.field_name == "primary" else value) <= set(PREDICTION):
            return value  # whether they fit the task is seen with the whole specification
        try:
            cutoffs = [parse_metric(f"{m}@1", ACCURACY) for m in value] if info.field_name == "metrics" else [
                parse_metric(value, ACCURACY)
            ]  # fmt: skip
        except SpecError as error:
            raise ValueError(f"{error.what}; {error.todo}") from None
        if any(k > _LONGEST for _, k in cutoffs):
            raise ValueError(f"its cut-off must be at most {_LONGEST}")
        return value

    @property
    def names(self) -> list[str]:
        """All metrics at all cut-offs, the primary one among them."""
        if self.primary in PREDICTION:
            return list(self.metrics)
        names = [f"{m}@{k}" for m in self.metrics for k in sorted(self.ks)]
        return names if self.primary in names else [*names, self.primary]

    @property
    def depth(self) -> int:
        """Length of the lists that are asked for."""
        return max(parse_metric(name, ACCURACY)[1] for name in self.names)


class CandidateProtocol(Config):
    """``[protocol.candidates]``: fixed candidate sets in place of the catalogue.

    A protocol of its own: its figures never stand beside those of full ranking.
    """

    size: int = Field(20, ge=2)
    """Items in each set."""
    sources: tuple[str, ...] = Field((RANDOM,), min_length=1)
    """Who proposes them: ``random`` (unseen items, uniformly, by seed) or systems of this
    specification by name.  Several take turns, each giving the best item that is not there yet
    (Hou et al., *Large Language Models are Zero-Shot Rankers*, ECIR 2024, arXiv 2305.08845)."""
    inject: bool = True
    """Put the truth in where no source proposes it; otherwise such a case is lost to every system.
    With ``random`` candidates the truth is always put in."""

    @field_validator("sources")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("must be distinct")
        return value

    @model_validator(mode="after")
    def _random_needs_the_truth(self) -> Self:
        if not self.inject and set(self.sources) == {RANDOM}:
            raise ValueError("random candidates without the truth would measure nothing: leave inject true, or name systems")
        return self


class Protocol(Config):
    """``[protocol]``: the rules that are the same for every system."""

    task: Task = "ranking"
    """``ranking``: lists of items.  ``rating`` and ``click``: each held-out event is a question, what value
    the user will give the item, or with what chance it is a click (docs/prediction.md)."""
    threshold: float | None = None
    """``click``: the value from which on an event is a click; none if the values are 0 and 1 already.
    ``rating``: likewise of what AUC and GAUC count as liked; without it these are left out."""
    mask: Mask = "seen"
    """What may not be recommended: all that the user is known to have touched (``seen``), only
    what the query's history shows (``history``), or nothing (``none``)."""
    candidates: CandidateProtocol | None = None
    """Rank fixed candidate sets instead of the whole catalogue."""

    @model_validator(mode="after")
    def _fits_the_task(self) -> Self:
        if self.task != "ranking" and self.candidates is not None:
            raise ValueError(f"the task {self.task!r} asks about single items: leave out the candidates")
        if self.task == "ranking" and self.threshold is not None:
            raise ValueError("a threshold belongs to the tasks 'rating' and 'click'")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """What a predicting task is measured by, the default of the primary metric first."""
        return tuple(m for m in PREDICTED[self.task] if self.task == "click" or self.threshold is not None or "auc" not in m)

    @property
    def title(self) -> str:
        """The protocol's name in tables."""
        if self.task != "ranking":
            return f"{self.task} prediction" + (f", threshold {self.threshold:g}" if self.threshold is not None else "")
        if self.candidates is None:
            return f"full ranking, mask: {self.mask}"
        size, sources = self.candidates.size, self.candidates.sources
        kind = f"{size} random candidates" if sources == (RANDOM,) else f"{size} candidates from {' and '.join(sources)}"
        return f"{kind} with the truth among them" if self.candidates.inject else f"{kind}, the truth where they find it"


class Tune(Config):
    """``[tune]``: how ``llm4rec tune`` chooses parameters on the validation cases; ``run`` does not look at it."""

    trials: int | None = Field(None, ge=1)
    """At most so many fits of every system, the one with the specification's own parameters among them; 30 unless
    ``seconds`` is given."""
    seconds: float | None = Field(None, gt=0)
    """No system begins another trial once its trials have taken so many seconds; with ``trials``, what comes first ends it."""
    metric: str | None = None
    """What is to become large, or of an error small; absent: the experiment's primary metric."""
    sampler: Literal["tpe", "random"] = "tpe"
    """Tree-structured Parzen estimator (after ten trials at random), or at random throughout."""
    seed: int = Field(1, ge=0, le=_LARGEST_SEED)
    """Of the draws of parameters."""
    seeds: tuple[int, ...] = Field((101, 102, 103), min_length=1)
    """Of the fits: the first for every trial, the others for the finalists of a system whose fit
    depends on chance.  They are not those of ``[experiment]``, so that no seed is chosen for its luck."""
    finalists: int = Field(3, ge=1)
    """Best trials that are fitted with the other seeds, and the specification's own parameters with
    them; the best mean over all seeds wins."""
    space: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """``[tune.space.SYSTEM]``: ranges in place of the component's own: ``key = { low, high, log }``, a list to
    choose from, or one value to keep out of the search."""

    @model_validator(mode="before")
    @classmethod
    def _some_budget(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("trials") is None and given.get("seconds") is None:
            return {**given, "trials": 30}
        return given

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value) or min(value) < 1 or max(value) > _LARGEST_SEED:
            raise ValueError(f"must be distinct and at least 1, and at most {_LARGEST_SEED}")
        return value

    @field_validator("metric")
    @classmethod
    def _measured(cls, value: str | None) -> str | None:
        if value is not None and value not in PREDICTION:  # whether it fits the task is seen with the whole specification
            try:
                parse_metric(value, ACCURACY)
            except SpecError as error:
                raise ValueError(f"{error.what}; {error.todo}") from None
        return value


class Contamination(ContaminationConfig):
    """``[contamination]``: do the language models know the data by heart?"""

    llm: tuple[str, ...] = ()
    """Models that are probed, by their tables; none unless named."""
