"""Conversations by one command: tables that agree with each other, a kill that loses nothing, errors of one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from llm4rec.agents.simulate.preference import Judge, Judged, Pair
from llm4rec.app.conversations.bench import Bench
from llm4rec.app.conversations.parts import Part, read_part
from llm4rec.app.conversations.preferences import prefer
from llm4rec.app.conversations.spec import parse_conversations, read_conversations
from llm4rec.app.conversations.talks import converse
from llm4rec.core import SpecError
from llm4rec.experiment.spec import read_spec
from llm4rec.llm import ScriptedModel

ROOT = Path(__file__).resolve().parents[2]
GENRES = ("crime", "love", "space", "war")
WORLD = """
[experiment]
name = "small"
ks = [5]
primary = "ndcg@5"
[data]
path = "events.csv"
items = "items.csv"
[systems.popular]
component = "popular"
[systems.ease]
component = "ease"
[systems.said]
retrieve = ["ease"]
explain = { component = "evidence-explainer", attributes = ["genre", "year"] }
"""
SPEC = """
[conversations]
name = "talks"
seeds = [1, 2]
batch = 5
[worlds.small]
spec = "world.toml"
system = "ease"
[llm.told]
backend = "scripted"
answers = ["I would like something else.", "No."]
[simulators.told]
kind = "llm"
llm = "told"
[agents.listening]
kind = "listening"
[agents.rule]
kind = "rule"
[agents.popular]
kind = "popular"
[agents.thinking]
kind = "llm"
llm = "told"
strategy = "plan"
[preferences.lists]
world = "small"
a = "ease"
b = "popular"
llm = "told"
cases = 4
repeats = 2
[preferences.reasons]
of = "explanations"
world = "small"
a = "said"
b = "popular"
llm = "told"
cases = 4
repeats = 1
[protocols.search]
kind = "multi-turn"
world = "small"
agents = ["listening", "rule", "popular"]
users = 12
turns = 4
shown = 2
least = 2
[protocols.thinking]
kind = "multi-turn"
world = "small"
users = 6
sample = 3
turns = 2
least = 2
agents = ["rule", "thinking"]
[protocols.words]
kind = "multi-turn"
world = "small"
simulator = "told"
users = 4
turns = 3
agents = ["popular"]
[protocols.list]
kind = "one-turn"
world = "small"
users = 20
shown = 10
agents = ["listening", "rule", "popular"]
[protocols.tastes]
kind = "target-free"
world = "small"
users = 10
turns = 2
agents = ["listening", "rule", "popular"]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talks")
    rng = np.random.default_rng(0)
    rows = []
    for user in range(40):
        liked = rng.permutation(np.arange(user % 4, 40, 4))[:7].tolist()
        rows += [f"u{user},i{item},{1_600_000_000 + 86_400 * t + user}\n" for t, item in enumerate(liked)]
    (folder / "events.csv").write_text("user_id,item_id,timestamp\n" + "".join(rows))
    films = [f"i{i},{GENRES[i % 4]} number {i},{GENRES[i % 4]},{1980 + i}\n" for i in range(40)]
    (folder / "items.csv").write_text("item_id,title,genre,year\n" + "".join(films))
    (folder / "world.toml").write_text(WORLD)
    (folder / "talks.toml").write_text(SPEC)
    converse(read_conversations(folder / "talks.toml"), folder / "out", tell=lambda line: None)
    return folder


def tables(out: Path) -> dict[str, pl.DataFrame]:
    found = {name: pl.read_parquet(out / f"{name}.parquet") for name in ("results", "conversations", "turns")}
    return found | {"results": found["results"].filter(pl.col("metric") != "seconds")}


def test_tables_and_summary_agree(folder: Path) -> None:
    out = folder / "out"
    summary, found = json.loads((out / "summary.json").read_text()), tables(out)
    search = summary["search"]
    assert list(search["agents"]) == ["listening", "rule", "popular"]
    for agent, row in search["agents"].items():
        mine = found["results"].filter((pl.col("protocol") == "search") & (pl.col("agent") == agent))
        success = mine.filter(pl.col("metric") == "success")
        assert (row["cases"], success.height) == (12, 24)
        assert row["metrics"]["success"]["mean"] == pytest.approx(success["value"].mean())
        talks = found["conversations"].filter((pl.col("protocol") == "search") & (pl.col("agent") == agent))
        assert (talks["outcome"] == "accepted").mean() == pytest.approx(row["metrics"]["success"]["mean"])
        curve = [row["metrics"][f"success@{t}"]["mean"] for t in (1, 2, 3, 4)]
        assert curve == sorted(curve)
        assert curve[-1] == row["metrics"]["success"]["mean"]
        assert row["metrics"]["success"]["low"] <= curve[-1] <= row["metrics"]["success"]["high"]
    best, popular = search["agents"]["listening"], search["agents"]["popular"]
    assert best["metrics"]["success"]["mean"] > popular["metrics"]["success"]["mean"]
    test = best["versus"]["popular"]
    assert test["difference"] == pytest.approx(best["metrics"]["success"]["mean"] - popular["metrics"]["success"]["mean"])
    assert summary["tastes"]["primary"] == "satisfaction"
    assert summary["list"]["agents"]["rule"]["metrics"]["recall@10"]["n"] == 20
    assert summary["words"]["agents"]["popular"]["speech"]["failures"]["omitted"] > 0
    assert {"turn", "shown", "taken", "leaked"} <= set(found["turns"].columns)


def test_agents_that_ask_a_model_talk_to_a_sample(folder: Path) -> None:
    """A script that calls no tool: every turn falls back on the rules, and that is counted."""
    thinking = json.loads((folder / "out" / "summary.json").read_text())["thinking"]["agents"]
    assert (thinking["rule"]["cases"], thinking["thinking"]["cases"]) == (6, 3)
    assert (thinking["thinking"]["sampled"], thinking["rule"]["sampled"]) == (True, False)
    assert thinking["rule"]["versus"]["thinking"]["n"] == 3
    assert thinking["rule"]["sample"]["success"]["n"] == 3
    assert thinking["thinking"]["costs"]["tokens"] > 0
    assert thinking["thinking"]["costs"]["agent_failures"] > 0
    assert thinking["thinking"]["failures"]
    turns = tables(folder / "out")["turns"].filter(pl.col("agent") == "thinking")
    assert set(turns["by"]) == {"rule"}
    text = (folder / "out" / "table.md").read_text()
    assert "LLM (sample)" in text
    assert "success on the sample of 3" in text


def test_the_same_users_with_every_agent(folder: Path) -> None:
    first = tables(folder / "out")["turns"].filter((pl.col("protocol") == "search") & (pl.col("turn") == 1))
    said = {agent: rows.sort("seed", "case")["text"].to_list() for (agent,), rows in first.group_by(["agent"])}
    assert said["listening"] == said["rule"] == said["popular"]


def test_reports(folder: Path) -> None:
    page, text = ((folder / "out" / name).read_text() for name in ("report.html", "table.md"))
    assert "Rules, all that was said" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "| Popularity (control) | 12 |" in text
    assert text.count("### ") == 7


def test_a_judge_that_says_nothing_decides_nothing(folder: Path) -> None:
    lists = json.loads((folder / "out" / "preferences.json").read_text())["lists"]
    for part in ("pairs", "identical", "known"):
        figures = lists["parts"][part]
        assert (figures["answers"], figures["unreadable"], figures["n"], figures["share"]) == (16, 16, 0, None)
    verdicts = pl.read_parquet(folder / "out" / "verdicts.parquet")
    assert verdicts.height == 12 + 12
    assert verdicts["verdict"].null_count() == 24


def test_explanations_are_judged_with_controls_of_their_own(folder: Path) -> None:
    spec = read_conversations(folder / "talks.toml")
    bench = Bench(spec.worlds["small"], folder / "out" / "worlds" / "small", "use", lambda line: None)
    asked: list[Pair] = []

    class Deaf(Judge):
        def judge(self, pairs: Sequence[Pair]) -> list[Judged]:
            asked.extend(pairs)
            return super().judge(pairs)

    table = spec.preferences["reasons"]
    found = prefer(table, bench.engine, bench.cases, Deaf(ScriptedModel(["No."] * 100), table.judge), 1, lambda line: None)
    own, same, known = (asked[at : at + 4] for at in (0, 4, 8))
    assert all(pair.a == pair.b for pair in same)
    assert all(mine.a == other.a for mine, other in zip(own, known, strict=True))
    assert sum(pair.a != pair.b for pair in known) >= 3  # somebody else's reasons
    assert all(": " in pair.a[0] and pair.a[0].split(": ")[0].split()[0] in GENRES for pair in own)
    assert found.figures["equal"] <= 4
    with pytest.raises(SpecError, match="neither 'ease' nor 'popular' explains"):
        prefer(table.model_copy(update={"a": "ease"}), bench.engine, bench.cases, Deaf(ScriptedModel([]), table.judge), 1, str)


def test_a_killed_command_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llm4rec.app.cli", "converse", str(folder / "talks.toml"), "--out", str(tmp_path / "out")]
    first = tmp_path / "out" / "talks" / "search" / "listening" / "1.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (
        time.monotonic() < deadline and process.poll() is None and not (first.is_file() and first.read_text().count("\n") > 5)
    ):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.is_file()
    if process.returncode == -signal.SIGKILL:
        assert not (tmp_path / "out" / "summary.json").exists()
    with first.open("a") as file:
        file.write('{"case": 3, "user": "cut o')
    done = list(read_part(first))
    before = {row["case"] for row in done}
    assert before
    told: list[str] = []
    converse(read_conversations(folder / "talks.toml"), tmp_path / "out", tell=told.append)
    assert any(f"{12 - len(before)} of 12" in line for line in told) or len(before) == 12
    for name, table in tables(folder / "out").items():
        keys = [
            "protocol",
            "agent",
            "seed",
            "case",
            *(["turn"] if name == "turns" else ["metric"] if name == "results" else []),
        ]
        again = tables(tmp_path / "out")[name].sort(keys)
        assert again.equals(table.sort(keys)), name


def test_what_changed_is_held_anew_and_nothing_else(folder: Path) -> None:
    text = SPEC.replace("turns = 4", "turns = 2")
    (folder / "other.toml").write_text(text)
    told: list[str] = []
    converse(read_conversations(folder / "talks.toml"), folder / "out", tell=told.append)
    assert not any("conversations in" in line for line in told)
    converse(read_conversations(folder / "other.toml"), folder / "out", tell=told.append)
    held = [line for line in told if "conversations in" in line]
    assert len(held) == 6
    assert all(line.startswith("search, ") for line in held)


def test_a_part_of_another_key_begins_anew(tmp_path: Path) -> None:
    part = Part(tmp_path / "a" / "1.jsonl", "one")
    assert part.open(fresh=False) == set()
    part.add([{"case": 7}, {"case": 8}])
    assert Part(part.path, "one").open(fresh=False) == {7, 8}
    assert Part(part.path, "two").open(fresh=False) == set()
    part.path.write_text("\0\0garbage")
    assert Part(part.path, "one").open(fresh=False) == set()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("kind = \"rule\"", "kind = \"ruel\""), "did you mean 'rule'"),
        (("simulator = \"told\"", "simulator = \"tolt\""), "did you mean 'told'"),
        (("agents = [\"popular\"]", "agents = [\"nobody\"]"), "no agent 'nobody'"),
        (("turns = 4", "turnz = 4"), "did you mean 'turns'"),
        (("llm = \"told\"", "llm = \"none\""), "no table [llm] 'none'"),
        (("shown = 10", "shown = 5"), "10 or more"),
        (("world = \"small\"", "world = \"smal\""), "did you mean 'small'"),
        (("spec = \"world.toml\"", ""), "either 'spec' or 'run'"),
        (("kind = \"popular\"", "kind = \"popular\"\nsystem = \"ease\""), "unknown key"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(change: tuple[str, str], says: str) -> None:
    tables = tomllib.loads(SPEC.replace(*change, 1))
    with pytest.raises(SpecError) as error:
        parse_conversations(tables)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_the_resolved_specification_reads_back(folder: Path) -> None:
    spec = read_conversations(folder / "talks.toml")
    again = parse_conversations(tomllib.loads(spec.dump()), folder=Path(os.sep))
    assert again.protocols == spec.protocols
    assert again.agents == spec.agents
    assert again.simulators == spec.simulators


@pytest.mark.parametrize("path", sorted((ROOT / "experiments" / "conversations").glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_specifications_are_valid(path: Path) -> None:
    spec = read_conversations(path)
    for world in spec.worlds.values():
        assert world.spec is not None
        assert read_spec(world.spec).systems[str(world.system)]
    assert all(spec.taking_part(name) for name in spec.protocols)
