"""The exchange with another library: the contract over a stand-in, and what goes wrong, in one line each."""

# ruff: noqa: RUF012 (the hooks of a contract are class attributes)
from __future__ import annotations

import ast
import re
import time
from pathlib import Path

import numpy as np
import pytest

from llm4rec.core import Queries, Ragged
from llm4rec.experiment.spec import parse_spec
from llm4rec.peers import HOME, PEERS, Peer, PeerConfig, PeerError, foreign, installed
from tests import worlds
from tests.contracts import ScoringContract
from tests.peers.conftest import environment

ROOT = Path(__file__).parents[2]
WORLD = worlds.checkerboard()
SCRIPTS = foreign.SCRIPTS  # before a fixture puts the stand-ins there


def fitted(model: str, **config: object) -> Peer:
    peer = Peer(PeerConfig.model_validate({"peer": f"recbole:{model}", **config}))
    return peer.fit(WORLD.split.train, valid=WORLD.split.valid, rng=np.random.default_rng(0))


@pytest.mark.usefixtures("made")
class TestByHistory(ScoringContract):
    component = Peer
    configs = {"peer": "recbole:Neighbours", "params": {"power": 2.0}, "threads": 1}


@pytest.mark.usefixtures("made")
class TestByUser(ScoringContract):
    component = Peer
    configs = {"peer": "recbole:Users", "threads": 1}


@pytest.mark.usefixtures("made")
def test_what_the_peer_cannot_know_is_answered_by_popularity() -> None:
    train, history = WORLD.split.train, WORLD.split.test.queries.history.take(np.arange(2))
    by_user, by_history = fitted("Users", threads=1), fitted("Neighbours", threads=1)
    stranger, empty = Queries.of(history), Queries.of(Ragged.empty(2), users=np.array([0, 1]))
    assert (by_user.score(stranger) == train.item_counts).all()
    assert (by_history.score(empty) == train.item_counts).all()
    assert not (by_user.score(empty) == train.item_counts).all()
    assert not (by_history.score(stranger) == train.item_counts).all()


@pytest.mark.usefixtures("made")
def test_scores_that_are_no_numbers_are_an_error_and_none_at_all_mean_popularity() -> None:
    queries = WORLD.split.test.queries.take(np.arange(3))
    assert (fitted("Strange", threads=1).score(queries) == WORLD.split.train.item_counts).all()
    with pytest.raises(PeerError, match="RecBole Diverges: gives scores that are no numbers"):
        fitted("Diverges", threads=1).score(queries)


@pytest.mark.usefixtures("made")
def test_a_process_that_ends_unasked_leaves_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM4REC_TEST_LEAVES", "1")
    with (
        pytest.raises(PeerError, match="RecBole: had enough"),
        foreign.foreign("recbole", tmp_path, threads=1, minutes=1) as ask,
    ):
        deadline = time.monotonic() + 60
        while not (tmp_path / "stderr.txt").read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.2)
        ask({"do": "fit", "padding": " " * 100_000})


@pytest.mark.usefixtures("made")
def test_no_test_answer_and_no_pickle_goes_out() -> None:
    peer = fitted("Neighbours", threads=3)
    assert peer.training_["files"] == ["stderr.txt", "train.npz", "valid.npz"]
    assert peer.training_["threads"] == "3"
    assert sorted(peer.train_) == ["items", "times", "users", "values"]
    order = np.lexsort((peer.train_["times"], peer.train_["users"]))
    assert (np.diff(order) > 0).all(), "events leave sorted by user and time"


@pytest.mark.usefixtures("made")
def test_the_last_words_of_a_library_are_the_error() -> None:
    with pytest.raises(PeerError, match=r"^RecBole: ValueError: no such parameter: 'depth'$"):
        fitted("Dies")


@pytest.mark.usefixtures("made")
def test_a_library_is_cut_off_in_time() -> None:
    with pytest.raises(PeerError, match=r"RecBole: not done after 0\.02 minutes; give more 'minutes'"):
        fitted("Sleeps", minutes=0.02)


def test_a_missing_environment_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME, str(tmp_path))
    assert installed("recbole") is None
    with pytest.raises(PeerError, match=r"^RecBole 1.2.1 is not installed in .*recbole; run 'make peers'"):
        Peer.ready(PeerConfig(peer="recbole:EASE"))
    environment(tmp_path, "recbole", "1.2.0")
    with pytest.raises(
        PeerError, match=r"holds RecBole 1\.2\.0, and 1\.2\.1 is what was checked; remove it and run 'make peers'"
    ):
        Peer.ready(PeerConfig(peer="recbole:EASE"))


SPEC = """
[experiment]
name = "x"
[data]
set = "ml-100k"
[systems.theirs]
peer = "recbole:SASRec"
params = { hidden_size = 64, loss_type = "CE" }
"""


def test_a_peer_in_a_specification() -> None:
    spec = parse_spec(SPEC)
    part = spec.systems["theirs"].part
    assert part is not None
    assert part.component == "peer"
    assert isinstance(part.config, PeerConfig)
    assert part.config.title == "RecBole SASRec"
    assert part.config.params == {"hidden_size": 64, "loss_type": "CE"}
    assert parse_spec(spec.dump()) == spec


@pytest.mark.parametrize(
    ("peer", "says"),
    [("recbole", "must be a library and a model"), ("recbol:EASE", "unknown library 'recbol'; did you mean 'recbole'?")],
)
def test_a_wrong_name_is_one_line(peer: str, says: str) -> None:
    with pytest.raises(Exception, match=re.escape(says)):
        parse_spec(SPEC.replace("recbole:SASRec", peer))


# -- the scripts and the pins -------------------------------------------------------------------
@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda p: p.stem)
def test_scripts_import_nothing_of_ours(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.split(".")[0] == "llm4rec" for name in names)


@pytest.mark.parametrize("peer", PEERS)
def test_each_peer_has_a_script_and_pins(peer: str) -> None:
    library = PEERS[peer]
    assert (SCRIPTS / f"{peer}_peer.py").exists()
    lines = [line for line in (ROOT / "peers" / f"{peer}.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines), "every line pins one version"
    assert f"{library.package}=={library.version}" in [line.lower() for line in lines]
    assert "torch==2.13.0" in lines
