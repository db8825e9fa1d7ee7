"""The routes."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from llm4rec import __version__
from llm4rec.agents.catalogue import Operator
from llm4rec.app.server.batching import Overloaded
from llm4rec.app.server.conversation import Chatting, add_chat
from llm4rec.app.server.feedback import add_feedback
from llm4rec.app.server.guard import ErrorPage, Refused, error_body, wants_page
from llm4rec.app.server.schemas import (
    Details,
    ErrorAnswer,
    EventsAnswer,
    EventsRequest,
    ExplainAnswer,
    ExplainRequest,
    Fact,
    FactEdit,
    FactIn,
    FactsAnswer,
    Forgotten,
    ItemsAnswer,
    ListAnswer,
    RankRequest,
    RecommendRequest,
    SearchAnswer,
    SearchRequest,
)
from llm4rec.app.server.service import Service
from llm4rec.app.server.sessions import Sessions
from llm4rec.core import DataError, LLM4RecError

_User = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
_Fact = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]
_ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorAnswer}, "5XX": {"model": ErrorAnswer}}
_CODES = {404: "not_found", 405: "method_not_allowed"}


def create_app(service: Service, sessions: Sessions, error_page: ErrorPage, chatting: Chatting | None = None) -> FastAPI:
    """Return the application; what stands before it is :class:`llm4rec.app.server.guard.Guard`.

    Args:
        service: what answers.
        sessions: the conversations.
        error_page: writes errors for browsers.
        chatting: who answers in conversations; by default the rule agent alone.
    """
    app = FastAPI(
        title="LLM4Rec", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, responses=_ERRORS,
        description="A run's systems: lists, reasons, search, events, and what is kept of users.",
    )  # fmt: skip
    _errors(app, error_page)
    _lists(app, service)
    _catalogue(app, service)
    _memory(app, service)
    add_chat(app, service, sessions, chatting or Chatting())
    add_feedback(app, service, sessions)
    _health(app, service)
    return app


def _lists(app: FastAPI, service: Service) -> None:
    @app.post("/v1/recommend", response_model=ListAnswer)
    async def recommend(request: RecommendRequest) -> Response:
        """Recommend items to a user, or to a history of items."""
        return _json(await service.recommend(request))

    @app.post("/v1/rank", response_model=ListAnswer)
    async def rank(request: RankRequest) -> Response:
        """Put given items in order."""
        return _json(await service.rank(request))

    @app.post("/v1/explain", response_model=ExplainAnswer)
    async def explain(request: ExplainRequest) -> Response:
        """Say why given items suit a user."""
        return _json(await service.explain(request))

    @app.post("/v1/search", response_model=SearchAnswer)
    async def search(request: SearchRequest) -> Response:
        """Find items by words."""
        return _json(await service.search(request))

    @app.post("/v1/events", response_model=EventsAnswer)
    async def events(request: EventsRequest) -> Response:
        """Take in interactions and new items; when this answers they are on the disk, and count."""
        return _json(await service.add(request))


def _catalogue(app: FastAPI, service: Service) -> None:
    @app.get("/v1/items", response_model=ItemsAnswer)
    async def items(
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
        attribute: Annotated[str | None, Query(max_length=200)] = None,
        operator: Operator = "is",
        value: Annotated[str | None, Query(min_length=1, max_length=200)] = None,
    ) -> Response:
        """Page through the catalogue, or through the items of which something is so."""
        catalogue = service.engine.catalogue
        if (attribute is None) != (value is None):
            raise DataError("an attribute and a value go together", where="items")
        found: Any = range(len(catalogue))
        if attribute is not None and value is not None:
            found = catalogue.where(attribute, operator, value).nonzero()[0]
        page = [Details(**catalogue.details(int(i))) for i in found[offset : offset + limit]]
        return _json(ItemsAnswer(total=len(found), items=page))

    @app.get("/v1/items/{item:path}", response_model=Details)
    async def details(item: str) -> Response:
        """Tell what is known of an item."""
        catalogue = service.engine.catalogue
        if item not in catalogue.items:
            raise Refused(404, "unknown_item", "there is no such item")
        return _json(Details(**catalogue.details(catalogue.index(item))))


def _memory(app: FastAPI, service: Service) -> None:
    def told(user: str) -> FactsAnswer:
        return FactsAnswer(user=user, facts=[_fact(f) for f in service.memory.list(user)])

    @app.get("/v1/users/{user:path}/memory", response_model=FactsAnswer)
    async def recall(user: _User) -> Response:
        """List all that is kept of a user."""
        return _json(await asyncio.to_thread(told, user))

    @app.post("/v1/users/{user:path}/memory", response_model=Fact)
    async def remember(user: _User, fact: FactIn) -> Response:
        """Keep something of a user."""
        if fact.attribute is not None and fact.attribute not in service.engine.catalogue.attributes:
            known = ", ".join(service.engine.catalogue.attributes)
            raise DataError(f"items have no attribute {fact.attribute!r}", todo=f"known: {known}")

        def keep() -> Any:
            now = int(time.time())
            return service.memory.remember(
                user, fact.text, source="said", time=now, attribute=fact.attribute, detail=fact.stance
            )

        return _json(_fact(await asyncio.to_thread(keep)))

    @app.put("/v1/users/{user:path}/memory/{fact}", response_model=Fact)
    async def edit(user: _User, fact: _Fact, right: FactEdit) -> Response:
        """Put another text in the place of a fact's own."""
        return _json(_fact(await asyncio.to_thread(service.memory.edit, user, fact, right.text)))

    @app.delete("/v1/users/{user:path}/memory/{fact}", response_model=Forgotten)
    async def forget(user: _User, fact: _Fact) -> Response:
        """Forget one fact of a user."""
        gone = await asyncio.to_thread(service.memory.forget, user, fact)
        if not gone:
            raise Refused(404, "unknown_fact", "there is no such fact of this user")
        return _json(Forgotten(forgotten=gone))

    @app.delete("/v1/users/{user:path}/memory", response_model=Forgotten)
    async def forget_all(user: _User) -> Response:
        """Forget all that is kept of a user (not the user's events)."""
        return _json(Forgotten(forgotten=await asyncio.to_thread(service.memory.forget, user)))


def _health(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        """Say that the server lives."""
        return Response('{"status":"ok"}', media_type="application/json")

    @app.get("/readyz")
    async def readyz() -> Response:
        """Say whether systems and store answer; 503 if not."""
        try:
            await asyncio.to_thread(service.store.count)
        except SQLAlchemyError:
            raise Refused(503, "no_store", "the store does not answer") from None
        return Response('{"status":"ready"}', media_type="application/json")

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Return the server's figures in Prometheus' text format."""
        return Response(service.figures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request) -> dict[str, Any]:
        described = app.openapi()
        described.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"key": []}]
        return described


# -- errors -----------------------------------------------------------------------------------
def _errors(app: FastAPI, error_page: ErrorPage) -> None:
    def answer(request: Request, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
        if wants_page(request.url.path, request.headers):
            return HTMLResponse(error_page(status, message), status, headers)
        body = error_body(code, message, request.scope["state"]["request_id"])
        return Response(body, status, headers, media_type="application/json")

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return answer(request, error.status, error.code, error.message, error.headers)

    @app.exception_handler(Overloaded)
    async def overloaded(request: Request, error: Overloaded) -> Response:
        return answer(request, 503, "overloaded", "too many requests are waiting", {"Retry-After": "1"})

    @app.exception_handler(LLM4RecError)
    async def wrong(request: Request, error: LLM4RecError) -> Response:
        if isinstance(error, DataError):
            return answer(request, 422, "invalid", str(error)[:500])
        return answer(request, 503, "unavailable", "what was asked for cannot be answered now")

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        key = ".".join(str(x) for x in first["loc"] if x not in ("body", "query", "path"))
        message = f"{key}: {first['msg']}" if key else str(first["msg"])
        return answer(request, 422, "invalid", message[:500])

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "invalid")
        return answer(request, error.status_code, code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(Exception)  # it goes on to the guard, which writes it to the log
    async def failed(request: Request, error: Exception) -> Response:
        return answer(request, 500, "internal", "the server failed; its log has the request id")


def _json(value: BaseModel) -> Response:
    return Response(value.model_dump_json(), media_type="application/json")


def _fact(fact: Any) -> Fact:
    values = fact.as_dict()
    return Fact(**{name: values[name] for name in Fact.model_fields if name in values})
