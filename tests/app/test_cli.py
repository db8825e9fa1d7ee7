"""The command line: quick to help, one line for every mistake, and the same answers as the library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

EVENTS = "user_id,item_id,timestamp\n" + "".join(
    f"u{u},i{(u + 3 * t) % 20},{1_600_000_000 + 86_400 * t + u}\n" for u in range(30) for t in range(6)
)
SPEC = """
[experiment]
name = "tiny"
ks = [5]
primary = "ndcg@5"
[data]
path = "events.csv"
[systems.popular]
component = "popular"
[systems.ease]
component = "ease"
"""


def llm4rec(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llm4rec.app.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env={**os.environ, "COLUMNS": "100", **environment}
    )


def refused(*arguments: object, **environment: str) -> str:
    done = llm4rec(*arguments, **environment)
    assert done.returncode == 1, (done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.startswith("llm4rec: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli")
    (path / "events.csv").write_text(EVENTS)
    (path / "tiny.toml").write_text(SPEC)
    done = llm4rec("run", path / "tiny.toml", "--out", path / "run")
    assert done.returncode == 0, done.stderr
    assert "All 30 cases" in done.stdout
    assert f"report: {path / 'run' / 'report.html'}" in done.stdout
    return path


def test_help_is_quick_and_names_the_commands() -> None:
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = llm4rec("--help")
        seconds.append(time.perf_counter() - start)
    assert done.returncode == 0
    for command in ("run", "report", "recommend", "data", "doctor"):
        assert command in done.stdout
    assert min(seconds) <= 0.5


def test_quiet_prints_results_alone(folder: Path) -> None:
    done = llm4rec("run", folder / "tiny.toml", "--out", folder / "run", "--quiet")
    assert done.stderr == ""
    assert "EASE" in done.stdout


def test_without_a_terminal_progress_is_plain_lines(folder: Path) -> None:
    done = llm4rec("run", folder / "tiny.toml", "--out", folder / "again")
    assert "ease: fitting ..." in done.stderr
    assert "\x1b" not in done.stderr + done.stdout


def test_report_is_written_again(folder: Path) -> None:
    (folder / "run" / "report.html").unlink()
    done = llm4rec("report", folder / "run")
    assert done.returncode == 0, done.stderr
    assert (folder / "run" / "report.html").stat().st_size > 10_000


def test_compare_prints_one_table(folder: Path) -> None:
    done = llm4rec("compare", folder / "run", "--metric", "recall@5")
    assert done.returncode == 0, done.stderr
    assert "EASE" in done.stdout
    assert "p (Holm)" in done.stdout
    table = llm4rec("compare", folder / "run", "--markdown").stdout.splitlines()
    assert table[0].startswith("| system | mean |")
    assert "cases would show" in table.pop(), "what so many cases can show stands below the table"
    assert table.pop() == ""
    assert {line.count("|") for line in table} == {table[0].count("|")}
    assert "does not hold" in refused("compare", folder / "run", "--metric", "recall@6")


def test_calls_go_out_and_come_back(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    done = llm4rec("store", "export", folder / "run", file)
    assert done.stdout == f"0 calls: {file}\n", done.stderr
    done = llm4rec("store", "import", tmp_path / "other", file)
    assert done.stdout == "0 calls: 0 added, 0 replaced, 0 kept\n", done.stderr
    file.write_text("{}\n")
    assert str(file) in refused("store", "import", tmp_path / "other", file)
    assert "no such store" in refused("store", "export", tmp_path, file)


def test_recommend_prints_a_list(folder: Path) -> None:
    done = llm4rec("recommend", folder / "run", "--system", "ease", "--user", "u3", "--k", "4")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") >= 6


def test_data_show_describes_a_file(folder: Path) -> None:
    done = llm4rec("data", "show", folder / "events.csv")
    assert done.returncode == 0, done.stderr
    assert "30" in done.stdout


def test_data_make_writes_files_that_can_be_read(tmp_path: Path) -> None:
    made = tmp_path / "made"
    done = llm4rec("data", "make", "--users", "40", "--items", "60", "--events", "300", "--set", "sequence=0.5", "--out", made)
    assert done.returncode == 0, done.stderr
    assert "40 users, 60 items, 300 events" in done.stdout
    done = llm4rec("data", "show", made / "ratings.csv", "--items", made / "movies.csv")
    assert "300" in done.stdout


def test_data_list_names_the_sets() -> None:
    done = llm4rec("data", "list")
    for name in ("ml-100k", "movietweetings", "ml-latest-small", "amazon14-beauty", "amazon18-office"):
        assert name in done.stdout


def test_doctor_reports(tmp_path: Path) -> None:
    done = llm4rec("doctor", LLM4REC_HOME=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Python" in done.stdout
    assert "ml-100k" in done.stdout


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (('component = "ease"', 'component = "eese"'), ("systems.ease.component", "did you mean 'ease'")),
        (("events.csv", "event.csv"), ("event.csv", "did you mean")),
        (("[systems.ease]", "[systems.ease"), ("TOML",)),
        (("ks = [5]", "ks = [5]\ntypo = 1"), ("experiment.typo", "unknown key")),
        (('path = "events.csv"', 'path = "events.csv"\ncolumns = { user = "userid" }'), ("userid", "did you mean 'user_id'")),
    ],
)
def test_a_wrong_specification_is_one_line(
    folder: Path, tmp_path: Path, change: tuple[str, str], parts: tuple[str, ...]
) -> None:
    (tmp_path / "events.csv").write_text(EVENTS)
    (tmp_path / "tiny.toml").write_text(SPEC.replace(*change, 1))
    line = refused("run", tmp_path / "tiny.toml", "--out", tmp_path / "run")
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("run", "nowhere.toml"), "no such file"),
        (("report", "nowhere"), "nowhere"),
        (("recommend", "nowhere", "--user", "1"), "nowhere"),
        (("data", "show", "ml-100"), "did you mean 'ml-100k'"),
        (("data", "get", "minilm"), "minilm"),
        (("data", "make", "ml-25", "--out", "x"), "did you mean 'ml-25m'"),
        (("data", "make", "--set", "sequenc=1", "--out", "x"), "did you mean 'sequence'"),
        (("data", "make", "--users", "9", "--events", "9", "--out", "x"), "more than 9 events"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments: tuple[str, ...], part: str) -> None:
    assert part in refused(*arguments)


def test_a_broken_run_directory_is_one_line(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "run"
    broken.mkdir()
    (broken / "summary.json").write_text("{")
    assert "broken" in refused("recommend", broken, "--user", "u1")


def test_a_run_directory_that_cannot_be_made_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused("run", folder / "tiny.toml", "--out", tmp_path / "file" / "run")


def test_a_full_disk_is_one_line(folder: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    code = (
        "import errno, polars as pl, llm4rec.app.cli as cli\n"
        "def full(*a, **k): raise OSError(errno.ENOSPC, 'No space left on device', 'x.parquet')\n"
        "pl.DataFrame.write_parquet = full\n"
        "cli.main()\n"
    )
    out = folder / "full"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(folder / "tiny.toml"), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
    again = llm4rec("run", folder / "tiny.toml", "--out", out)
    assert again.returncode == 0, again.stderr


def test_what_a_terminal_obeys_is_not_printed(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(EVENTS)
    titles = "".join(f'i{i},"Film {i}\x1b]0;mine\x07\n\u202enwod"\n' for i in range(19)) + '"a,b",Comma\n'
    (tmp_path / "items.csv").write_text("item_id,title\n" + titles)
    (tmp_path / "tiny.toml").write_text(SPEC.replace('"events.csv"', '"events.csv"\nitems = "items.csv"'))
    assert llm4rec("run", tmp_path / "tiny.toml", "--out", tmp_path / "run").returncode == 0
    done = llm4rec("recommend", tmp_path / "run", "--system", "ease", "--items", 'i1, "a,b"', "--k", "3")
    assert done.returncode == 0, done.stderr
    assert "most recent: Comma; Film 1 ]0;mine nwod" in done.stdout
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout)
    assert done.stdout.count("\n") == 5


def test_too_little_memory_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(EVENTS)
    (tmp_path / "tiny.toml").write_text(SPEC + '[systems.als]\ncomponent = "als"\nfactors = 100000000000000\n')
    assert "not enough memory" in refused("run", tmp_path / "tiny.toml", "--out", tmp_path / "run")


def test_a_report_of_a_broken_specification_is_one_line(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    for content in ("", "experiment = 1"):
        (tmp_path / "run" / "spec.toml").write_text(content)
        assert "spec.toml" in refused("report", tmp_path / "run")


def test_ids_says_what_schemes_are_like(folder: Path) -> None:
    done = llm4rec("ids", folder / "tiny.toml", "--scheme", "sequential", "--scheme", "collaborative")
    assert done.returncode == 0, done.stderr
    assert "sequential (sequential): 20 items, 1.0 tokens each, 20 of 100 in use" in done.stdout
    assert "collaborative (collaborative): 20 items" in done.stdout
    assert "  i" in done.stdout.splitlines()[-1], "no item with its ID"
    assert "systems: no system generates item IDs; name a scheme: --scheme random" in refused("ids", folder / "tiny.toml")
    assert "unknown scheme 'rqkmeans'; did you mean 'rq-kmeans'?" in refused(
        "ids", folder / "tiny.toml", "--scheme", "rqkmeans"
    )
    assert "there is no table [encoder.minilm]" in refused("ids", folder / "tiny.toml", "--scheme", "rq-kmeans")
