"""The leaderboard: the systems of one run or of several, tested in pairs, with what they cost."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm4rec.app.web.drawing import Scale
from llm4rec.core import DataError, RunError, did_you_mean
from llm4rec.experiment.compare import Row, compare
from llm4rec.experiment.report_files import mapping, read_json, read_toml
from llm4rec.experiment.report_findings import ALPHA
from llm4rec.experiment.report_systems import families, metrics_of, primary_of, read_system

#: Runs that lie beside the served one and are offered, at most.
_BESIDE = 20
#: What a finished experiment holds, and conversations do not.
_NEEDED = ("spec.toml", "summary.json", "environment.json", "cases.parquet", "results.parquet")


@dataclass(frozen=True)
class Run:
    """A finished run as the pages show it.

    Attributes:
        name: of its folder.
        path: its folder.
        title, description: what its specification calls it.
        systems: each with every field of :func:`llm4rec.experiment.report_systems.read_system`.
        metrics: all of them, the primary one first.
        primary: the metric that it is judged by.
        protocol: in words.
        facts: of data, split and machine.
        families: colour and shape of each family.
    """

    name: str
    path: Path
    title: str
    description: str
    systems: tuple[dict[str, Any], ...]
    metrics: tuple[str, ...]
    primary: str
    protocol: str
    facts: dict[str, Any]
    families: dict[str, dict[str, str]]

    @classmethod
    def read(cls, path: Path) -> Run:
        """Read a run directory; raises ``RunError``."""
        for name in _NEEDED:
            if not (path / name).is_file():
                raise RunError(f"has no {name}", where=str(path), todo="is it the directory of a finished experiment?")
        _, spec = read_toml(path / "spec.toml")
        environment, summary = read_json(path / "environment.json"), read_json(path / "summary.json")
        systems = [read_system(path, name, row, spec, environment) for name, row in summary.items()]
        if not systems:
            raise RunError("holds no system", where=str(path / "summary.json"), todo="run the experiment again")
        head, data, split = (mapping(t) for t in (spec.get("experiment"), environment.get("dataset"), environment.get("split")))
        primary = primary_of(head, systems)
        return cls(
            path.resolve().name, path, str(head.get("name") or path.name), str(head.get("description") or ""),
            tuple(systems), tuple(metrics_of(systems, primary)), primary, str(environment.get("protocol") or "not recorded"),
            {**{k: data.get(k) for k in ("name", "users", "items", "training_events")}, "split": split.get("fingerprint")},
            families(systems),
        )  # fmt: skip

    @property
    def parts(self) -> tuple[str, ...]:
        """The sets of cases that have a table: ``all``, and ``sample`` where slow systems ran on one."""
        sampled = [s["sampled"] for s in self.systems]
        return ("all",) if not any(sampled) else ("sample",) if all(sampled) else ("all", "sample")

    def system(self, name: str) -> dict[str, Any]:
        """Return a system by name; raises ``DataError``."""
        found = {s["name"]: s for s in self.systems}
        if name not in found:
            raise DataError(f"there is no system {name!r}", todo=did_you_mean(name, found))
        return found[name]

    def paint(self, system: dict[str, Any]) -> dict[str, Any]:
        """Return a system's colour, shape and whether it is drawn hollow."""
        look = self.families[system["family"]]
        return {"color": "grey" if system["control"] else look["color"], "shape": look["shape"], "hollow": system["control"]}


def beside(run: Path) -> tuple[Path, ...]:
    """Return the finished experiments on lists that lie in the same folder as a run, by name; conversations are none."""
    places = sorted(p for p in run.resolve().parent.iterdir() if p.is_dir() and p != run.resolve())
    return tuple(p for p in places if all((p / name).is_file() for name in _NEEDED) and _ranks(p))[:_BESIDE]


def _ranks(run: Path) -> bool:
    """Do the systems of a run recommend lists?  One that cannot be read is told later."""
    try:
        protocol = mapping(read_toml(run / "spec.toml")[1].get("protocol"))
    except RunError:
        return True
    return str(protocol.get("task") or "ranking") == "ranking"


@dataclass(frozen=True, slots=True)
class Ask:
    """What a reader wants to see.

    Attributes:
        metric: such as ``ndcg@10``; None for the primary one.
        part: ``all`` cases, or the ``sample`` of slow systems; None for what the run has.
        against: ``SYSTEM`` or ``RUN/SYSTEM`` that all others are tested against; None for the best.
        runs: names of further runs.
        sort: key of a column; None for the metric.
        rising: lowest first?
        every: show every metric?
    """

    metric: str | None = None
    part: str | None = None
    against: str | None = None
    runs: tuple[str, ...] = ()
    sort: str | None = None
    rising: bool = False
    every: bool = False


class Board:
    """Makes the tables.

    Args:
        run: the run that is served.
        others: further ones; None takes those that lie beside it.  One that cannot be read is not offered, and told.
    """

    def __init__(self, run: Path, others: Sequence[Path] | None = None) -> None:
        self.run = Run.read(run)
        self.others: dict[str, Run] = {}
        self.unread: list[str] = []
        for path in beside(run) if others is None else others:
            try:
                other = Run.read(Path(path))
            except RunError as error:
                self.unread.append(str(error))
                continue
            if other.name in (self.run.name, *self.others):
                self.unread.append(f"{other.path}: another run has this name; name its folder otherwise to compare with it")
            else:
                self.others[other.name] = other
        self._compare: Callable[..., list[Row]] = functools.lru_cache(64)(compare)

    def table(self, ask: Ask) -> dict[str, Any]:
        """Return what the leaderboard shows; raises ``LLM4RecError`` for what is not there, or runs that differ."""
        runs = [self.run, *(self._other(name) for name in ask.runs)]
        metric = ask.metric or self.run.primary
        if metric not in self.run.metrics:
            raise DataError(f"the run has no metric {metric!r}", todo=did_you_mean(metric, self.run.metrics))
        part = ask.part if ask.part in self.run.parts else self.run.parts[0]
        against = ask.against or None
        rows = self._compare(tuple(r.path for r in runs), metric=metric, against=against, full=part == "all")
        by_name = {r.path.resolve().name: r for r in runs}
        entries = [self._entry(row, by_name[Path(row.run).name], part, len(runs) > 1) for row in rows]
        reference = next(e for e in entries if e["difference"] is None)
        shown = self._shown(metric, part, ask.every) if len(runs) == 1 else []
        sort = ask.sort or "metric"
        key: Callable[[dict[str, Any]], Any] = _SORTS.get(sort, lambda e: (e["metrics"].get(sort) or {}).get("mean"))
        known = sorted((e for e in entries if key(e) is not None), key=key, reverse=not ask.rising)
        entries = known + [e for e in entries if key(e) is None]
        scale = Scale.of(v for e in entries for v in (e["row"].low, e["row"].high))
        return {
            "ask": ask, "metric": metric, "part": part, "parts": self.run.parts, "entries": entries, "reference": reference,
            "scale": scale, "shown": shown, "n": reference["row"].n, "several": len(runs) > 1, "run": self.run, "runs": runs,
            "others": self.others, "llm": any(e["calls"] or e["llm"] for e in entries), "sort": sort, "unread": self.unread,
            "leads": {m: _lead(entries, m) for m in (metric, *shown)}, "size": self._size(part),
        }  # fmt: skip

    def _other(self, name: str) -> Run:
        if name not in self.others:
            raise DataError(f"there is no run {name!r} to compare with", todo=did_you_mean(name, self.others))
        return self.others[name]

    def _size(self, part: str) -> int:
        return int(max((s["metrics"][part].get(self.run.primary, {}).get("n") or 0 for s in self.run.systems), default=0))

    def _shown(self, metric: str, part: str, every: bool) -> list[str]:
        """Return the further metrics that have a column."""
        here = [m for m in self.run.metrics if m != metric and any(m in s["metrics"][part] for s in self.run.systems)]
        if every:
            return here
        k = metric.partition("@")[2]
        return [m for m in (f"ndcg@{k}", f"recall@{k}", f"mrr@{k}") if m in here][:3] or here[:2]

    def _entry(self, row: Row, run: Run, part: str, several: bool) -> dict[str, Any]:
        system = run.system(row.system)
        cost = system["cost"]
        tokens = None if cost["tokens_in"] is None else cost["tokens_in"] + (cost["tokens_out"] or 0)
        pays = system["llm"] or bool(cost["calls"])
        verdict = None
        if row.difference is not None:
            sure = row.p_holm is not None and row.p_holm < ALPHA
            verdict = "same" if not sure else "up" if row.difference > 0 else "down"
        return {
            **system, "row": row, "run": run.name, "key": f"{run.name}/{row.system}" if several else row.system,
            "paint": run.paint(system), "metrics": system["metrics"][part], "difference": row.difference, "verdict": verdict,
            "calls": cost["calls"], "tokens": tokens if pays else 0, "usd": cost["usd"] if pays else 0.0, "pays": pays,
        }  # fmt: skip


def _lead(entries: Sequence[dict[str, Any]], metric: str) -> str | None:
    """Return the key of the best system that is no control."""
    known = [e for e in entries if not e["control"] and metric in e["metrics"]]
    return max(known, key=lambda e: e["metrics"][metric]["mean"])["key"] if known else None


#: Column -> what it is sorted by.
_SORTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "metric": lambda e: e["row"].mean,
    "system": lambda e: e["label"].lower(),
    "run": lambda e: e["run"].lower(),
    "difference": lambda e: 0.0 if e["difference"] is None else e["difference"],
    "fit": lambda e: e["fit_seconds"],
    "serve": lambda e: e["serve_seconds"],
    "query": lambda e: e["ms_per_query"],
    "calls": lambda e: e["calls"] or 0,
    "tokens": lambda e: e["tokens"],
    "usd": lambda e: e["usd"],
    "front": lambda e: None if e["control"] else len(e["row"].below),
}
