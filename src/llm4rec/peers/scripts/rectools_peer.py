"""RecTools 0.19 in its own interpreter: transformers by history, factors and the rest by user.

RecTools trains its transformers for a given number of epochs and leaves early stopping to the
user's own trainer.  ``patience`` in the parameters asks for that of its authors' benchmark
(arXiv 2508.06450): Recall@10 of the validation items, the items of the window masked, after each
epoch; training ends after so many without a better one, and the best weights are kept.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pandas as pd
from exchange import Clock, Job, Scorer, events, read_state, serve, write_state
from rectools import Columns, models
from rectools.dataset import Dataset
from rectools.models.base import ModelBase
from threadpoolctl import threadpool_limits

warnings.filterwarnings("ignore")

_SHORT = {
    "SASRec": "SASRecModel", "BERT4Rec": "BERT4RecModel", "ALS": "ImplicitALSWrapperModel", "BPR": "ImplicitBPRWrapperModel",
    "ItemKNN": "ImplicitItemKNNWrapperModel", "EASE": "EASEModel", "PureSVD": "PureSVDModel", "Popular": "PopularModel",
}  # fmt: skip
_TRANSFORMERS = {"SASRecModel", "BERT4RecModel"}
#: What is nested in ``model``: wrappers of implicit, with the class that they wrap unless ``cls`` says otherwise.
_WRAPPERS = {
    "ImplicitALSWrapperModel": "AlternatingLeastSquares",
    "ImplicitBPRWrapperModel": "BayesianPersonalizedRanking",
    "ImplicitItemKNNWrapperModel": "TFIDFRecommender",
}
_SEEDED = {"ImplicitALSWrapperModel", "ImplicitBPRWrapperModel", "PureSVDModel"}


def _model(job: Job) -> tuple[str, ModelBase, int | None]:
    """Return the class's name, the untrained model, and the patience if it was asked for."""
    name = _SHORT.get(job["model"], job["model"])
    if name not in _SHORT.values():
        raise ValueError(f"unknown model {job['model']!r}; known: {', '.join(_SHORT)}")
    params = dict(job["params"])
    patience = params.pop("patience", None) if name in _TRANSFORMERS else None
    if name in _WRAPPERS:
        params["model"] = {"cls": _WRAPPERS[name], **params.get("model", {})}
    if name in _SEEDED:
        seeded = params["model"] if name in _WRAPPERS else params
        seeded.setdefault("random_state", job["seed"] % 2**31)
    if name in _TRANSFORMERS:
        params.setdefault("deterministic", True)
    return name, getattr(models, name).from_config({"cls": name, **params}), patience


def _table(users: np.ndarray, items: np.ndarray, times: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {Columns.User: users, Columns.Item: items, Columns.Weight: 1.0, Columns.Datetime: pd.to_datetime(times, unit="s")}
    )


def _training() -> pd.DataFrame:
    train = events()
    return _table(train["users"], train["items"], train["times"])


def fit(job: Job) -> dict[str, Any]:
    """Train; leave what can be taken out as arrays, else nothing: then ``load`` trains the same again."""
    name, model, patience = _model(job)
    if name in _TRANSFORMERS:
        return _fit_transformer(job, model, patience)
    clock = Clock(None)
    with clock.epoch(), threadpool_limits(1, "blas"):  # as implicit asks for
        model.fit(Dataset.construct(_training()))
    if hasattr(model, "get_vectors"):
        users, items = model.get_vectors()
        write_state({"users": users, "items": items})
    else:
        write_state({})
    return {"by": "user", **clock.told()}


def load(job: Job) -> Scorer:
    """Return the scorer of the trained model."""
    name, model, _ = _model(job)
    if name in _TRANSFORMERS:
        return _transformer_scorer(job, model)
    dataset, state = Dataset.construct(_training()), read_state()
    items = np.asarray(dataset.item_id_map.external_ids)
    if "users" in state:
        row = np.zeros(job["n_users"], np.int64)
        row[np.asarray(dataset.user_id_map.external_ids)] = np.arange(len(state["users"]))

        def scorer(users: np.ndarray, at: np.ndarray, history: np.ndarray) -> np.ndarray:
            out = np.full((len(users), job["n_items"]), -np.inf, np.float32)
            out[:, items] = state["users"][row[users]] @ state["items"].T
            return out

        return scorer
    with threadpool_limits(1, "blas"):
        model.fit(dataset)

    def listed(users: np.ndarray, at: np.ndarray, history: np.ndarray) -> np.ndarray:
        distinct, place = np.unique(users, return_inverse=True)
        lists = model.recommend(distinct, dataset, k=len(items), filter_viewed=False, add_rank_col=False)
        out = np.full((len(distinct), job["n_items"]), -np.inf, np.float32)
        out[np.searchsorted(distinct, lists[Columns.User]), lists[Columns.Item]] = lists[Columns.Score]
        return out[place]

    return listed


# -- transformers ---------------------------------------------------------------------------------
def _fit_transformer(job: Job, model: Any, patience: int | None) -> dict[str, Any]:
    import pytorch_lightning as lightning

    lightning.seed_everything(job["seed"] % 2**32, workers=True)
    table = _training()
    n_train = len(table)
    if patience is not None:
        table = pd.concat([table, _validation(table)], ignore_index=True)
        # Rows keep their order, so the validation items are those behind the training part.
        model.data_preparator.get_val_mask_func = lambda rows: np.arange(len(rows)) >= n_train
    watch = _watch(patience, Clock(job["train_minutes"]))
    model._trainer = lightning.Trainer(
        max_epochs=model.epochs, min_epochs=1, deterministic=model.deterministic, enable_progress_bar=False,
        enable_model_summary=False, logger=False, enable_checkpointing=False, devices=1, callbacks=[watch],
    )  # fmt: skip
    model.fit(Dataset.construct(table))
    watch = next(c for c in model.fit_trainer.callbacks if isinstance(c, type(watch)))  # RecTools trains with a copy
    weights = watch.best or model.torch_model.state_dict()
    items = np.asarray(model.data_preparator.item_id_map.external_ids[model.data_preparator.n_item_extra_tokens :])
    write_state({f"weight:{k}": v for k, v in weights.items()} | {"items": items.astype(np.int64)})
    return {"by": "history", **watch.clock.told()}


def _validation(train: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each validation case whose user has training events, later than all of them."""
    if not os.path.exists("valid.npz"):
        raise ValueError("'patience' needs validation cases, and there are none")
    valid = events("valid.npz")
    first = valid["truth_offsets"][:-1]
    known = np.isin(valid["users"], train[Columns.User])
    if not known.any():
        raise ValueError("'patience' needs validation cases of users with training events, and there are none")
    last = train[Columns.Datetime].max().value // 10**9 + 1
    return _table(valid["users"][known], valid["truth"][first][known], np.full(int(known.sum()), last))


def _watch(patience: int | None, clock: Clock) -> Any:
    """Return a callback that times epochs and, with patience, validates, stops and keeps the best weights."""
    import torch
    from pytorch_lightning.callbacks import Callback

    class Watch(Callback):
        def __init__(self) -> None:
            self.clock = clock
            self.epoch: Any = None  # RecTools trains with a copy of this, and one under way could not be copied
            self.hits: list[torch.Tensor] = []
            self.best: dict[str, torch.Tensor] | None = None
            self.highest, self.waited = -1.0, 0

        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            self.epoch = self.clock.epoch()
            self.epoch.__enter__()

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, number: int) -> None:
            if number + 1 == trainer.num_training_batches:  # before the validation, which Lightning counts to the epoch
                self.epoch.__exit__(None, None, None)

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            trainer.should_stop = trainer.should_stop or self.clock.over

        def on_validation_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, number: int) -> None:
            if trainer.sanity_checking or patience is None:
                return
            items = module.torch_model.item_model.get_all_embeddings()
            states = module.torch_model.encode_sessions(batch, items)[:, -1]
            scores = module.torch_model.similarity_module(states, items)
            scores = scores.scatter(1, batch["x"], -torch.inf)
            scores[:, 0] = -torch.inf
            self.hits.append((scores.topk(10).indices == batch["y"]).any(dim=1).float().cpu())

        def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
            if trainer.sanity_checking or not self.hits:
                return
            recall = float(torch.cat(self.hits).mean())
            self.hits.clear()
            self.clock.validated(recall)
            if recall > self.highest:
                self.highest, self.waited = recall, 0
                self.best = {k: v.detach().cpu().clone() for k, v in module.torch_model.state_dict().items()}
            else:
                self.waited += 1
                trainer.should_stop = self.waited >= (patience or 0)

    return Watch()


def _transformer_scorer(job: Job, model: Any) -> Scorer:
    import torch

    state = read_state()
    model._build_model_from_dataset(Dataset.construct(_training()))
    preparator, network = model.data_preparator, model.torch_model
    weights = {k.removeprefix("weight:"): torch.as_tensor(v) for k, v in state.items() if k.startswith("weight:")}
    extra = preparator.n_item_extra_tokens
    items = np.asarray(preparator.item_id_map.external_ids[extra:]).astype(np.int64)
    if not np.array_equal(items, state["items"]):
        raise ValueError("the training part numbers its items otherwise than the one that was trained on")
    network.load_state_dict(weights)
    network.eval()
    inner = np.full(job["n_items"], -1)
    inner[items] = np.arange(extra, extra + len(items))

    @torch.no_grad()
    def scorer(users: np.ndarray, at: np.ndarray, history: np.ndarray) -> np.ndarray:
        places = inner[history]
        rows = [part[part >= 0].tolist() for part in np.split(places, at[1:-1])]
        out = np.full((len(users), job["n_items"]), -np.inf, np.float32)
        known = np.array([bool(row) for row in rows], dtype=bool)
        if known.any():
            batch = preparator._collate_fn_recommend([(row, [1.0] * len(row), {}) for row in rows if row])
            embedded = network.item_model.get_all_embeddings()
            states = network.encode_sessions(batch, embedded)[:, -1]
            scores = network.similarity_module(states, embedded)[:, extra:].cpu().numpy()
            out[np.ix_(known, items)] = scores
        return out

    return scorer


if __name__ == "__main__":
    serve(fit, load)
