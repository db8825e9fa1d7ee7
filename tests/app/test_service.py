"""The server without a socket: what stands in for a language model, batches, bounds, and a log without names."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np
import pytest

from llm4rec.agents.engine import Engine, Served
from llm4rec.agents.memory import MemoryStore
from llm4rec.agents.storage import open_database
from llm4rec.app.server.api import create_app
from llm4rec.app.server.browsers import Browsers
from llm4rec.app.server.config import ServerConfig
from llm4rec.app.server.events import EventStore
from llm4rec.app.server.figures import Figures
from llm4rec.app.server.guard import Guard
from llm4rec.app.server.keys import Allowance, Keys, new_key
from llm4rec.app.server.service import Service
from llm4rec.app.server.sessions import Sessions
from llm4rec.app.web.frame import error_page
from llm4rec.core import DataError, Lists, ModelError, Note, Queries, Ragged, RunError
from llm4rec.models.ease import EASE
from tests.worlds import topics

EASE_FITTED = EASE().fit(topics().split.train, valid=None, rng=np.random.default_rng(0))


class Asks:
    """A system that asks a language model, which is as slow or as broken as the test says."""

    def __init__(self) -> None:
        self.behaviour = "good"
        self.free = threading.Event()
        self.batches: list[int] = []

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        self.batches.append(len(queries))
        if self.behaviour == "slow":
            self.free.wait(20)
        if self.behaviour == "down":
            raise ModelError("cannot be reached")
        if self.behaviour == "bug":
            raise ZeroDivisionError("about user0's secrets")
        lists = EASE_FITTED.retrieve(queries, k, exclude=exclude)
        kinds = ("unreachable",) if self.behaviour == "unreachable" else ()
        return Lists(
            lists.items[:, ::-1], np.tile(-np.arange(k, dtype=np.float32), (len(lists), 1)), (Note(kinds),) * len(lists)
        )

    def rank(self, queries: Queries, candidates: Lists) -> Lists:
        self.retrieve(queries, 1, exclude=Ragged.empty(len(queries)))
        return Lists(candidates.items[:, ::-1], candidates.scores)


Talk = Callable[[httpx.AsyncClient], Awaitable[None]]


@pytest.fixture
def asks() -> Asks:
    return Asks()


@pytest.fixture
def serve(asks: Asks, tmp_path: Path) -> Callable[..., Service]:
    def start(talk: Talk, keys: Keys | None = None, plain: Any = EASE_FITTED, **settings: Any) -> Service:
        systems = [
            Served("ease", "EASE", lambda: plain, ranks=True),
            Served("asks", "EASE, a model ranks", lambda: asks, uses_llm=True, ranks=True, fallback="ease"),
        ]
        database = open_database(tmp_path / "store.sqlite")
        config, figures = ServerConfig(**{"llm_timeout": 0.2, "llm_workers": 1, **settings}), Figures()
        engine = Engine(topics().split.train, {s.name: s for s in systems}, "ease")
        service = Service(engine, EventStore(database), MemoryStore(database), config, figures)
        guarded = Guard(create_app(service, Sessions(database), error_page), config, figures, keys, Browsers(), error_page)

        async def run() -> None:
            transport = httpx.ASGITransport(guarded, raise_app_exceptions=False)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                await talk(client)

        asyncio.run(run())
        asks.free.set()
        service.close()
        database.dispose()
        return service

    return start


async def ask(client: httpx.AsyncClient, system: str = "asks", **more: Any) -> Any:
    answer = await client.post("/v1/recommend", json={"user": "user0", "k": 5, "system": system, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def items(answer: Any) -> list[str]:
    return [entry["item"] for entry in answer["items"]]


@pytest.mark.parametrize(("behaviour", "reason"), [("slow", "slow"), ("down", "failed"), ("unreachable", "failed")])
def test_the_retrievers_list_stands_in_and_says_so(serve: Any, asks: Asks, behaviour: str, reason: str) -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        plain = await ask(client, "ease")
        good = await ask(client)
        assert good["degraded"] is None
        assert items(good) == items(plain)[::-1]
        asks.behaviour = behaviour
        start = time.perf_counter()
        got = await ask(client)
        assert time.perf_counter() - start < 5
        assert got["degraded"] == {"system": "ease", "reason": reason}
        assert got["system"] == "asks"
        if behaviour != "unreachable":
            assert items(got) == items(plain)
        if behaviour == "slow":  # its thread is still taken: nobody waits in vain again
            assert (await ask(client))["degraded"] == {"system": "ease", "reason": "busy"}
        text = (await client.get("/metrics")).text
        assert f'llm4rec_degraded_total{{reason="{reason}",system="asks"}} 1.0' in text

    serve(talk)


def test_ranking_falls_back_as_well(serve: Any, asks: Asks) -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        train = topics().split.train
        given = list(train.items.ids[:4])
        body = {"user": "user0", "items": given, "system": "asks"}
        good = (await client.post("/v1/rank", json=body)).json()
        assert items(good) == given[::-1]
        asks.behaviour = "down"
        got = (await client.post("/v1/rank", json=body)).json()
        plain = (await client.post("/v1/rank", json={**body, "system": "ease"})).json()
        assert items(got) == items(plain)
        assert got["degraded"] == {"system": "ease", "reason": "failed"}

    serve(talk)


def test_the_models_failures_hold_nobody_else_up(serve: Any, asks: Asks) -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        asks.behaviour = "slow"
        waiting = asyncio.create_task(ask(client))
        await asyncio.sleep(0.02)
        start = time.perf_counter()
        await ask(client, "ease")
        assert not waiting.done()
        assert time.perf_counter() - start < 3
        assert (await waiting)["degraded"]["reason"] == "slow"

    serve(talk, llm_timeout=3)


def test_requests_that_come_together_are_one_batch(serve: Any) -> None:
    class Slow(EASE):
        batches: ClassVar[list[int]] = []

        def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
            self.batches.append(len(queries))
            time.sleep(0.05)
            return EASE_FITTED.retrieve(queries, k, exclude=exclude)

    async def talk(client: httpx.AsyncClient) -> None:
        answers = await asyncio.gather(*(ask(client, "ease", user=f"user{u}") for u in range(20)))
        for u, answer in enumerate(answers):
            assert items(answer) == items(await ask(client, "ease", user=f"user{u}"))

    serve(talk, plain=Slow(), batch=8)
    assert max(Slow.batches) <= 8
    assert len(Slow.batches) < 20 + 10  # the first twenty came in few calls
    assert sum(Slow.batches) == 40


def test_too_many_waiting_are_sent_away(serve: Any) -> None:
    class Stuck(EASE):
        def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
            time.sleep(0.1)
            return EASE_FITTED.retrieve(queries, k, exclude=exclude)

    async def talk(client: httpx.AsyncClient) -> None:
        body = {"user": "user0", "k": 3}
        answers = await asyncio.gather(*(client.post("/v1/recommend", json=body) for _ in range(12)))
        codes = [a.status_code for a in answers]
        assert set(codes) == {200, 503}
        assert next(a for a in answers if a.status_code == 503).headers["retry-after"] == "1"

    serve(talk, plain=Stuck(), waiting=3, batch=1)


def test_a_request_has_a_bound_of_time_and_an_event_is_kept_all_the_same(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    append = EventStore.append

    def slowly(self: EventStore, *given: Any) -> None:
        time.sleep(0.4)
        append(self, *given)

    monkeypatch.setattr(EventStore, "append", slowly)
    item = topics().split.train.items.ids[0]

    async def talk(client: httpx.AsyncClient) -> None:
        event = {"user": "new", "item": item, "id": "once"}
        assert (await client.post("/v1/events", json={"events": [event]})).status_code == 504
        await asyncio.sleep(0.6)
        assert (await ask(client, "ease", user="new"))["history"] == 1  # disk and memory are alike
        again = (await client.post("/v1/events", json={"events": [event]})).json()
        assert (again["accepted"], again["repeated"]) == (0, 1)

    serve(talk, timeout=0.2)


def test_a_fault_of_the_server_is_no_story(serve: Any, asks: Asks, caplog: pytest.LogCaptureFixture) -> None:
    asks.behaviour = "bug"
    logging.getLogger("llm4rec.serve").propagate = True

    async def talk(client: httpx.AsyncClient) -> None:
        answer = await client.post(
            "/v1/recommend", json={"user": "user0", "system": "asks"}, headers={"X-Request-ID": "mine-1"}
        )
        assert answer.status_code == 500
        assert answer.json()["error"]["request_id"] == "mine-1"
        assert "secret" not in answer.text
        forged = await client.get("/healthz", headers={"X-Request-ID": 'x" forged'})
        assert forged.headers["x-request-id"] != 'x" forged'

    with caplog.at_level(logging.INFO, "llm4rec.serve"):
        serve(talk)
    lines = [json.loads(r.getMessage()) for r in caplog.records if r.name == "llm4rec.serve"]
    told = next(line for line in lines if "error" in line)
    assert told["error"] == "ZeroDivisionError"
    assert told["at"]
    assert "secret" not in caplog.text
    assert "user0" not in caplog.text


def test_paths_are_logged_only_if_asked_for(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("llm4rec.serve").propagate = True

    async def talk(client: httpx.AsyncClient) -> None:
        await client.get("/v1/users/ann/memory")

    for wanted in (False, True):
        caplog.clear()
        with caplog.at_level(logging.INFO, "llm4rec.serve"):
            serve(talk, log_paths=wanted)
        assert ("ann" in caplog.text) is wanted


def test_another_runs_store_is_refused(serve: Any, tmp_path: Path) -> None:
    store = EventStore(open_database(tmp_path / "store.sqlite"))
    from llm4rec.app.server.events import Kept

    store.append([], [Kept("ann", "an item of another run", 1, 1.0, 0)])

    async def talk(client: httpx.AsyncClient) -> None:
        raise AssertionError

    with pytest.raises(RunError, match="not of this run"):
        serve(talk)


def test_new_items_survive_a_restart(serve: Any) -> None:
    async def add(client: httpx.AsyncClient) -> None:
        new = {"id": "fresh", "attributes": {"title": "Galaxy rocket", "genres": "space"}}
        body = {"items": [new], "events": [{"user": "ann", "item": "fresh"}]}
        assert (await client.post("/v1/events", json=body)).status_code == 200

    async def look(client: httpx.AsyncClient) -> None:
        assert (await client.get("/v1/items/fresh")).json()["attributes"]["title"] == "Galaxy rocket"
        assert (await ask(client, "ease", user="ann"))["history"] == 1

    serve(add)
    serve(look)


# -- chat ---------------------------------------------------------------------------------------
async def say(client: httpx.AsyncClient, message: str, **more: Any) -> list[tuple[str, Any]]:
    answer = await client.post("/v1/chat", json={"message": message, "user": "user0", **more})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in events]


def test_a_turn_is_told_as_it_happens(serve: Any) -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        events = await say(client, "2 about cooking, not from 1999")
        names = [name for name, _ in events]
        assert names[0] == "plan"
        assert names[-1] == "done"
        assert names[1 : names.index("token")] == ["tool", "candidates"] * len(events[0][1]["calls"])
        done = events[-1][1]
        assert "".join(data["text"] for name, data in events if name == "token") == done["text"]
        assert len(done["items"]) == 2
        assert done["dropped"]
        why = (await say(client, "why?", session=done["session"]))[-1][1]
        assert [e["item"] for e in why["items"]] == [e["item"] for e in done["items"]]
        assert done["items"][0]["name"] in why["text"]
        for other in ({"user": "user1"}, {"session": "0" * 32}):
            answer = await client.post(
                "/v1/chat", json={"message": "why?", "user": "user0", "session": done["session"], **other}
            )
            assert answer.status_code == 404

    serve(talk)


def test_what_is_remembered_in_a_chat_is_in_the_memory(serve: Any) -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        await say(client, "remember that I hate cooking")
        facts = (await client.get("/v1/users/user0/memory")).json()["facts"]
        assert [(f["text"], f["detail"]) for f in facts] == [("cooking", "dislikes")]
        nobody = await client.post("/v1/chat", json={"message": "remember that I hate cooking"})
        assert "That did not work" in nobody.text

    serve(talk)


def test_many_talk_at_once(serve: Any) -> None:
    async def talk(client: httpx.AsyncClient) -> None:
        talks = [say(client, "3 about music", user=f"user{u % 48}") for u in range(12)]
        for u, events in enumerate(await asyncio.gather(*talks)):
            alone = await say(client, "3 about music", user=f"user{u % 48}") if u < 3 else events
            assert events[-1][1]["items"] == alone[-1][1]["items"]
            assert len(events[-1][1]["items"]) == 3

    serve(talk, timeout=60)


# -- keys ---------------------------------------------------------------------------------------
def test_keys_are_found_by_hash_and_names_are_unique(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    one, other = new_key(path, "one", ["read"]), new_key(path, "other", ["memory"], 60)
    keys = Keys.read(path)
    found = keys.find(other)
    assert found is not None
    assert (found[0], found[1].scopes, found[1].per_minute) == ("other", ("memory",), 60)
    assert keys.find(one + " ") is None
    assert keys.find("\ud800") is None
    with pytest.raises(DataError, match="already"):
        new_key(path, "one", ["read"])
    with pytest.raises(DataError, match="did you mean 'read'"):
        new_key(path, "three", ["raed"])
    with pytest.raises(DataError, match="no name"):
        new_key(path, "../x", ["read"])


@pytest.mark.parametrize(
    "text", ["", "[a]\nsha256 = 'x'", "[a]\nsha256 = '" + "0" * 64 + "'\nscopes = ['all']", "= broken", "a = 1"]
)
def test_a_broken_file_of_keys_opens_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(DataError):
        Keys.read(tmp_path / "keys.toml")


def test_an_allowance_is_refilled_steadily() -> None:
    allowance = Allowance()
    assert [allowance.take("a", 60, now=0.0) for _ in range(6)] == [0.0] * 6
    assert allowance.take("a", 60, now=0.0) == pytest.approx(1.0)
    assert allowance.take("b", 60, now=0.0) == 0.0
    assert allowance.take("a", 60, now=1.0) == 0.0
    assert allowance.take("a", 60, now=1.0) == pytest.approx(1.0)
