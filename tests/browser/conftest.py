"""The report of a made run, opened in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm4rec.experiment.report import write_report
from tests.browser.opened import CHROMIUM, FLAGS, Opened
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


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Opened]:
    one = Opened(browser, report)
    yield one
    one.context.close()
    assert one.complaints == []
    assert [u for u in one.requests if not u.startswith(("file:", "data:"))] == []
