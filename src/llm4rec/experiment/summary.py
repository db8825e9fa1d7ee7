"""From values per case to the summary: means, intervals, paired tests, cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from llm4rec.core import Cases, Dataset, Lists, Split
from llm4rec.core.columns import CASE, ITEM, METRIC, RANK, SCORE, SEED, STAGE, SYSTEM, VALUE
from llm4rec.experiment.differences import below, versus
from llm4rec.experiment.directory import RunDirectory
from llm4rec.experiment.protocol import Question
from llm4rec.experiment.spec import Part, Spec
from llm4rec.metrics import (
    ACCURACY,
    ItemContext,
    bootstrap_intervals,
    evaluate,
    evaluate_beyond,
    parse_metric,
    slice_cases,
    variance_components,
)
from llm4rec.peers import PeerConfig

#: Beyond-accuracy measures, all at one cut-off.
BEYOND = ("coverage", "gini", "novelty", "diversity", "popularity")
_BEYOND_K = 10

Facts = Mapping[tuple[str, int], Mapping[str, Any]]


def summarise(spec: Spec, directory: RunDirectory, split: Split, question: Question, facts: Facts) -> dict[str, Any]:
    """Return the content of ``summary.json``: one entry for each system, in the spec's order.

    Values are first averaged over seeds within a case, so that intervals and paired tests speak
    of cases; the deviation over seeds stands beside them.
    """
    cases, sample = question.cases, question.sample
    results = directory.read_table("results.parquet")
    primary, names = spec.experiment.primary, spec.experiment.names
    seeds = {n: sorted(s for m, s in facts if m == n) for n in spec.systems}
    values = {n: _values(results, n, names) for n in spec.systems}  # name -> (case numbers, metric -> float[n])
    seed = spec.experiment.seeds[0]
    components = [s.part.component for s in spec.systems.values() if s.part is not None and not s.label]
    masks = slice_cases(cases, split.train)
    context = ItemContext.of(split.train, _attributes(split.train))
    lists = directory.read_table("lists.parquet")
    notes = directory.read_table("notes.parquet")
    explained = directory.read_table("explanations.parquet")
    several = any(len(v[0]) < len(cases) for v in values.values())
    out: dict[str, Any] = {}
    for name, system in spec.systems.items():
        rng = np.random.default_rng(seed)  # one for each, so that an interval does not depend on who else runs
        mine = [facts[name, s] for s in seeds[name]]
        numbers, metrics = values[name]
        on_sample = np.isin(numbers, sample)
        deviation = _seed_deviation(results, name) if len(seeds[name]) > 1 else {}
        part = system.part
        stage_names = [s["stage"] for s in mine[0]["stages"]]
        rows = lists.filter((pl.col(SYSTEM) == name) & (pl.col(SEED) == seeds[name][0]))
        final = stored_lists(rows, stage_names[-1], numbers, split.train.items, spec.experiment.depth)
        out[name] = {
            "label": system.label or label_of(name, part, components),
            "component": part.component if part else "pipeline",
            "family": part.entry.family if part else ("prompted" if system.uses_llm else "pipeline"),
            "uses_llm": system.uses_llm,
            "uses_text": any(p.references("encoder") or p.references("llm") for p in system.parts)
            or any(spec.systems[r].part is not None and spec.systems[r].part.references("encoder") for r in system.retrieve),  # type: ignore[union-attr]
            "llm_names": sorted(set().union(*(p.references("llm") for p in system.parts))) if system.parts else [],
            "control": system.control,
            "note": system.note,
            "seeds": seeds[name],
            "cases": len(numbers),
            "sampled": len(numbers) < len(cases),
            "metrics": _intervals(metrics, rng),
            "seed_deviation": deviation,
            "standard_errors": _standard_errors(results, name, primary) if len(seeds[name]) > 1 and len(numbers) > 1 else None,
            "sample": {
                "n": int(on_sample.sum()),
                "metrics": _intervals({m: v[on_sample] for m, v in metrics.items()}, rng),
            } if several else None,
            "slices": {
                label: {"n": int(mask[numbers].sum()), "versus": {},
                        "metrics": _intervals({primary: metrics[primary][mask[numbers]]}, rng)}
                for label, mask in masks.items()
                if mask[numbers].sum() >= 2
            },
            "beyond": _beyond(final, context),
            "fit_seconds": float(np.mean([f["fit_seconds"] for f in mine])),
            "serve_seconds": float(np.mean([f["serve_seconds"] for f in mine])),
            "explain_seconds": float(np.mean([f["explain_seconds"] for f in mine])),
            "ms_per_query": float(np.mean([1000 * f["serve_seconds"] / f["cases"] for f in mine])),
            "facts": mine[0]["facts"],
            "additions": mine[0]["additions"],
            "diagnosis": mine[0]["diagnosis"],
            "explanation": mine[0]["explanation"],
            "llm": usage_of(mine),
            "failures": _failures(notes, explained, name),
            "stages": _stages(rows, mine[0]["stages"], numbers, cases, split, names),
            "versus": {},
        }  # fmt: skip
    columns = {n: (numbers, metrics[primary]) for n, (numbers, metrics) in values.items()}
    on, sampled = sample if several else None, {n: bool(row["sampled"]) for n, row in out.items()}
    for (a, b), test in versus(columns, sampled, on, np.random.default_rng(seed)).items():
        out[a]["versus"][b] = {"metric": primary, **_finite(test)}
    for label, mask in masks.items():
        within = np.flatnonzero(mask)
        for (a, b), test in versus(columns, sampled, on, np.random.default_rng(seed), within=within).items():
            if label in out[a]["slices"]:
                out[a]["slices"][label]["versus"][b] = {"metric": primary, **_finite(test)}
    parts = {"all": {n: row["metrics"] for n, row in out.items() if not row["sampled"]}}
    parts["sample"] = {n: row["sample"]["metrics"] for n, row in out.items() if row["sample"]}
    over = {part: below(out, {n: m[primary]["mean"] for n, m in rows.items()}) for part, rows in parts.items()}
    for name, row in out.items():
        row["below"] = {part: names[name] for part, names in over.items() if name in names}
    return out


def _values(results: pl.DataFrame, name: str, names: list[str]) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float64]]]:
    """Return a system's case numbers and its metrics per case, averaged over seeds."""
    mean = results.filter(pl.col(SYSTEM) == name).group_by(CASE, METRIC).agg(pl.col(VALUE).mean())
    wide = mean.pivot(on=METRIC, index=CASE, values=VALUE).sort(CASE)
    return wide[CASE].to_numpy(), {m: wide[m].to_numpy() for m in names}


def label_of(name: str, part: Part | None, components: list[str]) -> str:
    """Return a name for tables: the component's, with the system's where several have it."""
    if part is None:
        return name
    if isinstance(part.config, PeerConfig):
        return part.config.title
    return part.entry.label if components.count(part.component) == 1 else f"{part.entry.label} ({name})"


def usage_of(facts: Iterable[Mapping[str, Any]]) -> dict[str, int | float | None]:
    """Return what a system's language models were asked over all seeds, and the money."""
    usage = [u for f in facts for u in f["llm"].values()]
    return {
        "calls": sum(u["calls"] + u["cached"] for u in usage),
        "cached": sum(u["cached"] for u in usage),
        "tokens_in": sum(u["tokens_in"] + u["cached_in"] for u in usage),
        "tokens_out": sum(u["tokens_out"] + u["cached_out"] for u in usage),
        "usd": _sum(u["usd"] for u in usage),
        "usd_paid": _sum(u["usd_paid"] for u in usage),
    }


def _sum(values: Iterable[float | None]) -> float | None:
    """Return the sum; None as soon as one is unknown."""
    known = list(values)
    return None if any(v is None for v in known) else float(sum(v or 0.0 for v in known))


def _intervals(
    metrics: Mapping[str, NDArray[np.float64]], rng: np.random.Generator
) -> dict[str, dict[str, float | int | None]]:
    """Return each metric's mean and interval over the cases; None where there is none."""
    found = bootstrap_intervals(np.stack(list(metrics.values()), axis=1), rng=rng)
    return {m: {k: None if v != v else v for k, v in asdict(i).items()} for m, i in zip(metrics, found, strict=True)}


def _attributes(train: Dataset) -> csr_matrix | None:
    """Return the items' list columns (genres, tags) as 0 and 1, CSR [n_items, values]; None without any."""
    columns = [c for c, t in train.item_table.schema.items() if isinstance(t, pl.List)]
    if not columns:
        return None
    pieces = [
        train.item_table.select(ITEM, pl.lit(c).alias("column"), pl.col(c).cast(pl.List(pl.String)).alias(VALUE)).explode(VALUE)
        for c in columns
    ]
    long = pl.concat(pieces).drop_nulls()
    codes = long.select(pl.struct("column", VALUE).rank("dense") - 1).to_series().to_numpy()
    shape = (train.n_items, int(codes.max(initial=0)) + 1)
    return csr_matrix((np.ones(len(codes), np.float32), (long[ITEM].to_numpy(), codes)), shape=shape)


def _beyond(lists: Lists, context: ItemContext) -> dict[str, float | None]:
    """Return the measures beyond accuracy, means where they judge single lists."""
    names = [f"{b}@{_BEYOND_K}" for b in BEYOND if b != "diversity" or context.vectors is not None]
    found = {name: float(np.nanmean(value)) for name, value in evaluate_beyond(lists, names, context).items()}
    return {name: None if value != value else value for name, value in found.items()}


def _seed_deviation(results: pl.DataFrame, name: str) -> dict[str, float]:
    """Return each metric's standard deviation over the seeds' means."""
    means = results.filter(pl.col(SYSTEM) == name).group_by(SEED, METRIC).agg(pl.col(VALUE).mean())
    return {m: float(v) for m, v in means.group_by(METRIC).agg(pl.col(VALUE).std()).sort(METRIC).iter_rows()}


def _standard_errors(results: pl.DataFrame, name: str, metric: str) -> dict[str, float | str]:
    """Return where the uncertainty of a system's mean comes from (see ``variance_components``)."""
    mine = results.filter((pl.col(SYSTEM) == name) & (pl.col(METRIC) == metric)).pivot(on=SEED, index=CASE, values=VALUE)
    found = variance_components(mine.drop(CASE).to_numpy())
    return {"metric": metric, **asdict(found), "together": found.together}


def _finite(test: Mapping[str, float | int | None]) -> dict[str, float | int | None]:
    return {k: None if isinstance(v, float) and v != v else v for k, v in test.items()}


def stored_lists(rows: pl.DataFrame, stage: str, numbers: NDArray[np.int64], items: Any, k: int) -> Lists:
    """Rebuild one stage's lists of the cases from their table."""
    found = rows.filter(pl.col(STAGE) == stage)
    out = Lists.empty(len(numbers), k)
    at, rank = np.searchsorted(numbers, found[CASE].to_numpy()), found[RANK].to_numpy() - 1
    kept = rank < k
    out.items[at[kept], rank[kept]] = items.encode(found[ITEM])[kept]
    out.scores[at[kept], rank[kept]] = found[SCORE].to_numpy()[kept]
    return out


def _stages(
    rows: pl.DataFrame,
    stages: list[Mapping[str, Any]],
    numbers: NDArray[np.int64],
    cases: Cases,
    split: Split,
    names: list[str],
) -> list[dict[str, Any]]:
    """Return each stage's mean metrics: recall of the candidates is the ceiling, the rest the ranker's gain."""
    truth = cases.truth.take(numbers)
    out = []
    for stage in stages:
        width = max(parse_metric(n, ACCURACY)[1] for n in names)
        lists = stored_lists(rows, stage["stage"], numbers, split.train.items, width)
        means = {m: float(v.mean()) for m, v in evaluate(lists, truth, names).items()}
        out.append({**stage, "depth": int(lists.lengths.max(initial=0)), "metrics": means})
    return out


def _failures(notes: pl.DataFrame, explained: pl.DataFrame, name: str) -> dict[str, int]:
    """Count failures by kind, those of explanations apart."""
    kinds = notes.filter(pl.col(SYSTEM) == name)["failures"].explode().drop_nulls()
    counts = {str(k): int(n) for k, n in kinds.value_counts(sort=True).iter_rows()}
    for kind, n in explained.filter(pl.col(SYSTEM) == name)["failure"].drop_nulls().value_counts(sort=True).iter_rows():
        counts[f"explanation: {kind}"] = int(n)
    return counts
