"""A search that was stopped: nothing is lost, doubled or fitted again."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llm4rec.core import RunError
from llm4rec.experiment.search import search_of
from llm4rec.experiment.spec import read_spec, tune_options
from llm4rec.experiment.trials import Record, TrialLog
from llm4rec.experiment.tune import tune
from llm4rec.models.ease import EASE
from llm4rec.models.sasrec import SASRec
from tests.experiment.made_tune import go, lines, with_search


@pytest.fixture
def path(log_folder: Path) -> Path:
    """Return a specification with a table for tuning."""
    return with_search(log_folder)


def test_the_same_command_again_fits_nothing(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = go(path, tmp_path / "out", systems=("ease", "sasrec"))
    before = (tmp_path / "out" / "trials.jsonl").read_bytes(), one.path.read_text()

    def no(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(EASE, "fit", no)
    monkeypatch.setattr(SASRec, "fit", no)
    two = go(path, tmp_path / "out", systems=("ease", "sasrec"))
    assert ((tmp_path / "out" / "trials.jsonl").read_bytes(), two.path.read_text()) == before
    assert one.outcomes == two.outcomes


def test_more_trials_go_on_from_those_there_are(path: Path, tmp_path: Path) -> None:
    go(path, tmp_path / "out", systems=("ease",), trials=3)
    few = lines(tmp_path / "out")
    go(path, tmp_path / "out", systems=("ease",), trials=14)
    go(path, tmp_path / "whole", systems=("ease",), trials=14)
    assert lines(tmp_path / "out")[: len(few)] == few
    assert lines(tmp_path / "out") == lines(tmp_path / "whole"), "a search that was cut off goes on as it would have"


def test_kill_9_loses_the_trial_in_flight_and_no_more(path: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "llm4rec.app.cli",
        "tune",
        str(path),
        "--out",
        str(tmp_path / "out"),
        "--systems",
        "ease,sasrec",
    ]
    log = tmp_path / "out" / "trials.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        while not (log.exists() and log.read_bytes().count(b'"done"') >= 3):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = [line for line in lines(tmp_path / "out") if line["state"] == "done"]
    with log.open("a") as file:
        file.write('{"key": "half a li')  # what a kill within a write leaves
    go(path, tmp_path / "out", systems=("ease", "sasrec"))
    go(path, tmp_path / "whole", systems=("ease", "sasrec"))
    done = [[line for line in lines(tmp_path / d) if line["state"] == "done"] for d in ("out", "whole")]
    assert done[0][: len(kept)] == kept
    assert done[0] == done[1]


def test_a_changed_specification_is_another_search(path: Path, tmp_path: Path) -> None:
    go(path, tmp_path / "out", systems=("ease",), trials=2)
    path.write_text(path.read_text().replace("l2 = 5.0", "l2 = 6.0"))
    told: list[str] = []
    tune(tune_options(read_spec(path), {"trials": 2}), tmp_path / "out", systems=["ease"], tell=told.append)
    assert any("2 trials in the log are of another specification" in line for line in told)
    assert len([line for line in lines(tmp_path / "out") if line["state"] == "done"]) == 4


def test_a_broken_log_is_told(path: Path, tmp_path: Path) -> None:
    go(path, tmp_path / "out", systems=("ease",), trials=2)
    log = tmp_path / "out" / "trials.jsonl"
    log.write_text("nonsense\n" + log.read_text())
    with pytest.raises(RunError, match="line 1 is no trial"):
        go(path, tmp_path / "out", systems=("ease",))


def test_a_trial_that_kills_its_process_three_times_has_failed(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    go(path, out, systems=("ease",), trials=1)
    log = TrialLog(out / "trials.jsonl")
    second = search_of(read_spec(path), "ease")
    assert second is not None
    own = [(log.records[-1].params, log.records[-1].value)]
    params = second.propose(own, sampler="tpe", seed=1, name="ease", number=1)
    assert params is not None
    for _ in range(3):
        log.append(log.records[0].model_copy(update={"number": 1, "params": dict(params)}))
    (outcome,) = go(path, out, systems=("ease",), trials=2).outcomes
    assert outcome.failed == 1
    assert outcome.error is not None
    assert "ended 3 times" in outcome.error


def test_a_line_of_the_log_reads_back(tmp_path: Path) -> None:
    record = Record(key="k", system="s", number=0, seed=1, params={}, state="done", metric="m", value=0.1, seconds=1.0)
    log = TrialLog(tmp_path / "log.jsonl")
    log.append(record)
    assert TrialLog(log.path).records == [record]
