"""A made run directory with known figures: twelve systems, two of them cascades with an LLM."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from llm4rec.experiment.differences import below
from tests.experiment.made_insight import ADDITIONS, CONTAMINATION, diagnosis, explanation

HOSTILE = "</script><img src=x onerror=alert(1)><!-- {{ 7*7 }} “Ünïcödé” \u202eevil\u202c"
USERS, ITEMS, DEPTH, SAMPLE = 300, 480, 100, 120
FIRST = ("Silent", "Golden", "Broken", "Midnight", "Paper", "Northern", "Last", "Distant", "Crimson", "Hidden", "Electric")
THEN = ("Harbour", "Summer", "Orchard", "Letters", "Republic", "Garden", "Machine", "Winter", "Voyage", "Mirror", "Station")
GENRES = ("Drama", "Comedy", "Thriller", "Romance", "Sci-Fi", "Documentary")

# name: label, component, family, quality, popularity weight, seconds to fit, ms a query, uses llm, control
SYSTEMS: dict[str, tuple[str, str, str, float, float, float, float, bool, bool]] = {
    "random": ("Random", "random", "control", 0.0, 0.0, 0.01, 0.02, False, True),
    "popular": ("Popular", "popular", "popularity", 0.05, 1.0, 0.02, 0.03, False, False),
    "item_knn": ("ItemKNN", "item_knn", "neighbours", 0.75, 0.35, 0.4, 0.08, False, False),
    "ease": ("EASE", "ease", "linear", 0.85, 0.35, 1.9, 0.11, False, False),
    "als": ("ALS", "als", "factorisation", 0.75, 0.3, 2.2, 0.09, False, False),
    "bpr": ("BPR", "bpr", "factorisation", 0.6, 0.35, 4.1, 0.1, False, False),
    "sasrec": ("SASRec", "sasrec", "sequential", 1.05, 0.3, 81.0, 0.9, False, False),
    "sasrec_text": ("SASRec, items from text", "sasrec", "sequential", 1.3, 0.3, 74.0, 0.95, False, False),
    "sasrec_shuffled": ("SASRec, shuffled text", "sasrec", "sequential", 1.0, 0.3, 76.0, 0.95, False, True),
    "text": ("MiniLM text", "text_knn", "text", 0.45, 0.1, 6.3, 0.4, False, False),
    "llm_embedded": ("EASE + text, SmolLM2 ranks", "cascade", "llm", 0.0, 0.0, 9.4, 910.0, True, False),
    "llm_served": ("SASRec, served LLM ranks", "cascade", "llm", 0.0, 0.0, 82.0, 2400.0, True, False),
}
CASCADES = {
    "llm_embedded": (["retrieve:ease", "retrieve:text", "fuse", "rank:smollm"], [("ease", 0.85), ("text", 0.45)], 0.3),
    "llm_served": (["retrieve:sasrec_text", "rank:served"], [("sasrec_text", 1.3)], 1.5),
}
METRICS = [f"{m}@{k}" for k in (5, 10, 20) for m in ("ndcg", "recall", "mrr")]


def _value(metric: str, rank: int) -> float:
    name, k = metric.split("@")
    if not 0 < rank <= int(k):
        return 0.0
    return {"ndcg": 1 / math.log2(rank + 1), "recall": 1.0, "mrr": 1 / rank}[name]


def _figure(values: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    means = values[rng.integers(0, len(values), (400, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high), "n": len(values)}


def _figures(values: dict[str, np.ndarray], rows: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    return {m: _figure(v[rows], rng) for m, v in values.items()}


def make_run(folder: Path) -> Path:
    """Write a run directory; the same at every call."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    titles = [f"{FIRST[i % 11]} {THEN[(i * 7 + i // 11) % 11]} ({1960 + i * 11 % 60})" for i in range(ITEMS)]
    titles[3] = HOSTILE
    ids = [f"i{i}" for i in range(ITEMS)]
    popularity = np.sort(rng.pareto(1.1, ITEMS) * 12).astype(int)[::-1]
    taste, kind = rng.normal(size=(USERS, 8)), rng.normal(size=(ITEMS, 8))
    liking = taste @ kind.T / 2.2 + 0.3 * np.log1p(popularity) + 0.3 * rng.normal(size=(USERS, ITEMS))
    order = np.argsort(-liking - rng.gumbel(size=liking.shape), axis=1)
    truth, history = order[:, 0], order[:, 1:31]
    truth[5] = 3
    sample = np.sort(rng.choice(USERS, SAMPLE, replace=False))
    everyone = np.arange(USERS)
    head = popularity[truth] >= np.quantile(popularity[truth], 0.4)
    lengths = rng.integers(6, 140, USERS)
    slices = {
        "head": everyone[head], "tail": everyone[~head],
        "short history": everyone[lengths < 50], "long history": everyone[lengths >= 50],
    }  # fmt: skip

    def scored(quality: float, weight: float, seed: int) -> np.ndarray:
        noise = np.random.default_rng(seed).normal(size=liking.shape)
        scores = quality * (taste @ kind.T) / 1.6 + weight * 0.7 * np.log1p(popularity) + 1.1 * noise
        np.put_along_axis(scores, history[:, :12], -np.inf, axis=1)
        np.put_along_axis(scores, truth[:, None], np.take_along_axis(scores, truth[:, None], 1), axis=1)
        return scores

    def top(scores: np.ndarray, k: int = DEPTH) -> np.ndarray:
        return np.argsort(-scores, axis=1, kind="stable")[:, :k]

    tables: list[pl.DataFrame] = []
    results: list[pl.DataFrame] = []
    summary: dict[str, Any] = {}
    per_case: dict[str, dict[str, np.ndarray]] = {}

    def rank_of(items: np.ndarray, rows: np.ndarray) -> np.ndarray:
        hits = items == truth[rows][:, None]
        return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)

    def keep(name: str, seed: int, stage: str, rows: np.ndarray, items: np.ndarray) -> dict[str, np.ndarray]:
        n, k = items.shape
        tables.append(pl.DataFrame({
            "system": [name] * (n * k), "seed": np.full(n * k, seed), "case": np.repeat(rows, k), "stage": [stage] * (n * k),
            "rank": np.tile(np.arange(1, k + 1), n), "item": np.array(ids)[items.ravel()],
            "score": np.tile(np.linspace(3, 0, k, dtype=np.float32), n),
        }))  # fmt: skip
        ranks = rank_of(items, rows)
        return {m: np.array([_value(m, int(r)) for r in ranks]) for m in METRICS}

    for number, (name, row) in enumerate(SYSTEMS.items()):
        label, component, family, quality, weight, fit, ms, llm, control = row
        stages: list[dict[str, Any]] = []
        if name in CASCADES:
            names, sources, skill = CASCADES[name]
            rows, seeds = sample, [1]
            parts = [top(scored(q, 0.3, 90 + i)[rows]) for i, (_, q) in enumerate(sources)]
            lists = list(parts)
            if len(parts) > 1:
                merged = [
                    np.array(list(dict.fromkeys(np.stack([a, b], 1).ravel().tolist()))[:50])
                    for a, b in zip(*parts, strict=True)
                ]
                lists.append(np.stack(merged))
            given = lists[-1][:, :20]
            noise = rng.normal(size=given.shape)
            keys = np.where(given == truth[rows][:, None], skill, 0) + noise - 0.12 * np.arange(20)
            lists.append(np.take_along_axis(given, np.argsort(-keys, axis=1), axis=1))
            for stage, items in zip(names, lists, strict=True):
                values = keep(name, 1, stage, rows, items)
                metrics = {m: float(values[m].mean()) for m in ("recall@10", "recall@20", "ndcg@10")}
                stages.append({"stage": stage, "kind": stage.split(":")[0], "depth": items.shape[1], "metrics": metrics})
            runs = [values]
        else:
            rows, seeds = everyone, [1, 2, 3] if fit > 4 else [1]
            runs = [keep(name, s, component, rows, top(scored(quality, weight, 10 * number + s))) for s in seeds]
        for s, values in zip(seeds, runs, strict=True):
            results += [
                pl.DataFrame({"system": name, "seed": s, "case": rows, "metric": m, "value": v}) for m, v in values.items()
            ]
        average = {m: np.mean([r[m] for r in runs], axis=0) for m in METRICS}
        per_case[name] = {m: np.full(USERS, np.nan) for m in METRICS}
        for m in METRICS:
            per_case[name][m][rows] = average[m]
        deviation = {m: float(np.std([r[m].mean() for r in runs], ddof=1)) for m in METRICS} if len(runs) > 1 else {}
        inside = _figures(per_case[name], sample, rng)
        within = {k: np.intersect1d(v, rows) for k, v in slices.items()}
        calls = SAMPLE * 2 if llm else 0
        summary[name] = {
            "label": label, "component": component, "family": family, "uses_llm": llm, "control": control,
            "note": "The same cascade as in the book." if name == "llm_embedded" else "",
            "llm_names": ["smollm"] if name == "llm_embedded" else ["served"] if llm else [], "seeds": seeds,
            "cases": len(rows), "sampled": llm, "metrics": inside if llm else _figures(per_case[name], everyone, rng),
            "seed_deviation": deviation,
            "sample": {"n": SAMPLE, "metrics": inside},
            "slices": {
                k: {"n": len(v), "metrics": {"ndcg@10": _figure(per_case[name]["ndcg@10"][v], rng)}, "versus": {}}
                for k, v in within.items()
            },
            "standard_errors": {"metric": "ndcg@10", "cases": 0.005, "seeds": 0.003, "rest": 0.001, "together": 0.0059}
            if len(runs) > 1 else None,
            "beyond": {
                "coverage@10": min(1.0, 0.1 + 0.6 * (1 - weight)), "gini@10": 0.5 + 0.4 * weight,
                "novelty@10": 9.5 - 3 * weight,
                "diversity@10": 0.7 - 0.1 * quality, "popularity@10": 40 + 160 * weight,
            },
            "fit_seconds": fit, "serve_seconds": ms * len(rows) / 1000, "ms_per_query": ms,
            "parameters": 120_000 if family == "sequential" else None,
            "llm": {
                "calls": calls, "cached": calls // 2, "tokens_in": calls * 640, "tokens_out": calls * 41 if llm else 0,
                "usd": (0.31 if name == "llm_served" else None) if llm else 0,
            },
            "failures": {"unreadable": 4, "omitted": 11, "unknown_item": 2} if name == "llm_served" else {},
            "stages": stages, "versus": {},
            "diagnosis": diagnosis(name) if llm else {},
            "explanation": explanation(name) if name in ("ease", "llm_embedded") else {},
            "additions": ADDITIONS if name == "llm_embedded" else [],
        }  # fmt: skip
    for a in summary:
        for b in summary:
            difference = per_case[a]["ndcg@10"] - per_case[b]["ndcg@10"]
            difference = difference[~np.isnan(difference)]
            if a == b:
                continue
            mean, error = difference.mean(), difference.std() / math.sqrt(len(difference)) or 1e-9
            p = math.erfc(abs(mean / error) / math.sqrt(2))
            summary[a]["versus"][b] = {
                "metric": "ndcg@10", "n": len(difference), "difference": float(mean), "low": float(mean - 1.96 * error),
                "high": float(mean + 1.96 * error), "p": p, "p_holm": min(1.0, 12 * p),
                "deviation": float(difference.std(ddof=1)), "detectable": float(2.81 * error),
            }  # fmt: skip
            for label, part in summary[a]["slices"].items():
                both = per_case[a]["ndcg@10"][slices[label]] - per_case[b]["ndcg@10"][slices[label]]
                gap = both[~np.isnan(both)]
                half = 1.96 * gap.std() / math.sqrt(len(gap)) or 1e-9
                q = math.erfc(abs(1.96 * gap.mean() / half) / math.sqrt(2))
                part["versus"][b] = {
                    "metric": "ndcg@10", "n": len(gap), "difference": float(gap.mean()), "low": float(gap.mean() - half),
                    "high": float(gap.mean() + half), "p": q, "p_holm": min(1.0, 12 * q),
                    "deviation": float(gap.std(ddof=1)), "detectable": float(1.43 * half),
                }  # fmt: skip
    for part in ("all", "sample"):
        means = {
            n: (row["sample"] if part == "sample" else row)["metrics"]["ndcg@10"]["mean"]
            for n, row in summary.items() if part == "sample" or not row["sampled"]
        }  # fmt: skip
        for name, names in below(summary, means).items():
            summary[name].setdefault("below", {})[part] = names

    pl.concat(tables).write_parquet(folder / "lists.parquet")
    pl.concat(results).write_parquet(folder / "results.parquet")
    _write_cases(folder, ids, truth, history, lengths, slices)
    _write_words(folder, ids, titles, truth, history, sample)
    pl.DataFrame({
        "item": ids, "title": titles, "popularity": popularity,
        "text": [f"{t}; {GENRES[i % 6]}" for i, t in enumerate(titles)],
    }).write_parquet(folder / "catalog.parquet")  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "contamination.json").write_text(json.dumps(CONTAMINATION))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    (folder / "spec.toml").write_text(SPEC)
    return folder


def _write_cases(folder: Path, ids: list[str], truth: Any, history: Any, lengths: Any, slices: dict[str, Any]) -> None:
    pl.DataFrame({
        "case": np.arange(USERS), "user": [f"u{i}" for i in range(USERS)], "truth": [[ids[t]] for t in truth],
        "time": 875_000_000 + np.arange(USERS) * 86_400,
        "slices": [[k for k, v in slices.items() if i in set(v.tolist())] for i in range(USERS)],
        "history": [[ids[i] for i in row] for row in history], "history_length": lengths,
    }).write_parquet(folder / "cases.parquet")  # fmt: skip


def _write_words(folder: Path, ids: list[str], titles: list[str], truth: Any, history: Any, sample: Any) -> None:
    notes, explanations, profiles = [], [], []
    for case in sample.tolist():
        seen = [titles[i] for i in history[case][-8:]]
        remembered = f"Watched {len(history[case])} films; <b>liked</b> {titles[history[case][0]]}."
        profiles.append({
            "system": "llm_embedded", "seed": 1, "case": case, "stage": "augment:UserMemory", "profile": remembered
        })  # fmt: skip
        prompt = "The user has watched, in order:\n" + "\n".join(f"- {t}" for t in seen) + "\n\nRank the candidates."
        for name, stage in (("llm_embedded", "rank:smollm"), ("llm_served", "rank:served")):
            bad = name == "llm_served" and case % 11 == 0
            notes.append({
                "system": name, "seed": 1, "case": case, "stage": stage, "failures": ["omitted"] if bad else [],
                "dropped": [{"item": ids[7], "reason": "not among the candidates"}] if bad else [],
                "exchanges": [{"prompt": f"{prompt} #{case}", "answer": "I would say: 3, 1, 2" + " </script>" * bad,
                               "failure": "unreadable" if bad else None}],
            })  # fmt: skip
        for rank in (1, 2, 3):
            item, cited = int(truth[case] + rank - 1) % ITEMS, int(history[case][-rank])
            genre = GENRES[cited % 6]
            sentence = f"Because you watched {titles[cited]}, which is {genre.lower()} as well, like Vertigo by Hitchcock."
            span = [sentence.index(titles[cited]), sentence.index(titles[cited]) + len(titles[cited])]
            other = [sentence.index("which is"), sentence.index(" as well")]
            claim = {"item": None, "attribute": None, "operator": "=", "value": None, "count": None, "span": None}
            explanations.append({
                "system": "llm_embedded", "seed": 1, "case": case, "rank": rank, "item": ids[item], "sentence": sentence,
                "claims": [
                    claim | {"kind": "history", "item": ids[cited], "span": span, "outcome": "true"},
                    claim | {"kind": "attribute", "attribute": "genres", "value": genre, "span": other, "outcome": "false"},
                    claim | {"kind": "shared", "item": ids[cited], "attribute": "genres", "value": "<b>Noir</b>",
                             "outcome": "unresolvable"},
                    claim | {"kind": "count", "attribute": "genres", "operator": "count>=", "value": genre, "count": 3,
                             "outcome": "unstated"},
                ],
                "unsupported": ["Vertigo", "Hitchcock", "<s>1958</s>"],
                "fidelity": None if rank == 3 else 0.25 * rank,
                "failure": None, "prompt": f"{prompt}\nExplain {titles[item]}.", "answer": f"You watched {titles[cited]}.",
            })  # fmt: skip
    explanations.append({
        **explanations[0], "system": "ease", "claims": [], "unsupported": [], "fidelity": None, "sentence": "It is near.",
        "prompt": None, "answer": None,
    })  # fmt: skip
    pl.DataFrame(notes, infer_schema_length=None).write_parquet(folder / "notes.parquet")
    pl.DataFrame(profiles).write_parquet(folder / "profiles.parquet")
    pl.DataFrame(explanations, infer_schema_length=None).write_parquet(folder / "explanations.parquet")


ENVIRONMENT: dict[str, Any] = {
    "llm4rec": "0.1.0", "python": "3.11.9",
    "machine": {"cpu": "two cores, x86-64", "memory": "8 GB", "system": "Linux"},
    "packages": {"numpy": "2.4.6", "torch": "2.13.0", "polars": "2.1.0"},
    "seeds": [1, 2, 3],
    "dataset": {"name": "Made films", "users": USERS, "items": ITEMS, "events": 41_200, "fingerprint": "9f3ab1c2d4e5f60718"},
    "split": {"fingerprint": "5c01d2aa90be7734ff", "rules": {"kind": "leave-one-out", "part": "valid_and_test", "ties": 0}},
    "protocol": "full ranking, seen masked",
    "assets": {"made.zip": "0" * 64},
    "llms": {"smollm": {"model": "SmolLM2-135M-Instruct", "dtype": "bfloat16"}, "served": {"base_url": "http://127.0.0.1:8000/v1"}},
    "started": "2026-01-05T09:12:44Z", "finished": "2026-01-05T09:21:10Z", "git": "abc1234",
}  # fmt: skip

SPEC = """
[experiment]
name = "Do language models help?"
description = "Ten recommenders, two controls, and two ways of letting a language model rank, on one catalogue of made films."
primary = "ndcg@10"
seeds = [1, 2, 3]

[protocol]
mask = "seen"

[systems.popular]
component = "popular"

[systems.sasrec_text]
component = "sasrec"
items = { encoder = "minilm", text = "{title}; {genres}" }

[systems.sasrec_shuffled]
component = "sasrec"
items = { encoder = "minilm", shuffle = true }

[systems.text]
component = "text_knn"
encoder = "minilm"
"""
