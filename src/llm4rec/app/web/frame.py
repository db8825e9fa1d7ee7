"""How pages are written: templates that escape, the filters that they use, and the files that they load."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FunctionLoader, StrictUndefined

from llm4rec import __version__
from llm4rec.app.web.drawing import OUTLINES
from llm4rec.app.web.words import FILTERS
from llm4rec.experiment.report_words import DEFINITIONS, named

#: The pages in the order of their links: path, name.
PAGES = (
    ("/", "Leaderboard"), ("/cases", "Cases"), ("/catalogue", "Catalogue"), ("/users", "Users"), ("/chat", "Chat"),
    ("/playground", "Playground"),
)  # fmt: skip
#: File -> package that holds it, and its kind.  The report's style sheet is the one place of colours and type.
_FILES = {
    "page.css": ("llm4rec.experiment", "report/page.css", "text/css"),
    "web.css": ("llm4rec.app.web", "assets/web.css", "text/css"),
    "htmx.min.js": ("llm4rec.app.web", "assets/htmx.min.js", "text/javascript"),
    "web.js": ("llm4rec.app.web", "assets/web.js", "text/javascript"),
    "chat.js": ("llm4rec.app.web", "assets/chat.js", "text/javascript"),
}
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#1f5fbf"/>'
    '<path d="M8 9h16M8 16h11M8 23h6" stroke="#fff" stroke-width="3" stroke-linecap="round"/></svg>'
)


@functools.cache
def asset(name: str) -> tuple[bytes, str] | None:
    """Return a file that pages load and its media type; None for one that there is not."""
    if name == "icon.svg":
        return _ICON.encode(), "image/svg+xml"
    if name not in _FILES:
        return None
    package, path, kind = _FILES[name]
    return (resources.files(package) / path).read_bytes(), f"{kind}; charset=utf-8"


def query(path: str, /, **given: Any) -> str:
    """Return a link with what is given as its query; None and empty values are left out, lists repeat their name."""
    pairs = [(k.rstrip("_"), v) for k, v in given.items() if v not in (None, "", (), [])]
    return f"{path}?{urlencode(pairs, doseq=True)}" if pairs else path


def _template(name: str) -> str:
    return (resources.files("llm4rec.app.web") / "templates" / name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> Environment:
    made = Environment(
        loader=FunctionLoader(_template), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {**FILTERS, "named": named}
    made.globals |= {
        "link": query, "outlines": OUTLINES, "pages": PAGES, "version": __version__, "definitions": DEFINITIONS,
    }  # fmt: skip
    made.globals["m"] = made.get_template("marks.html.j2").module
    return made


def render(template: str, /, **view: Any) -> str:
    """Return a template filled in; every value is escaped."""
    return _environment().get_template(template).render(**view)


def error_page(status: int, message: str) -> bytes:
    """Return an error as a page: one line, and the way back."""
    return render("error.html.j2", status=status, message=message).encode()
