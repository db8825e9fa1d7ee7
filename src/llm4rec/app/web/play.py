"""The playground: retrievers and rankers put together by hand, their lists side by side, and what each took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args

import numpy as np
from pydantic import Field, StringConstraints, ValidationError

from llm4rec.agents.engine import Engine
from llm4rec.agents.users import Asker
from llm4rec.core import Config, DataError, Queries, Ragged, did_you_mean
from llm4rec.experiment.opened import OpenRun
from llm4rec.experiment.plan import ranks_with_llm
from llm4rec.experiment.resources import CountedResources
from llm4rec.pipeline import Pipeline, PipelineConfig, Trace
from llm4rec.prompted.rank.config import LLMRankerConfig, Scoring
from llm4rec.prompted.rank.prompts import Strategy
from llm4rec.prompted.rank.ranker import LLMRanker

#: Recipes at once.
COLUMNS = 3
_ASKS = "llm:"
#: Items that left on the way and are told by name.
_DROPS = 50
Word = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")
]


class Recipe(Config):
    """One column: what retrieves, what ranks, and the parameters of a language model that ranks."""

    retrieve: str = Field("", max_length=100)
    """System that retrieves; empty leaves the column out."""
    rank: str = Field("", max_length=110)
    """Nothing, a system that orders given items, or ``llm:NAME``, a language model of the run."""
    depth: int = Field(10, ge=2, le=50)
    """Items from the top that the ranker is given."""
    weight: float = Field(1.0, ge=0.0, le=1.0)
    """Share of the ranker's score beside the retriever's."""
    scoring: Scoring = "likelihood"
    """How a language model judges; see :class:`LLMRankerConfig`."""
    strategy: Strategy = "sequential"
    """How its prompt describes the user."""
    history: int = Field(10, ge=0, le=50)
    """Items of the history in its prompt."""
    things: Word = "movies"
    """What its prompt calls the items, in the plural."""
    did: Word = "watched"
    """What its prompt says that users did with them."""


@dataclass(frozen=True, slots=True)
class Play:
    """What a reader wants to try.

    Attributes:
        user: outside id.
        items: a history in place of the user's own, outside ids; empty for none.
        k: length of the lists.
        recipes: one to three.
    """

    user: str
    items: tuple[str, ...]
    k: int
    recipes: tuple[Recipe, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """What became of a recipe: its stages, and what they took."""

    recipe: Recipe
    trace: Trace
    seconds: float
    counted: CountedResources


def read(given: Mapping[str, Any]) -> Play:
    """Read a form, whose fields are called ``NAME_1`` to ``NAME_3``; raises ``DataError`` for what does not fit."""
    recipes = []
    for column in range(1, COLUMNS + 1):
        fields = {
            name: given[f"{name}_{column}"] for name in Recipe.model_fields if given.get(f"{name}_{column}") not in (None, "")
        }
        if fields.get("retrieve"):
            try:
                recipes.append(Recipe.model_validate(fields))
            except ValidationError as error:
                first = error.errors()[0]
                raise DataError(str(first["msg"]), where=f"list {column}: {'.'.join(map(str, first['loc']))}") from None
    user, items = str(given.get("user") or "").strip()[:200], str(given.get("items") or "")
    try:
        k = min(50, max(1, int(given.get("k") or 10)))
    except (TypeError, ValueError):
        raise DataError("the length of the lists must be a whole number", where="k") from None
    return Play(user, tuple(i.strip() for i in items.split(",") if i.strip())[:50], k, tuple(recipes))


class Playground:
    """Makes lists by recipes.

    Args:
        engine: of the server.
        opened: the run.
    """

    def __init__(self, engine: Engine, opened: OpenRun) -> None:
        self._engine, self._opened = engine, opened
        self.models = {name: str(table.model) for name, table in opened.spec.llm.items()}

    @property
    def rankers(self) -> list[tuple[str, str]]:
        """What can rank: (value, label)."""
        asks = [(f"{_ASKS}{name}", f"language model {name} ({model})") for name, model in self.models.items()]
        return asks + [(s.name, s.label) for s in self._engine.systems.values() if s.ranks]

    def choices(self) -> dict[str, Any]:
        """Return what a form offers."""
        return {
            "systems": list(self._engine.systems.values()), "rankers": self.rankers, "scorings": get_args(Scoring),
            "strategies": get_args(Strategy), "default": Recipe.model_validate({}), "columns": COLUMNS,
        }  # fmt: skip

    def asks(self, recipe: Recipe) -> bool:
        """Does a recipe ask a language model?"""
        names = [n for n in (recipe.retrieve, recipe.rank) if n in self._opened.spec.systems]
        return recipe.rank.startswith(_ASKS) or any(ranks_with_llm(self._opened.spec, n) for n in names)

    def question(self, play: Play) -> tuple[Queries, Ragged]:
        """Return the question of a play; raises ``DataError`` for unknown items, or somebody without a history."""
        catalogue = self._engine.catalogue
        items = tuple(catalogue.index(i) for i in play.items) or None
        if not play.user and items is None:
            raise DataError("name a user, or items of a history")
        queries, exclude = self._engine.as_known(self._engine.ask([Asker(play.user or None, items)]))
        if not len(queries.history.values):
            raise DataError(f"nothing is known of user {play.user!r}", todo="name another, or items of a history")
        return queries, exclude

    def make(self, recipe: Recipe, question: tuple[Queries, Ragged], k: int) -> Made:
        """Return what a recipe makes of a question; raises ``LLM4RecError``."""
        queries, exclude = question
        counted = self._opened.counted()
        system = self._opened.apart(self._engine.system(recipe.retrieve).name, counted)
        ranker = self._ranker(recipe, counted)
        start = time.perf_counter()
        if ranker is not None:
            rules = {"candidates": max(k, recipe.depth), "depth": recipe.depth, "weight": recipe.weight}
            config = PipelineConfig.model_validate(rules)
            whole = Pipeline({recipe.retrieve: system}, [ranker], None, config)
            whole.fit(self._opened.dataset, valid=None, rng=np.random.default_rng(0))  # its parts are fitted
            start = time.perf_counter()
            trace = whole.run(queries, k, exclude=exclude)
        elif isinstance(system, Pipeline):
            trace = system.run(queries, k, exclude=exclude, idle=False)
        else:
            lists = system.retrieve(queries, k, exclude=exclude)
            trace = Trace.of(recipe.retrieve, lists, time.perf_counter() - start, exclude=exclude)
        return Made(recipe, trace, time.perf_counter() - start, counted)

    def _ranker(self, recipe: Recipe, counted: CountedResources) -> Any:
        if not recipe.rank:
            return None
        if not recipe.rank.startswith(_ASKS):
            served = self._engine.system(recipe.rank)
            if not served.ranks:
                raise DataError(f"{served.label} cannot rank given items", where="rank")
            return self._opened.apart(served.name, counted)
        name = recipe.rank.removeprefix(_ASKS)
        if name not in self.models:
            raise DataError(f"the run has no language model {name!r}", todo=did_you_mean(name, self.models))
        shared = {f: getattr(recipe, f) for f in ("scoring", "strategy", "history", "things", "did")}
        try:
            config = LLMRankerConfig(llm=name, **shared)
        except ValidationError as error:
            raise DataError(str(error.errors()[0]["msg"]).removeprefix("Value error, "), where="rank") from None
        ranker = LLMRanker.create(config, counted)
        return ranker.fit(self._opened.dataset, valid=None, rng=np.random.default_rng(0))

    # -- what is shown ------------------------------------------------------------------------
    def label(self, recipe: Recipe) -> str:
        """Return what a recipe is called."""
        first = self._engine.system(recipe.retrieve).label
        second = dict(self.rankers).get(recipe.rank, "")
        return f"{first}, then {second}" if second else first

    def shown(self, made: Sequence[Made], k: int) -> list[dict[str, Any]]:
        """Return the columns: rows with their ranks in the others, stages, cost."""
        lists = [m.trace.lists.items[0][: m.trace.lists.lengths[0]].tolist() for m in made]
        first = {item: rank for rank, item in enumerate(lists[0], 1)} if lists else {}
        return [self._column(m, items, lists, first, at, k) for at, (m, items) in enumerate(zip(made, lists, strict=True))]

    def _column(
        self, made: Made, items: list[int], lists: Sequence[list[int]], first: Mapping[int, int], at: int, k: int
    ) -> dict[str, Any]:
        catalogue, tally = self._engine.catalogue, made.counted.tally
        others = [set(other) for n, other in enumerate(lists) if n != at]
        everywhere = set(items).intersection(*others) if others else set(items)
        scores = made.trace.lists.scores[0].tolist()
        rows = [
            {
                "rank": rank, "item": catalogue.items.ids[i], "name": catalogue.names[i], "score": scores[rank - 1],
                "only": bool(others) and not any(i in other for other in others), "was": first.get(i) if at else None,
            }
            for rank, i in enumerate(items, 1)
        ]  # fmt: skip
        gone = made.trace.left(0)
        notes = [(s.name, s.notes[0]) for s in made.trace.stages]
        return {
            "label": self.label(made.recipe), "recipe": made.recipe, "rows": rows, "k": k, "seconds": made.seconds,
            "stages": [(s.name, s.seconds, int(s.lists.lengths[0])) for s in made.trace.stages],
            "shared": len(everywhere), "asks": self.asks(made.recipe), "tally": tally, "paid": made.counted.paid,
            "tokens": tally.tokens_in + tally.tokens_out, "stored": tally.cached_in + tally.cached_out,
            "failures": [f"{name}: {kind}" for name, note in notes for kind in note.failures],
            "exchanges": [(name, e) for name, note in notes for e in note.exchanges[:2]],
            "left": len(gone),
            "dropped": [(catalogue.items.ids[i], catalogue.names[i], s.reason or "") for i, s in list(gone.items())[:_DROPS]],
        }  # fmt: skip
