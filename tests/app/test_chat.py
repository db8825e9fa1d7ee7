"""Talking to a run: the choice of the agent, what stands in for a language model, and what is told of it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from llm4rec.agents.engine import Engine, Served
from llm4rec.agents.loop.agent import LLMAgent
from llm4rec.agents.loop.config import LoopConfig
from llm4rec.agents.memory import MemoryStore
from llm4rec.agents.rule import RuleAgent
from llm4rec.agents.storage import open_database
from llm4rec.app.agents import open_agents
from llm4rec.app.chat import talk
from llm4rec.app.server.api import create_app
from llm4rec.app.server.browsers import Browsers
from llm4rec.app.server.config import ServerConfig
from llm4rec.app.server.conversation import Chatting
from llm4rec.app.server.events import EventStore
from llm4rec.app.server.figures import Figures
from llm4rec.app.server.guard import Guard
from llm4rec.app.server.service import Service
from llm4rec.app.server.sessions import Sessions
from llm4rec.app.server.thinking import Thinking
from llm4rec.app.web.frame import error_page
from llm4rec.core import ModelError, SpecError
from llm4rec.llm import ChatReply, ChatRequest, LLMConfig, ScriptedModel
from llm4rec.models.ease import EASE
from tests.agents.loop.scripts import act
from tests.agents.loop.test_loop import ASK, GOOD
from tests.llm.wire_server import says, serve
from tests.worlds import topics

EASE_FITTED = EASE().fit(topics().split.train, valid=None, rng=np.random.default_rng(0))
Talk = Callable[[httpx.AsyncClient], Awaitable[None]]
Events = list[tuple[str, Any]]


class Model:
    """A scripted model that can be slow, or away."""

    def __init__(self) -> None:
        self.free, self.away = threading.Event(), False
        self.free.set()
        self.script: Iterator[str | ChatReply] = iter(GOOD)

    def answer(self, _: ChatRequest) -> str | ChatReply:
        self.free.wait(20)
        if self.away:
            raise ModelError("no connection", where="http://127.0.0.1:1")
        return next(self.script)


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def chat(model: Model, tmp_path: Path) -> Callable[..., Sessions]:
    def start(talk: Talk, workers: int = 2, seconds: float = 10.0, timeout: float = 10.0, **config: Any) -> Sessions:
        database = open_database(tmp_path / "store.sqlite")
        settings, figures = ServerConfig.model_validate({"timeout": timeout}), Figures()
        engine = Engine(topics().split.train, {"ease": Served("ease", "EASE", lambda: EASE_FITTED, ranks=True)}, "ease")
        service = Service(engine, EventStore(database), MemoryStore(database), settings, figures)
        loop = LoopConfig.model_validate({"protocol": "json", **config})
        agents = {"rule": RuleAgent(), "react": LLMAgent(ScriptedModel(model.answer), loop)}
        sessions, thinking = Sessions(database), Thinking(workers, seconds)
        app = Guard(
            create_app(service, sessions, error_page, Chatting(agents, "rule", thinking)),
            settings,
            figures,
            None,
            Browsers(),
            error_page,
        )

        async def run() -> None:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                await talk(client)

        asyncio.run(run())
        model.free.set()
        thinking.close()
        service.close()
        return sessions

    return start


async def say(client: httpx.AsyncClient, message: str = ASK, **more: Any) -> Events:
    body = {"message": message, "user": "user0", "agent": "react", **more}
    answer = await client.post("/v1/chat", json=body)
    assert answer.status_code == 200, answer.text
    blocks = [block.split("\n") for block in answer.text.strip().split("\n\n")]
    return [(event.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for event, data in blocks]


def test_an_agent_with_a_language_model_streams_its_turn(chat: Any, model: Model) -> None:
    async def said(client: httpx.AsyncClient) -> None:
        events = await say(client)
        names = [name for name, _ in events]
        assert names[0] == "plan"
        assert [d["tool"] for n, d in events if n == "tool"] == ["filter_items", "rank_items"]
        assert "degraded" not in names
        done = events[-1][1]
        assert (done["by"], done["ended"], done["degraded"], done["failures"]) == ("react", "answered", None, [])
        assert done["questions"] == 3
        assert done["tokens"] > 0
        assert done["text"] == "".join(d["text"] for n, d in events if n == "token")
        model.script = iter([act("answer", text="As I said.", items=[])])
        again = await say(client, "again", session=done["session"])
        assert again[-1][1]["text"] == "As I said."
        assert [i["item"] for i in again[-1][1]["items"]] == [i["item"] for i in done["items"]]

    sessions = chat(said)
    with sessions._database.connect() as connection:
        ((body,),) = connection.exec_driver_sql("SELECT body FROM sessions").fetchall()
    assert [said[0] for said in json.loads(body)["dialogue"]["said"]] == [ASK, "again"]


def test_a_turn_may_take_longer_than_other_requests(chat: Any, model: Model) -> None:
    async def said(client: httpx.AsyncClient) -> None:
        model.free.clear()
        slow = asyncio.create_task(say(client))
        await asyncio.sleep(0.6)
        model.free.set()
        done = (await slow)[-1][1]
        assert (done["by"], done["degraded"]) == ("react", None)
        assert done["shown"] == [i["item"] for i in done["items"]]
        model.script = iter([act("answer", text="You are welcome.", items=[])])
        assert (await say(client, "thanks", session=done["session"]))[-1][1]["shown"] == []

    chat(said, timeout=0.3)


def test_the_rule_agents_conversations_keep_no_words(chat: Any) -> None:
    async def said(client: httpx.AsyncClient) -> None:
        assert (await say(client, agent="rule"))[-1][1]["by"] == "rule"
        assert (await say(client, agent=None))[-1][1]["by"] == "rule"

    sessions = chat(said)
    with sessions._database.connect() as connection:
        bodies = connection.exec_driver_sql("SELECT body FROM sessions").fetchall()
    assert all("dialogue" not in json.loads(body) and "cooking" not in body for (body,) in bodies)


@pytest.mark.parametrize("case", ["slow", "failed", "unusable", "unreachable", "bound"])
def test_the_rule_agent_stands_in_and_says_so(chat: Any, model: Model, case: str) -> None:
    config: dict[str, Any] = {}
    if case == "slow":
        model.free.clear()
    elif case == "failed":
        model.away = True
    elif case == "unusable":
        model.script = iter(["I like Heat.", "Really."])
    elif case == "unreachable":
        model.script = iter([ChatReply("", failure="unreachable")])
    else:
        config["max_steps"], model.script = 1, iter([act("recent_history")])
    expected = "failed" if case == "unreachable" else case

    async def said(client: httpx.AsyncClient) -> None:
        events = await say(client)
        told = [data for name, data in events if name == "degraded"]
        assert told == [{"agent": "rule", "reason": expected}]
        done = events[-1][1]
        assert (done["by"], done["degraded"]) == ("rule", expected)
        plain = await say(client, agent="rule")
        assert done["text"] == plain[-1][1]["text"]
        figures = (await client.get("/metrics")).text
        assert f'llm4rec_degraded_total{{reason="{expected}",system="react"}} 1.0' in figures

    chat(said, seconds=0.3 if case == "slow" else 10.0, **config)


def test_a_turn_too_many_is_answered_by_rules_and_nobody_waits(chat: Any, model: Model) -> None:
    async def said(client: httpx.AsyncClient) -> None:
        model.free.clear()
        slow = asyncio.create_task(say(client))
        await asyncio.sleep(0.1)
        busy = await say(client)
        assert busy[-1][1]["degraded"] == "busy"
        assert (await say(client, agent="rule"))[-1][1]["degraded"] is None
        model.free.set()
        assert (await slow)[-1][1]["by"] == "react"

    chat(said, workers=1)


def test_an_agent_that_is_not_served_is_refused(chat: Any) -> None:
    async def said(client: httpx.AsyncClient) -> None:
        for agent, says_ in (("plan", "not served here"), ("wizard", "agent: ")):
            answer = await client.post("/v1/chat", json={"message": "x", "agent": agent})
            assert answer.status_code == 422
            assert says_ in answer.json()["error"]["message"]

    chat(said)


def test_the_default_agent_needs_a_language_model() -> None:
    with pytest.raises(ValueError, match="name one in llm"):
        ServerConfig(agent="react")


# -- opening ------------------------------------------------------------------------------------
def test_agents_are_opened_by_name_table_or_file(tmp_path: Path) -> None:
    tables = {"big": LLMConfig(backend="scripted", model="x", answers=("a",))}
    assert list(open_agents(tables, None)) == ["rule"]
    assert list(open_agents(tables, "big")) == ["rule", "plan", "react"]
    path = tmp_path / "mine.toml"
    path.write_text('[llm.mine]\nbackend = "scripted"\nanswers = ["a"]\n[agent]\nmax_steps = 3\n')
    agent = open_agents({}, str(path))["plan"]
    assert isinstance(agent, LLMAgent)
    assert (agent.config.strategy, agent.config.max_steps) == ("plan", 3)
    for text, says_ in (
        ("", "must hold one"),
        ("[llm.a]\n[llm.b]\n", "must hold one"),
        ("[llm.a]\nbakend = 1\n", "llm.a.bakend"),
        ("[llm.a]\n[agent]\nmax_steps = 0\n", "agent.max_steps"),
        ("= broken", "cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(SpecError, match=says_):
            open_agents({}, str(path))
    with pytest.raises(SpecError, match="did you mean 'big'"):
        open_agents(tables, "bog")


# -- the terminal ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def run(asking_run: Path) -> Path:
    return asking_run


Told = Callable[..., str]


@pytest.fixture
def told(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """Return a function that talks in the terminal, and returns what was printed."""

    def talk_of(said: str, **options: Any) -> str:
        lines = iter([said])
        monkeypatch.setattr("builtins.input", lambda _: next(lines, ""))
        talk(run, None, "ease", None, **options)
        return capsys.readouterr().out

    return talk_of


def test_a_talk_with_a_server_is_kept_and_replayed_without_it(told: Told, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    options = {"agent": "react", "llm": str(file), "calls": tmp_path / "calls.sqlite"}
    filtering = act("filter_items", attribute="genre", operator="is", value="Horror", among="catalogue")
    with serve() as (url, state):
        state.behaviours = [says(filtering), says(act("answer", text="Boo."))]
        table = f'[llm.m]\nbackend = "server"\nmodel = "m"\nbase_url = "{url}"\nretries = 0\n'
        file.write_text(f'{table}[agent]\nprotocol = "json"\n')
        first = told("something scary", **options)
        assert "filter_items(among=catalogue, attribute=genre, operator=is, value=Horror)" in first
        assert "Boo.\n1. Horror number" in first
        assert len(state.seen) == 2
    assert told("something scary", **options, replay=True) == first
    with pytest.raises(ModelError, match="not in the store"):
        told("something else", **options, replay=True)
    with pytest.raises(SpecError, match="--calls"):
        told("something else", agent="react", llm=str(file), replay=True)
    down = told("3 horror", **options)
    assert "the rule agent answers" in down
    assert "1. Horror number" in down
