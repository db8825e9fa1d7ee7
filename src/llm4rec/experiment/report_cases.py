"""The part of a run that its report carries for the drill-down: a bounded number of cases, whole.

A case is kept with its history, its truth, the head of every system's list at every stage, the
prompts and answers behind them, and the explanations.  Items and long texts are stored once and
referred to by number.  What does not fit is counted, never dropped in silence.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from llm4rec.core.columns import CASE, ITEM, RANK, SCORE, SEED, SLICES, STAGE, SYSTEM, TIME, TRUTH, USER
from llm4rec.core.errors import RunError
from llm4rec.experiment.report_explanations import marked
from llm4rec.experiment.report_files import entries, mapping, number

#: Cases of the LLM sample, and other cases, that a page carries at most.
SAMPLE_CASES: Final = 300
OTHER_CASES: Final = 200
#: Items shown of each list, and of each history.
TOP: Final = 20
HISTORY: Final = 50
#: Bytes of cases, of prompts and answers, and of one text.
CASE_BYTES: Final = 3_200_000
TEXT_BYTES: Final = 1_600_000
TEXT_LENGTH: Final = 6_000
TITLE_LENGTH: Final = 160

#: What is told of a claim, as text.
CLAIM: Final = ("kind", "attribute", "operator", "value", "outcome")

COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    "cases": frozenset({CASE, USER, TRUTH, TIME}),
    "lists": frozenset({SYSTEM, SEED, CASE, STAGE, RANK, ITEM}),
    "results": frozenset({SYSTEM, SEED, CASE, "metric", "value"}),
    "notes": frozenset({SYSTEM, SEED, CASE, STAGE}),
    "profiles": frozenset({SYSTEM, SEED, CASE, STAGE, "profile"}),
    "explanations": frozenset({SYSTEM, SEED, CASE, RANK, ITEM}),
    "catalog": frozenset({ITEM}),
}

#: Tables that older runs do not have.
LATER: Final = frozenset({"profiles"})


def scan(run: Path, name: str) -> pl.LazyFrame:
    """Open one table of a run; raises ``RunError`` where it is missing, broken or lacks columns."""
    path = run / f"{name}.parquet"
    if name in LATER and not path.exists():
        return pl.LazyFrame(schema=dict.fromkeys(COLUMNS[name], pl.String))
    if not path.is_file():
        raise RunError("file is missing", where=str(path), todo="run the experiment again, it continues where it stopped")
    try:
        frame = pl.scan_parquet(path)
        columns = set(frame.collect_schema().names())
        empty = not columns or frame.select(pl.len()).collect().item() == 0
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RunError(f"cannot be read ({_first_line(error)})", where=str(path), todo="run the experiment again") from None
    if empty and name in ("cases", "lists", "results"):
        raise RunError("holds no rows", where=str(path), todo="run the experiment again, it continues where it stopped")
    if empty:
        return pl.LazyFrame(schema=dict.fromkeys(COLUMNS[name] | columns, pl.String))
    if lacking := COLUMNS[name] - columns:
        raise RunError(f"lacks the columns {', '.join(sorted(lacking))}", where=str(path), todo="run the experiment again")
    return frame


def collect(run: Path, name: str, frame: pl.LazyFrame) -> pl.DataFrame:
    """Read what was asked of one table of a run; raises ``RunError`` where its data are broken."""
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        where = str(run / f"{name}.parquet")
        raise RunError(f"cannot be read ({_first_line(error)})", where=where, todo="run the experiment again") from None


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:120] if lines else type(error).__name__


@dataclass
class _Interned:
    """Values stored once, in order of first use, and the bytes that they take."""

    values: list[Any] = field(default_factory=list)
    index: dict[Any, int] = field(default_factory=dict)
    bytes: int = 0

    def add(self, key: Any, value: Any) -> int:
        if key not in self.index:
            self.index[key] = len(self.values)
            self.values.append(value)
            self.bytes += len(json.dumps(value))
        return self.index[key]


class _Embedding:
    """Collects cases until the page is full."""

    def __init__(self, catalog: pl.DataFrame, order: Mapping[str, Sequence[str]]) -> None:
        self.items, self.texts, self.stages, self.slices = _Interned(), _Interned(), _Interned(), _Interned()
        self.order = order
        self.texts_left_out = 0
        self.texts_cut = 0
        columns = [catalog[c].to_list() if c in catalog.columns else [None] * len(catalog) for c in ("title", "popularity")]
        self.catalog = dict(zip(catalog[ITEM].cast(pl.String).to_list(), zip(*columns, strict=True), strict=True))

    def item(self, identifier: str | None) -> int:
        identifier = "" if identifier is None else str(identifier)
        title, popularity = self.catalog.get(identifier, (None, None))
        return self.items.add(identifier, [identifier, str(title or "")[:TITLE_LENGTH], popularity])

    def text(self, text: str | None) -> int | None:
        """Number of a stored text; None for no text, -1 for one that the page has no room for."""
        if not text:
            return None
        if text not in self.texts.index and self.texts.bytes > TEXT_BYTES:
            self.texts_left_out += 1
            return -1
        over = len(text) - TEXT_LENGTH
        self.texts_cut += over > 0 and text not in self.texts.index
        half = TEXT_LENGTH // 2
        return self.texts.add(text, text if over <= 0 else f"{text[:half]}\n[… {over} characters left out …]\n{text[-half:]}")

    def stage_lists(self, system: str, stages: Mapping[str, tuple[list[str], list[float]]], truth: Sequence[str]) -> list[Any]:
        """Each stage: its name, items, scores, length, the truth's ranks, and the ranks in the stages that feed it."""
        names = [s for s in self.order.get(system, ()) if s in stages]
        names += [s for s in stages if s not in names]
        ranks = {name: {item: r for r, item in enumerate(items, 1)} for name, (items, _) in stages.items()}
        out = []
        for name in names:
            items, scores = stages[name]
            shown = items[:TOP]
            sources = feeding(names, name)
            out.append([
                self.stages.add(name, name),
                [self.item(i) for i in shown],
                [None if s is None or not np.isfinite(s) else float(f"{s:.4g}") for s in scores[:TOP]],
                len(items),
                [ranks[name].get(t, 0) for t in truth],
                [[self.stages.add(s, s), [ranks[s].get(i, 0) for i in shown]] for s in sources],
            ])  # fmt: skip
        return out

    def note(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "stage": self.stages.add(row[STAGE], row[STAGE]),
            "failures": row.get("failures") or [],
            "dropped": [[self.item(d["item"]), d["reason"]] for d in row.get("dropped") or []],
            "exchanges": [
                [self.text(e["prompt"]), self.text(e["answer"]), e.get("failure")] for e in row.get("exchanges") or []
            ],
        }

    def profile(self, row: Mapping[str, Any]) -> list[int | None]:
        return [self.stages.add(row[STAGE], row[STAGE]), self.text(row["profile"])]

    def claim(self, given: Mapping[str, Any]) -> dict[str, Any]:
        texts = {k: None if given.get(k) is None else str(given[k]) for k in CLAIM}
        item = None if given.get("item") is None else self.item(given["item"])
        return texts | {"item": item, "count": number(given.get("count"))}

    def explanation(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """One explanation: its sentence in stretches marked by what code found in them, and its claims with their outcomes."""
        claims = [mapping(c) for c in entries(row.get("claims"))]
        sentence, missing = marked(str(row.get("sentence") or ""), claims, entries(row.get("unsupported")))
        return {
            "rank": row[RANK],
            "item": self.item(row[ITEM]),
            "sentence": sentence,
            "unsupported": missing,
            "claims": [self.claim(c) for c in claims],
            "fidelity": number(row.get("fidelity")),
            "failure": row.get("failure"),
            "drafts": [self.text(draft) for draft in entries(row.get("drafts"))],
            "prompt": self.text(row.get("prompt")),
            "answer": self.text(row.get("answer")),
        }


def feeding(stages: Sequence[str], stage: str) -> list[str]:
    """Names of the stages whose lists go into one: all retrievers for a fusion, else the one before."""
    before = list(stages)[: list(stages).index(stage)]
    kind = stage.partition(":")[0]
    if kind == "retrieve" or not before:
        return []
    return [s for s in before if s.startswith("retrieve")] if kind == "fuse" else before[-1:]


def choose(cases: Sequence[int], sample: Sequence[int]) -> list[int]:
    """Return the cases to carry: first the LLM sample, then others drawn with a fixed seed."""
    rng = np.random.default_rng(0)
    known = set(cases)
    sample = sorted(known & set(sample))
    if len(sample) > SAMPLE_CASES:
        sample = sorted(rng.choice(sample, SAMPLE_CASES, replace=False).tolist())
    rest = sorted(known - set(sample))
    return sample + sorted(rng.choice(rest, min(OTHER_CASES, len(rest)), replace=False).tolist())


def embed_cases(run: Path, order: Mapping[str, Sequence[str]], sample: Sequence[int]) -> dict[str, Any]:
    """Return the cases, items, texts and stage names that the page carries, and what was left out.

    ``order`` gives the systems in order, and the stages of each where they are known; ``sample``
    the cases of the LLM sample.
    """
    all_cases = collect(run, "cases", scan(run, "cases")).sort(CASE)
    chosen = choose(all_cases[CASE].to_list(), sample)
    wanted = pl.col(CASE).is_in(chosen)
    rows = {row[CASE]: row for row in all_cases.filter(wanted).iter_rows(named=True)}
    catalog = collect(run, "catalog", scan(run, "catalog"))
    lists = _lists(run, chosen)
    by_case = {name: _by_case(run, name, wanted, lists.seeds) for name in ("profiles", "notes", "explanations")}

    into = _Embedding(catalog, order)
    kept: list[dict[str, Any]] = []
    size = 0
    in_sample = set(sample)
    for case in chosen:
        if size + into.items.bytes > CASE_BYTES:
            break
        row = rows[case]
        truth = [str(t) for t in row[TRUTH] or []]
        found = lists.by_case.get(case, {})
        history = (row.get("history") or [])[-HISTORY:]
        one: dict[str, Any] = {
            "case": case, "user": "unknown" if row[USER] is None else str(row[USER]),
            "time": row[TIME], "sample": case in in_sample,
            "slices": [into.slices.add(s, s) for s in row.get(SLICES) or []],
            "truth": [into.item(t) for t in truth],
            "history": [into.item(h) for h in history],
            "length": row.get("history_length") or len(history),
            "lists": {s: into.stage_lists(s, found[s], truth) for s in (*order, *found) if s in found},
        }  # fmt: skip
        shapes = {"profiles": into.profile, "notes": into.note, "explanations": into.explanation}
        for key, shape in shapes.items():
            entries: dict[str, list[Any]] = defaultdict(list)
            for entry in by_case[key].get(case, []):
                entries[entry[SYSTEM]].append(shape(entry))
            if entries:
                one[key] = entries
        size += len(json.dumps(one))
        kept.append(one)
    return {
        "cases": sorted(kept, key=lambda one: one["case"]),
        "items": into.items.values,
        "texts": into.texts.values,
        "stages": into.stages.values,
        "slices": into.slices.values,
        "top": TOP,
        "seeds": lists.seeds,
        "all": len(all_cases),
        "left_out": {"cases": len(all_cases) - len(kept), "texts": into.texts_left_out, "cut": into.texts_cut},
    }


@dataclass(frozen=True)
class _Lists:
    by_case: Mapping[int, Mapping[str, Mapping[str, tuple[list[str], list[float]]]]]
    seeds: Mapping[str, int]


def _lists(run: Path, chosen: Sequence[int]) -> _Lists:
    """Lists of the chosen cases from each system's first seed, stages in order of the file."""
    frame = scan(run, "lists")
    if SCORE not in frame.collect_schema().names():
        frame = frame.with_columns(pl.lit(None, pl.Float32).alias(SCORE))
    seeds = collect(run, "lists", frame.group_by(SYSTEM).agg(pl.col(SEED).min()).sort(SYSTEM))
    first = collect(
        run,
        "lists",
        frame.filter(pl.col(CASE).is_in(chosen))
        .join(seeds.lazy(), on=[SYSTEM, SEED], how="semi")
        .with_row_index("at")
        .sort(RANK, maintain_order=True)
        .group_by(SYSTEM, CASE, STAGE)
        .agg(pl.col(ITEM).cast(pl.String), pl.col(SCORE), pl.col("at").min())
        .sort("at"),
    )
    by_case: dict[int, dict[str, dict[str, tuple[list[str], list[float]]]]] = defaultdict(lambda: defaultdict(dict))
    for row in first.iter_rows(named=True):
        by_case[row[CASE]][row[SYSTEM]][row[STAGE]] = (row[ITEM], row[SCORE])
    return _Lists(by_case, dict(seeds.iter_rows()))


def _by_case(run: Path, name: str, wanted: pl.Expr, seeds: Mapping[str, int]) -> Mapping[int, list[dict[str, Any]]]:
    frame = scan(run, name)
    if collect(run, name, frame.select(pl.len())).item() == 0:
        return {}
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in collect(run, name, frame.filter(wanted)).iter_rows(named=True):
        if row[SEED] == seeds.get(row[SYSTEM], row[SEED]):
            found[row[CASE]].append(row)
    return found


def same_explained(run: Path, systems: Sequence[str]) -> bool:
    """Did all these systems explain the very same cases?"""
    frame = scan(run, "explanations").filter(pl.col(SYSTEM).is_in(list(systems)))
    cases = collect(run, "explanations", frame.group_by(SYSTEM).agg(pl.col(CASE).unique().sort()))[CASE]
    return len(set(map(tuple, cases.to_list()))) <= 1
