"""Signing in: a key, shown once, becomes a session of the browser."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from pydantic import Field
from starlette.responses import HTMLResponse, RedirectResponse

from llm4rec.app.server.browsers import cookie
from llm4rec.app.server.guard import SIGN_IN, Refused, is_home
from llm4rec.app.server.schemas import Asked
from llm4rec.app.web.frame import render
from llm4rec.app.web.site import Site


class Shown(Asked):
    """A key."""

    key: str = Field(min_length=1, max_length=200)


def add_sign_in(app: FastAPI, site: Site) -> None:
    """Add the page on which one signs in, and what it sends; without keys there is nothing to sign in to."""

    @app.get(SIGN_IN, include_in_schema=False)
    def page(request: Request) -> Response:
        if site.keys is None:
            return RedirectResponse("/", 303)
        return HTMLResponse(render("signin.html.j2", next=_own(request.query_params.get("next", "/"))))

    @app.post(SIGN_IN, include_in_schema=False)
    def sign_in(request: Request, shown: Shown) -> Response:
        found = None if site.keys is None else site.keys.find(shown.key.strip())
        if found is None:
            raise Refused(401, "unauthorized", "there is no such key")
        secret = site.browsers.open(*found)
        return Response(status_code=204, headers={"Set-Cookie": cookie(secret, at_home=_at_home(request))})

    @app.post("/sign-out", include_in_schema=False)
    def sign_out(request: Request) -> Response:
        site.browsers.close(request.headers.get("cookie", ""))
        return Response(status_code=204, headers={"Set-Cookie": cookie("", at_home=_at_home(request))})


def _at_home(request: Request) -> bool:
    return is_home(request.headers.get("host", ""))


def _own(path: str) -> str:
    """Return a path of this server; its front page for anything that leads elsewhere."""
    leads_here = path.startswith("/") and not path.startswith("//") and "\\" not in path
    return path if leads_here and path.isprintable() else "/"  # browsers leave out tabs and line breaks
