"""Pictures of a run's report and pages for the documentation: ``python -m tests.browser.pictures RUN [FOLDER] [NAME ...]``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import sync_playwright

from tests.app.served import serving
from tests.browser.opened import CHROMIUM, FLAGS

#: name: width, height, theme, section to start at.
PICTURES = {
    "report": (1280, 1240, "light", "top"),
    "report-dark": (1280, 1240, "dark", "top"),
    "report-cost": (1280, 720, "light", "cost"),
    "report-rankers": (1280, 1100, "light", "rankers"),
    "report-case": (1280, 1240, "light", "cases"),
    "report-phone": (390, 844, "dark", "leaderboard"),
}
#: name: width, height, theme, page of the served run.
PAGES = {
    "web-leaderboard": (1280, 1000, "light", "/"),
    "web-case": (1280, 1240, "light", "/case?n=7"),
    "web-chat": (1280, 1000, "light", "/chat?user=42"),
    "web-playground": (1280, 1100, "dark", "/playground?user=42"),
    "web-phone": (390, 844, "dark", "/"),
}


def main(run: Path, folder: Path, names: Sequence[str]) -> None:
    """Open the report or a page once for each picture, and take it."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, args=FLAGS)

        def take(name: str, address: str, shape: tuple[int, int, str, str], ready: Callable[[Any], None]) -> None:
            width, height, theme, _ = shape
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=theme, reduced_motion="reduce")
            page.goto(address)
            ready(page)
            page.wait_for_timeout(300)
            page.screenshot(path=folder / f"{name}.png")
            page.close()

        for name, shape in PICTURES.items():
            if not names or name in names:
                take(name, (run / "report.html").resolve().as_uri(), shape, partial(_scrolled, section=shape[3]))
        wanted = {name: shape for name, shape in PAGES.items() if not names or name in names}
        if wanted:
            with TemporaryDirectory() as scratch, serving(run, "--store", f"{scratch}/store.sqlite") as server:
                for name, shape in wanted.items():
                    take(name, server.url + shape[3], shape, partial(_used, name=name))
        browser.close()


def _scrolled(page: Any, section: str) -> None:
    page.wait_for_selector("svg.plot .label")
    if section != "top":
        page.evaluate("(id) => document.getElementById(`h-${id}`).scrollIntoView()", section)


def _used(page: Any, name: str) -> None:
    """Do what fills a page."""
    if name == "web-chat":
        page.locator("#message").fill("3 comedies from the 1990s, but no romance")
        page.get_by_role("button", name="Send").click()
        page.locator("#talk-status", has_text="Answered.").wait_for()
        page.locator(".how summary").click()
        page.locator(".why-line:not(:empty)").first.wait_for()
    if name == "web-playground":
        page.get_by_role("button", name="Make the lists").click()
        page.locator(".made").first.wait_for()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images"), sys.argv[3:])
