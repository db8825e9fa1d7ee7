"""What the pages are made from, and how a request becomes one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.responses import HTMLResponse

from llm4rec.app.server.browsers import Browser, Browsers
from llm4rec.app.server.keys import Keys
from llm4rec.app.server.service import Service
from llm4rec.app.web.board import Board
from llm4rec.app.web.calls import Calls
from llm4rec.app.web.cases import Cases
from llm4rec.app.web.frame import render
from llm4rec.app.web.play import Playground
from llm4rec.app.web.shelf import Shelf
from llm4rec.experiment.opened import OpenRun


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around every page: the run, the page's own path, and who is signed in with which token."""

    run: Any
    here: str
    caller: str | None
    token: str


class Site:
    """The pages of a served run.

    Args:
        opened: the run.
        service: what answers, the API's own.
        compare: further runs; None takes those that lie beside it.
        keys: None lets everybody on this machine in.
        browsers: those that are signed in.
    """

    def __init__(
        self, opened: OpenRun, service: Service, compare: Sequence[Path] | None, keys: Keys | None, browsers: Browsers
    ) -> None:
        self.opened, self.service, self.keys, self.browsers = opened, service, keys, browsers
        self.engine = service.engine
        self.board = Board(opened.path, compare)
        self.run = self.board.run
        masked = opened.spec.protocol.mask != "none"
        self.cases = Cases(self.run, Calls(opened.path / "llm.sqlite"), masked=masked)
        self.shelf, self.playground = Shelf(self.engine, opened), Playground(self.engine, opened)

    def page(self, request: Request, here: str, template: str, part: str | None = None, /, **view: Any) -> HTMLResponse:
        """Return a page, or the part of it that htmx asked for.

        Args:
            request: of the browser.
            here: path of the page among the links.
            template: of the whole page.
            part: template of the part, where the page changes in place.
            view: what they are filled with; a part alone is told so (``alone``).
        """
        asked = request.headers.get("hx-request") == "true" and request.headers.get("hx-history-restore-request") != "true"
        frame = Frame(self.run, here, *self._signed(request))
        only = part if asked else None
        text = render(template, site=frame, **view) if only is None else render(only, site=frame, alone=True, **view)
        return HTMLResponse(text, headers={"Vary": "HX-Request"})

    @staticmethod
    def _signed(request: Request) -> tuple[str | None, str]:
        browser: Browser | None = request.scope["state"].get("browser")
        return (None, "") if browser is None else (browser.caller, browser.token)
