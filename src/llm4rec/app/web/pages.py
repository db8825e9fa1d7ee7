"""The routes of the pages.  What a page shows is made in the file of its name; what it changes goes through the API."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from llm4rec.app.server.guard import Refused
from llm4rec.app.web.board import Ask
from llm4rec.app.web.cases import PAGE, Find
from llm4rec.app.web.frame import asset, query
from llm4rec.app.web.people import listed, profile
from llm4rec.app.web.play import Made, Play, read
from llm4rec.app.web.shelf import Look
from llm4rec.app.web.signin import add_sign_in
from llm4rec.app.web.site import Site
from llm4rec.app.web.talk import talk
from llm4rec.app.web.versus import beside
from llm4rec.core import DataError, LLM4RecError, RunError
from llm4rec.core.columns import CASE

#: Characters of anything that a query holds.
_LONGEST = 1_000


def add_pages(app: FastAPI, site: Site) -> None:
    """Add the pages to the application that answers the API."""
    _files(app)
    _leaderboard(app, site)
    _cases(app, site)
    _catalogue(app, site)
    _users(app, site)
    _chat(app, site)
    _playground(app, site)
    add_sign_in(app, site)


def _files(app: FastAPI) -> None:
    @app.get("/assets/{name}", include_in_schema=False)
    def file(name: str) -> Response:
        found = asset(name)
        if found is None:
            raise Refused(404, "not_found", "there is no such file")
        return Response(found[0], media_type=found[1])

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:
        return Response(status_code=204)


def _text(request: Request, name: str, otherwise: str = "") -> str:
    return (request.query_params.get(name) or otherwise)[:_LONGEST]


def _number(request: Request, name: str, otherwise: int, low: int, high: int) -> int:
    text = request.query_params.get(name) or ""
    if not text.isascii() or not text.lstrip("-").isdigit():
        return otherwise
    return min(high, max(low, int(text[:9])))


@contextmanager
def _asked_for() -> Iterator[None]:
    """Tell runs that cannot be compared to whoever asked for that: the server itself has nothing wrong with it."""
    try:
        yield
    except RunError as error:
        raise DataError(error.what, where=error.where, todo=error.todo) from None


# -- what was measured ------------------------------------------------------------------------
def _leaderboard(app: FastAPI, site: Site) -> None:
    @app.get("/", include_in_schema=False)
    def leaderboard(request: Request) -> HTMLResponse:
        """Show the leaderboard of the run, alone or beside others."""
        given = request.query_params
        ask = Ask(
            given.get("metric"), given.get("part"), given.get("against"), tuple(dict.fromkeys(given.getlist("run")[:20])),
            given.get("sort"), given.get("order") == "rising", given.get("every") == "1",
        )  # fmt: skip
        with _asked_for():
            view = site.board.table(ask)
        return site.page(request, "/", "leaderboard.html.j2", "board.html.j2", **view)

    @app.get("/compare", include_in_schema=False)
    def compare(request: Request) -> HTMLResponse:
        """Show chosen systems side by side."""
        keys = tuple(dict.fromkeys(request.query_params.getlist("system")[:8]))
        if len(keys) < 2:
            raise DataError("choose two systems or more to compare", todo="go back and tick them")
        with _asked_for():
            view = beside(site.board, keys)
        return site.page(request, "/", "compare.html.j2", **view)


def _cases(app: FastAPI, site: Site) -> None:
    cases, run = site.cases, site.run
    labels = {s["name"]: s["label"] for s in run.systems}

    def wanted(request: Request) -> Find:
        k = int(run.primary.partition("@")[2] or 10)
        texts = {f: _text(request, q) for f, q in (("text", "q"), ("hit", "hit"), ("miss", "miss"), ("failed", "failed"))}
        return Find(**texts, slice_=_text(request, "slice"), k=_number(request, "k", k, 1, 1_000))

    @app.get("/cases", include_in_schema=False)
    def find(request: Request) -> HTMLResponse:
        """List the cases that fit."""
        look, page = wanted(request), _number(request, "page", 0, 0, 10**6)
        rows = cases.find(look)
        best = max(run.systems, key=lambda s: (s["metrics"]["all"].get(run.primary) or {"mean": -1.0})["mean"])["name"]
        named = [n for n in (look.hit, look.miss, look.failed, _text(request, "system")) if n in labels]
        shown = list(dict.fromkeys(named)) or [best]
        view = cases.listed(rows[page * PAGE : (page + 1) * PAGE].tolist(), shown)

        def turn(to: int) -> str:
            asked = {"q": look.text, "hit": look.hit, "miss": look.miss, "failed": look.failed, "slice_": look.slice_}
            return query("/cases", **asked, k=look.k, page=to)

        return site.page(
            request, "/cases", "cases.html.j2", "case_list.html.j2",
            find=look, listed=view, shown=shown, total=len(rows), all=len(cases.table), page=page, per=PAGE, turn=turn,
            label=lambda name: labels.get(name, name), systems=run.systems, slices=cases.slices,
            failing=[s for s in run.systems if s["failures"]],
        )  # fmt: skip

    @app.get("/cases/random", include_in_schema=False)
    def one(request: Request) -> Response:
        """Lead to a case at random among those that fit."""
        look = wanted(request)
        rows = cases.find(look)
        if not len(rows):
            raise DataError("no case fits", todo="take a condition away")
        number = int(cases.table[CASE][int(random.choice(rows.tolist()))])
        system = next((n for n in (_text(request, "system"), look.hit, look.miss, look.failed) if n in labels), None)
        return RedirectResponse(query("/case", n=number, system=system), 303)

    @app.get("/case", include_in_schema=False)
    def case(request: Request) -> HTMLResponse:
        """Show a case."""
        item, whole = _text(request, "item") or None, _text(request, "whole") == "1"
        view = cases.case(_number(request, "n", -1, -1, 10**8), _text(request, "system") or None, item, whole=whole)
        at, numbers = view["at"], cases.table[CASE]
        return site.page(
            request, "/cases", "case.html.j2", **view, title_of=cases.title, seen_of=lambda i: cases.items.get(i, (0, None))[1],
            before=numbers[at - 1] if at else None, after=numbers[at + 1] if at + 1 < len(numbers) else None,
        )  # fmt: skip


# -- what is there now --------------------------------------------------------------------------
def _catalogue(app: FastAPI, site: Site) -> None:
    @app.get("/catalogue", include_in_schema=False)
    async def catalogue(request: Request) -> HTMLResponse:
        """Find items."""
        texts = {name: _text(request, name) for name in ("words", "attribute", "value")}
        look = Look(**texts, operator=_text(request, "operator", "is"), page=_number(request, "page", 0, 0, 10**6))
        view = await site.service.between(lambda: site.shelf.look(look))

        def turn(to: int) -> str:
            return query("/catalogue", **texts, operator=look.operator if look.value else None, page=to)

        return site.page(request, "/catalogue", "catalogue.html.j2", "catalogue_list.html.j2", **view, turn=turn)

    @app.get("/item", include_in_schema=False)
    async def item(request: Request) -> HTMLResponse:
        """Show an item, or what one system finds similar to it."""
        identifier, system = _text(request, "id"), _text(request, "system") or None
        view = await asyncio.to_thread(site.shelf.item, identifier)
        served = site.engine.system(system)
        if served.uses_llm and served.fallback:
            served = site.engine.system(served.fallback)
        problem, found = None, None
        try:
            found = await site.service.between(lambda: site.shelf.similar(identifier, served.name))
        except LLM4RecError as error:
            problem = str(error)
        cards = [] if found is None else [site.shelf.card(int(i)) for i in found.items]
        return site.page(
            request, "/catalogue", "item.html.j2", "similar.html.j2", **view, similar=cards, by=served, problem=problem
        )


def _users(app: FastAPI, site: Site) -> None:
    @app.get("/users", include_in_schema=False)
    def users(request: Request) -> HTMLResponse:
        """Find users."""
        text, page = _text(request, "q"), _number(request, "page", 0, 0, 10**6)
        view = listed(site.engine, text, page)
        return site.page(
            request, "/users", "users.html.j2", "user_list.html.j2", **view, turn=lambda to: query("/users", q=text, page=to)
        )

    @app.get("/user", include_in_schema=False)
    def user(request: Request) -> HTMLResponse:
        """Show a user: history, tastes, memory."""
        name, page = _text(request, "id")[:200], _number(request, "page", 0, 0, 10**6)
        if not name:
            raise DataError("name a user")
        facts = site.service.memory.list(name)
        titles = dict(zip(site.engine.catalogue.items.ids, site.engine.catalogue.names, strict=True))
        shared: dict[str, Any] = {"user": name, "facts": facts, "title_of": lambda i: titles.get(i, i)}
        attributes = site.engine.catalogue.attributes
        if _text(request, "part") == "memory":
            return site.page(request, "/users", "memory.html.j2", "memory.html.j2", **shared, attributes=attributes)
        view = profile(site.engine, site.cases, name, page)
        return site.page(
            request, "/users", "user.html.j2", **{**view, **shared}, attributes=attributes,
            turn=lambda to: query("/user", id=name, page=to),
        )  # fmt: skip


def _chat(app: FastAPI, site: Site) -> None:
    @app.get("/chat", include_in_schema=False)
    def chat(request: Request) -> HTMLResponse:
        """Talk to the run."""
        return site.page(
            request, "/chat", "chat.html.j2", **talk(site.engine, _text(request, "user")[:200], site.service.agents)
        )


def _playground(app: FastAPI, site: Site) -> None:
    play = site.playground

    @app.get("/playground", include_in_schema=False)
    def form(request: Request) -> HTMLResponse:
        """Show the form, filled in as the link says."""
        given = dict(request.query_params)
        ids = site.engine.dataset.users.ids
        given.setdefault("user", ids[0] if ids and not given.get("items") else "")
        if "retrieve_1" not in given:
            given |= {"retrieve_1": site.engine.default, "retrieve_2": _second(site)}
        return site.page(request, "/playground", "playground.html.j2", **play.choices(), given=given, users=ids[:30])

    @app.post("/playground", include_in_schema=False)
    async def lists(request: Request, given: dict[str, Any]) -> HTMLResponse:
        """Make the lists."""
        asked = read(given)
        if not asked.recipes:
            raise DataError("choose what retrieves for at least one list")
        question = play.question(asked)
        made, problems = [], []
        for recipe in asked.recipes:
            try:
                made.append(await _made(site, recipe, question, asked))
            except Refused as refused:
                problems.append(f"{play.label(recipe)}: {refused.message}")
            except LLM4RecError as error:
                problems.append(f"{recipe.retrieve}: {error}")
        columns = await asyncio.to_thread(play.shown, made, asked.k)
        held = {k: v for k, v in given.items() if v not in (None, "")}
        here = query("/playground", **held)
        return site.page(
            request, "/playground", "played.html.j2", "played.html.j2", columns=columns, problems=problems, here=here
        )


async def _made(site: Site, recipe: Any, question: Any, asked: Play) -> Made:
    def work() -> Made:
        return site.playground.make(recipe, question, asked.k)

    return await (site.service.slowly(work) if site.playground.asks(recipe) else site.service.between(work))


def _second(site: Site) -> str:
    """Return a system to stand beside the default one: the most popular items, or whatever there is."""
    others = [s for s in site.run.systems if s["name"] != site.engine.default]
    simple = next((s["name"] for s in others if s["family"].startswith("popul")), None)
    return simple or (others[0]["name"] if others else "")
