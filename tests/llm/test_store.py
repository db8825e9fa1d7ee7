"""The store: one call for one question, nothing lost to a kill, nothing hidden, nothing secret."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm4rec.core import ModelError, RunError
from llm4rec.llm import ChatReply, ChatRequest, Message, ScoreReply, ScoreRequest, ScriptedModel, Store, Stored, Usage
from llm4rec.llm.spelling import canonical, request_json


def ask(text: str, **changed: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), **changed)


def echo(request: ChatRequest) -> str:
    return request.messages[-1].content.upper()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "llm.sqlite") as opened:
        yield opened


def test_second_time_costs_nothing(store: Store) -> None:
    model = ScriptedModel(echo)
    stored = Stored(model, store)
    first = stored.chat([ask("a"), ask("b")])
    again = stored.chat([ask("b"), ask("a"), ask("c")])
    assert [r.text for r in again] == ["B", "A", "C"]
    assert [r.cached for r in first + again] == [False, False, True, True, False]
    assert again[0] == replace(first[1], cached=True, seconds=0.0)
    assert len(model.asked) == 3
    assert len(store) == 3


def test_identical_requests_of_one_batch_are_asked_once(store: Store) -> None:
    model = ScriptedModel(echo)
    replies = Stored(model, store).chat([ask("a"), ask("b"), ask("a")])
    assert [(r.text, r.cached) for r in replies] == [("A", False), ("B", False), ("A", True)]
    assert len(model.asked) == 2


@pytest.mark.parametrize(
    "other",
    [
        ask("b"),
        ask("a", temperature=0.5),
        ask("a", max_tokens=7),
        ask("a", seed=1),
        ask("a", sample=1),
        ask("a", schema={"type": "object"}),
        ChatRequest((Message("system", "a"),)),
        ChatRequest((Message("user", "a"), Message("user", ""))),
    ],
)
def test_all_that_shapes_an_answer_is_in_the_key(store: Store, other: ChatRequest) -> None:
    model = ScriptedModel(lambda r: '{"x": 1}')
    Stored(model, store).chat([ask("a"), other])
    assert len(model.asked) == 2


def test_models_do_not_share_answers(store: Store) -> None:
    assert Stored(ScriptedModel(["one"]), store).chat([ask("a")])[0].text == "one"
    assert Stored(ScriptedModel(["two"]), store).chat([ask("a")])[0].text == "two"


def test_scores_come_back_bit_for_bit(store: Store) -> None:
    logprobs = np.array([-0.1, -1 / 3, math.nan, -math.inf, -1e-320])
    reply = ScoreReply(
        logprobs, np.arange(5, dtype=np.int32), failure="missing_logprob", detail="one", usage=Usage(9, 0), seconds=1.0
    )
    model = ScriptedModel(scores=[reply])
    request = ScoreRequest("p", tuple("abcde"))
    fresh, stored = (Stored(model, store).score([request])[0] for _ in range(2))
    assert fresh is reply
    np.testing.assert_array_equal(stored.logprobs, logprobs)
    np.testing.assert_array_equal(stored.tokens, reply.tokens)
    assert (stored.logprobs.dtype, stored.tokens.dtype) == (np.float64, np.int32)
    assert (stored.failure, stored.usage, stored.cached, stored.seconds) == ("missing_logprob", Usage(9, 0), True, 0.0)


def test_chat_and_score_of_one_text_are_apart(store: Store) -> None:
    model = ScriptedModel(["x"])
    stored = Stored(model, store)
    stored.chat([ChatRequest(())])
    stored.score([ScoreRequest((), ())])
    assert {row.kind for row in store} == {"chat", "score"}


def test_unreadable_answers_are_kept_and_transport_failures_asked_again(store: Store) -> None:
    answers = [ChatReply("", failure="rate_limited"), ChatReply("", failure="refused"), ChatReply("good")]
    model = ScriptedModel(answers)
    stored = Stored(model, store)
    assert [r.failure for r in stored.chat([ask("a"), ask("b")])] == ["rate_limited", "refused"]
    assert len(store) == 1
    replay = Stored(model, store, "replay").chat([ask("a")])[0]
    assert (replay.failure, replay.cached) == ("rate_limited", True)  # a replay shows what happened
    again = stored.chat([ask("a"), ask("b")])
    assert [(r.text, r.failure, r.cached) for r in again] == [("good", None, False), ("", "refused", True)]
    assert Stored(model, store, "replay").chat([ask("a")])[0].text == "good"
    assert len(store) == 2


def test_replay_asks_nobody_and_says_what_is_missing(store: Store) -> None:
    model = ScriptedModel(echo, name="m")
    Stored(model, store).chat([ask("a")])
    replay = Stored(model, store, "replay")
    assert replay.chat([ask("a")])[0].cached
    with pytest.raises(ModelError, match=r"1 of 2 chat calls of 'scripted-m' are not in the store") as caught:
        replay.chat([ask("a"), ask("b")])
    assert "\n" not in str(caught.value)
    assert len(model.asked) == 1


def test_refresh_asks_all_and_replaces_but_never_with_a_transport_failure(store: Store) -> None:
    model = ScriptedModel(["old", "new", ChatReply("", failure="unreachable")])
    Stored(model, store).chat([ask("a")])
    refresh = Stored(model, store, "refresh")
    assert refresh.chat([ask("a")])[0].text == "new"
    assert Stored(model, store).chat([ask("a")])[0].text == "new"
    refresh.chat([ask("a")])
    assert Stored(model, store).chat([ask("a")])[0].text == "new"


def test_chunks_are_committed_one_by_one(store: Store) -> None:
    def falls(request: ChatRequest) -> str:
        if request.messages[0].content == "7":
            raise ModelError("gone")
        return "x"

    with pytest.raises(ModelError):
        Stored(ScriptedModel(falls), store, chunk=3).chat([ask(str(i)) for i in range(9)])
    assert len(store) == 6


def test_the_file_explains_itself(store: Store) -> None:
    Stored(ScriptedModel(echo, name="m"), store).chat([ask("naïve \ud800", seed=3)])
    row = next(iter(store))
    assert json.loads(row.model)["model"] == "scripted-m"
    assert json.loads(row.request)["messages"] == [{"role": "user", "content": "naïve \ud800"}]
    assert json.loads(row.request)["seed"] == 3
    assert json.loads(row.reply)["text"].startswith("NAÏVE")
    assert row.created.startswith("20")


_requests = st.builds(
    lambda texts, t, n, s: ChatRequest(tuple(Message("user", x) for x in texts), temperature=t, max_tokens=n, seed=s),
    st.lists(st.text(max_size=20), min_size=1, max_size=2),
    st.floats(0, 2),
    st.integers(1, 9),
    st.integers(0, 9),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_requests, max_size=12), st.integers(1, 5))
def test_any_batch_gives_what_the_model_gives(store: Store, requests: list[ChatRequest], chunk: int) -> None:
    def answer(request: ChatRequest) -> str:
        return f"<{request_json(request)}>"

    model = ScriptedModel(answer)
    replies = Stored(model, store, chunk=chunk).chat(requests)
    assert [r.text for r in replies] == [answer(r) for r in requests]
    assert len(model.asked) <= len(set(map(request_json, requests)))


def test_a_thousand_hits_in_a_second(store: Store) -> None:
    requests = [ScoreRequest(f"p{i}", tuple(f" c{j}" for j in range(20))) for i in range(1000)]
    stored = Stored(ScriptedModel(), store)
    stored.score(requests)
    began = time.process_time()  # what else the machine does is not the store's
    replies = stored.score(requests)
    assert time.process_time() - began < 1.0
    assert all(r.cached for r in replies)


# -- processes and disks ------------------------------------------------------------------

_SLOW = """
import sys, time
from llm4rec.llm import *
def slow(request):
    time.sleep(0.01)
    return request.messages[0].content
model = Stored(ScriptedModel(slow), Store(sys.argv[1]), chunk=2)
model.chat([ChatRequest((Message("user", f"{i}"),)) for i in range(100_000)])
"""


def test_kill_loses_at_most_the_chunk_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "llm.sqlite"
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(_SLOW), str(path)])
    try:
        deadline = time.time() + 60
        done = 0
        while done < 6 and time.time() < deadline:
            time.sleep(0.05)
            if path.exists():
                try:
                    with Store(path, readonly=True) as peek:
                        done = len(peek)
                except RunError:
                    continue  # not made yet
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with Store(path) as store:
        n = len(store)
        assert n >= done >= 6
        assert n % 2 == 0  # whole chunks
        model = ScriptedModel(echo)
        script = Stored(ScriptedModel(lambda r: r.messages[0].content), store)
        script.chat([ask(str(i)) for i in range(n)])
        assert not script.model.asked  # type: ignore[attr-defined]
        assert Stored(model, store).chat([ask("new", seed=9)])[0].text == "NEW"


def test_many_writers_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "llm.sqlite"
    code = """
import sys
from llm4rec.llm import *
model = Stored(ScriptedModel(lambda r: sys.argv[2]), Store(sys.argv[1]), chunk=1)
print(",".join(r.text for r in model.chat([ChatRequest((Message("user", f"{i}"),)) for i in range(40)])))
"""
    command = [sys.executable, "-c", code, str(path)]
    processes = [subprocess.Popen([*command, str(k)], stdout=subprocess.PIPE, text=True) for k in range(3)]
    outs = [p.communicate(timeout=120)[0].strip() for p in processes]
    assert [p.returncode for p in processes] == [0, 0, 0]
    with Store(path) as store:
        assert len(store) == 40
    # Whoever asked, all processes go on with the one answer that a replay will give.
    assert len(set(outs)) == 1


_STEADY = """
import sys, time
from llm4rec.llm import *
def answer(request):
    time.sleep(0.002)
    return sys.argv[2] * 500
model = Stored(ScriptedModel(answer), Store(sys.argv[1]), chunk=1)
print("open", flush=True)
sys.stdin.readline()  # all of them begin at once
for i in range(60):
    model.chat([ChatRequest((Message("user", f"{(int(sys.argv[2]) * 37 + i) % 90}"),))])
print("done", flush=True)
"""


def test_a_killed_writer_leaves_the_others_in_peace(tmp_path: Path) -> None:
    path = tmp_path / "llm.sqlite"
    command = [sys.executable, "-c", textwrap.dedent(_STEADY), str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([*command, str(k)], **pipes) for k in range(4)]  # type: ignore[call-overload]
    assert [w.stdout.readline() for w in writers] == ["open\n"] * 4  # made by all of them at the same time
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    time.sleep(0.1)
    writers[0].send_signal(signal.SIGKILL)
    outs = [w.communicate(timeout=120)[0] for w in writers]
    assert [w.returncode for w in writers] == [-signal.SIGKILL, 0, 0, 0]
    assert outs[1:] == ["done\n"] * 3
    with Store(path) as store:
        assert store._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        asked = {(k * 37 + i) % 90 for k in (1, 2, 3) for i in range(60)}
        assert len(asked) <= len(store) <= 90
        replay = Stored(ScriptedModel(lambda r: ""), store, "replay")
        assert all(len(r.text) == 500 for r in replay.chat([ask(str(i)) for i in sorted(asked)]))


def test_threads_share_one_store(store: Store) -> None:
    failures: list[BaseException] = []

    def work(k: int) -> None:
        try:
            Stored(ScriptedModel(echo), store, chunk=1).chat([ask(f"{(i * k) % 17}") for i in range(30)])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(store) == 17


def test_closed_store_stands_alone_and_replays_from_a_frozen_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "llm.sqlite"
    with Store(path) as store:
        Stored(ScriptedModel(echo), store).chat([ask("a")])
    assert [p.name for p in path.parent.iterdir()] == ["llm.sqlite"]
    published = tmp_path / "published"
    published.mkdir()
    shutil.copy(path, published / "llm.sqlite")
    published.chmod(0o555)
    try:
        with Store(published / "llm.sqlite", readonly=True) as store:
            assert Stored(ScriptedModel(echo), store, "replay").chat([ask("a")])[0].text == "A"
    finally:
        published.chmod(0o755)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_log_that_cannot_be_read_is_told_not_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "llm.sqlite")
    Stored(ScriptedModel(echo), store).chat([ask("a")])
    torn = tmp_path / "torn"
    torn.mkdir()
    for name in ("llm.sqlite", "llm.sqlite-wal"):  # copied while a run was writing
        shutil.copy(tmp_path / name, torn / name)
    store.close()
    torn.chmod(0o555)
    try:
        with pytest.raises(RunError, match="not folded"):
            Store(torn / "llm.sqlite", readonly=True)
    finally:
        torn.chmod(0o755)
    with Store(torn / "llm.sqlite", readonly=True) as store:
        assert len(store) == 1


def test_readonly_store_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such store"):
        Store(tmp_path / "none.sqlite", readonly=True)


def test_what_is_no_store_is_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "notes.sqlite"
    text.write_text("these are notes, and long enough to be taken for a header of something" * 20)
    with pytest.raises(RunError, match="not a database"):
        Store(text)
    assert text.read_text().startswith("these are notes")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    with pytest.raises(RunError, match="not a store of model calls"):
        Store(other)


def test_torn_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "llm.sqlite"
    with Store(path) as store:
        Stored(ScriptedModel(lambda r: "x" * 5000), store).chat([ask(str(i)) for i in range(200)])
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(RunError) as caught, Store(path) as store:
        Stored(ScriptedModel(echo), store).chat([ask(str(i)) for i in range(200)])
    assert "\n" not in str(caught.value)
    assert "move the file away" in str(caught.value)


def test_full_disk_is_one_line(store: Store) -> None:
    store._db.execute("PRAGMA max_page_count = 8")
    with pytest.raises(RunError, match="make room on the disk") as caught:
        Stored(ScriptedModel(lambda r: "x" * 10_000), store).chat([ask(str(i)) for i in range(20)])
    assert caught.value.where == str(store.path)
    store._db.execute("PRAGMA max_page_count = 100000")
    assert len(store) == 0  # the chunk was rolled back whole, and the store still works
    assert Stored(ScriptedModel(echo), store).chat([ask("a")])[0].text == "A"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(RunError):
            Store(tmp_path / "llm.sqlite")
    finally:
        tmp_path.chmod(0o755)


def test_folder_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make the folder"):
        Store(tmp_path / "file" / "llm.sqlite")


def test_canonical_json_has_one_form() -> None:
    assert canonical({"b": 1, "a": [1.5, "é"]}) == canonical({"a": [1.5, "é"], "b": 1}) == '{"a":[1.5,"\\u00e9"],"b":1}'
    with pytest.raises(ValueError):
        canonical(math.nan)
