"""What each stage of a pipeline made of each query, and why items left on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import polars as pl

from llm4rec.core import Dataset, Lists, Note, Ragged, Vocabulary

Kind = Literal["retrieve", "fuse", "rank", "predict"]


@dataclass(frozen=True, slots=True)
class StageRecord:
    """One stage.

    Attributes:
        name: unique in the trace, ``KIND:PART``, ``fuse`` or ``predict``.
        kind: ``"retrieve"``, ``"fuse"``, ``"rank"`` or ``"predict"`` (one item, its score the prediction).
        lists: what left the stage, with its notes.
        seconds: wall time for all queries.
        sources: names of the stages whose lists came in; none for a retriever.
        depth: how many items from the top a ranker was given, else None.
    """

    name: str
    kind: Kind
    lists: Lists
    seconds: float
    sources: tuple[str, ...] = ()
    depth: int | None = None

    @property
    def notes(self) -> tuple[Note, ...]:
        """One note for each query, empty where the stage had nothing to say."""
        return self.lists.notes if self.lists.notes is not None else (Note(),) * len(self.lists)

    def find(self, row: int, item: int) -> tuple[int, float] | None:
        """Return an item's rank (from 1) and score in one query's list, or None."""
        at = np.flatnonzero(self.lists.items[row] == item)
        return (int(at[0]) + 1, float(self.lists.scores[row, at[0]])) if len(at) else None


@dataclass(frozen=True, slots=True)
class Addition:
    """What one augmenter added to what the stages were told.

    Attributes:
        name: unique in the trace, ``augment:PART``.
        columns: of the item table that it added or changed -> how many items have a text there.
        profiles: what it made known of each query's user, or None if it left users as they were.
        seconds: wall time for all queries.
        notes: one for each query, what it asked for the profiles and what failed, or None.
    """

    name: str
    columns: Mapping[str, int]
    profiles: tuple[str, ...] | None
    seconds: float
    notes: tuple[Note, ...] | None = None


def added_columns(before: Dataset, after: Dataset) -> dict[str, int]:
    """Return the columns of the item table that are new or changed, with the number of items that have a text there."""
    counts = {}
    for column in after.item_table.columns:
        values = after.item_table[column]
        if column not in before.item_table.columns or not values.equals(before.item_table[column]):
            text = values.cast(pl.String, strict=False) if not values.dtype.is_nested() else values.list.len().cast(pl.String)
            counts[column] = int((text.fill_null("").is_in(["", "0"]).not_()).sum())
    return counts


class Step(NamedTuple):
    """Where an item stood after a stage, and what there is to say about it.

    Attributes:
        stage: name of the stage, or ``"final"`` for the cut to k.
        rank, score: None if the item is not in the stage's list.
        reason: why it is not there, or why a ranker left it where it was; else None.
    """

    stage: str
    rank: int | None
    score: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Trace:
    """All stages of one call, in order.

    Attributes:
        stages: at least one; the last one's lists, cut to ``k``, are the answer.
        k: how many items were asked for.
        exclude: what no list may hold, or None if that is not known.
        additions: what augmenters added before the first stage.
    """

    stages: tuple[StageRecord, ...]
    k: int
    exclude: Ragged | None = None
    additions: tuple[Addition, ...] = ()

    @classmethod
    def of(cls, name: str, lists: Lists, seconds: float, *, exclude: Ragged | None = None) -> Self:
        """Return the trace of a single retriever."""
        return cls((StageRecord(f"retrieve:{name}", "retrieve", lists, seconds),), lists.k, exclude)

    def __len__(self) -> int:
        return len(self.stages[-1].lists)

    @property
    def lists(self) -> Lists:
        """The answer: the last stage's lists, cut to ``k``, with that stage's notes."""
        return self.stages[-1].lists.head(self.k)

    @property
    def seconds(self) -> float:
        """Wall time of all augmenters and stages together."""
        return sum(a.seconds for a in self.additions) + sum(s.seconds for s in self.stages)

    @property
    def notes(self) -> tuple[Note, ...] | None:
        """For each query what augmenters and stages have to say together, None if none of them says anything."""
        told = [notes for _, notes in self.noted()]
        return tuple(reduce(_joined, notes) for notes in zip(*told, strict=True)) if told else None

    def noted(self) -> list[tuple[str, tuple[Note, ...]]]:
        """Return (name, one note for each query) of each augmenter and stage that has something to say."""
        told = [(a.name, a.notes) for a in self.additions] + [(s.name, s.lists.notes) for s in self.stages]
        return [(name, notes) for name, notes in told if notes is not None]

    def stage(self, name: str) -> StageRecord:
        """Return a stage by name; raises ``KeyError``."""
        return {stage.name: stage for stage in self.stages}[name]

    # -- following an item ----------------------------------------------------------------
    def journey(self, row: int, item: int) -> list[Step]:
        """Return what became of an item, stage by stage, up to where it left.

        Every retriever has a step, also one that did not find the item; later stages have one as
        long as an item is there or has just left.
        """
        steps: list[Step] = []
        at: dict[str, int | None] = {}  # rank after each stage
        for stage in self.stages:
            before = [at.get(source) for source in stage.sources]
            found = stage.find(row, item)
            at[stage.name] = found[0] if found else None
            if found or stage.kind == "retrieve" or any(before):
                rank, score = found or (None, None)
                steps.append(Step(stage.name, rank, score, self._reason(stage, row, item, before, rank)))
        last = at[self.stages[-1].name]
        if last is not None and last > self.k:
            steps.append(Step("final", None, None, f"below rank {self.k}"))
        return steps

    def _reason(self, stage: StageRecord, row: int, item: int, before: list[int | None], rank: int | None) -> str | None:
        told = stage.notes[row].dropped.get(item)
        if stage.kind == "rank":
            if told is not None:
                return f"{'not placed' if rank else 'dropped'} by the ranker: {told}"
            below = stage.depth is not None and before[0] is not None and before[0] > stage.depth
            return f"below depth {stage.depth}" if below else None
        if rank is not None:
            return None
        if stage.kind == "fuse":
            return f"below rank {stage.lists.k} of the fusion"
        if self.exclude is not None and item in self.exclude[row]:
            return "excluded"
        return told or f"not among the best {stage.lists.k}"

    def left(self, row: int) -> dict[int, Step]:
        """Return for each item that some stage held and the answer does not, the step at which it left."""
        held = np.unique(np.concatenate([stage.lists.items[row] for stage in self.stages]))
        gone = np.setdiff1d(held[held >= 0], self.lists.items[row])
        return {item: self.journey(row, item)[-1] for item in gone.tolist()}

    # -- for JSON -------------------------------------------------------------------------
    def as_dict(self, items: Vocabulary | None = None) -> dict[str, Any]:
        """Return the trace as JSON values, with outside ids if a vocabulary is given."""

        def outside(item: int) -> Any:
            return item if items is None else items.ids[item]

        def note(value: Note) -> dict[str, Any]:
            exchanges = [{"prompt": e.prompt, "answer": e.answer, "failure": e.failure} for e in value.exchanges]
            dropped = [{"item": outside(i), "reason": reason} for i, reason in value.dropped.items()]
            return {"failures": list(value.failures), "dropped": dropped, "exchanges": exchanges}

        def rows(lists: Lists) -> list[list[Mapping[str, Any]]]:
            return [
                [{"item": outside(i), "score": s} for i, s in zip(ids, scores, strict=True) if i >= 0]
                for ids, scores in zip(lists.items.tolist(), lists.scores.tolist(), strict=True)
            ]

        stages = [
            {
                "stage": s.name, "kind": s.kind, "seconds": s.seconds, "sources": list(s.sources), "depth": s.depth,
                "lists": rows(s.lists), "notes": None if s.lists.notes is None else [note(n) for n in s.lists.notes],
            }
            for s in self.stages
        ]  # fmt: skip
        additions = [
            {
                "name": a.name, "columns": dict(a.columns), "profiles": a.profiles, "seconds": a.seconds,
                "notes": None if a.notes is None else [note(n) for n in a.notes],
            }
            for a in self.additions
        ]  # fmt: skip
        return {"k": self.k, "additions": additions, "stages": stages, "lists": rows(self.lists)}


def _joined(one: Note, other: Note) -> Note:
    return Note(
        one.failures + other.failures,
        {**one.dropped, **other.dropped},
        one.exchanges + other.exchanges,
        one.trials + other.trials,
    )
