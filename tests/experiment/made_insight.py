"""What a made run knows of its rankers, its explanations and its models: figures with a known verdict each."""

from __future__ import annotations

from typing import Any

import numpy as np

HEAD = "<i>rank</i> & co"
SLOTS = 20


def _figure(mean: float, half: float, n: int = 120) -> dict[str, Any]:
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def _control(difference: float, half: float, p: float, tau: float) -> dict[str, Any]:
    gain = {"difference": difference, "low": difference - half, "high": difference + half, "p": p, "n": 30}
    return {"gain": gain, "tau": _figure(tau, 0.0 if tau == 1 else 0.05, 30)}


def diagnosis(name: str) -> dict[str, Any]:
    """Of the served ranker: early slots, popular items, the history but not its order.  Of the embedded: no history at all."""
    if name == "llm_embedded":
        return {
            "rank:smollm": {
                "scoring": "likelihood",
                "answers": {"cases": 120, "listings": 120, "unusable": 0, "incomplete": 0, "unranked": 0, "kinds": {}},
                "controls": 30,
                "popularity": {
                    "ranker": _figure(0.31, 0.06, 30), "truth": _figure(0.27, 0.08, 30),
                    "excess": {"difference": 0.04, "low": -0.05, "high": 0.13, "p": 0.41, "n": 30},
                },
                "history": {
                    "metric": "ndcg@10", "true": _figure(0.281, 0.07, 30),
                    "shuffled": _control(0.0, 0.0, 1.0, 1.0), "fake": _control(0.0021, 0.03, 0.88, 0.62),
                },
            }
        }  # fmt: skip
    slot = np.arange(SLOTS)
    first = 0.02 + 0.22 * np.exp(-slot / 2.5)
    first /= first.sum()
    rank = 0.32 + 0.36 * slot / (SLOTS - 1)
    return {
        "rank:served": {
            "scoring": HEAD,
            "answers": {
                "cases": 120, "listings": 240, "unusable": 4, "incomplete": 11, "unranked": 1,
                "kinds": {"omitted": 11, "unknown_item": 2, "<b>unreadable</b>": 4},
            },
            "position": {
                "slots": SLOTS, "trials": 225, "left_out": 15,
                "first": [_figure(float(v), 0.02) for v in first],
                "rank": [_figure(float(v), 0.03) for v in rank],
                "hit": [_figure(float(v), 0.1, 6) if i else {"mean": None, "low": None, "high": None, "n": 0}
                        for i, v in enumerate(first)],
                "slope": _figure(0.36, 0.05),
            },
            "agreement": _figure(0.44, 0.05, 118),
            "controls": 30,
            "popularity": {
                "ranker": _figure(0.52, 0.05, 30), "truth": _figure(0.27, 0.08, 30),
                "excess": {"difference": 0.25, "low": 0.15, "high": 0.35, "p": 0.001, "n": 30},
            },
            "history": {
                "metric": "ndcg@10", "true": _figure(0.334, 0.08, 30),
                "shuffled": _control(-0.0034, 0.02, 0.71, 0.83), "fake": _control(0.0912, 0.05, 0.004, 0.35),
            },
        }
    }  # fmt: skip


def explanation(name: str) -> dict[str, Any]:
    """Figures of two explainers: one of an LLM, and one that only says what it has looked up."""
    free = name == "ease"
    alone = {"low": None, "high": None, "n": 360}
    figures = {
        "coverage": _figure(1.0 if free else 0.911, 0.0 if free else 0.03),
        "claim_precision": _figure(1.0 if free else 0.642, 0.0 if free else 0.05),
        "unsupported_mentions": _figure(0.0 if free else 0.204, 0.0 if free else 0.04),
        "unsupported_explanations": _figure(0.0 if free else 0.331, 0.0 if free else 0.06),
        "subjective_share": _figure(0.0 if free else 0.083, 0.0 if free else 0.01),
        "usr": {"mean": 0.942 if free else 0.981, **alone},
        "unique_forms": {"mean": 0.003 if free else 0.71, **alone},
        "div": {"mean": 0.41 if free else 0.22, **alone},
        "fmr": _figure(0.881 if free else 0.702, 0.04),
        "fallback_rate": _figure(0.0 if free else 0.089, 0.0 if free else 0.03),
        "fcr": {"mean": None, **alone},
    }
    return figures | ({"fidelity": _figure(0.38, 0.11, 60)} if free else {})


ADDITIONS = [
    {"name": "augment:ItemMemory", "columns": {"<u>facts</u>": 311, "keywords": 480}, "seconds": 41.5},
    {"name": "augment:UserMemory", "columns": {}, "seconds": 3.25},
]


def _finding(test: str, score: float, chance: float, half: float, found: bool | None, verdict: str) -> dict[str, Any]:
    return {
        "test": test, "method": "likelihood", "cases": 100, "choices": 10.0, "measure": "auc",
        "score": _figure(score, half, 100), "chance": _figure(chance, half, 100),
        "difference": _figure(score - chance, 1.2 * half, 100),
        "accuracy": round(score - 0.2, 2), "accuracy_chance": 0.1,
        "written": _figure(0.04, 0.04, 25), "written_chance": _figure(0.0, 0.0, 25),
        "found": found, "verdict": f"{test}: {verdict}", "failures": {"timed_out": 3} if test == "rows" else {},
    }  # fmt: skip


CONTAMINATION: dict[str, Any] = {
    "served": {
        "model": "gpt-<em>x</em>", "dataset": "Made films", "fingerprint": "9f3ab1c2d4e5f60718", "config": {"level": 0.99},
        "findings": [
            _finding("titles", 0.91, 0.52, 0.06, True, "the model knows the file </script>"),
            _finding("rows", 0.53, 0.51, 0.07, False, "no sign of it"),
            _finding("attribute:genres", 0.84, 0.6, 0.06, True, "the model knows it, from the world or from the file"),
        ],
        "left_out": {"attribute:year": "only 2 items have what is asked"},
        "verdict": "the model has seen Made films: it knows titles of the public file by heart; it knows the items' genres",
    },
    "smollm": {
        "model": "SmolLM2-135M-Instruct", "dataset": "Made films", "fingerprint": "9f3a", "config": {"level": 0.99},
        "findings": [_finding("titles", 0.5, 0.51, 0.07, False, "no sign of it")],
        "left_out": {}, "verdict": "no sign that the model knows Made films by heart",
    },
}  # fmt: skip
