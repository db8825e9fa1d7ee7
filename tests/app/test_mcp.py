"""The tools over the Model Context Protocol, asked by its own client over stdin and stdout."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from tests.app.served import INJECTED, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("tools"), "")


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
    _, again = talk(run, "--user", "u1", "--store", store, "--read-only", calls=[("recall", {}), ("remember", {"text": "x"})])
    assert [f["text"] for f in again[0].structured_content["facts"]] == ["Comedy"]  # it outlasts the process
    assert again[1].is_error


def test_a_run_that_is_none_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llm4rec.app.cli", "mcp", str(tmp_path)]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
