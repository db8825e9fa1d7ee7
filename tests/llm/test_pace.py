"""How fast a server is asked, when it is asked no longer, and that nothing answered is lost by stopping."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llm4rec.core import BudgetError, ModelError
from llm4rec.llm import (
    Budget,
    BudgetConfig,
    Budgeted,
    ChatRequest,
    LLMConfig,
    Message,
    ScoreRequest,
    Store,
    Stored,
    Streaming,
    open_chat_model,
)
from llm4rec.llm.pace import FIRST_WAIT, Pace, backoff
from llm4rec.llm.server import ServerModel
from llm4rec.llm.wire import Outcome
from tests.llm.wire_server import Handler, State, completion, resets, serve, status

GOOD = Outcome(body={})
BUSY = Outcome(failure="rate_limited", detail="HTTP 429")
LOST = Outcome(failure="unreachable", detail="gone")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def wire() -> Iterator[tuple[str, State]]:
    with serve() as served:
        yield served


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "llm.sqlite") as opened:
        yield opened


def open_at(url: str, **changed: Any) -> ServerModel:
    settings: dict[str, Any] = {"backend": "server", "model": "m", "base_url": url, "max_wait": 2.0, "timeout": 5.0}
    return ServerModel(LLMConfig(**(settings | changed)))


def asks(n: int, start: int = 0) -> list[ChatRequest]:
    return [ChatRequest((Message("user", str(i)),)) for i in range(start, start + n)]


def slow(seconds: float) -> Any:
    def behave(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        handler.send_json(completion(body["messages"][-1]["content"]))

    return behave


# -- the limit ----------------------------------------------------------------------------


def test_a_server_that_is_too_busy_is_asked_less(wire: tuple[str, State]) -> None:
    """It takes four requests at a time and refuses the others: all are answered, with few refusals."""
    url, state = wire

    def takes_four(handler: Handler, body: dict[str, Any]) -> None:
        if handler.server.state.at_once > 4:
            handler.send_json({"error": {"message": "busy"}}, 429, retry_after="0.02")
        else:
            slow(0.01)(handler, body)

    state.default = takes_four
    model = open_at(url, concurrency=32, retries=12, breaker=1000)
    replies = model.chat(asks(150))
    assert [r.text for r in replies] == [str(i) for i in range(150)]
    refused = len(state.seen) - 150
    assert 1 <= refused < 150  # of the first burst, and then a probe of a higher limit now and then
    assert model._pace.limit < 32  # and it stays so for the next batch


def test_the_limit_is_halved_once_for_all_that_was_under_way_and_grows_by_one_a_round() -> None:
    async def run() -> list[int]:
        pace, limits = Pace(16, patience=1000), []
        began = time.monotonic()
        for _ in range(16):
            assert await pace.enter()
        for _ in range(16):
            pace.leave(began, Outcome(failure="rate_limited", after=0.001))
        limits.append(pace.limit)
        for _ in range(3):
            assert await pace.enter()
            pace.leave(time.monotonic(), Outcome(failure="rate_limited", after=0.001))
            limits.append(pace.limit)
        for _ in range(3):
            for _ in range(pace.limit):
                assert await pace.enter()
                pace.leave(time.monotonic(), GOOD)
            limits.append(pace.limit)
        return limits

    assert asyncio.run(run()) == [8, 4, 2, 1, 2, 2, 3]


def test_when_the_server_says_wait_everybody_waits(wire: tuple[str, State]) -> None:
    url, state = wire
    state.behaviours = [status(429, retry_after="0.6")]
    state.default = slow(0.02)
    replies = open_at(url, concurrency=8).chat(asks(60))
    assert all(r.failure is None for r in replies)
    assert len(state.seen) == 61
    first = state.times[0]
    later = [t - first for t in state.times]
    # Only what was under way when it said so: 8 slots, each free again once or twice before the answer came.
    assert sum(t < 0.55 for t in later) <= 24
    assert not [t for t in later if 0.3 < t < 0.59]


def test_after_a_wait_nobody_storms() -> None:
    async def run() -> list[float]:
        pace = Pace(32, patience=1000)
        assert await pace.enter()
        pace.leave(time.monotonic(), Outcome(failure="rate_limited", after=0.4))
        opened, left = time.monotonic() + 0.4, []

        async def one() -> None:
            assert await pace.enter()
            left.append(time.monotonic() - opened)
            await asyncio.sleep(0)
            pace.leave(time.monotonic(), GOOD)

        await asyncio.gather(*(one() for _ in range(16)))
        return left

    left = asyncio.run(run())
    assert min(left) >= -0.01
    assert statistics.pstdev(left) > 0.01  # spread over a tenth of a second


def test_backoff_is_full_jitter() -> None:
    for attempt in (1, 2, 3, 9):
        waits = [backoff(attempt, 20.0) for _ in range(2000)]
        longest = min(20.0, FIRST_WAIT * 2 ** (attempt - 1))
        assert 0 <= min(waits) < 0.02 * longest
        assert 0.98 * longest < max(waits) <= longest
    assert backoff(10_000, 5.0) <= 5.0


def test_two_threads_share_the_slots(wire: tuple[str, State]) -> None:
    url, state = wire
    state.default = slow(0.02)
    model, done = open_at(url, concurrency=4), []
    threads = [threading.Thread(target=lambda k=k: done.append(model.chat(asks(15, 100 * k)))) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(int(r.text) for replies in done for r in replies) == [100 * k + i for k in range(3) for i in range(15)]
    assert state.most_at_once == 4


# -- the breaker --------------------------------------------------------------------------


def test_a_dead_server_is_not_asked_a_thousand_times(wire: tuple[str, State], store: Store) -> None:
    url, state = wire
    state.default = slow(1.0)
    model = open_at(url, timeout=0.2, retries=1, max_wait=0.05, concurrency=8)
    began = time.monotonic()
    replies = Stored(model, store).chat(asks(1000))
    assert time.monotonic() - began < 5
    assert 8 <= len(state.seen) <= 28
    kinds = {kind: sum(r.failure == kind for r in replies) for kind in ("unreachable", "not_asked")}
    assert kinds["unreachable"] + kinds["not_asked"] == 1000
    assert kinds["not_asked"] > 970
    told = next(r for r in replies if r.failure == "not_asked")
    assert told.detail.startswith("not asked: the last 2")
    assert "no whole answer within 0.2 s" in told.detail
    assert told.usage.tokens_in == 0
    assert len(store) == 0  # and the next run asks them again


@pytest.mark.parametrize("behaviour", [status(500), resets], ids=["500", "reset"])
def test_the_breaker_closes_when_one_probe_succeeds(wire: tuple[str, State], behaviour: Any) -> None:
    url, state = wire
    model = open_at(url, retries=1, max_wait=0.02, concurrency=4, breaker=8, breaker_pause=1.5)
    state.default = behaviour
    assert {r.failure for r in model.chat(asks(50))} >= {"not_asked"}
    asked = len(state.seen)
    assert asked <= 12
    assert {r.failure for r in model.chat(asks(50))} == {"not_asked"}  # also the next batch
    assert len(state.seen) == asked
    time.sleep(1.6)
    replies = model.chat(asks(50))  # one probe, which fails
    assert sum(r.failure == "not_asked" for r in replies) == 49
    assert len(state.seen) == asked + 1
    time.sleep(1.6)
    state.default = slow(0.05)
    times = len(state.times)
    assert [r.failure for r in model.chat(asks(20))] == [None] * 20
    assert state.times[times + 1] - state.times[times] > 0.04  # the others waited for the probe's fate


def test_a_single_good_answer_keeps_the_breaker_closed(wire: tuple[str, State]) -> None:
    url, state = wire
    turn = iter(range(10_000))
    state.default = lambda handler, body: (status(500) if next(turn) % 4 else slow(0))(handler, body)
    replies = open_at(url, retries=0, concurrency=1, breaker=4).chat(asks(60))
    assert sum(r.failure == "server_error" for r in replies) == 45
    assert not [r for r in replies if r.failure == "not_asked"]


def test_a_wait_of_an_hour_is_not_asked_about_again(wire: tuple[str, State]) -> None:
    url, state = wire
    state.default = status(429, retry_after="3600")
    replies = open_at(url, concurrency=2).chat(asks(100))
    assert len(state.seen) <= 2
    assert {r.failure for r in replies} == {"rate_limited", "not_asked"}
    assert "asks to wait 3600 s" in next(r.detail for r in replies if r.failure == "not_asked")


def test_scores_are_not_asked_either(wire: tuple[str, State]) -> None:
    url, state = wire
    state.default = status(500)
    model = open_at(url, retries=0, concurrency=1, breaker=2, breaker_pause=60)
    replies = model.score([ScoreRequest((Message("user", str(i)),), ("A", "B")) for i in range(9)])
    assert [r.failure for r in replies] == ["server_error"] * 2 + ["not_asked"] * 7


def test_a_cancelled_wait_gives_its_slot_back() -> None:
    async def run() -> None:
        pace = Pace(1)
        assert await pace.enter()
        waiting = [asyncio.create_task(pace.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        pace.leave(time.monotonic(), GOOD)  # wakes the second
        await asyncio.sleep(0)
        waiting[1].cancel()  # too late: it has the slot
        assert await waiting[1]
        pace.leave(time.monotonic(), None)
        assert await asyncio.wait_for(waiting[2], 1)
        pace.leave(time.monotonic(), None)
        assert await asyncio.wait_for(pace.enter(), 1)

    asyncio.run(run())


def test_many_losses_at_once_are_no_more_than_one_bad_moment() -> None:
    """All 32 requests under way are lost with one connection: that alone opens nothing."""

    async def run() -> bool:
        pace = Pace(32, patience=20)
        for _ in range(32):
            assert await pace.enter()
        for _ in range(32):
            pace.leave(time.monotonic(), LOST)
        return pace.closed

    assert not asyncio.run(run())


# -- answers as they arrive, and stopping -------------------------------------------------


def test_no_answer_waits_for_a_slow_one(wire: tuple[str, State], store: Store) -> None:
    url, state = wire
    held = threading.Event()

    def first_is_held(handler: Handler, body: dict[str, Any]) -> None:
        if body["messages"][-1]["content"] == "0":
            held.wait(10)
        handler.send_json(completion("x"))

    state.default = first_is_held
    model = open_at(url, concurrency=4)
    assert isinstance(model, Streaming)
    worker = threading.Thread(target=lambda: Stored(model, store).chat(asks(100)))
    worker.start()
    try:
        deadline = time.monotonic() + 8
        while len(store) < 99 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(store) == 99
        assert worker.is_alive()
    finally:
        held.set()
        worker.join()
    assert len(store) == 100


def test_ctrl_c_leaves_nothing_under_way_and_loses_nothing(wire: tuple[str, State], store: Store) -> None:
    url, state = wire
    at: list[float] = []

    def answers_until_the_fortieth(handler: Handler, body: dict[str, Any]) -> None:
        if len(state.seen) >= 40 and not at:
            at.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGUSR1)
        slow(0.1)(handler, body)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    model = open_at(url, concurrency=8)
    model.chat(asks(1, 5000))
    state.seen.clear()
    state.default = answers_until_the_fortieth
    before = signal.signal(signal.SIGUSR1, interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            Stored(model, store).chat(asks(1000))
        took = time.monotonic() - at[0]
    finally:
        signal.signal(signal.SIGUSR1, before)
    asked, kept = len(state.seen), len(store)
    assert took < 5  # the thousand would take twelve seconds
    assert asked < 200
    assert kept >= asked - 8 > 0  # all but what was under way
    time.sleep(0.3)
    assert len(state.seen) == asked
    assert state.at_once == 0
    state.default = slow(0)
    replies = Stored(model, store).chat(asks(asked))
    assert sum(r.cached for r in replies) == kept


def test_who_stops_reading_stops_the_asking(wire: tuple[str, State]) -> None:
    url, state = wire
    state.default = slow(0.02)
    with closing(open_at(url, concurrency=2).stream(asks(500))) as parts:  # type: ignore[type-var]
        assert next(parts)
    asked = len(state.seen)
    time.sleep(0.15)
    assert len(state.seen) == asked < 50


def test_what_was_answered_before_a_fault_of_the_set_up_is_kept(wire: tuple[str, State], store: Store) -> None:
    url, state = wire
    state.behaviours = [slow(0)] * 5 + [status(404)]
    with pytest.raises(ModelError, match="no model 'm' here"):
        Stored(open_at(url, concurrency=1), store).chat(asks(50))
    assert len(state.seen) == 6
    assert len(store) == 5


def test_a_budget_lets_end_what_is_under_way(wire: tuple[str, State], store: Store) -> None:
    url, state = wire
    state.default = slow(0.03)  # 10 tokens each
    budget = Budget(BudgetConfig(max_tokens=200))
    config = LLMConfig(backend="server", model="m", base_url=url, concurrency=4, max_tokens=9)
    model = Budgeted(open_chat_model(config), budget, None, store)
    with pytest.raises(BudgetError, match="of 200 tokens"):
        Stored(model, store).chat(asks(500))
    assert 20 <= len(state.seen) <= 23
    assert len(store) == budget.spent.calls == len(state.seen)
    assert {body["max_tokens"] for body in state.seen} == {9}


def test_a_repair_is_not_stopped_by_the_budget(wire: tuple[str, State], store: Store) -> None:
    """The first answer is paid: without the repair it would be paid again."""
    url, state = wire
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    state.behaviours = [lambda h, b: h.send_json(completion("no")), lambda h, b: h.send_json(completion('{"a": 1}'))]
    request = ChatRequest((Message("user", "x"),), schema=schema)
    within = Budgeted(open_at(url, concurrency=1), Budget(BudgetConfig(max_tokens=5)), None)
    reply = Stored(within, store).chat([request])[0]
    assert (reply.value, reply.repaired, within.budget.spent.tokens) == ({"a": 1}, True, 20)


def test_what_goes_wrong_inside_is_raised_and_not_swallowed(wire: tuple[str, State]) -> None:
    class Broken:
        def before(self, request: Any) -> None:
            raise ZeroDivisionError

        def after(self, request: Any, reply: Any) -> None: ...

    url, state = wire
    with pytest.raises(ZeroDivisionError):
        list(open_at(url).stream(asks(20), Broken()))
    assert not state.seen


# -- the thread ---------------------------------------------------------------------------


def test_the_thread_ends_with_its_model(wire: tuple[str, State]) -> None:
    url, _ = wire
    before = threading.active_count()
    model = open_at(url)
    assert threading.active_count() == before  # nothing is started before it is needed
    model.chat(asks(3))
    names = [t.name for t in threading.enumerate()]
    assert "llm4rec-loop" in names
    del model
    gc.collect()
    deadline = time.monotonic() + 3
    while "llm4rec-loop" in [t.name for t in threading.enumerate()] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "llm4rec-loop" not in [t.name for t in threading.enumerate()]


def test_connections_are_kept_between_batches(wire: tuple[str, State]) -> None:
    url, _ = wire
    ports = set()

    def remember(handler: Handler, body: dict[str, Any]) -> None:
        ports.add(handler.client_address[1])
        handler.send_json(completion())

    wire[1].default = remember
    model = open_at(url)
    for _ in range(5):
        model.chat(asks(1))
    assert len(ports) == 1


def test_a_forked_process_asks_through_a_loop_of_its_own(wire: tuple[str, State]) -> None:
    url, state = wire
    model = open_at(url)
    model.chat(asks(1))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if model.chat(asks(2))[0].text == "hello" else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert model.chat(asks(1))[0].text == "hello"
    assert len(state.seen) == 4
