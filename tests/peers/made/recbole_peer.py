"""Stands in for RecBole in tests of the exchange: counts, in plain numpy, in whatever interpreter runs it.

``Neighbours`` goes by the items touched together with those of the history, ``Users`` by those of
users alike; ``Dies`` fails as a library does, ``Sleeps`` never ends, ``Diverges`` scores nan, ``Strange`` knows
no item; with
``LLM4REC_TEST_LEAVES`` it ends before it is asked.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, os.environ["LLM4REC_TEST_SCRIPTS"])
from exchange import Job, Scorer, events, read_state, serve, write_state


def fit(job: Job) -> dict:
    print("a library talks on its standard output")
    if job["model"] == "Dies":
        raise ValueError("no such parameter: 'depth'")
    if job["model"] == "Sleeps":
        time.sleep(600)
    held = sorted(p.name for p in Path().iterdir())
    train = events()
    x = np.zeros((job["n_users"], job["n_items"]))
    np.add.at(x, (train["users"], train["items"]), 1)
    write_state({"weights": (x.T @ x) ** job["params"].get("power", 1.0), "seen": x, "name": job["model"], "nothing": None})
    return {"by": "user" if job["model"] == "Users" else "history", "files": held, "threads": os.environ.get("OMP_NUM_THREADS")}


def load(job: Job) -> Scorer:
    state = read_state()

    def scorer(users: np.ndarray, at: np.ndarray, history: np.ndarray) -> np.ndarray:
        if job["model"] == "Users":
            return (state["seen"][users] @ state["weights"]).astype(np.float32)
        if job["model"] in ("Diverges", "Strange"):
            return np.full((len(users), job["n_items"]), np.nan if job["model"] == "Diverges" else -np.inf, np.float32)
        x = np.zeros((len(users), job["n_items"]))
        x[np.repeat(np.arange(len(users)), np.diff(at)), history] = 1
        return (x @ state["weights"]).astype(np.float32)

    return scorer


if __name__ == "__main__":
    if os.environ.get("LLM4REC_TEST_LEAVES"):
        sys.exit("had enough")
    serve(fit, load)
