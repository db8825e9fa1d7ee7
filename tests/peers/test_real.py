"""The libraries themselves, where their environments are: each recovers a known answer through the exchange."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llm4rec.peers import PEERS, Peer, PeerConfig, home, installed
from tests import worlds
from tests.contracts import assert_same_lists, recall

pytestmark = [pytest.mark.peers, pytest.mark.slow]

#: Model, parameters, world and the recall at the world's cut-off that it reaches there.
MODELS: list[tuple[str, dict[str, object], worlds.World, float]] = [
    ("recbole:EASE", {"reg_weight": 10.0}, worlds.checkerboard(), 1.0),
    ("recbole:LightGCN", {"epochs": 60, "train_batch_size": 64, "learning_rate": 0.01}, worlds.checkerboard(), 0.9),
    (
        "recbole:SASRec",
        {"epochs": 20, "train_batch_size": 64, "hidden_dropout_prob": 0.1, "MAX_ITEM_LIST_LENGTH": 12},
        worlds.cycle(), 0.9,
    ),
    ("rectools:EASE", {"regularization": 10.0}, worlds.checkerboard(), 1.0),
    ("rectools:ALS", {"model": {"factors": 8}}, worlds.checkerboard(), 0.9),
    ("rectools:SASRec", {"epochs": 40, "n_factors": 32, "session_max_len": 12}, worlds.cycle(), 0.9),
    # Recall@10 of the validation items is 1 long before the next item is known: the best weights are early ones.
    ("rectools:SASRec", {"epochs": 60, "n_factors": 32, "session_max_len": 12, "patience": 10}, worlds.cycle(), 0.5),
    ("lenskit:ImplicitMF", {"embedding_size": 8}, worlds.checkerboard(), 0.9),
    ("lenskit:ItemKNN", {"feedback": "implicit"}, worlds.checkerboard(), 0.9),
]  # fmt: skip


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("peer", "params", "world", "wanted"), MODELS, ids=[f"{m[0]}-{len(m[1])}" for m in MODELS])
def test_a_library_recovers_the_known_answer(
    peer: str, params: dict[str, object], world: worlds.World, wanted: float, tmp_path: Path
) -> None:
    library = peer.partition(":")[0]
    if installed(library) != PEERS[library].version:
        pytest.skip(f"{PEERS[library].label} is not in {home()}: run 'make peers'")
    split, cases = world.split, world.split.test
    model = Peer(PeerConfig.model_validate({"peer": peer, "params": params}))
    model.fit(split.train, valid=split.valid, rng=np.random.default_rng(0))
    lists = model.retrieve(cases.queries, 10, exclude=cases.seen)
    lists.check(split.train.n_items, exclude=cases.seen)
    assert recall(lists, cases, world.k) >= wanted
    model.save(tmp_path / "saved")
    assert_same_lists(Peer.load(tmp_path / "saved").retrieve(cases.queries, 10, exclude=cases.seen), lists)
