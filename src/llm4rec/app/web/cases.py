"""The case explorer: what was asked, what every stage of every system made of it, and why items left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.app.web.board import Run
from llm4rec.app.web.calls import Calls
from llm4rec.app.web.drawing import Ranks
from llm4rec.core import DataError, did_you_mean
from llm4rec.core.columns import CASE, ITEM, METRIC, RANK, SCORE, SEED, SLICES, STAGE, SYSTEM, TIME, TRUTH, USER
from llm4rec.experiment.report_cases import collect, feeding, scan

#: Cases of one page of the list, and items of a list that are shown unless all are asked for.
PAGE, TOP = 25, 20


@dataclass(frozen=True, slots=True)
class Find:
    """Which cases a reader looks for; empty is all.

    Attributes:
        text: part of a user's id or of the true item's title, or the number of a case.
        hit, miss: systems with the truth among their first ``k``, and without.
        failed: a system with a failure of its language model.
        slice_: a slice, such as ``tail``.
        k: of a hit.
    """

    text: str = ""
    hit: str = ""
    miss: str = ""
    failed: str = ""
    slice_: str = ""
    k: int = 10


@dataclass(frozen=True, slots=True)
class Step:
    """What became of an item at a stage: its rank and score there, or why it is not there."""

    stage: str
    rank: int | None
    score: float | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage's list for a case: item ids best first, their scores, and the stages that fed it."""

    name: str
    kind: str
    items: tuple[str, ...]
    scores: tuple[float | None, ...]
    sources: tuple[str, ...]
    given: int | None

    def rank(self, item: str) -> int | None:
        """Return an item's rank from 1, or None."""
        return self.items.index(item) + 1 if item in self.items else None


class Cases:
    """Reads the tables of a run, case by case.

    Args:
        run: the run.
        calls: its store of model calls.
        masked: does its protocol keep what a user has touched out of every list?
    """

    def __init__(self, run: Run, calls: Calls, *, masked: bool) -> None:
        self.run, self._calls, self._masked = run, calls, masked
        self.systems = {s["name"]: s for s in run.systems}

    # -- tables ------------------------------------------------------------------------------
    @cached_property
    def table(self) -> pl.DataFrame:
        """One row for each case, in the order of their numbers."""
        return collect(self.run.path, "cases", scan(self.run.path, "cases")).sort(CASE)

    @cached_property
    def items(self) -> dict[str, tuple[str, int | None]]:
        """Title and number of training events by outside id."""
        table = collect(self.run.path, "catalog", scan(self.run.path, "catalog"))
        titles = table["title"].to_list() if "title" in table.columns else table[ITEM].to_list()
        counts = table["popularity"].to_list() if "popularity" in table.columns else [None] * len(table)
        return dict(zip(table[ITEM].to_list(), zip(titles, counts, strict=True), strict=True))

    @cached_property
    def _seeds(self) -> pl.LazyFrame:
        lists = scan(self.run.path, "lists").group_by(SYSTEM).agg(pl.col(SEED).min())
        return collect(self.run.path, "lists", lists).lazy()

    @cached_property
    def ranks(self) -> dict[str, NDArray[np.int32]]:
        """For each system int32[n], the best rank of the truth in each case's list; 0 not in it, -1 not asked."""
        told = {s["name"]: s["stages"][-1]["stage"] for s in self.run.systems if s["stages"]}
        last = [(name, told.get(name, stage)) for name, stage in self._last_stages()]
        final = pl.LazyFrame(last, schema={SYSTEM: pl.String, STAGE: pl.String}, orient="row")
        truth = self.table.select(CASE, pl.col(TRUTH).alias(ITEM)).explode(ITEM).lazy()
        lists = scan(self.run.path, "lists").join(final, on=[SYSTEM, STAGE], how="semi")
        lists = lists.join(self._seeds, on=[SYSTEM, SEED], how="semi")
        found = collect(
            self.run.path, "lists",
            lists.join(truth, on=[CASE, ITEM], how="semi").group_by(SYSTEM, CASE).agg(pl.col(RANK).min()),
        )  # fmt: skip
        asked = scan(self.run.path, "results").filter(pl.col(METRIC) == self.run.primary).select(SYSTEM, CASE).unique()
        answered = collect(self.run.path, "results", asked)
        numbers = self.table[CASE].to_numpy()
        out: dict[str, NDArray[np.int32]] = {}
        for name in self.systems:
            row = np.full(len(numbers), -1, np.int32)
            row[np.searchsorted(numbers, answered.filter(pl.col(SYSTEM) == name)[CASE].to_numpy())] = 0
            mine = found.filter(pl.col(SYSTEM) == name)
            row[np.searchsorted(numbers, mine[CASE].to_numpy())] = mine[RANK].to_numpy()
            out[name] = row
        return out

    def _last_stages(self) -> list[tuple[str, str]]:
        """Return (system, stage) for the stage of each system that the table of lists tells last."""
        at = scan(self.run.path, "lists").with_row_index("at").group_by(SYSTEM, STAGE).agg(pl.col("at").min())
        order = collect(self.run.path, "lists", at.sort("at").select(SYSTEM, STAGE))
        return list(dict(order.iter_rows()).items())

    @cached_property
    def slices(self) -> list[str]:
        """The names of the slices, those of the summary first."""
        if SLICES not in self.table.columns:
            return []
        return sorted(self.table[SLICES].explode().drop_nulls().unique().to_list())

    # -- finding ------------------------------------------------------------------------------
    def find(self, wanted: Find) -> NDArray[np.int64]:
        """Return the rows of the table that fit; raises ``DataError`` for a system that is not there."""
        keep = np.ones(len(self.table), dtype=bool)
        if wanted.hit:
            row = self._ranks_of(wanted.hit)
            keep &= (row > 0) & (row <= wanted.k)
        if wanted.miss:
            row = self._ranks_of(wanted.miss)
            keep &= (row == 0) | (row > wanted.k)
        if wanted.failed:
            self._ranks_of(wanted.failed)
            keep &= self.table[CASE].is_in(self._failed(wanted.failed)).to_numpy()
        if wanted.slice_:
            keep &= self.table[SLICES].list.contains(wanted.slice_).to_numpy()
        if text := wanted.text.strip().lower():
            titles = pl.Series([" ".join(self.title(i) for i in truth) for truth in self.table[TRUTH].to_list()])
            words = self.table[USER].cast(pl.String).fill_null("") + " " + titles
            named = words.str.to_lowercase().str.contains(text, literal=True)
            keep &= (named | (self.table[CASE].cast(pl.String) == text)).to_numpy()
        return np.flatnonzero(keep)

    def of_user(self, user: str) -> list[int]:
        """Return the numbers of a user's cases."""
        return self.table.filter(pl.col(USER) == user)[CASE].to_list()

    def _ranks_of(self, system: str) -> NDArray[np.int32]:
        if system not in self.ranks:
            raise DataError(f"there is no system {system!r}", todo=did_you_mean(system, self.ranks))
        return self.ranks[system]

    def _failed(self, system: str) -> list[int]:
        notes = scan(self.run.path, "notes").filter((pl.col(SYSTEM) == system) & (pl.col("failures").list.len() > 0))
        return collect(self.run.path, "notes", notes.select(CASE).unique())[CASE].to_list()

    def listed(self, rows: Sequence[int], shown: Sequence[str]) -> list[dict[str, Any]]:
        """Return what the list of cases shows of some rows, with the truth's ranks in some systems."""
        picked = self.table[list(rows)]
        return [
            {
                "case": row[CASE], "user": row[USER], "truth": [self.title(i) for i in row[TRUTH]],
                "length": row.get("history_length"), "ranks": {s: int(self.ranks[s][at]) for s in shown},
            }
            for at, row in zip(rows, picked.iter_rows(named=True), strict=True)
        ]  # fmt: skip

    # -- one case -----------------------------------------------------------------------------
    def case(self, number: int, system: str | None, item: str | None, *, whole: bool) -> dict[str, Any]:
        """Return all that is known of a case: its question, where each system put the truth, one system's stages.

        Args:
            number: of the case.
            system: whose stages; None for the one that is most telling.
            item: the item that is followed through the stages; None for the truth.
            whole: show lists whole?
        """
        at = int(self.table[CASE].search_sorted(number))
        if at >= len(self.table) or self.table[CASE][at] != number:
            raise DataError(f"there is no case {number}", todo=f"there are cases 0 to {int(self.table[CASE][-1])}")
        row = self.table.row(at, named=True)
        truth, history = list(row[TRUTH]), list(row.get("history") or [])
        lists = self._lists(number)
        answered = [name for name in self.systems if name in lists]
        if system and system not in self.systems:
            raise DataError(f"there is no system {system!r}", todo=did_you_mean(system, self.systems))
        chosen = system or next((n for n in reversed(answered) if len(lists[n]) > 1), answered[-1] if answered else None)
        stages = lists.get(chosen or "", [])
        notes = self._of("notes", number, chosen)
        follow = item or (truth[0] if truth else None)
        masked = set(history) if self._masked else set()
        return {
            "number": number, "user": row[USER], "time": row[TIME], "slices": row.get(SLICES) or [], "truth": truth,
            "history": history, "length": row.get("history_length") or len(history), "at": at, "n": len(self.table),
            "strip": [self._placed(name, lists[name], truth) for name in answered], "scale": Ranks(),
            "silent": [self.systems[n]["label"] for n in self.systems if n not in lists],
            "chosen": None if chosen is None else self.systems[chosen], "stages": stages,
            "columns": [self._column(stage, stages, truth, whole) for stage in stages], "whole": whole,
            "follow": follow, "journey": journey(stages, follow, notes, masked) if follow else [],
            "notes": [self._note(n) for n in notes], "profiles": self._of("profiles", number, chosen),
            "explanations": self._of("explanations", number, chosen), "k": int(self.run.primary.partition("@")[2] or 10),
        }  # fmt: skip

    def title(self, item: str) -> str:
        """Return an item's title, its id where it has none."""
        return str((self.items.get(item) or (item,))[0] or item)

    def _lists(self, number: int) -> dict[str, list[Stage]]:
        """Return the stages of every system for a case, from its first seed."""
        rows = scan(self.run.path, "lists").filter(pl.col(CASE) == number).join(self._seeds, on=[SYSTEM, SEED], how="semi")
        staged = rows.with_row_index("at").sort(RANK, maintain_order=True).group_by(SYSTEM, STAGE)
        grouped = collect(self.run.path, "lists", staged.agg(ITEM, SCORE, pl.col("at").min()).sort("at"))
        found: dict[str, dict[str, tuple[Any, ...]]] = {}
        for name, stage, items, scores, _ in grouped.select(SYSTEM, STAGE, ITEM, SCORE, "at").iter_rows():
            found.setdefault(name, {})[stage] = (tuple(items), tuple(scores))
        return {name: self._stages(name, found[name]) for name in found if name in self.systems}

    def _stages(self, name: str, lists: Mapping[str, tuple[Any, ...]]) -> list[Stage]:
        known = {s["stage"]: s for s in self.systems[name]["stages"]}
        names = [s for s in known if s in lists] + [s for s in lists if s not in known]
        made = []
        for stage in names:
            items, scores = lists[stage]
            kind = stage.partition(":")[0]
            given = (known.get(stage) or {}).get("given") if kind == "rank" else None
            made.append(Stage(stage, kind, items, scores, tuple(feeding(names, stage)), int(given) if given else None))
        return made

    def _placed(self, name: str, stages: Sequence[Stage], truth: Sequence[str]) -> dict[str, Any]:
        """Return where a system put the truth: its rank, and the one before the last stage."""
        best = [min((r for t in truth if (r := stage.rank(t))), default=None) for stage in stages]
        came = best[-2] if len(best) > 1 and stages[-1].sources == (stages[-2].name,) else None
        return {**self.systems[name], "paint": self.run.paint(self.systems[name]), "rank": best[-1], "came": came}

    def _column(self, stage: Stage, stages: Sequence[Stage], truth: Sequence[str], whole: bool) -> dict[str, Any]:
        """Return a stage's list as it is drawn: rows, and the truth's where it stands below them."""
        top = len(stage.items) if whole else TOP
        sources = [s for s in stages if s.name in stage.sources]

        def entry(at: int) -> dict[str, Any]:
            item = stage.items[at]
            came = [s.rank(item) for s in sources]
            return {
                "rank": at + 1, "item": item, "title": self.title(item), "score": stage.scores[at], "true": item in truth,
                "came": came, "moved": None if len(came) != 1 or came[0] is None else came[0] - at - 1,
                "new": len(came) == 1 and came[0] is None,
            }  # fmt: skip

        below = sorted(r - 1 for t in truth if (r := stage.rank(t)) and r > top)
        return {
            "stage": stage, "rows": [entry(at) for at in range(min(top, len(stage.items)))],
            "below": [entry(at) for at in below], "more": max(0, len(stage.items) - top),
        }  # fmt: skip

    def _note(self, row: Mapping[str, Any]) -> dict[str, Any]:
        exchanges = [{**e, "calls": self._calls.of(e["prompt"])} for e in row.get("exchanges") or []]
        return {**row, "exchanges": exchanges, "dropped": row.get("dropped") or [], "failures": row.get("failures") or []}

    def _of(self, name: str, number: int, system: str | None) -> list[dict[str, Any]]:
        """Return the rows that a table has of a case and a system, of its first seed."""
        frame = scan(self.run.path, name)
        if system is None or collect(self.run.path, name, frame.select(pl.len())).item() == 0:
            return []
        mine = frame.filter((pl.col(CASE) == number) & (pl.col(SYSTEM) == system))
        return collect(self.run.path, name, mine.join(self._seeds, on=[SYSTEM, SEED], how="semi")).to_dicts()


def journey(stages: Sequence[Stage], item: str, notes: Sequence[Mapping[str, Any]], masked: set[str]) -> list[Step]:
    """Return what became of an item, stage by stage, up to where it left; see :meth:`llm4rec.pipeline.Trace.journey`."""
    dropped = {n[STAGE]: {d[ITEM]: d["reason"] for d in n.get("dropped") or []} for n in notes}
    at: dict[str, int | None] = {}
    steps = []
    for stage in stages:
        before = [at.get(source) for source in stage.sources]
        rank = at[stage.name] = stage.rank(item)
        if rank or stage.kind == "retrieve" or any(before):
            score = stage.scores[rank - 1] if rank else None
            steps.append(Step(stage.name, rank, score, _reason(stage, item, before, rank, dropped.get(stage.name, {}), masked)))
    return steps


def _reason(
    stage: Stage, item: str, before: Sequence[int | None], rank: int | None, dropped: Mapping[str, str], masked: set[str]
) -> str | None:
    told = dropped.get(item)
    if stage.kind == "rank":
        if told is not None:
            return f"{'not placed' if rank else 'dropped'} by the ranker: {told}"
        below = stage.given is not None and bool(before) and before[0] is not None and before[0] > stage.given
        return f"below depth {stage.given}, so the ranker did not see it" if below else None
    if rank is not None:
        return None
    if stage.kind == "fuse":
        return f"below rank {len(stage.items)} of the fusion"
    return "excluded: the user knows it" if item in masked else told or f"not among the best {len(stage.items)}"
