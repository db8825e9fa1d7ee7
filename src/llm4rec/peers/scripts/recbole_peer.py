"""RecBole 1.2.1 in its own interpreter: trains a general or sequential model, and scores.

The split reaches RecBole as its benchmark files: ``split.train.inter`` and ``split.valid.inter``
(the validation rows once more in the place of the test part, which is never written out), with
the whole catalogue in ``split.item``.  A sequential model gets RecBole's own unrolled prefixes,
one row an event with the history before it in ``item_id_list``.  RecBole shuffles, samples,
validates and stops by its own rules and defaults.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # RecBole's checkpoint holds its config; it never leaves this process

import numpy as np
import torch
from exchange import Clock, Job, Scorer, events, offsets, padded, read_state, serve, write_state
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct
from recbole.utils import ModelType, get_model, get_trainer, init_seed

_NAME = "split"
_BY_USER = {ModelType.GENERAL, ModelType.TRADITIONAL}
#: What the specification rules, not the model's parameters.
_OURS = {
    "dataset", "data_path", "benchmark_filename", "load_col", "eval_args", "repeatable", "checkpoint_dir", "seed",
    "USER_ID_FIELD", "ITEM_ID_FIELD", "alias_of_item_id", "field_separator", "seq_separator", "LIST_SUFFIX", "model",
    "metrics", "topk",
}  # fmt: skip
#: Items scored at once by models that score pairs only.
_PAIRS = 1 << 18


class _EnoughError(Exception):
    """Training has taken as long as it may."""


def _config(job: Job) -> Config:
    """Return RecBole's config: its defaults, the parameters of the specification, and where the files lie."""
    model_class = get_model(job["model"])
    if model_class.type not in _BY_USER | {ModelType.SEQUENTIAL}:
        raise ValueError(f"{job['model']} is a {model_class.type.name.lower()} model; general and sequential ones can be run")
    params = dict(job["params"])
    if wrong := sorted(_OURS & set(params)):
        raise ValueError(f"{', '.join(wrong)}: the specification rules the data, the split and the seed, not a peer's params")
    sequential = model_class.type == ModelType.SEQUENTIAL
    metric, _, cutoff = str(params.setdefault("valid_metric", "NDCG@10")).partition("@")
    ours = {
        "data_path": os.getcwd(), "checkpoint_dir": "saved", "show_progress": False, "state": "WARNING", "seed": job["seed"],
        "benchmark_filename": ["train", "valid", "test"], "field_separator": "\t", "seq_separator": " ",
        "load_col": {"inter": ["user_id", "item_id", *(["item_id_list"] if sequential else [])],
                     "item": ["item_id"], "user": ["user_id"]},
        "eval_args": {"group_by": "user", "order": "TO", "mode": "full"}, "repeatable": sequential,
        "metrics": [metric], "topk": [int(cutoff or 10)],
    }  # fmt: skip
    if sequential:
        ours["alias_of_item_id"] = ["item_id_list"]
    Config._convert_config_dict = lambda self, given: given  # it would evaluate strings as Python code
    own = Config._load_internal_config_dict

    def defaults(self: Config, *args: Any) -> None:
        own(self, *args)
        pairwise = {**self.internal_config_dict, **params}.get("loss_type") != "CE"
        if sequential and not pairwise and not hasattr(model_class, "input_type"):
            self.internal_config_dict["train_neg_sample_args"] = None  # RecBole refuses negatives beside a softmax

    Config._load_internal_config_dict = defaults
    return Config(model=job["model"], dataset=_NAME, config_dict=ours | params)


def _write_table(name: str, columns: Mapping[str, np.ndarray]) -> None:
    with open(os.path.join(_NAME, f"{_NAME}.{name}"), "w", encoding="utf-8") as file:
        file.write("\t".join(columns) + "\n")
        file.writelines("\t".join(row) + "\n" for row in zip(*(c.tolist() for c in columns.values()), strict=True))


def _write_files(job: Job, sequential: bool, length: int) -> bool:
    """Write the benchmark files; return whether there are validation cases."""
    os.makedirs(_NAME, exist_ok=True)
    train = events()
    users, items = train["users"], train["items"]
    at = offsets(np.bincount(users, minlength=job["n_users"]))
    place = np.arange(len(users)) - np.repeat(at[:-1], np.diff(at))  # of each event in its user's history

    def written(users: np.ndarray, items: np.ndarray, starts: np.ndarray, stops: np.ndarray, source: np.ndarray) -> dict:
        table = {"user_id:token": users.astype(str), "item_id:token": items.astype(str)}
        if sequential:
            tokens = source.astype(str).tolist()
            lists = [" ".join(tokens[a:b]) for a, b in zip(np.maximum(starts, stops - length), stops, strict=True)]
            table["item_id_list:token_seq"] = np.array(lists, dtype=object)
        return table

    rows = np.flatnonzero(place > 0) if sequential else np.arange(len(users))
    fitted = written(users[rows], items[rows], at[users[rows]], rows, items)
    held = fitted
    if has_valid := os.path.exists("valid.npz"):
        valid = events("valid.npz")
        case = np.repeat(np.arange(len(valid["users"])), np.diff(valid["truth_offsets"]))
        kept = case if not sequential else case[np.diff(valid["offsets"])[case] > 0]
        truth = valid["truth"] if not sequential else valid["truth"][np.diff(valid["offsets"])[case] > 0]
        starts, stops = valid["offsets"][:-1][kept], valid["offsets"][1:][kept]
        held = written(valid["users"][kept], truth, starts, stops, valid["history"])
    for part, table in (("train", fitted), ("valid", held), ("test", held)):
        _write_table(f"{part}.inter", table)
    _write_table("item", {"item_id:token": np.arange(job["n_items"]).astype(str)})
    _write_table("user", {"user_id:token": np.arange(job["n_users"]).astype(str)})
    return has_valid


def _prepare(job: Job) -> tuple[Config, Any, Any, Any, bool]:
    """Return RecBole's config, its three loaders' first two, the untrained model, and whether to validate."""
    config = _config(job)
    sequential = config["MODEL_TYPE"] == ModelType.SEQUENTIAL
    has_valid = _write_files(job, sequential, config["MAX_ITEM_LIST_LENGTH"])
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, _ = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(config["model"])(config, train._dataset).to(config["device"])
    return config, train, valid, model, has_valid


def fit(job: Job) -> dict[str, Any]:
    """Train; leave the best weights in the state, and return what is told of the training."""
    config, train, valid, model, has_valid = _prepare(job)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    clock = Clock(job["train_minutes"])
    epoch = trainer._train_epoch

    def timed(*args: Any, **kwargs: Any) -> Any:
        with clock.epoch():
            return epoch(*args, **kwargs)

    def told(number: int, score: float) -> None:
        clock.validated(float(score))
        if clock.over:
            raise _EnoughError  # the best weights so far are saved

    trainer._train_epoch = timed
    with suppress(_EnoughError):
        trainer.fit(train, valid if has_valid else None, verbose=False, saved=has_valid, callback_fn=told)
    if has_valid and os.path.exists(trainer.saved_model_file):
        best = torch.load(trainer.saved_model_file, map_location="cpu", weights_only=False)
        weights, other = best["state_dict"], best["other_parameter"] or {}
    else:
        weights, other = model.state_dict(), model.other_parameter()
    # A module among the others has its weights in the state dict already.
    others = {
        f"{'tensor' if isinstance(v, torch.Tensor) else 'other'}:{k}": v
        for k, v in other.items()
        if not isinstance(v, torch.nn.Module)
    }
    write_state({f"weight:{k}": v for k, v in weights.items()} | others)
    by = "user" if config["MODEL_TYPE"] in _BY_USER else "history"
    return {"by": by, **clock.told()}


def load(job: Job) -> Scorer:
    """Rebuild the trained model on the same files, and return its scorer."""
    config, train, _, model, _ = _prepare(job)
    device, dataset = config["device"], train._dataset
    held = read_state()

    def part(kind: str) -> dict[str, Any]:
        return {k.removeprefix(kind): v for k, v in held.items() if k.startswith(kind)}

    model.load_state_dict({k: torch.as_tensor(v) for k, v in part("weight:").items()})
    tensors = {k: torch.as_tensor(v).to(device) for k, v in part("tensor:").items()}
    model.load_other_parameter(part("other:") | tensors)
    model.eval()
    items = np.asarray(dataset.field2id_token["item_id"][1:]).astype(np.int64)  # RecBole's item j + 1 is our items[j]
    user_at, item_at = np.zeros(job["n_users"] + 1, np.int64), np.zeros(job["n_items"], np.int64)
    user_at[np.asarray(dataset.field2id_token["user_id"][1:]).astype(np.int64)] = np.arange(1, job["n_users"] + 1)
    item_at[items] = np.arange(1, job["n_items"] + 1)
    length = config["MAX_ITEM_LIST_LENGTH"]

    @torch.no_grad()
    def scorer(users: np.ndarray, at: np.ndarray, history: np.ndarray) -> np.ndarray:
        fields = {"user_id": torch.from_numpy(user_at[np.where(users < 0, job["n_users"], users)])}  # 0 is RecBole's unknown
        if config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
            fields["item_id_list"] = torch.from_numpy(padded(at, item_at[history], length, pad=0, left=False))
            fields["item_length"] = torch.from_numpy(np.minimum(np.diff(at), length))
        asked = Interaction(fields).to(device)
        try:
            scores = model.full_sort_predict(asked).view(len(users), -1)
        except NotImplementedError:
            scores = _by_pairs(model, asked, job["n_items"] + 1)
        out = np.empty((len(users), job["n_items"]), np.float32)
        out[:, items] = scores[:, 1:].cpu().numpy()
        return out

    return scorer


def _by_pairs(model: Any, asked: Interaction, n: int) -> torch.Tensor:
    """Return float[b, n] of a model that scores one pair at a time, in pieces of bounded size."""
    parts = []
    for row in torch.arange(len(asked)).split(max(1, _PAIRS // n)):
        pairs = asked[row].repeat_interleave(n)
        pairs.update(Interaction({"item_id": torch.arange(n).repeat(len(row))}).to(pairs["user_id"].device))
        parts.append(model.predict(pairs).view(len(row), n))
    return torch.cat(parts)


def measure(job: Job) -> dict[str, Any]:
    """Return the figures of RecBole's own evaluator for the lists of ``lists.npz``, and its processor seconds.

    It gets what its collector hands it: the items of each list under its ids (ours and 1), where
    they are true, the number of true items, the size of its catalogue (ours and the pad), and the
    training events of each item.
    """
    held = events("lists.npz")
    items, truth_at, truth, counts = (held[name] for name in ("items", "truth_offsets", "truth", "counts"))
    rows = np.repeat(np.arange(len(items)), np.diff(truth_at))
    asked = np.sort(rows * len(counts) + truth)
    keys = np.arange(len(items))[:, None] * len(counts) + items
    place = np.minimum(np.searchsorted(asked, keys), len(asked) - 1)
    found = asked[place] == keys
    params = {"metrics": job["metrics"], "topk": job["ks"], "metric_decimal_place": 12, "valid_metric": f"Hit@{job['ks'][0]}"}
    config = Config(model="Pop", dataset=_NAME, config_dict=params)
    struct = DataStruct()
    struct.set("rec.items", torch.from_numpy(items.astype(np.int64) + 1))
    struct.set("rec.topk", torch.from_numpy(np.concatenate([found, np.diff(truth_at)[:, None]], axis=1).astype(np.int32)))
    struct.set("data.num_items", len(counts) + 1)
    struct.set("data.count_items", Counter({i + 1: int(n) for i, n in enumerate(counts.tolist()) if n}))
    begun = time.process_time()
    figures = Evaluator(config).evaluate(struct)
    return {"seconds": time.process_time() - begun, "figures": {name: float(value) for name, value in figures.items()}}


def read(job: Job) -> dict[str, Any]:
    """Return the seconds in which RecBole reads an atomic file of events and leaves one out, and the events that stay."""
    params = {
        "data_path": job["folder"], "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "user_inter_num_interval": job["users"], "item_inter_num_interval": job["items"], "checkpoint_dir": "saved",
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    }  # fmt: skip
    config = Config(model="Pop", dataset=job["name"], config_dict=params)
    clock = Clock(None)
    with clock.epoch():
        dataset = create_dataset(config)
        events = len(dataset)
    with clock.epoch():
        dataset.build()
    return {"events": events, "seconds": clock.seconds, "processor_seconds": clock.processor}


if __name__ == "__main__":
    serve(fit, load, measure=measure, read=read)
