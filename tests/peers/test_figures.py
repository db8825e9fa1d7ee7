"""Our figures against RecBole's own, to 1e-6: recorded ones everywhere, its evaluator itself where its environment is."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm4rec.core import Lists, Ragged
from llm4rec.metrics import ItemContext, evaluate, evaluate_beyond
from llm4rec.peers import PEERS, home, installed
from llm4rec.peers.evaluator import recbole_figures

GOLDEN = json.loads((Path(__file__).parent / "recbole_figures.json").read_text())
NAMES = (
    "Hit", "MRR", "MAP", "Recall", "NDCG", "Precision", "ItemCoverage", "AveragePopularity", "ShannonEntropy", "GiniIndex",
)  # fmt: skip


def _made(items: Any) -> Lists:
    items = np.asarray(items, dtype=np.int32)
    return Lists(items, np.tile(-np.arange(items.shape[1], dtype=np.float32), (len(items), 1)))


def ours(lists: Lists, truth: Ragged, counts: np.ndarray, k: int) -> dict[str, float]:
    """Return RecBole's figures at a cut-off, computed by our metrics, with what its definitions add."""
    n = len(counts)
    accuracy = evaluate(lists, truth, [f"{m}@{k}" for m in ("hit", "mrr", "map", "recall", "ndcg", "precision")])
    found = {name: float(values.mean()) for name, values in accuracy.items()}
    # RecBole counts its pad among the items: a catalogue of one more, which nobody is ever shown.
    padded = ItemContext(np.append(counts, 0))
    beyond: dict[str, Any] = evaluate_beyond(lists, [f"{m}@{k}" for m in ("coverage", "gini", "arp", "entropy")], padded)
    found[f"itemcoverage@{k}"] = beyond[f"coverage@{k}"]
    found[f"giniindex@{k}"] = beyond[f"gini@{k}"]
    found[f"averagepopularity@{k}"] = float(beyond[f"arp@{k}"].mean())
    # Its entropy is in nats, and divided by the number of distinct items shown.
    distinct = evaluate_beyond(lists, [f"coverage@{k}"], padded)[f"coverage@{k}"] * (n + 1)
    found[f"shannonentropy@{k}"] = beyond[f"entropy@{k}"] * math.log(2) / distinct
    return found


def _agree(lists: Lists, truth: Ragged, counts: np.ndarray, ks: list[int], figures: dict[str, float]) -> int:
    compared = 0
    for k in ks:
        for name, value in ours(lists, truth, counts, k).items():
            assert value == pytest.approx(figures[name], abs=1e-6), name
            compared += 1
    return compared


def test_recorded_figures_of_recbole_are_ours() -> None:
    truth = Ragged.of(GOLDEN["truth"])
    counts = np.array(GOLDEN["counts"])
    assert _agree(_made(GOLDEN["items"]), truth, counts, GOLDEN["ks"], GOLDEN["figures"]) == 4 * len(NAMES)
    assert GOLDEN["recbole"] == PEERS["recbole"].version


def test_a_list_that_is_not_full_is_refused() -> None:
    with pytest.raises(ValueError, match="full lists"):
        recbole_figures(Lists.empty(2, 5), Ragged.of([[1], [2]]), np.ones(9, int), ["Hit"], [5])


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(3))
def test_recbole_itself_agrees(seed: int) -> None:
    if installed("recbole") != PEERS["recbole"].version:
        pytest.skip(f"RecBole is not in {home()}: run 'make peers'")
    rng = np.random.default_rng(seed)
    n_items, n = 200, 300
    lists = _made(np.stack([rng.permutation(n_items)[:50] for _ in range(n)]))
    truth = Ragged.of([rng.permutation(n_items)[: rng.integers(1, 80)] for _ in range(n)])
    counts = rng.integers(0, 30, n_items)
    figures, _ = recbole_figures(lists, truth, counts, NAMES, [1, 10, 50])
    assert _agree(lists, truth, counts, [1, 10, 50], figures) == 3 * len(NAMES)
