"""Whatever the description of the API allows, and much that it does not: a served run answers without an error of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from tests.app.served import Server, serving

ROUTES = {
    "POST /v1/recommend", "POST /v1/rank", "POST /v1/explain", "POST /v1/search", "POST /v1/chat", "POST /v1/events",
    "GET /v1/items", "GET /v1/items/{item}", "GET /v1/users/{user}/memory", "POST /v1/users/{user}/memory",
    "PUT /v1/users/{user}/memory/{fact}", "DELETE /v1/users/{user}/memory", "DELETE /v1/users/{user}/memory/{fact}",
    "GET /healthz",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(asking_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("described")
    # A chat is an agent that reasons with an embedded scripted model, so that the loop is fuzzed too.
    (folder / "llm.toml").write_text('[llm.told]\nbackend = "scripted"\nanswers = ["{}", "I like Heat."]\n')
    options = ("--system", "ease", "--llm", str(folder / "llm.toml"), "--set", "timeout=60")
    with serving(asking_run, "--store", str(folder / "store.sqlite"), *options) as process:
        yield process


@pytest.fixture(scope="module")
def described(server: Server) -> dict[str, Any]:
    with server.client() as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    found = (result.ok() for result in schema.get_all_operations())
    return {operation.label: operation for operation in found}


def test_every_route_is_described(described: dict[str, Any]) -> None:
    assert set(described) >= ROUTES


def asked(server: Server, operation: Any, mode: schemathesis.GenerationMode, examples: int) -> tuple[int, list[str]]:
    """Ask a route so many things; returns how many answers there were, and what was an error of the server."""
    session = requests.Session()
    session.trust_env = False
    broken: list[str] = []
    answered = 0

    @settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(mode))
    def ask(case: Any) -> None:
        nonlocal answered
        answer = case.call(base_url=server.url, session=session, timeout=60)
        answered += 1
        if answer.status_code >= 500:
            broken.append(f"{operation.label}: {answer.status_code} {answer.text[:200]} {case.as_curl_command()[:500]}")

    try:
        ask()
    except (Unsatisfiable, SkipTest):  # a route without parameters cannot be asked wrongly
        assert mode is schemathesis.GenerationMode.NEGATIVE
    return answered, broken


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda m: m.value)
@pytest.mark.parametrize("examples", [3, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])])
def test_no_request_is_an_error_of_the_server(
    server: Server, described: dict[str, Any], mode: schemathesis.GenerationMode, examples: int
) -> None:
    found = [asked(server, operation, mode, examples) for operation in described.values()]
    broken = [line for _, lines in found for line in lines]
    assert not broken, "\n".join(broken)
    assert sum(answered for answered, _ in found) > examples * 5
    with server.client() as client:
        assert client.get("/readyz").status_code == 200
