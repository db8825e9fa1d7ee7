"""What the tools ask: the systems of a run, over the catalogue and the users as they stand now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.agents.catalogue import Catalogue
from llm4rec.agents.users import Asker, Event, Users
from llm4rec.core import DataError, Dataset, Lists, Note, Queries, Ragged, did_you_mean
from llm4rec.prompted.explain.templated import EvidenceExplainer, EvidenceExplainerConfig

_NOTHING = Note()


@dataclass(frozen=True, slots=True)
class Served:
    """A system of a run, as far as one has to know it before it is opened.

    Attributes:
        name, label: its name in the specification and in tables.
        open: returns the fitted component or pipeline; called at most once.
        uses_llm: does it ask a language model for its lists?
        ranks, explains: can it order given items, and say why?
        tells_by_llm: does it ask a language model for its reasons?
        reads: does it look at what is asked for in words?
        fallback: the system whose list stands in when the language model is slow or down; None if it asks none.
    """

    name: str
    label: str
    open: Callable[[], Any]
    uses_llm: bool = False
    ranks: bool = False
    explains: bool = False
    tells_by_llm: bool = False
    reads: bool = False
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions as they stood when they were asked: what comes in later does not touch them.

    Attributes:
        queries: with histories of inside ids of ``catalogue``.
        exclude: what no list may show.
        catalogue: as it stood.
    """

    queries: Queries
    exclude: Ragged
    catalogue: Catalogue


@dataclass(frozen=True, slots=True)
class Found:
    """One list: items int32[m] and scores float32[m], best first, with what the stages had to say."""

    items: NDArray[np.int32]
    scores: NDArray[np.float32]
    note: Note


class Engine:
    """Systems over a catalogue and users that change.

    Systems know the items that they were fitted on. A new item counts as its stand-in (see
    :attr:`Catalogue.stand_ins`): in a history it is read as that item, and in a list it has that
    item's score and stands right behind it. One without a stand-in is found by words and attributes only.

    Questions are prepared (:meth:`ask`) and answered (:meth:`retrieve`, :meth:`rank`) in two steps, so that
    they can be collected and answered together in another thread.

    Args:
        dataset: of the run.
        systems: by name.
        default: the system that is asked unless another is named.
    """

    def __init__(self, dataset: Dataset, systems: Mapping[str, Served], default: str) -> None:
        self.systems, self.default = dict(systems), default
        self.catalogue, self.users = Catalogue.of(dataset), Users(dataset)
        self.dataset = dataset
        self._opened: dict[str, Any] = {}
        self._opening = Lock()
        self._evidence: tuple[Catalogue, EvidenceExplainer] | None = None
        self.system(default)  # raises for one that is not there

    def system(self, name: str | None) -> Served:
        """Return a system by name, the default for None; raises ``DataError``."""
        name = self.default if name is None else name
        if name not in self.systems:
            raise DataError(f"there is no system {name!r}", todo=did_you_mean(name, self.systems))
        return self.systems[name]

    def component(self, name: str) -> Any:
        """Return a system's component, opened on first use."""
        with self._opening:
            if name not in self._opened:
                self._opened[name] = self.system(name).open()
            return self._opened[name]

    @property
    def popularity(self) -> NDArray[np.int64]:
        """int64[n], events of each item in the run; 0 for new ones."""
        return np.pad(self.dataset.item_counts, (0, len(self.catalogue) - self.catalogue.known))

    # -- what changes -------------------------------------------------------------------
    def add(self, catalogue: Catalogue, events: Sequence[Event]) -> None:
        """Take over a catalogue with further items, and further events."""
        self.catalogue = catalogue
        self.users.add(events)

    # -- lists ----------------------------------------------------------------------------
    def ask(self, askers: Sequence[Asker], *, allowed: NDArray[np.bool_] | None = None, seen: bool = False) -> Asked:
        """Prepare questions.

        Args:
            askers: who asks; either all give a history or none does.
            allowed: bool[n], the items that may be shown, or None for all.
            seen: may lists show what the user has touched?
        """
        catalogue = self.catalogue
        queries, touched = self.users.queries(askers)
        exclude = Ragged.empty(len(askers)) if seen else touched
        if allowed is not None:
            closed = np.flatnonzero(~allowed)
            exclude = Ragged.of(np.union1d(row, closed) for row in exclude)
        return Asked(queries, exclude, catalogue)

    def as_known(self, asked: Asked) -> tuple[Queries, Ragged]:
        """Return questions as the systems' own parts read them: in terms of the items that they were fitted on."""
        queries, known = _with_stand_ins(asked.queries, asked.catalogue), asked.catalogue.known
        return queries, asked.exclude if len(asked.catalogue) == known else _known(asked.exclude, known)

    def retrieve(self, system: str, asked: Asked, k: int) -> list[Found]:
        """Return the ``k`` best items of each question (fewer where there are fewer)."""
        component, catalogue = self.component(system), asked.catalogue
        queries = _with_stand_ins(asked.queries, catalogue)
        if len(catalogue) == catalogue.known:
            return _found(component.retrieve(queries, min(k, len(catalogue)), exclude=asked.exclude))
        if hasattr(component, "score"):
            scores = component.score(queries)
            return _found(Lists.from_scores(_extended(scores, catalogue), k, exclude=asked.exclude))
        lists = component.retrieve(queries, min(k, catalogue.known), exclude=_known(asked.exclude, catalogue.known))
        new = np.where(catalogue.stand_ins >= 0, np.arange(catalogue.known, len(catalogue)), -1)
        shown = np.where(asked.exclude.contains(np.tile(new, (len(lists), 1)), len(catalogue)), -1, new)  # [n, new]
        like = (lists.items[:, None, :] == catalogue.stand_ins[None, :, None]) & (shown >= 0)[:, :, None]  # [n, new, k]
        scores = np.where(like.any(axis=2), np.nanmax(np.where(like, lists.scores[:, None, :], -np.inf), axis=2), -np.inf)
        items = np.concatenate([lists.items, np.where(np.isfinite(scores), shown, -1)], axis=1)
        joined = Lists.from_pools(items, np.concatenate([lists.scores, scores], axis=1), k)
        return _found(replace(joined, notes=lists.notes))

    def rank(self, system: str, asked: Asked, items: NDArray[np.int32]) -> Found:
        """Return given items int32[m] in the order of a system, for one question.

        Items that the system knows nothing of (new, without a stand-in) are left out and told in the note.
        """
        component, catalogue = self.component(system), asked.catalogue
        if not self.system(system).ranks:
            able = [s.name for s in self.systems.values() if s.ranks]
            raise DataError(f"{system} cannot rank given items", todo=f"those that can: {', '.join(able) or 'none'}")
        queries = _with_stand_ins(asked.queries, catalogue)
        asks = np.where(items < catalogue.known, items, -1)
        new = np.flatnonzero(items >= catalogue.known)
        asks[new] = catalogue.stand_ins[items[new] - catalogue.known]
        unique, first = np.unique(asks, return_index=True)
        pool = asks[np.sort(first[unique >= 0])]  # each once, in the order given
        falling = -np.arange(len(pool), dtype=np.float32)[None, :]
        ranked = component.rank(queries, Lists(pool[None, :], falling)) if len(pool) else Lists.empty(1, 0)
        note = _NOTHING if ranked.notes is None else ranked.notes[0]
        order = {
            int(i): (at, float(s)) for at, (i, s) in enumerate(zip(ranked.items[0], ranked.scores[0], strict=True)) if i >= 0
        }
        told = {int(i): "new, and nothing like it is known" for i, a in zip(items, asks, strict=True) if a < 0}
        for i, a in zip(items.tolist(), asks.tolist(), strict=True):
            if a >= 0 and a not in order:
                told[i] = note.dropped.get(a, "not ranked")
        held = [int(i) for i in items if int(i) not in told]
        stands = dict(zip(items.tolist(), asks.tolist(), strict=True))
        held.sort(key=lambda i: (order[stands[i]][0], i >= catalogue.known))
        scores = np.array([order[stands[i]][1] for i in held], np.float32)
        return Found(np.array(held, np.int32), scores, replace(note, dropped=told))

    def similar(self, item: int, k: int, system: str | None = None, user: str | None = None) -> Found:
        """Return what a system recommends to somebody who has touched one item alone, but for what ``user`` knows."""
        asked = self.ask([Asker(user, (item,))])
        if not len(_with_stand_ins(asked.queries, asked.catalogue).history.values):
            name = asked.catalogue.items.ids[item]
            raise DataError(f"nothing known is like the new item {name!r}", todo="search by words or attributes")
        return self.retrieve(self.system(system).name, asked, k)[0]

    def search(self, words: str, k: int, *, allowed: NDArray[np.bool_] | None = None) -> Found:
        """Return the items whose attributes share telling words with some words (BM25)."""
        scores = self.catalogue.found(words)
        if allowed is not None:
            scores = np.where(allowed, scores, -np.inf)
        return _found(Lists.from_scores(scores[None, :], min(k, len(scores))))[0]

    # -- reasons ----------------------------------------------------------------------------
    def explain(
        self, system: str | None, asked: Asked, items: NDArray[np.int32], *, evidence: bool = False
    ) -> list[tuple[str, str]]:
        """Return for each item a sentence and who wrote it; the sentence is empty where nothing can be said.

        A system without an explainer, and an item that is new to it, get a sentence of evidence: the nearest
        item of the history and the rarest attribute in common. With ``evidence`` all items do.
        """
        served = self.system(system)
        catalogue = asked.catalogue
        written: dict[int, str] = {}
        if served.explains and not evidence and (known := items[items < catalogue.known]).size:
            history = asked.queries.history
            read = np.where(history.values < catalogue.known, history.values, -1)  # nobody is told of a stand-in
            queries = _with_history(asked.queries, Ragged(history.offsets, read))
            lists = Lists(known[None, :], -np.arange(len(known), dtype=np.float32)[None, :])
            written = {e.item: e.sentence for e in self.component(served.name).explain(queries, lists)[0]}
        rest = np.array([i for i in items.tolist() if i not in written], np.int32)
        lists = Lists(rest[None, :], -np.arange(len(rest), dtype=np.float32)[None, :])
        fixed = {e.item: e.sentence for e in self._explainer(catalogue).explain(asked.queries, lists)[0]} if len(rest) else {}
        return [(written[i], served.name) if i in written else (fixed[i], "evidence") for i in items.tolist()]

    def _explainer(self, catalogue: Catalogue) -> EvidenceExplainer:
        """Return the explainer by evidence over a catalogue; made on first use and when items came in."""
        held = self._evidence
        if held is None or held[0] is not catalogue:
            config = EvidenceExplainerConfig(attributes=catalogue.grouping, thing="item", did="chose")
            table = catalogue.table.with_columns(pl.Series("title", catalogue.names, dtype=pl.String))
            whole = replace(self.dataset, items=catalogue.items, item_table=table)
            held = catalogue, EvidenceExplainer(config).fit(whole, valid=None, rng=np.random.default_rng(0))
            self._evidence = held
        return held[1]


# -- stand-ins ------------------------------------------------------------------------------
def _with_stand_ins(queries: Queries, catalogue: Catalogue) -> Queries:
    """Return queries whose histories hold known items alone: stand-ins for new ones, nothing where there is none."""
    if len(catalogue) == catalogue.known:
        return queries
    read = np.concatenate([np.arange(catalogue.known, dtype=np.int32), catalogue.stand_ins])
    values = read[queries.history.values]
    return _with_history(queries, Ragged(queries.history.offsets, values))


def _with_history(queries: Queries, history: Ragged) -> Queries:
    """Return queries with other histories, in step with their own but for entries of -1, which go."""
    keep = history.values >= 0
    lengths = np.bincount(history.rows[keep], minlength=len(history))

    def cut(column: Any) -> Any:
        return None if column is None else column[keep]

    return replace(
        queries,
        history=Ragged.from_lengths(lengths, history.values[keep]),
        history_times=cut(queries.history_times),
        history_behaviors=cut(queries.history_behaviors),
        history_values=cut(queries.history_values),
    )


def _known(items: Ragged, known: int) -> Ragged:
    """Return rows without new items."""
    keep = items.values < known
    return Ragged.from_lengths(np.bincount(items.rows[keep], minlength=len(items)), items.values[keep])


def _extended(scores: NDArray[np.float32], catalogue: Catalogue) -> NDArray[np.float32]:
    """Return scores [n, known] with those of the new items behind: their stand-ins', -inf without one."""
    new = np.where(catalogue.stand_ins >= 0, scores[:, np.maximum(catalogue.stand_ins, 0)], -np.inf)
    return np.concatenate([scores, new.astype(np.float32)], axis=1)


def _found(lists: Lists) -> list[Found]:
    notes = lists.notes or (_NOTHING,) * len(lists)
    rows = zip(lists.items, lists.scores, lists.lengths, notes, strict=True)
    return [Found(items[:m], scores[:m], note) for items, scores, m, note in rows]
