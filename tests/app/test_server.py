"""A real server process: its answers, what it refuses, and what it keeps when it is killed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from llm4rec.agents.storage import open_database
from llm4rec.app.server.keys import new_key
from llm4rec.app.server.serve import alone
from llm4rec.core import RunError
from llm4rec.experiment.recommend import recommend
from tests.app.served import INJECTED, Server, make_run, serving


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    store = str(tmp_path_factory.mktemp("store") / "store.sqlite")
    settings = ("--set", "max_body=200000", "--set", "timeout=5")
    with serving(run, "--system", "sasrec", "--store", store, *settings) as process:
        yield process


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(answer: httpx.Response, status: int, says: str = "") -> dict[str, str]:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert says in error["message"]
    assert "\n" not in error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    return dict(error)


def items(answer: Any) -> list[str]:
    return [entry["item"] for entry in answer["items"]]


# -- answers ----------------------------------------------------------------------------------
@pytest.mark.parametrize("system", ["sasrec", "ease", "fusion"])
def test_lists_are_those_of_the_command_line(client: httpx.Client, run: Path, system: str) -> None:
    answer = ok(client.post("/v1/recommend", json={"user": "u1", "k": 5, "system": system}))
    expected = recommend(run, system=system, user="u1", k=5)
    assert [(e["item"], e["name"]) for e in answer["items"]] == [(i, name) for i, name, _ in expected["list"]]
    assert [e["score"] for e in answer["items"]] == pytest.approx([s for *_, s in expected["list"]], abs=1e-5)
    assert (answer["known"], answer["history"], answer["degraded"]) == (True, 8, None)
    given = ok(client.post("/v1/recommend", json={"history": ["i1", "i4"], "k": 5, "system": system}))
    assert items(given) == [i for i, *_ in recommend(run, system=system, history=["i1", "i4"], k=5)["list"]]


def test_concurrent_requests_equal_single_ones(client: httpx.Client) -> None:
    asks = [{"user": f"u{u % 40}", "k": 5 + u % 2} for u in range(48)]
    single = [ok(client.post("/v1/recommend", json=ask)) for ask in asks]
    with ThreadPoolExecutor(16) as pool:
        together = [ok(a) for a in pool.map(lambda ask: client.post("/v1/recommend", json=ask), asks)]
    for one, other in zip(single, together, strict=True):
        assert items(one) == items(other)
        assert [e["score"] for e in one["items"]] == pytest.approx([e["score"] for e in other["items"]], abs=1e-5)


def test_conditions_hold_of_every_item(client: httpx.Client) -> None:
    where = [
        {"attribute": "genre", "operator": "is", "value": "horror"},
        {"attribute": "year", "operator": "at least", "value": "1990"},
    ]
    answer = ok(client.post("/v1/recommend", json={"user": "u2", "k": 10, "where": where}))
    assert answer["items"]
    for entry in answer["items"]:
        told = ok(client.get(f"/v1/items/{entry['item']}"))["attributes"]
        assert told["genre"] == "Horror"
        assert int(told["year"]) >= 1990
    page = ok(client.get("/v1/items", params={"attribute": "genre", "value": "Comedy", "limit": 3}))
    assert (page["total"], len(page["items"])) == (10, 3)


def test_rank_search_and_explain(client: httpx.Client) -> None:
    given = ["i5", "i9", "i20"]
    ranked = ok(client.post("/v1/rank", json={"user": "u1", "items": given, "system": "ease"}))
    assert sorted(items(ranked)) == sorted(given)
    whole = items(ok(client.post("/v1/recommend", json={"user": "u1", "k": 40, "system": "ease", "seen": True})))
    assert items(ranked) == [i for i in whole if i in given]
    refused(client.post("/v1/rank", json={"user": "u1", "items": given, "system": "fusion"}), 422, "cannot rank")
    found = ok(client.post("/v1/search", json={"words": "comedy number 4"}))
    assert items(found)[0] == "i4"
    why = ok(client.post("/v1/explain", json={"user": "u1", "items": ["i5"], "system": "fusion"}))["items"][0]
    assert why["by"] == "fusion"
    assert why["why"].startswith("Because you saw")


def test_strangers_get_an_honest_answer(client: httpx.Client) -> None:
    answer = ok(client.post("/v1/recommend", json={"user": "nobody", "k": 3}))
    assert (answer["known"], answer["history"], len(answer["items"])) == (False, 0, 3)
    refused(client.post("/v1/recommend", json={"history": ["i1", "no such item"]}), 422, "unknown item")
    refused(client.post("/v1/recommend", json={"user": "u1", "system": "eaze"}), 422, "did you mean 'ease'?")
    refused(client.get("/v1/items/nothing"), 404)


def test_events_and_items_count_at_once(client: httpx.Client) -> None:
    new = {"id": "fresh", "attributes": {"title": "Horror number 99", "genre": "Horror", "year": 2020}}
    sent = {"items": [new], "events": [{"user": "zoe", "item": "fresh", "id": "e1"}, {"user": "zoe", "item": "i3", "time": 5}]}
    assert ok(client.post("/v1/events", json=sent)) == {"accepted": 2, "repeated": 0, "items": 1}
    answer = ok(client.post("/v1/recommend", json={"user": "zoe", "k": 31}))
    assert (answer["known"], answer["history"]) == (True, 2)
    assert not {"fresh", "i3"} & set(items(answer))
    assert "fresh" in items(ok(client.post("/v1/recommend", json={"user": "u3", "k": 31})))
    assert items(ok(client.post("/v1/search", json={"words": "99"}))) == ["fresh"]
    assert ok(client.get("/v1/items/fresh"))["new"]
    again = ok(client.post("/v1/events", json={"events": [{"user": "zoe", "item": "fresh", "id": "e1"}]}))
    assert again == {"accepted": 0, "repeated": 1, "items": 0}
    refused(client.post("/v1/events", json={"items": [new]}), 409, "already")


def test_what_is_half_wrong_is_not_taken_at_all(client: httpx.Client) -> None:
    before = ok(client.get("/v1/items"))["total"]
    new = {"id": "half", "attributes": {"title": "x", "genre": "y", "year": 1}}
    sent = {"items": [new], "events": [{"user": "half", "item": "half"}, {"user": "half", "item": "missing"}]}
    refused(client.post("/v1/events", json=sent), 422, "unknown item 'missing'")
    assert ok(client.get("/v1/items"))["total"] == before
    assert ok(client.post("/v1/recommend", json={"user": "half"}))["known"] is False


def test_titles_that_give_orders_are_text(client: httpx.Client) -> None:
    answer = client.get("/v1/items/i7")
    assert ok(answer)["name"] == INJECTED
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    found = ok(client.post("/v1/search", json={"words": INJECTED}))
    assert items(found)[0] == "i7"
    why = ok(client.post("/v1/explain", json={"user": "u1", "items": ["i7"]}))["items"]
    assert [w["item"] for w in why] == ["i7"]


def test_memory_is_listed_edited_and_forgotten(client: httpx.Client) -> None:
    path = "/v1/users/ann/memory"
    kept = ok(client.post(path, json={"text": "Horror", "attribute": "genre", "stance": "dislikes"}))
    ok(client.post("/v1/users/bob/memory", json={"text": "likes rain"}))
    edited = ok(client.put(f"{path}/{kept['id']}", json={"text": "Comedy"}))
    assert [(f["text"], f["detail"]) for f in ok(client.get(path))["facts"]] == [("Comedy", "dislikes")]
    refused(client.delete(f"/v1/users/bob/memory/{edited['id']}"), 404)
    assert ok(client.delete(f"{path}/{edited['id']}")) == {"forgotten": 1}
    assert ok(client.delete("/v1/users/bob/memory")) == {"forgotten": 1}
    assert ok(client.get("/v1/users/bob/memory"))["facts"] == []


def test_health_figures_and_description(client: httpx.Client) -> None:
    assert ok(client.get("/healthz"))["status"] == "ok"
    assert ok(client.get("/readyz"))["status"] == "ready"
    ok(client.post("/v1/recommend", json={"user": "u1"}))
    text = client.get("/metrics").text
    assert 'llm4rec_requests_total{method="POST",route="/v1/recommend",status="200"}' in text
    assert "llm4rec_batch_size_bucket" in text
    assert "zoe" not in text
    described = ok(client.get("/openapi.json"))
    lists = {"/v1/recommend", "/v1/rank", "/v1/explain", "/v1/search"}
    wanted = lists | {"/v1/items", "/v1/events", "/healthz", "/readyz", "/metrics"}
    assert wanted <= set(described["paths"])


def test_a_talk_in_the_terminal(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llm4rec.app.cli", "chat", str(run), "--user", "u1", "--system", "ease"]
    said = "2 horror\nremember that I hate comedy\nwhat do you know about me?\n"
    done = subprocess.run(
        [*command, "--store", str(tmp_path / "store")], input=said, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "filter_items(attribute=genre, operator=is, value=Horror, among=catalogue)" in done.stdout
    assert "1. Horror number" in done.stdout
    assert "Kept about you: dislikes Comedy." in done.stdout


# -- refusals ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"user": "u1", "k": "5"}, "valid integer"),
        ({"user": "u1", "k": 0}, "k: "),
        ({"user": "u1", "k": 10**9}, "k: "),
        ({"user": "u1", "kk": 5}, "kk: "),
        ({"k": 5}, "give a user"),
        ({"user": ""}, "user: "),
        ({"user": "a\x00b"}, "user: "),
        ({"user": "u" * 500}, "user: "),
        ({"history": ["i1"] * 2000}, "history: "),
        ({"user": "u1", "where": [{"attribute": "colour", "operator": "is", "value": "x"}]}, "no attribute 'colour'"),
        ({"user": "u1", "where": [{"attribute": "title", "operator": "contains", "value": "(((("}]}, "no word"),
        ([], ""),
    ],
)
def test_wrong_bodies_are_one_line(client: httpx.Client, body: Any, says: str) -> None:
    refused(client.post("/v1/recommend", json=body), 422, says)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 422),
        (b'{"user": "\\ud800"}', "application/json", 422),
        (b'{"user": "\xff"}', "application/json", 400),
        (b'{"user": "u1", "k": ' + b"9" * 6000 + b"}", "application/json", 400),
        (b"[" * 9000, "application/json", 400),
        (b'{"events": [{"user": "u", "item": "i1", "value": NaN}]}', "application/json", 422),
        (b'{"user": "u1"}', "text/plain", 415),
        (b"user=u1", "application/x-www-form-urlencoded", 415),
        (b" " * 200_001, "application/json", 413),
    ],
)
def test_odd_bodies_do_no_harm(client: httpx.Client, content: bytes, kind: str, status: int) -> None:
    path = "/v1/events" if b"events" in content else "/v1/recommend"
    answer = client.post(path, content=content, headers={"Content-Type": kind})
    assert answer.status_code in {status, 422 if status == 400 else status}, answer.text
    refused(answer, answer.status_code)


def test_a_body_without_a_length_is_bounded_too(client: httpx.Client) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(30):
            yield b" " * 10_000

    refused(client.post("/v1/recommend", content=parts(), headers={"Content-Type": "application/json"}), 413)


def test_a_body_that_never_ends_is_given_up(server: Server) -> None:
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        head = f"POST /v1/recommend HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        assert b"408" in connection.recv(100)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/items/../../etc/passwd", "/v1/items/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/v1/items/i1%00", "/v1/items/%ff",
        "/v1/items/" + "i" * 5000, "/../spec.toml", "/v1/users/%2e%2e/memory/../../x", "//etc/passwd", "/v1/items/i1/../i2",
    ],
)  # fmt: skip
def test_path_tricks_find_nothing(server: Server, path: str) -> None:
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:  # no client tidies the path up
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.split()[1] == "404"
    assert "root:" not in answer


def test_without_keys_only_this_machine_is_answered(client: httpx.Client, run: Path) -> None:
    refused(client.get("/healthz", headers={"Host": "evil.example"}), 421)
    done = subprocess.run(
        [sys.executable, "-m", "llm4rec.app.cli", "serve", str(run), "--host", "0.0.0.0", "--port", "0"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("llm4rec: serve: without keys nobody else may connect")


# -- what lasts -------------------------------------------------------------------------------
def test_nothing_acknowledged_is_lost_by_kill_9_and_keys_are_asked_for(run: Path, tmp_path: Path) -> None:
    acknowledged: list[str] = []
    store = str(tmp_path / "store.sqlite")
    new = {"id": "lasting", "attributes": {"title": "Horror number 98", "genre": "Horror", "year": 2020}}

    def send(sender: int) -> None:
        with server.client() as client:
            for number in range(10_000):
                event = {"user": "kim", "item": f"i{number % 30}", "id": f"{sender}-{number}", "time": number}
                try:
                    if client.post("/v1/events", json={"events": [event]}).status_code == 200:
                        acknowledged.append(event["id"])
                except httpx.HTTPError:
                    return

    with serving(run, "--system", "ease", "--store", store) as server:
        with server.client() as client:
            ok(client.post("/v1/events", json={"items": [new]}))
        senders = [threading.Thread(target=send, args=(sender,)) for sender in range(3)]
        for sender in senders:
            sender.start()
        while len(acknowledged) < 40:
            threading.Event().wait(0.01)
        server.kill()
        for sender in senders:
            sender.join()
    file = tmp_path / "keys.toml"
    command = [sys.executable, "-m", "llm4rec.app.cli", "keys", str(file), "app", "--scopes", "read,write"]
    app = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    reader, slow = new_key(file, "reader", ["read"]), new_key(file, "slow", ["read"], per_minute=20)
    assert file.stat().st_mode & 0o077 == 0
    assert not any(key in file.read_text() for key in (app, reader, slow))
    with serving(run, "--system", "ease", "--store", store, "--keys", str(file)) as process:
        with process.client(app) as client:
            history = ok(client.post("/v1/recommend", json={"user": "kim", "k": 1}))["history"]
            assert history >= len(acknowledged) >= 40
            sent = [{"user": "kim", "item": "i1", "id": i} for i in acknowledged][:1_000]
            assert ok(client.post("/v1/events", json={"events": sent})) == {"accepted": 0, "repeated": len(sent), "items": 0}
            assert ok(client.get("/v1/items/lasting"))["name"] == "Horror number 98"
            refused(client.get("/v1/users/kim/memory"), 403, "memory")
            refused(client.get("/metrics"), 403)
        with process.client() as nobody:
            assert ok(nobody.get("/healthz"))["status"] == "ok"
            for given in ("", "Bearer wrong", app, "Basic eDp5"):
                refused(nobody.get("/v1/items", headers={"Authorization": given}), 401)
        with process.client(reader) as client:
            assert ok(client.get("/v1/items", params={"limit": 1}))["total"] == 31
            refused(client.post("/v1/events", json={"events": []}), 403, "write")
        with process.client(slow) as client:
            answers = [client.get("/v1/items/i1") for _ in range(5)]
            assert answers[0].status_code == 200
            refused(answers[-1], 429)
            assert int(answers[-1].headers["retry-after"]) >= 1
        with pytest.raises(RunError, match="another server keeps it"), alone(open_database(store)):
            pass
        assert process.stop() == 0
        lines = [json.loads(line) for line in process.log]
    assert {line["route"] for line in lines} >= {"/v1/recommend", "/v1/events"}
    assert all(word not in json.dumps(lines) for word in ("kim", app, reader, slow))


def test_a_signal_is_heard_from_the_moment_at_which_the_address_is_told(run: Path, tmp_path: Path) -> None:
    server = Server(run, "--system", "ease", "--store", str(tmp_path / "store.sqlite"))
    try:
        assert server.stop() == 0  # sent before uvicorn listens to signals
    finally:
        server.kill()
