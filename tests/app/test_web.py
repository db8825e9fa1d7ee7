"""The pages over the wire: who may see them, what every answer says to browsers, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from llm4rec.app.server.browsers import Browsers, cookie, is_own
from llm4rec.app.server.keys import Key, new_key
from tests.app.served import INJECTED, Server, serving

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def keyed(asking_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("keyed")
    file = folder / "keys.toml"
    keys = {name: new_key(file, name, scopes) for name, scopes in
            (("all", ["read", "write", "memory"]), ("reader", ["read"]), ("rememberer", ["memory"]))}  # fmt: skip
    with serving(asking_run, "--keys", str(file), "--store", str(folder / "store.sqlite")) as server:
        yield server, keys


@contextmanager
def signed_in(server: Server, key: str) -> Iterator[httpx.Client]:
    """Give a client with the cookie of a session."""
    with server.client() as client:
        answer = client.post("/sign-in", json={"key": key})
        assert answer.status_code == 204, answer.text
        yield client


def token_of(page: httpx.Response) -> dict[str, str]:
    """Return the header that proves that a request comes from a page."""
    found = re.search(r'<meta name="csrf" content="([^"]+)">', page.text)
    assert found, page.text[:500]
    return {"X-CSRF-Token": found[1]}


def test_nobody_sees_a_page_without_a_key(keyed: tuple[Server, dict[str, str]]) -> None:
    server, _ = keyed
    with server.client() as client:
        for path in ("/", "/compare?system=a&system=b", "/cases", "/case?n=1", "/catalogue", "/item?id=i1", "/users",
                     "/user?id=u1", "/chat", "/playground", "/nothing"):  # fmt: skip
            answer = client.get(path, headers=HTML)
            assert (answer.status_code, answer.headers["location"][:14]) == (303, "/sign-in?next="), path
            assert "Horror" not in answer.text
            assert client.get(path).status_code == 401
            assert client.get(path, headers={**HTML, "HX-Request": "true"}).status_code == 401
        assert client.post("/playground", json={"user": "u1", "retrieve_1": "ease"}).status_code == 401
        for evil in ("//evil.example/", "/%09/evil.example", "/%5Cevil.example", "https://evil.example", "javascript:alert(1)"):
            page = client.get(f"/sign-in?next={evil}", headers=HTML)
            assert page.status_code == 200
            assert 'data-next="/"' in page.text, evil
        assert 'data-next="/case?n=3"' in client.get("/sign-in?next=/case%3Fn%3D3", headers=HTML).text
        assert client.get("/assets/web.css").status_code == 200
        refused = client.post("/sign-in", json={"key": "l4r_wrong"})
        assert refused.status_code == 401
        assert "set-cookie" not in refused.headers
        assert client.post("/sign-in", data={"key": "x"}).status_code == 415


def test_a_session_does_what_its_key_may_do(keyed: tuple[Server, dict[str, str]]) -> None:
    server, keys = keyed
    with signed_in(server, keys["reader"]) as client:
        own = token_of(client.get("/", headers=HTML))
        denied = client.get("/user?id=u1", headers=HTML)
        assert denied.status_code == 403
        assert "this key has no scope &#39;memory&#39;" in denied.text
        assert client.post("/v1/recommend", json={"user": "u1"}, headers=own).status_code == 200
        assert client.post("/v1/events", json={}, headers=own).status_code == 403
    with signed_in(server, keys["rememberer"]) as client:
        own = token_of(client.get("/user?id=u1", headers=HTML))
        assert client.get("/", headers=HTML).status_code == 403
        given = {"item": "i1", "verdict": "accept", "user": "u1"}
        told = client.post("/v1/chat/feedback", json=given, headers=own)
        assert (told.status_code, told.json()["error"]["message"]) == (403, "this key has no scope 'write'")


def test_another_site_cannot_write_with_a_session(keyed: tuple[Server, dict[str, str]]) -> None:
    server, keys = keyed
    fact, path = {"text": "planted"}, "/v1/users/u5/memory"
    with signed_in(server, keys["all"]) as client:
        own = token_of(client.get("/", headers=HTML))
        for headers in ({}, {"X-CSRF-Token": "x" * 43}, {**own, "Sec-Fetch-Site": "cross-site"}):
            assert client.post(path, json=fact, headers=headers).status_code == 403
            assert client.delete(path, headers=headers).status_code == 403
        assert client.get(path).json()["facts"] == []
        assert client.post(path, json=fact, headers={**own, "Sec-Fetch-Site": "same-origin"}).status_code == 200
        assert client.delete(path, headers=own).json() == {"forgotten": 1}
        bearer = {"Authorization": "Bearer wrong"}
        assert client.get("/catalogue", headers=bearer).status_code == 401  # a key that is sent is the one that counts
        assert client.post("/sign-out", json={}, headers=own).status_code == 204
        assert client.get("/catalogue", headers=HTML).status_code == 303


def test_sessions_are_bounded_in_time_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    browsers, key = Browsers(), Key(sha256="0" * 64)
    secret = browsers.open("one", key)
    assert cookie(secret, at_home=True) == f"llm4rec={secret}; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"
    assert cookie("", at_home=False) == "__Host-llm4rec=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure"
    found = browsers.find(f"a=b; llm4rec={secret}")
    assert found is not None
    assert found.caller == "one"
    assert browsers.find(f"other={secret}") is None
    assert is_own(found, {"x-csrf-token": found.token})
    assert not is_own(found, {"x-csrf-token": found.token, "sec-fetch-site": "none"})
    assert not is_own(found, {})
    monkeypatch.setattr("llm4rec.app.server.browsers._MOST", 2)
    later = [browsers.open("more", key) for _ in range(2)]
    assert browsers.find(f"llm4rec={secret}") is None
    monkeypatch.setattr("llm4rec.app.server.browsers.time.monotonic", lambda: 1e12)
    assert browsers.find(f"__Host-llm4rec={later[0]}") is None


# -- without keys -----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def open_server(asking_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("open")
    twin = folder / "twin"
    twin.mkdir()
    for name in ("spec.toml", "summary.json", "environment.json", "results.parquet", "cases.parquet"):
        text = (asking_run / name).read_bytes()
        twin.joinpath(name).write_bytes(text.replace(b"full ranking", b"another one") if name.startswith("env") else text)
    with serving(asking_run, "--compare", str(twin), "--compare", str(folder), by="demo") as server:
        yield server


def test_every_answer_has_a_strict_policy(open_server: Server) -> None:
    with open_server.client() as client:
        for path in ("/", "/chat", "/v1/items", "/assets/web.js", "/nothing"):
            headers = client.get(path, headers=HTML).headers
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert headers["x-content-type-options"] == "nosniff"
        for path in ("/", "/case?n=5&system=fusion", "/item?id=i7", "/user?id=u1", "/playground"):
            page = client.get(path, headers=HTML)
            assert page.status_code == 200
            assert "<script>" not in page.text
            assert not re.search(r"<[^>]*\s(style|on[a-z]+)=", page.text), path
            assert INJECTED not in page.text
        assert client.get("/", headers={**HTML, "Host": "evil.example"}).status_code == 421
        assert client.get("/sign-in", headers=HTML).headers["location"] == "/"


def test_paths_and_numbers_that_are_tricks_are_refused_in_one_line(open_server: Server) -> None:
    with open_server.client() as client:
        for path in ("/assets/..%2f..%2fetc%2fpasswd", "/assets/%2e%2e/web.css", "/assets/htmx.LICENSE.md", "/templates/x"):
            assert client.get(path, headers=HTML).status_code == 404, path
        for path, says in (
            ("/?metric=hit@99", "has no metric"), ("/?against=nobody", "is no system"), ("/?run=nowhere", "there is no run"),
            ("/?run=twin", "has another protocol"), ("/compare?system=ease", "choose two systems"),
            ("/compare?system=ease&system=none", "there is no system"), ("/compare?system=ease&system=../x", "there is no run"),
            ("/compare?system=ease&system=twin/ease", "has another protocol"),
            ("/case?n=x", "there is no case"), ("/case?n=99999999999999999999", "there is no case"),
            ("/case?n=1&system=none", "there is no system"), ("/cases?hit=none", "there is no system"),
            ("/cases/random?q=nobody-at-all", "no case fits"), ("/item?id=../../x", "unknown item"),
            ("/user?id=", "name a user"),
            ("/catalogue?attribute=genre&operator=like&value=x", "there is no operator"),
        ):  # fmt: skip
            answer = client.get(path, headers=HTML)
            assert answer.status_code == 422, (path, answer.status_code)
            line = re.search(r'<h1 class="line"><bdi>([^<]+)</bdi></h1>', answer.text)
            assert line, path
            assert says in line[1], (path, line[1])
            fragment = client.get(path, headers={**HTML, "HX-Request": "true"})
            assert "\n" not in fragment.json()["error"]["message"]
        for given, says in (
            ({"user": "u1"}, "choose what retrieves"), ({"retrieve_1": "ease"}, "name a user"),
            ({"user": "u1", "retrieve_1": "ease", "k": "many"}, "whole number"),
            ({"user": "u1", "retrieve_1": "ease", "depth_1": "99"}, "less than or equal to 50"),
            ({"user": "u1", "items": "zz", "retrieve_1": "ease"}, "unknown item"),
        ):  # fmt: skip
            answer = client.post("/playground", json=given)
            assert answer.status_code == 422
            assert says in answer.json()["error"]["message"], answer.text
        wrong = client.post(
            "/playground", json={"user": "u1", "retrieve_1": "nothing", "retrieve_2": "ease", "rank_2": "llm:x"}
        )
        assert wrong.status_code == 200
        assert wrong.text.count('class="callout"') == 2
        assert "another run has this name" not in client.get("/", headers=HTML).text
        assert "has no spec.toml" in client.get("/", headers=HTML).text  # the folder that is no run is told


def test_the_pages_are_no_part_of_the_api(open_server: Server) -> None:
    with open_server.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
        assert all(p.startswith(("/v1/", "/healthz", "/readyz", "/metrics")) for p in paths)
        assert "/v1/chat/feedback" in paths
        told = client.post("/v1/chat/feedback", json={"item": "i1", "verdict": "reject"}).json()
        assert told == {"line": "Nothing is kept of somebody unknown.", "event": False, "fact": None}
        gone = client.post("/v1/chat/feedback", json={"item": "i1", "verdict": "reject", "session": "0" * 32})
        assert gone.status_code == 404


def test_demo_runs_what_is_missing_first(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from llm4rec.app.cli import app

    told = CliRunner().invoke(app, ["demo", str(tmp_path / "none"), "--spec", str(tmp_path / "none.toml")])
    assert told.exit_code == 1
    assert "no such file" in str(told.exception)
