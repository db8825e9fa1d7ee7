"""The report of a made run, and the pages of a served one, opened in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm4rec.experiment.report import write_report
from tests.app.served import Server, serving
from tests.browser.opened import CHROMIUM, FLAGS, Opened, Watched
from tests.experiment.made_run import make_run


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make_run(tmp_path_factory.mktemp("browser") / "run"))


@pytest.fixture(scope="session")
def summary(report: Path) -> dict[str, Any]:
    return json.loads((report.parent / "summary.json").read_text())


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Open the browser for this package alone: Playwright keeps an event loop running, in which others cannot start theirs."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def website(asking_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a small run with a copy of it beside it, among folders that are no runs."""
    shutil.copytree(asking_run, asking_run.parent / "again")
    store = tmp_path_factory.mktemp("website") / "store.sqlite"
    with serving(asking_run, "--store", str(store), "--set", "llm_timeout=8", "--llm", "stub") as server:
        yield server


@pytest.fixture
def visit(browser: Any, website: Server) -> Iterator[Any]:
    """Give a function that opens a page of the website; at the end nothing has complained or left the server."""
    opened: list[Watched] = []

    def go(path: str, **context: Any) -> Any:
        one = Watched(browser, **context)
        opened.append(one)
        one.page.goto(website.url + path)
        return one.page

    yield go
    for one in opened:
        one.context.close()
        assert one.complaints == []
        assert [u for u in one.requests if not u.startswith((website.url + "/", "data:"))] == []


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Opened]:
    one = Opened(browser, report)
    yield one
    one.context.close()
    assert one.complaints == []
    assert [u for u in one.requests if not u.startswith(("file:", "data:"))] == []
