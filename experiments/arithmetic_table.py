"""What arithmetic is worth: each system with it against the same one without, from finished runs of a specification.

``python experiments/arithmetic_table.py experiments/arithmetic.toml runs/arithmetic`` prints a table in Markdown: the
difference in hit@5, hit@10, ndcg@5 and ndcg@10 against the system that it is ``like``, with p of the paired
randomisation test over cases (values averaged over seeds), as it is and corrected by Holm over all tests of the table;
the deviation of the ndcg@10 difference over seeds; the factors chosen; and what share of new exercises came out right.
Runs of one split that have other seeds each are taken together.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core.columns import CASE, METRIC, SEED, SYSTEM, VALUE
from llm4rec.experiment.directory import RunDirectory
from llm4rec.metrics import holm, paired_test

METRICS = ("hit@5", "hit@10", "ndcg@5", "ndcg@10")


def reference(systems: dict[str, Any], name: str) -> str | None:
    """Return the system without arithmetic that a system with it is like; None if it has none itself."""
    if "arithmetic" not in systems[name]:
        return None
    other: str = systems[name]["like"]
    return reference(systems, other) or other


def values(results: pl.DataFrame, system: str, metric: str) -> NDArray[np.float64]:
    """Return float64[seeds, cases]."""
    mine = results.filter((pl.col(SYSTEM) == system) & (pl.col(METRIC) == metric)).sort(SEED, CASE)
    return mine[VALUE].to_numpy().reshape(mine[SEED].n_unique(), -1)


def learnt(runs: list[RunDirectory], system: str) -> tuple[str, str]:
    """Return the mean share of right exercises, and the factors chosen for the seeds."""
    folders = sorted((seed for run in runs for seed in (run.path / "models" / system).iterdir()), key=lambda f: int(f.name))
    told = [json.loads((folder / "config.json").read_text())["values"]["arithmetic_"] for folder in folders]
    right = {kind: np.mean([one["right"][kind] for one in told]) for kind in told[0]["right"]}
    factors = ", ".join(f"{one['factor']:g}" for one in told if "factor" in one)
    return ", ".join(f"{kind} {share:.2f}" for kind, share in right.items()), factors


def main(spec: Path, runs: list[RunDirectory]) -> None:
    """Print the table."""
    splits = {run.read_json("environment.json")["split"]["fingerprint"] for run in runs}
    if len(splits) != 1:
        sys.exit("the runs are of different splits")
    systems = tomllib.loads(spec.read_text())["systems"]
    results = pl.concat([run.read_table("results.parquet") for run in runs])
    summary = runs[0].read_json("summary.json")
    pairs = [(name, other) for name in systems if (other := reference(systems, name)) is not None and name in summary]
    tests, spread = {}, {}
    for name, other in pairs:
        for metric in METRICS:
            a, b = values(results, name, metric), values(results, other, metric)
            tests[name, metric] = paired_test(a.mean(0), b.mean(0), rng=np.random.default_rng(0))
            spread[name, metric] = float((a.mean(1) - b.mean(1)).std(ddof=1)) if len(a) > 1 else 0.0
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    head = " | ".join(f"Δ {metric} (p; Holm)" for metric in METRICS)
    print(f"| system | ndcg@10 | without | {head} | Δ ndcg@10 over seeds ± | factors |")
    print("|---" * (5 + len(METRICS)) + "|")
    for name, other in pairs:
        cells = [f"{tests[name, m].difference:+.4f} ({tests[name, m].p:.3f}; {corrected[name, m]:.3f})" for m in METRICS]
        own, without = (values(results, system, "ndcg@10").mean() for system in (name, other))
        label = summary[name]["label"] + (" (control)" if summary[name]["control"] else "")
        last = f"{spread[name, 'ndcg@10']:.4f} | {learnt(runs, name)[1]}"
        print(f"| {label} | {own:.4f} | {without:.4f} | {' | '.join(cells)} | {last} |")
    print()
    for name, _ in pairs:
        print(f"- {summary[name]['label']}: right exercises: {learnt(runs, name)[0]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [RunDirectory(Path(run)) for run in sys.argv[2:]])
