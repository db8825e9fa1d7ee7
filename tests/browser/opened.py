"""A browser to look at pages with, and a page that remembers what it complained about."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("LLM4REC_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-dev-shm-usage"]

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; set LLM4REC_CHROMIUM to its path")


class Watched:
    """A page, and what it complained about and asked for."""

    def __init__(self, browser: Any, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("dialog", lambda d: (self.complaints.append(d.message), d.dismiss()))
        self.page.on("request", lambda r: self.requests.append(r.url))


class Opened(Watched):
    """A report."""

    def __init__(self, browser: Any, report: Path, **context: Any) -> None:
        super().__init__(browser, **context)
        self.page.goto(report.as_uri())
        self.page.wait_for_selector("#cost svg.plot .label")
