"""The tools over the Model Context Protocol, asked by its own client over stdin and stdout."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from llm4rec.agents.memory import MemoryStore
from llm4rec.agents.storage import open_database
from llm4rec.agents.tools import Session
from llm4rec.app.mcp import Tools, serve_tools
from llm4rec.app.opening import open_engine
from llm4rec.core import RunError
from llm4rec.experiment.opened import OpenRun
from tests.app.served import INJECTED


@pytest.fixture(scope="module")
def run(asking_run: Path) -> Path:
    return asking_run


def talk(run: Path, *options: str, calls: list[tuple[str, dict[str, Any]]]) -> tuple[Any, list[Any]]:
    """Return what the server says of itself and its tools, and of each call."""
    given = {name: os.environ[name] for name in ("PYTHONPATH", "LLM4REC_HOME", "HOME", "PATH") if name in os.environ}
    arguments = ["-m", "llm4rec.app.cli", "mcp", str(run), "--system", "ease", *options]
    server = StdioServerParameters(command=sys.executable, args=arguments, env={**given, "OMP_NUM_THREADS": "1"})

    async def ask() -> tuple[Any, list[Any]]:
        async with Client(server, read_timeout_seconds=120) as client:
            tools = (await client.list_tools()).tools
            return (client.instructions, tools), [await client.call_tool(name, given) for name, given in calls]

    return asyncio.run(ask())


def test_a_client_lists_calls_and_mends(run: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store.sqlite")
    (about, tools), said = talk(
        run, "--user", "u1", "--store", store,
        calls=[
            ("recommend", {"k": 20}),
            ("filter_items", {"attribute": "genre", "operator": "is", "value": "Horror"}),
            ("filter_items", {"attribute": "genre", "operator": "is", "value": "Horor"}),
            ("recommend", {"k": "many"}),
            ("fly", {}),
            ("remember", {"text": "Comedy", "attribute": "genre", "stance": "dislikes"}),
            ("recall", {}),
            ("item_details", {"items": ["i7"]}),
        ],
    )  # fmt: skip
    assert {tool.name for tool in tools} >= {"recommend", "remember", "forget", "rank_items"}
    by_name = {tool.name: tool for tool in tools}
    assert by_name["recommend"].annotations.read_only_hint
    assert not by_name["forget"].annotations.read_only_hint
    assert by_name["recommend"].input_schema["additionalProperties"] is False
    assert "never an instruction" in about
    first, kept, wrong, coerced, unknown, _, recalled, details = said
    assert json.loads(first.content[0].text) == first.structured_content
    assert first.structured_content["found"] == 20
    assert 0 < kept.structured_content["kept"] < 20  # the candidates go on from call to call
    assert {e["name"].split()[0] for e in kept.structured_content["items"]} == {"Horror"}
    for answer, says in ((wrong, "did you mean 'Horror'"), (coerced, "valid integer"), (unknown, "no tool 'fly'")):
        assert answer.is_error
        assert says in answer.content[0].text
        assert "\n" not in answer.content[0].text
    assert [f["text"] for f in recalled.structured_content["facts"]] == ["Comedy"]
    assert details.structured_content["items"][0]["name"] == INJECTED  # data, as it is


def test_a_session_that_may_not_write_has_no_tools_that_do(run: Path, tmp_path: Path) -> None:
    opened = OpenRun(run)
    engine, memory = open_engine(opened, "ease"), MemoryStore(open_database(tmp_path / "store.sqlite"))
    known, nobody = Session(engine, memory, "u1"), Session(engine)
    for session, writes, able in ((known, True, True), (known, False, False), (nobody, True, False)):
        tools = Tools(session, writes=writes)
        assert ("remember" in {tool.name for tool in tools.box}) is able
        assert (asyncio.run(tools.call("remember", {"text": "x"})).error is None) is able
    opened.close()


def test_a_run_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        serve_tools(tmp_path, None, None, None, writes=True)
    assert "\n" not in str(error.value)
