"""Pictures of a run's report for the documentation: ``python -m tests.browser.pictures RUN [FOLDER]``."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

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


def main(run: Path, folder: Path) -> None:
    """Open the report once for each picture, and take it."""
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name, (width, height, theme, section) in PICTURES.items():
            size = {"width": width, "height": height}
            page = browser.new_page(viewport=size, color_scheme=theme, reduced_motion="reduce")
            page.goto((run / "report.html").resolve().as_uri())
            page.wait_for_selector("svg.plot .label")
            if section != "top":
                page.evaluate("(id) => document.getElementById(`h-${id}`).scrollIntoView()", section)
            page.wait_for_timeout(300)
            page.screenshot(path=folder / f"{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images"))
