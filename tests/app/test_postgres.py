"""What outlasts the server, in a real PostgreSQL: Debian's, started for these tests, skipped visibly where there is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine as Database
from sqlalchemy.exc import IntegrityError

from llm4rec.agents.bus import Candidates
from llm4rec.agents.dialogue import Dialogue
from llm4rec.agents.engine import Engine, Served
from llm4rec.agents.memory import MemoryStore
from llm4rec.agents.storage import open_database
from llm4rec.agents.tools import Session
from llm4rec.app.server.events import EventStore, Kept
from llm4rec.app.server.serve import alone
from llm4rec.app.server.sessions import Sessions
from llm4rec.core import RunError
from llm4rec.prompted.memory.facts import Evidence
from tests.app.served import make_run, serving
from tests.worlds import topics

FOUND = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name.split(".")[0]))
ODD = "Zoë's \u4e2d\u6587 \U0001f600 '; DROP TABLE facts; -- \\ %s :x {0}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Yield the URL of a server of its own, on a socket in a folder of its own."""
    if not FOUND:
        pytest.skip("no PostgreSQL in /usr/lib/postgresql: apt-get install postgresql")
    root = os.getuid() == 0  # it refuses to run as root
    user: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if root else {}
    folder = Path(tempfile.mkdtemp(prefix="llm4rec-pg-", dir="/tmp"))  # a socket's path must be short

    def run(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, **user)
        assert done.returncode == 0, done.stdout + done.stderr

    if root:
        shutil.chown(folder, "postgres", "postgres")
    data, tool = str(folder / "data"), FOUND[-1]
    options = f"-c listen_addresses='' -c unix_socket_directories={folder}"
    try:
        run(str(tool / "initdb"), "-D", data, "-A", "trust", "-U", "tests", "-E", "UTF8", "--no-sync")
        run(str(tool / "pg_ctl"), "-D", data, "-w", "-t", "120", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql+psycopg://tests@/postgres?host={folder}"
    finally:
        if (Path(data) / "postmaster.pid").exists():
            run(str(tool / "pg_ctl"), "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(cluster: str) -> Iterator[Database]:
    opened = open_database(cluster)
    with opened.begin() as connection:
        for table in ("facts", "events", "items", "sessions"):
            connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
    yield opened
    opened.dispose()


def test_memory_keeps_edits_and_forgets(database: Database) -> None:
    memory = MemoryStore(database)
    fact = memory.remember("ann", ODD, source="said", evidence=(Evidence("i1"),))
    memory.remember("ann", "space", source="said", attribute="genres", detail="dislikes")
    memory.remember("ann", ODD, source="said", evidence=(Evidence("i1"),))  # the same again takes its own place
    memory.remember("bob", "other", source="said")
    assert [f.text for f in MemoryStore(database).list("ann")] == ["space", ODD]
    edited = memory.edit("ann", fact.id, "shorter")
    assert [f.text for f in memory.list("ann")] == ["space", "shorter"]
    assert memory.forget("ann", edited.id) == 1
    assert memory.forget("ann", "0" * 16) == 0
    assert (memory.forget("ann"), memory.list("ann"), len(memory.list("bob"))) == (1, (), 1)


def test_one_fact_remembered_by_many_at_once_is_one(database: Database) -> None:
    memory = MemoryStore(database)

    def remember(_: int) -> bool:
        try:
            memory.remember("ann", "space", source="said")
        except IntegrityError:  # another was faster
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert any(pool.map(remember, range(24)))
    assert [f.text for f in memory.list("ann")] == ["space"]


def test_events_are_all_or_none_and_once(database: Database) -> None:
    store = EventStore(database)
    first = [Kept("ann", "i1", 2**40, 1.5, 0, "a"), Kept(ODD, "i2", -5, 0.0, 1)]
    store.append([("new", {"title": ODD, "year": 1999})], first)
    assert EventStore(database).read() == ([("new", {"title": ODD, "year": 1999})], first)
    assert store.known(["a", "b"]) == {"a"}
    with pytest.raises(IntegrityError):
        store.append([("newer", {})], [Kept("ann", "i3", 1, 1.0, 0, "b"), Kept("ann", "i3", 1, 1.0, 0, "a")])
    assert (store.count(), len(store.read()[0])) == (2, 1)


def test_conversations_go_on(database: Database) -> None:
    train = topics().split.train
    engine = Engine(train, {"none": Served("none", "None", lambda: None)}, "none")
    sessions, memory = Sessions(database), MemoryStore(database)
    opened = sessions.open(None, "user0", engine, memory)
    assert opened is not None
    id_, session = opened
    held = Candidates.of(np.array([3, 1], np.int32), np.array([0.1, 1e-7], np.float32), "1 x")
    dialogue = Dialogue("before").with_exchange(ODD, "yes")
    sessions.keep(id_, Session(engine, memory, "user0", candidates=held, calls=4, dialogue=dialogue))
    again = Sessions(database).open(id_, "user0", engine, memory)
    assert again is not None
    assert again[1].candidates is not None
    assert again[1].candidates.items.tolist() == [3, 1]
    assert np.array_equal(again[1].candidates.scores, held.scores)
    assert (again[1].calls, again[1].dialogue) == (4, dialogue)
    assert sessions.open(id_, "user1", engine, memory) is None
    assert session.candidates is None


def test_a_second_server_is_told_that_the_store_is_taken(database: Database) -> None:
    other = open_database(str(database.url))
    with alone(database), pytest.raises(RunError, match="another server keeps it"), alone(other):
        pass
    with alone(other):  # the first one has gone
        pass
    other.dispose()


def test_a_server_that_is_not_there_is_one_line_without_the_password() -> None:
    with pytest.raises(RunError, match="cannot be opened") as error:
        open_database("postgresql+psycopg://ann:secret@127.0.0.1:1/db?connect_timeout=2")
    assert "secret" not in str(error.value)


@pytest.mark.slow
def test_what_is_acknowledged_survives_kill_9(database: Database, tmp_path: Path) -> None:
    run, url = make_run(tmp_path, ""), str(database.url)
    event = {"user": "kim", "item": "fresh", "id": "one"}
    item = {"id": "fresh", "attributes": {"title": "Horror number 99", "genre": "Horror"}}
    with serving(run, "--system", "ease", "--store", url) as server:
        with server.client() as client:
            assert client.post("/v1/events", json={"items": [item], "events": [event]}).json()["accepted"] == 1
            talk = client.post("/v1/chat", json={"message": "remember that I hate comedy", "user": "kim"})
            assert "event: done" in talk.text
        server.kill()
    deadline = time.monotonic() + 30
    while True:  # the lock goes when PostgreSQL has seen the end of the connection
        try:
            with alone(database):
                break
        except RunError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    with serving(run, "--system", "ease", "--store", url) as server, server.client() as client:
        assert client.post("/v1/recommend", json={"user": "kim", "k": 1}).json()["history"] == 1
        assert client.post("/v1/events", json={"events": [event]}).json() == {"accepted": 0, "repeated": 1, "items": 0}
        facts = client.get("/v1/users/kim/memory").json()["facts"]
        assert [f["text"] for f in facts] == ["Comedy"]
        assert json.loads(json.dumps(facts))[0]["detail"] == "dislikes"
