"""What every recommender, ranker and explainer is: a frozen config, ``fit``, and a verb.

The verbs are protocols: a class has them by having the methods.  ``ScoringComponent`` gives
``retrieve`` and ``rank`` to whatever can score the whole catalogue.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Protocol, Self, TypeVar, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo

from llm4rec.core.dataset import Dataset
from llm4rec.core.errors import NotFittedError, RunError, SpecError
from llm4rec.core.lists import Lists
from llm4rec.core.ragged import Ragged
from llm4rec.core.space import Space
from llm4rec.core.split import Cases, Queries


class Config(BaseModel):
    """Base of every component's parameters: frozen, no unknown keys, finite numbers, each field documented."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def _beside(path: Any, info: ValidationInfo) -> Any:
    folder = (info.context or {}).get("folder")
    return Path(os.path.abspath(Path(folder) / path)) if folder is not None and isinstance(path, (str, Path)) else path


#: A path in a config; what stands in a specification is relative to the specification's folder, which the
#: validation is given as ``context={"folder": ...}``.
FilePath = Annotated[Path, BeforeValidator(_beside)]

C = TypeVar("C", bound=Config)


class Resources(Protocol):
    """What components share in a run: opened once, handed to ``Component.create``."""

    def llm(self, name: str) -> Any:
        """Return the named ``llm4rec.llm.ChatModel``."""

    def encoder(self, name: str) -> Any:
        """Return the named ``llm4rec.features.Encoder``."""


class Component(ABC, Generic[C]):
    """A part of a recommender.

    ``class Mine(Component[MineConfig])`` is all that ties the class to its config.  What ``fit``
    learns lies in attributes whose names end in an underscore: numpy arrays, scipy CSR matrices
    and JSON values.  ``save`` and ``load`` find them by that rule; a component with other state
    overrides ``state`` and ``restore``.
    """

    config: C
    Config: ClassVar[type[Any]]
    #: Does every seed give the same lists?  Then a run fits it once.
    deterministic: ClassVar[bool] = True
    #: Ranges in which fields of the config may be tuned.
    space: ClassVar[Mapping[str, Space]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__dict__.get("__orig_bases__", ()):  # its own: what it inherits is inherited
            for arg in get_args(base):
                if isinstance(arg, type) and issubclass(arg, BaseModel):
                    cls.Config = arg

    def __init__(self, config: C | None = None) -> None:
        self.config = self.Config() if config is None else config

    @classmethod
    def create(cls, config: C, resources: Resources) -> Self:
        """Build from a config; a component that needs an encoder or LLM takes it from ``resources``."""
        return cls(config)

    @classmethod
    def ready(cls, config: C) -> None:
        """Raise an error for people if this machine lacks what the component needs; asked before a run begins."""
        return

    @abstractmethod
    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Learn from the training part; ``valid`` serves early stopping and choices alone."""

    def __getattr__(self, name: str) -> Any:  # only reached when the attribute is missing
        if name.endswith("_") and not name.startswith("_"):
            raise NotFittedError(f"{type(self).__name__} is not fitted", todo="call fit() or load() first")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- saving -------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return what ``fit`` learnt: arrays, CSR matrices and JSON values by name."""
        return {k: v for k, v in vars(self).items() if k.endswith("_") and not k.startswith("_")}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` returned."""
        for name, value in state.items():
            setattr(self, name, value)

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and the arrays into ``folder`` (safetensors; never pickle)."""
        from safetensors.numpy import save_file
        from scipy import sparse

        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, NDArray[Any]] = {}
        values: dict[str, Any] = {}
        for name, value in self.state().items():
            if isinstance(value, np.ndarray):
                arrays[name] = np.asarray(value, order="C")
            elif sparse.issparse(value):
                csr = value.tocsr()
                arrays |= {f"{name}.data": csr.data, f"{name}.indices": csr.indices, f"{name}.indptr": csr.indptr}
                arrays[f"{name}.shape"] = np.array(csr.shape)
            else:
                values[name] = value.item() if isinstance(value, np.generic) else value
        save_file(arrays, folder / "arrays.safetensors")
        config = {"class": type(self).__name__, "config": self.config.model_dump(mode="json"), "values": values}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, resources: Resources | None = None) -> Self:
        """Read what ``save`` wrote; ``resources`` where the component needs an encoder or LLM."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
        from scipy import sparse

        try:
            saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if saved["class"] != cls.__name__:
                raise RunError(f"holds a {saved['class']}, not a {cls.__name__}", where=str(folder))
            config, state = cls.Config.model_validate(saved["config"]), dict(saved["values"])
            arrays = load_file(folder / "arrays.safetensors")
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise RunError(
                f"cannot read a saved {cls.__name__} ({error})",
                where=str(folder),
                todo="fit it again; in a run, remove this folder first",
            ) from None
        component = cls(config) if resources is None else cls.create(config, resources)
        for name in [n.removesuffix(".indptr") for n in arrays if n.endswith(".indptr")]:
            data, indices, indptr, shape = (arrays.pop(f"{name}.{p}") for p in ("data", "indices", "indptr", "shape"))
            state[name] = sparse.csr_matrix((data, indices, indptr), shape=tuple(shape))
        component.restore(state | arrays)
        return component


# -- the verbs ----------------------------------------------------------------------------
@runtime_checkable
class Scorer(Protocol):
    """Scores the whole catalogue."""

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items]; higher is better, -inf for what cannot be recommended."""


@runtime_checkable
class Retriever(Protocol):
    """Finds items in the catalogue."""

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        """Return the ``k`` best items of each query, none of them excluded."""


@runtime_checkable
class Ranker(Protocol):
    """Puts given candidates in order."""

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        """Return each candidate list in a new order; what is left out is told in the notes."""


@runtime_checkable
class Predictor(Protocol):
    """Says what a user will think of an item."""

    def predict(self, queries: Queries, items: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return float32[n] for ``items`` int32[n], one a query: the value to be expected, before the item is met.

        In the unit of the events' values: a rating, or, where values are 0 and 1, the chance of 1 (a
        click), which lies in [0, 1].
        """


@dataclass(frozen=True, slots=True)
class Claim:
    """A checkable statement within an explanation.

    Attributes:
        kind: ``"history"`` (the user has touched ``item``), ``"attribute"`` (``value`` is true of the
            ``attribute`` of ``item``, or without one of the recommended item), ``"shared"`` (it is
            true of the recommended item and of the history item ``item``) or ``"count"`` (of so many
            history items it is true).
        item: inside id of the item that the claim is about beside the recommended one, or None.
        attribute, value: column of the item table and the value that is claimed, or None.
        span: (start, end) of the claim's words in the sentence, or None.
        operator: how the cell stands to ``value``: ``"="`` (a list has it among its values), ``"!="``,
            ``"<"``, ``"<="``, ``">"``, ``">="`` (numbers) or ``"contains"`` (text); for ``"count"`` how
            their number stands to ``count``: ``"count="``, ``"count>="`` or ``"count<="``.
        count: for ``"count"`` the number of history items, else None.
    """

    kind: str
    item: int | None = None
    attribute: str | None = None
    value: str | None = None
    span: tuple[int, int] | None = None
    operator: str = "="
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """One sentence about why one item stands in one list, and its claims.

    Attributes:
        item: inside id of the recommended item.
        sentence: what is shown; empty where nothing could be said.
        claims: what it states, as far as it can be checked.
        failure: why a writer's own sentence is not the one shown, or None.
        exchange_prompt, exchange_answer: what a language model was asked and said, as text.
        drafts: sentences that were written and did not hold, in order; the last of them was to repair
            the first.
    """

    item: int
    sentence: str
    claims: tuple[Claim, ...] = ()
    failure: str | None = None
    exchange_prompt: str | None = None
    exchange_answer: str | None = None
    drafts: tuple[str, ...] = ()


@runtime_checkable
class Explainer(Protocol):
    """Says why items were recommended."""

    def explain(self, queries: Queries, lists: Lists) -> list[tuple[Explanation, ...]]:
        """Return for each query one explanation for each item of its list, in order."""


@runtime_checkable
class Augmenter(Protocol):
    """Adds to what is known of items and users: columns of the item table, profiles of queries.

    Nothing that it adds may come from an event at or after the moment of the query.  One side may
    be left as it is.
    """

    def augment(self, dataset: Dataset) -> Dataset:
        """Return the data set with richer tables; its events are the same."""

    def enrich(self, queries: Queries) -> Queries:
        """Return the queries with what is known of their users; their histories are the same.

        What went wrong, and what was asked, goes to ``profile_notes``.
        """


class ScoringComponent(Component[C]):
    """A component that scores the whole catalogue, and so retrieves and ranks by its scores."""

    #: Queries scored at once, at most.
    batch: ClassVar[int] = 1024
    #: Scores held at once: 256 MB a copy, however large the catalogue (a single query's aside).
    cells: ClassVar[int] = 1 << 26

    @abstractmethod
    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items]; higher is better, -inf for what cannot be recommended."""

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        """Return the ``k`` best items of each query, none of them excluded."""
        parts = self._by_pieces(queries, lambda rows, scores: Lists.from_scores(scores, k, exclude=exclude.take(rows)))
        return Lists.concatenate(parts) if parts else Lists.empty(0, k)

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        """Return the candidates in order of score; what scores -inf stays, at the end."""

        def ranked(rows: NDArray[np.int64], scores: NDArray[np.float32]) -> Lists:
            items = candidates.items[rows]
            own = np.take_along_axis(scores, np.maximum(items, 0), axis=1)
            return Lists.from_pools(items, np.where(np.isfinite(own), own, np.finfo(np.float32).min))

        parts = self._by_pieces(queries, ranked)
        return Lists.concatenate(parts) if parts else candidates

    def _by_pieces(self, queries: Queries, work: Callable[[NDArray[np.int64], NDArray[np.float32]], Lists]) -> list[Lists]:
        """Return ``work(row numbers, scores)`` of pieces that fit, of which one is held at a time.

        The first, small piece tells how large the catalogue is.  A score that is nan or positively infinite
        raises ``SpecError``: it would only drop items from lists, or tie them, and the figures would not tell.
        """
        parts: list[Lists] = []
        start, size = 0, min(self.batch, 64)
        while start < len(queries):
            rows = np.arange(start, min(start + size, len(queries)))
            scores = self.score(queries.take(rows))
            if not scores.max(initial=-np.inf) < np.inf:  # one pass: the largest is nan as soon as one is
                what = f"{type(self).__name__} gives scores that are no finite numbers"
                raise SpecError(what, todo="its parameters are too extreme, or its training diverged")
            parts.append(work(rows, scores))
            start, size = start + len(rows), max(1, min(self.batch, self.cells // max(1, scores.shape[1])))
            del scores  # before the next ones are made
        return parts
