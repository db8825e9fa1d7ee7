"""A RecBole user's configuration as a specification of ours; what cannot be honoured is said, line by line.

RecBole 1.2.1's defaults fill in what the configuration leaves open, as RecBole itself would; keys
of its four groups are known by name, and every other key is taken for a parameter of the model.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import tomli_w

from llm4rec.core import SpecError
from llm4rec.experiment.catalog import CATALOG
from llm4rec.experiment.recbole_files import (
    Found,
    Interval,
    as_numbers,
    as_plain,
    as_table,
    as_whole,
    found,
    interval,
)
from llm4rec.experiment.spec import parse_spec

SEQUENTIAL: Final = frozenset({
    "BERT4Rec", "CORE", "Caser", "DIEN", "DIN", "FDSA", "FEARec", "FOSSIL", "FPMC", "GCSAN", "GRU4Rec", "GRU4RecCPR",
    "GRU4RecF", "GRU4RecKG", "HGN", "HRM", "KSR", "LightSANs", "NARM", "NPE", "NextItNet", "RepeatNet", "S3Rec", "SASRec",
    "SASRecCPR", "SASRecF", "SHAN", "SINE", "SRGNN", "STAMP", "TransRec",
})  # fmt: skip
GENERAL: Final = frozenset({
    "ADMMSLIM", "AsymKNN", "BPR", "CDAE", "ConvNCF", "DGCF", "DMF", "DiffRec", "EASE", "ENMF", "FISM", "GCMC", "ItemKNN",
    "LDiffRec", "LINE", "LightGCN", "MacridVAE", "MultiDAE", "MultiVAE", "NAIS", "NCEPLRec", "NCL", "NGCF", "NNCF", "NeuMF",
    "Pop", "RaCT", "Random", "RecVAE", "SGL", "SLIMElastic", "SimpleX", "SpectralCF",
})  # fmt: skip
#: RecBole's model -> our component of the same kind.
OURS: Final = {
    "SASRec": "sasrec", "EASE": "ease", "ItemKNN": "item-knn", "BPR": "bpr", "Pop": "popular", "LightGCN": "lightgcn",
    "GRU4Rec": "gru4rec", "SLIMElastic": "slim", "ADMMSLIM": "slim", "FPMC": "markov",
}  # fmt: skip
#: RecBole's metric -> ours, of which every run has a table.
ACCURACY: Final = {"recall": "recall", "mrr": "mrr", "ndcg": "ndcg", "hit": "hit", "precision": "precision", "map": "map"}
#: The same of whole sets of lists: those that stand in summary.json, at 10 alone, and those that only a function gives.
SUMMED: Final = {"itemcoverage": "coverage", "giniindex": "gini"}
CALLED: Final = {"averagepopularity": "arp", "shannonentropy": "entropy"}
#: What RecBole itself stops by, and our peer without this would not.
_STOPS_BY: Final = "MRR@10"

_TRAINING: Final = (
    "epochs", "train_batch_size", "learner", "learning_rate", "train_neg_sample_args", "eval_step", "stopping_step",
    "clip_grad_norm", "weight_decay", "eval_batch_size", "enable_amp", "enable_scaler", "require_pow", "use_gpu", "gpu_id",
    "worker", "reproducibility", "shuffle", "valid_metric", "MAX_ITEM_LIST_LENGTH",
)  # fmt: skip
#: Why a key has no part in the result -> such keys.
_IDLE: Final = {
    "it only shapes RecBole's own output": (
        "state", "show_progress", "log_wandb", "wandb_project", "loss_decimal_place", "metric_decimal_place", "config_file",
        "nproc", "world_size", "ip", "port", "group_offset",
    ),
    "a run directory keeps all of its parts": (
        "checkpoint_dir", "save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path", "saved",
    ),
    "it is an internal name of RecBole": (
        "valid_metric_bigger", "NEG_PREFIX", "LIST_SUFFIX", "ITEM_LIST_LENGTH_FIELD", "POSITION_FIELD", "HEAD_ENTITY_ID_FIELD",
        "TAIL_ENTITY_ID_FIELD", "RELATION_ID_FIELD", "ENTITY_ID_FIELD", "LABEL_FIELD", "seq_len", "encoding",
    ),
}  # fmt: skip
#: Keys that no part of ours can stand for: reason and what stands in their place.
_NOT: Final = {
    "alias_of_user_id": "columns are not merged; the user column alone names users",
    "alias_of_item_id": "columns are not merged; the item column alone names items",
    "alias_of_entity_id": "there is no knowledge graph; the events alone are used",
    "alias_of_relation_id": "there is no knowledge graph; the events alone are used",
    "additional_feat_suffix": "further feature files are not read; .inter, .item and .user are",
    "preload_weight": "weights are not preloaded; item_init of sasrec starts from text vectors",
    "normalize_field": "attributes are not normalised; they are kept as they are",
    "normalize_all": "attributes are not normalised; they are kept as they are",
    "discretization": "attributes are not discretised; they are kept as they are",
    "numerical_features": "attributes are not embedded; they are kept as they are",
    "entity_kg_num_interval": "there is no knowledge graph; the events alone are used",
    "relation_kg_num_interval": "there is no knowledge graph; the events alone are used",
    "kg_reverse_r": "there is no knowledge graph; the events alone are used",
    "transform": "batches are not transformed; sequences stay as they are",
    "benchmark_filename": "a ready split is not read; the specification splits the events of the .inter file itself",
    "tail_ratio": "there is no tail percentage; summaries hold the slices head and tail",
    "unused_col": "which columns a model uses is not said; the peer gets user, item and time",
    "field_separator": "atomic files are read with tabs; convert the files",
    "seq_separator": "lists in atomic files are read with blanks; convert the files",
    "neg_sampling": "RecBole itself has given it up; its train_neg_sample_args stands",
    "training_neg_sample_num": "RecBole itself has given it up; its train_neg_sample_args stands",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Remark:
    """One line about one key: how it was honoured, or why it was not and what stands in its place."""

    key: str
    honoured: bool
    line: str


@dataclass
class _Import:
    """What is taken out of a configuration, key by key."""

    source: Found
    keys: dict[str, Any]
    taken: set[str] = field(default_factory=set)
    remarks: list[Remark] = field(default_factory=list)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a key's value and note that it was looked at."""
        self.taken.add(key)
        value = self.keys.get(key)
        return default if value is None else value

    def table(self, key: str) -> dict[str, Any]:
        """Return a key's value, which has to be a table."""
        return as_table(self.get(key, {}), key)

    def whole(self, key: str, default: int) -> int:
        """Return a key's value, which has to be a whole number."""
        return as_whole(self.get(key, default), key)

    def say(self, key: str, line: str, *, honoured: bool = True) -> None:
        self.remarks.append(Remark(key, honoured, line))

    def lacks(self, key: str, line: str) -> None:
        self.say(key, line, honoured=False)


def import_recbole(path: Path, out: Path | None = None) -> tuple[str, list[Remark]]:
    """Return a specification as TOML, and the remarks; paths in it are relative to ``out`` if it is given.

    Args:
        path: a RecBole YAML file, or the folder of a data set in atomic files.
        out: where the specification will be written.

    Raises:
        SpecError: the configuration cannot be read, or names no data.
    """
    source = found(path)
    work = _Import(source, dict(source.config))
    model = str(work.get("model", "")) or None
    sequential = model in SEQUENTIAL
    tables: dict[str, Any] = {
        "experiment": _experiment(work),
        "data": _data(work, out),
        "split": _split(work, sequential),
        "protocol": _protocol(work, sequential),
    }
    tables["systems"] = _systems(work, model, tables)
    _rest(work)
    text = tomli_w.dumps(tables)
    parse_spec(text, where=str(path), folder=None if out is None else out.parent)  # what is written can be read
    return text, work.remarks


# -- the tables -----------------------------------------------------------------------------------
def _experiment(work: _Import) -> dict[str, Any]:
    ks = work.get("topk", [10])
    ks = sorted({as_whole(k, "topk") for k in (ks if isinstance(ks, list) else [ks])})
    asked = work.get("metrics", ["Recall", "MRR", "NDCG", "Hit", "Precision"])
    metrics = []
    for name in asked if isinstance(asked, list) else [asked]:
        low = str(name).lower()
        if low in ACCURACY:
            metrics.append(ACCURACY[low])
        elif low in SUMMED:
            work.say("metrics", f"{name}: summary.json holds it as {SUMMED[low]}@10 (docs/peers.md says how the two differ)")
        elif low in CALLED:
            work.lacks("metrics", f"{name}: no table holds it; evaluate_beyond gives {CALLED[low]}@k of lists (docs/peers.md)")
        else:
            work.lacks("metrics", f"{name}: no measure of ranked lists here; the others stand")
    metric, _, k = str(work.get("valid_metric", _STOPS_BY)).partition("@")
    primary = f"{ACCURACY.get(metric.lower(), 'ndcg')}@{k or 10}"
    if metric.lower() not in ACCURACY:
        work.lacks("valid_metric", f"{metric}: no measure of ranked lists here; {primary} orders the leaderboard")
    seed = work.whole("seed", 2020)
    if seed < 1:
        work.lacks("seed", f"{seed}: seeds start at 1; 1 stands")
    table: dict[str, Any] = {
        "name": f"{work.source.name}-recbole",
        "description": f"Imported from {work.source.label}.",
        "seeds": [max(seed, 1)],
        "ks": ks,
        "primary": primary,
    }
    return table | ({"metrics": metrics} if metrics else {})


def _data(work: _Import, out: Path | None) -> dict[str, Any]:
    source = work.source

    def place(file: Path) -> str:
        return os.path.relpath(file, out.absolute().parent) if out is not None else str(file)

    table: dict[str, Any] = {"set": source.set} if source.events is None else {"path": place(source.events)}
    loaded = work.table("load_col")
    for part, file in (("item", source.items), ("user", source.users)):
        if file is not None:
            table[f"{part}s"] = place(file)
            if part not in loaded:
                effect = "its items without events are ranked too" if part == "item" else "it changes no list"
                work.say("load_col", f"the .{part} file is read though load_col does not name it, for its texts; {effect}")
    fields = {"user": "USER_ID_FIELD", "item": "ITEM_ID_FIELD", "time": "TIME_FIELD", "value": "RATING_FIELD"}
    usual = {"user": "user_id", "item": "item_id", "time": "timestamp", "value": "rating"}
    named = {role: str(work.get(key, usual[role])) for role, key in fields.items()}
    columns = {role: name for role, name in named.items() if name != usual[role] and name in source.columns}
    if columns and source.events is not None:
        table["columns"] = columns
    work.get("unload_col")
    kept = work.get("rm_dup_inter")
    table["duplicates"] = kept if kept in ("first", "last") else "keep"
    table |= _filters(work, named["value"])
    return table


def _filters(work: _Import, rating: str) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, limits in work.table("val_interval").items():
        low = interval(str(limits), f"val_interval.{name}")
        if name != rating:
            work.lacks("val_interval", f"{name} {limits}: only {rating} can be bounded; events are kept whatever their {name}")
        elif low.high is not None or low.low is None:
            work.lacks("val_interval", f"{name} {limits}: only a lower bound is known; events above it are kept")
        if name == rating and low.low is not None:
            table["min_value"] = low.low
            work.say(
                "val_interval", f"min_value = {low.low:g}; the events below it are hidden, but known as seen, not forgotten"
            )
            if low.open_low:
                work.lacks("val_interval", f"{name} {limits}: the bound itself stays in; write the next higher value")
    for key, ours in (("user_inter_num_interval", "user_core"), ("item_inter_num_interval", "item_core")):
        limits = interval(str(work.get(key, "[0,inf)")), key)
        table[ours] = _least(limits)
        if limits.high is not None:
            work.lacks(key, f"{limits.text}: there is no upper bound; users or items with more events are kept")
    if work.get("filter_inter_by_user_or_item", True) is False:
        work.lacks("filter_inter_by_user_or_item", "false: events of filtered users and items always go")
    if (threshold := work.get("threshold")) is not None:
        work.lacks(
            "threshold", f"{threshold}: events carry no 0/1 labels; each event counts, and min_value would hide the low ones"
        )
    return {k: v for k, v in table.items() if v}


def _least(limits: Interval) -> int:
    """Return the smallest whole number of events that the interval admits."""
    low = limits.low or 0.0
    whole = int(-(-low // 1))
    return whole + 1 if limits.open_low and whole == low else whole


def _split(work: _Import, sequential: bool) -> dict[str, Any]:
    given = work.table("eval_args")
    usual = {"LS": "valid_and_test"} if sequential else {"RS": [0.8, 0.1, 0.1]}
    split = as_table(given.get("split") or usual, "eval_args.split")
    order = str(given.get("order", "TO" if sequential else "RO"))
    group = given.get("group_by", "user")  # None means none
    kind, how = next(iter(split.items()))
    repeats = {"repeats": "keep"} if sequential or work.get("repeatable", False) else {}
    if order != "TO":
        work.lacks("eval_args.order", f"{order}: a random order trains on the future of what it is asked; time order stands")
    if kind == "LS":
        if how != "valid_and_test":
            work.lacks(
                "eval_args.split", f"LS: {how}: both parts are always made; the last event is test, the one before valid"
            )
        work.say("eval_args.split", "leave-one-out; users with fewer than 3 events only train (RecBole would ask them too)")
        return {"kind": "leave-one-out", **repeats}
    shares = as_numbers(how, f"eval_args.split.{kind}")
    if len(shares) != 3 or min(shares[1:]) <= 0:
        work.lacks("eval_args.split", f"{kind}: {how}: training, validation and test are all needed; .8, .1 and .1 stand")
        shares = [0.8, 0.1, 0.1]
    valid, test = (round(x / sum(shares), 6) for x in shares[1:])
    if kind == "TS":
        work.lacks("eval_args.split", "TS: validation by each user's share is not known; all users are cut at two moments")
    elif kind != "RS":
        work.lacks("eval_args.split", f"{kind}: unknown; shares of each user's events stand")
    whole = kind == "TS" or group in (None, "none", "")
    work.say("eval_args.split", "shares are rounded by a rule of their own, so that a part may differ by one event a user")
    return {"kind": "global-time" if whole else "ratio", "valid": valid, "test": test, **repeats}


def _protocol(work: _Import, sequential: bool) -> dict[str, Any]:
    mode = work.table("eval_args").get("mode", "full")
    if isinstance(mode, Mapping):
        if len({str(m) for m in mode.values()}) > 1:
            work.lacks("eval_args.mode", f"{dict(mode)}: one protocol for both parts; that of the test stands")
        mode = mode.get("test", mode.get("valid", "full"))
    mode = str(mode)
    masked = not (sequential or work.get("repeatable", False))
    said = "masks what a user has touched" if masked else "never masks the history for sequential or repeatable recommendation"
    work.say("mask", f'"{"seen" if masked else "none"}", for every system: RecBole {said}')
    table: dict[str, Any] = {"mask": "seen" if masked else "none"}
    number = mode[3:]
    if mode[:3] in ("uni", "pop") and number.isdecimal():
        table["candidates"] = {"size": int(number) + 1, "sources": ["random"]}
        if mode[:3] == "pop":
            work.lacks("eval_args.mode", f"{mode}: candidates by popularity are not known; as many uniform ones stand")
        work.say(
            "eval_args.mode", "fixed unseen candidates with the truth among them, drawn once by seed, the same for every system"
        )
    elif mode != "full":
        work.lacks("eval_args.mode", f"{mode}: labelled events are not ranked; the whole catalogue is")
    return table


def _systems(work: _Import, model: str | None, tables: Mapping[str, Any]) -> dict[str, Any]:
    params = {key: work.get(key) for key in _TRAINING if work.keys.get(key) is not None}
    for key in _TRAINING:
        work.get(key)
    params.setdefault("valid_metric", _STOPS_BY)
    params |= dict(_model_parameters(work))
    systems: dict[str, Any] = {"popular": {"component": "popular"}}
    length = work.whole("MAX_ITEM_LIST_LENGTH", 0)
    if model is None:
        work.lacks("model", "none is named; popular, ease and sasrec stand")
        systems |= {"ease": {"component": "ease"}, "sasrec": {"component": "sasrec"}}
    elif model in SEQUENTIAL | GENERAL:
        systems["recbole"] = {"peer": f"recbole:{model}", "params": {k: as_plain(v, k) for k, v in params.items()}}
    else:
        work.lacks("model", f"{model}: a model of context or knowledge, or none of RecBole 1.2.1; popular and ease stand")
        systems["ease"] = {"component": "ease"}
    ours = OURS.get(model or "")
    if ours in CATALOG and ours not in systems:
        systems[ours] = {"component": ours} | ({"length": length} if ours == "sasrec" and length else {})
        work.say("model", f"beside it stands our own {ours}, with our defaults")
    return systems


def _model_parameters(work: _Import) -> Iterator[tuple[str, Any]]:
    """Yield what is no key of RecBole's own: parameters of the model, unless one is nearly a known key."""
    known = sorted(work.taken | set(_NOT) | {key for keys in _IDLE.values() for key in keys} | {"dataset", "data_path"})
    for key, value in work.keys.items():
        if key in known or value is None:
            continue
        work.taken.add(key)
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.85)
        if near:
            work.lacks(key, f"unknown; did you mean {near[0]}? RecBole's default stands")
        else:
            work.say(key, f"{value!r}: handed to the model as a parameter of its own (RecBole ignores one it does not know)")
            yield key, value


def _rest(work: _Import) -> None:
    """Say something of every key that nothing else has looked at."""
    for key in ("dataset", "data_path"):
        work.get(key)
    for key in sorted(set(work.keys) - work.taken):
        if work.keys[key] in (None, [], {}):
            continue
        idle = [why for why, keys in _IDLE.items() if key in keys]
        if idle:
            work.say(key, f"left out: {idle[0]}")
        elif key in _NOT:
            work.lacks(key, _NOT[key])
        else:
            raise SpecError("was not looked at", where=key)
