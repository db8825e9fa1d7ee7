"""A RecBole configuration becomes a specification of ours, and nothing in it is passed over in silence."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import SpecError
from llm4rec.data import load, make_split
from llm4rec.experiment import summary
from llm4rec.experiment.recbole import (
    _IDLE,
    _NOT,
    _TRAINING,
    CALLED,
    GENERAL,
    OURS,
    SEQUENTIAL,
    SUMMED,
    Remark,
    import_recbole,
)
from llm4rec.experiment.recbole_files import interval
from llm4rec.experiment.spec import parse_spec
from llm4rec.metrics import BEYOND
from llm4rec.peers.foreign import SCRIPTS

CONFIG: dict[str, Any] = {
    "dataset": "shop", "data_path": "dataset/", "model": "SASRec",
    "USER_ID_FIELD": "uid", "ITEM_ID_FIELD": "iid", "RATING_FIELD": "stars", "TIME_FIELD": "when",
    "load_col": {"inter": ["uid", "iid", "stars", "when"]},
    "val_interval": {"stars": "[2,inf)"}, "user_inter_num_interval": "(2,inf)", "item_inter_num_interval": "[2,inf)",
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "metrics": ["Recall", "NDCG"], "topk": [5, 10], "valid_metric": "Recall@5", "epochs": 2, "train_neg_sample_args": None,
    "MAX_ITEM_LIST_LENGTH": 20, "hidden_size": 16, "seed": 7,
}  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder of atomic files with columns of its own names."""
    folder = tmp_path / "dataset" / "shop"
    folder.mkdir(parents=True)
    rows = ["uid:token\tiid:token\tstars:float\twhen:float"]
    rows += [f"u{u}\ti{(u + 3 * s) % 9}\t{1 + (u + s) % 5}\t{1_000_000_000 + 86_400 * s}" for u in range(12) for s in range(6)]
    (folder / "shop.inter").write_text("\n".join(rows) + "\n")
    (folder / "shop.item").write_text("iid:token\ttitle:token_seq\n" + "\n".join(f"i{i}\tThing {i}" for i in range(9)) + "\n")
    return tmp_path


def translated(
    folder: Path, changes: dict[str, Any] | None = None, out: Path | None = None
) -> tuple[dict[str, Any], list[Remark]]:
    config = {k: v for k, v in (CONFIG | (changes or {})).items() if v != "leave out"}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    text, remarks = import_recbole(path, out)
    return tomllib.loads(text), remarks


def lost(remarks: list[Remark], key: str) -> str:
    """Return what is said of a key that is not honoured."""
    return " / ".join(r.line for r in remarks if r.key == key and not r.honoured)


def test_a_configuration_becomes_a_specification(shop: Path) -> None:
    tables, remarks = translated(shop)
    assert tables["experiment"] == {
        "name": "shop-recbole", "description": "Imported from config.yaml.", "seeds": [7], "ks": [5, 10],
        "primary": "recall@5", "metrics": ["recall", "ndcg"],
    }  # fmt: skip
    assert tables["data"]["columns"] == {"user": "uid", "item": "iid", "time": "when", "value": "stars"}
    assert {k: tables["data"][k] for k in ("min_value", "user_core", "item_core", "duplicates")} == {
        "min_value": 2.0, "user_core": 3, "item_core": 2, "duplicates": "keep",
    }  # fmt: skip
    assert tables["split"]["kind"] == "leave-one-out"
    assert tables["protocol"] == {"mask": "none"}
    params = {"epochs": 2, "valid_metric": "Recall@5", "MAX_ITEM_LIST_LENGTH": 20, "hidden_size": 16}
    assert tables["systems"]["recbole"] == {"peer": "recbole:SASRec", "params": params}
    assert tables["systems"]["sasrec"] == {"component": "sasrec", "length": 20}
    assert [r for r in remarks if not r.honoured] == []


def test_the_specification_runs_from_where_it_is_written(shop: Path) -> None:
    out = shop / "specs" / "shop.toml"
    tables, _ = translated(shop, out=out)
    assert tables["data"]["path"] == "../dataset/shop/shop.inter"
    out.parent.mkdir()
    text, _ = import_recbole(shop / "config.yaml", out)
    spec = parse_spec(text, folder=out.parent)
    split = make_split(load(spec.data), spec.split)
    assert len(split.test) == 12
    assert split.train.n_items == 9


def test_a_folder_alone_is_enough(shop: Path) -> None:
    folder = shop / "dataset" / "shop"
    text, remarks = import_recbole(folder)
    tables = tomllib.loads(text)
    assert set(tables["systems"]) == {"popular", "ease", "sasrec"}
    assert tables["split"] == {"kind": "ratio", "valid": 0.1, "test": 0.1}  # RecBole's default, in time order
    assert "time order stands" in lost(remarks, "eval_args.order")
    (folder / "config.yaml").write_text("model: EASE\nreg_weight: 1e2\n")
    assert tomllib.loads(import_recbole(folder)[0])["systems"]["recbole"]["params"]["reg_weight"] == 100.0


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"val_interval": {"when": "[0,5]"}}, "val_interval", "only stars can be bounded"),
        ({"val_interval": {"stars": "[2,4]"}}, "val_interval", "only a lower bound is known"),
        ({"val_interval": {"stars": "(2,inf)"}}, "val_interval", "the bound itself stays in"),
        ({"user_inter_num_interval": "[2,50]"}, "user_inter_num_interval", "there is no upper bound"),
        ({"threshold": {"stars": 3}}, "threshold", "each event counts"),
        ({"filter_inter_by_user_or_item": False}, "filter_inter_by_user_or_item", "always go"),
        ({"metrics": ["NDCG", "GAUC"]}, "metrics", "GAUC: no measure of ranked lists"),
        ({"metrics": ["AveragePopularity"]}, "metrics", "no table holds it; evaluate_beyond gives arp@k of lists"),
        ({"metrics": ["ShannonEntropy"]}, "metrics", "no table holds it; evaluate_beyond gives entropy@k of lists"),
        ({"valid_metric": "AUC"}, "valid_metric", "ndcg@10 orders the leaderboard"),
        ({"eval_args": {"order": "RO"}}, "eval_args.order", "a random order trains on the future"),
        ({"eval_args": {"split": {"LS": "test_only"}}}, "eval_args.split", "both parts are always made"),
        ({"eval_args": {"split": {"RS": [0.8, 0.2]}}}, "eval_args.split", "all needed"),
        ({"eval_args": {"split": {"TS": [0.8, 0.1, 0.1]}}}, "eval_args.split", "cut at two moments"),
        ({"eval_args": {"mode": "pop100"}}, "eval_args.mode", "as many uniform ones stand"),
        ({"eval_args": {"mode": "labeled"}}, "eval_args.mode", "the whole catalogue is"),
        ({"eval_args": {"mode": {"valid": "uni100", "test": "full"}}}, "eval_args.mode", "that of the test stands"),
        ({"model": "DeepFM"}, "model", "popular and ease stand"),
        ({"stoping_step": 3}, "stoping_step", "did you mean stopping_step?"),
        ({"normalize_all": True}, "normalize_all", "not normalised"),
        ({"benchmark_filename": ["a", "b", "c"]}, "benchmark_filename", "splits the events of the .inter file itself"),
        ({"seed": 0}, "seed", "1 stands"),
        ({"eval_args": {"mode": {"valid": ["uni100"], "test": "full"}}}, "eval_args.mode", "that of the test stands"),
    ],
)  # fmt: skip
def test_what_cannot_be_honoured_is_said(shop: Path, changes: dict[str, Any], key: str, says: str) -> None:
    tables, remarks = translated(shop, changes)
    assert says in lost(remarks, key)
    assert tables["systems"]


@pytest.mark.parametrize(
    ("changes", "table", "wanted"),
    [
        ({"model": "EASE"}, "protocol", {"mask": "seen"}),
        ({"model": "EASE", "repeatable": True}, "protocol", {"mask": "none"}),
        ({"eval_args": {"mode": "uni50"}}, "protocol", {"mask": "none", "candidates": {"size": 51, "sources": ["random"]}}),
        (
            {"model": "BPR", "eval_args": {"split": {"RS": [8, 1, 1]}, "order": "TO"}},
            "split", {"kind": "ratio", "valid": 0.1, "test": 0.1},
        ),
        (
            {"model": "BPR", "eval_args": {"split": {"RS": [6, 2, 2]}, "order": "TO", "group_by": None}},
            "split", {"kind": "global-time", "valid": 0.2, "test": 0.2},
        ),
    ],
)  # fmt: skip
def test_the_rules_follow_the_model(shop: Path, changes: dict[str, Any], table: str, wanted: dict[str, Any]) -> None:
    assert translated(shop, changes)[0][table] == wanted


def test_the_peer_stops_by_what_recbole_stops_by(shop: Path) -> None:
    """RecBole's default is MRR@10, a peer's without an imported configuration NDCG@10."""
    tables, _ = translated(shop, {"valid_metric": "leave out"})
    assert tables["systems"]["recbole"]["params"]["valid_metric"] == "MRR@10"
    assert tables["experiment"]["primary"] == "mrr@10"
    assert translated(shop)[0]["systems"]["recbole"]["params"]["valid_metric"] == "Recall@5"
    script = (SCRIPTS / "recbole_peer.py").read_text()
    assert 'params.setdefault("valid_metric", "NDCG@10")' in script  # so that what stands in params is what it stops by


def test_measures_of_whole_sets_of_lists_are_where_the_import_says(shop: Path) -> None:
    _, remarks = translated(shop, {"metrics": ["ItemCoverage", "GiniIndex"]})
    kept = [r.line for r in remarks if r.key == "metrics" and r.honoured]
    assert [line.split(" as ")[1].split()[0] for line in kept] == ["coverage@10", "gini@10"]
    assert set(SUMMED.values()) <= set(summary.BEYOND)
    assert not set(CALLED.values()) & set(summary.BEYOND)
    assert set(SUMMED.values()) | set(CALLED.values()) <= set(BEYOND)
    # docs/peers.md has the same names.
    page = (Path(__file__).parents[2] / "docs" / "peers.md").read_text().lower()
    assert all(f"| `{theirs}` | `{ours}` |" in page for theirs, ours in (SUMMED | CALLED).items())


def test_every_key_is_spoken_of_or_used(shop: Path) -> None:
    """A value that nothing passes over: whatever key is changed, the result or the remarks change with it."""
    base = translated(shop)
    keys = [*_TRAINING, *_NOT, *(key for keys in _IDLE.values() for key in keys)]
    silent = [key for key in keys if key not in CONFIG and translated(shop, {key: 3}) == base]
    assert silent == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: [", "is not YAML"),
        ("- a\n- b\n", "holds no table of keys"),
        ("model: EASE\n", "names no dataset"),
        ("dataset: nowhere\n", "nowhere.inter is not found"),
        ("dataset: shop\nuser_inter_num_interval: five\n", "'five' is no interval"),
        ("dataset: shop\nitem_inter_num_interval: '[nan,inf)'\n", "'[nan,inf)' is no interval"),
        ("dataset: shop\nval_interval: stars\n", "val_interval: 'stars' is no table of keys"),
        ("dataset: shop\nload_col: 5\n", "load_col: 5 is no table of keys"),
        ("dataset: shop\ntopk: [ten]\n", "topk: 'ten' is no whole number"),
        ("dataset: shop\ntopk: [0]\n", "experiment.ks"),
        ("dataset: shop\nseed: 2.5\n", "seed: 2.5 is no whole number"),
        ("dataset: shop\nMAX_ITEM_LIST_LENGTH: long\n", "MAX_ITEM_LIST_LENGTH: 'long' is no whole number"),
        ("dataset: shop\neval_args: RO_RS,full\n", "eval_args: 'RO_RS,full' is no table of keys"),
        ("dataset: shop\neval_args: {split: RS}\n", "eval_args.split: 'RS' is no table of keys"),
        ("dataset: shop\neval_args: {split: {RS: most}}\n", "eval_args.split.RS: 'most' is no list of numbers"),
        ("dataset: shop\neval_args: {split: {RS: [.8, .inf, .1]}}\n", "is no list of numbers"),
        ("dataset: shop\nmodel: BPR\nsince: 2020-01-01\n", "since: datetime.date(2020, 1, 1) is neither number nor word"),
    ],
)
def test_a_wrong_configuration_is_one_line(shop: Path, text: str, says: str) -> None:
    (shop / "config.yaml").write_text(text)
    with pytest.raises(SpecError, match=re.escape(says)) as caught:
        import_recbole(shop / "config.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_path_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file or folder"):
        import_recbole(tmp_path / "x.yaml")
    with pytest.raises(SpecError, match=r"holds 0 \.inter files"):
        import_recbole(tmp_path)


def test_its_own_data_set_is_the_named_one(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("dataset: ml-100k\nmodel: LightGCN\nuser_inter_num_interval: '[5,inf)'\n")
    tables = tomllib.loads(import_recbole(tmp_path / "c.yaml")[0])
    assert tables["data"] == {"set": "ml-100k", "duplicates": "keep", "user_core": 5}


@given(st.floats(0, 1e6), st.sampled_from("[("), st.sampled_from("])"), st.booleans())
def test_intervals_are_read_as_written(low: float, left: str, right: str, open_end: bool) -> None:
    high = "inf" if open_end else repr(low + 1)
    read = interval(f"{left}{low!r}, {high}{right}", "x")
    assert read.low == low
    assert read.high == (None if open_end else low + 1)
    assert read.open_low == (left == "(")


def test_the_models_are_one_kind_each() -> None:
    assert not SEQUENTIAL & GENERAL
    assert set(OURS) <= SEQUENTIAL | GENERAL
