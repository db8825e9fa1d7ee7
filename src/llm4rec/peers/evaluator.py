"""RecBole's own evaluator on our lists, to see that a figure of ours is the figure of theirs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Lists, Ragged
from llm4rec.peers.foreign import foreign


def recbole_figures(
    lists: Lists,
    truth: Ragged,
    counts: NDArray[np.integer],
    metrics: Sequence[str],
    ks: Sequence[int],
    *,
    minutes: float = 60.0,
) -> tuple[dict[str, float], float]:
    """Return RecBole's figures by its own names (``ndcg@10``, ``itemcoverage@10``), and its evaluator's processor seconds.

    Args:
        lists: n lists, each with ``max(ks)`` items: RecBole knows no shorter ones.
        truth: the true items of each, none twice.
        counts: int[n_items], training events of each item.
        metrics: RecBole's names, such as ``"NDCG"``.
        ks: cut-offs.
        minutes: after which it is ended.

    Raises:
        ValueError: a list is shorter than the largest cut-off.
        PeerError: RecBole's environment is not there, or its evaluator failed.
    """
    if (lists.items[:, : max(ks)] < 0).any() or lists.k < max(ks):
        raise ValueError("RecBole's evaluator needs full lists")
    with tempfile.TemporaryDirectory(prefix="llm4rec-peer-") as name:
        folder = Path(name)
        np.savez(
            folder / "lists.npz", items=lists.items[:, : max(ks)], truth_offsets=truth.offsets, truth=truth.values,
            counts=np.asarray(counts),
        )  # fmt: skip
        with foreign("recbole", folder, threads=None, minutes=minutes) as ask:
            answer: Any = ask({"do": "measure", "metrics": list(metrics), "ks": list(ks)})
    return answer["figures"], float(answer["seconds"])
