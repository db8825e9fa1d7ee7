"""LensKit 2025.8 in its own interpreter: any scorer by its class, asked with the user and the history of the query.

LensKit's components have no common way to give out what they learnt but pickle, and most of them
train in seconds.  So nothing is taken out: ``load`` trains the same again, from the same events and
seed.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pandas as pd
from exchange import Clock, Job, Scorer, events, serve, write_state
from lenskit.data import ItemList, RecQuery, from_interactions_df
from lenskit.pipeline.components import Component
from lenskit.training import TrainingOptions

warnings.filterwarnings("ignore")

_MODULES = ("als", "knn", "basic", "flexmf", "funksvd", "hpf", "implicit", "sklearn.svd")


def _scorer_class(name: str) -> type[Any]:
    """Return the class by its name, with or without ``Scorer``."""
    known = []
    for module in _MODULES:
        try:
            held = importlib.import_module(f"lenskit.{module}")
        except ImportError:  # it wraps a library that is not installed
            continue
        classes = [n for n in dir(held) if n.endswith("Scorer") and issubclass(getattr(held, n), Component)]
        known += [n for n in classes if not getattr(getattr(held, n), "__abstractmethods__", None)]
        for wanted in (name, f"{name}Scorer"):
            if wanted in classes:
                return getattr(held, wanted)  # type: ignore[no-any-return]
    raise ValueError(f"unknown model {name!r}; known: {', '.join(sorted(set(known)))}")


def _train(job: Job) -> Any:
    train = events()
    table = pd.DataFrame(
        {
            "user_id": train["users"],
            "item_id": train["items"],
            "rating": train["values"].astype(float),
            "timestamp": train["times"],
        }
    )
    if not np.isfinite(table["rating"]).all() or table["rating"].nunique() == 1:
        table = table.drop(columns="rating")
    # One event for each pair: LensKit refuses repeats.
    table = table.drop_duplicates(["user_id", "item_id"], keep="last")
    scorer = _scorer_class(job["model"])(**job["params"])
    scorer.train(from_interactions_df(table), TrainingOptions(rng=job["seed"]))
    return scorer


def fit(job: Job) -> dict[str, Any]:
    """Train, and say how long it took."""
    clock = Clock(None)
    with clock.epoch():
        _train(job)
    write_state({})
    return {"by": "history", **clock.told()}


def load(job: Job) -> Scorer:
    """Train the same again, and return its scorer; what LensKit cannot score is never recommended."""
    scorer = _train(job)
    told = np.isin(np.arange(job["n_items"]), events()["items"])  # LensKit refuses a history with any other
    catalogue = ItemList(item_ids=np.arange(job["n_items"]))

    def score(users: np.ndarray, at: np.ndarray, history: np.ndarray) -> np.ndarray:
        out = np.empty((len(users), job["n_items"]), np.float32)
        for row, user in enumerate(users.tolist()):  # LensKit answers one query at a time
            items = history[at[row] : at[row + 1]]
            query = RecQuery(user_id=user if user >= 0 else None, history_items=ItemList(item_ids=items[told[items]]))
            out[row] = scorer(query, catalogue).scores()
        return np.where(np.isnan(out), -np.inf, out)

    return score


if __name__ == "__main__":
    serve(fit, load)
