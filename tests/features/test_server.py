"""Tests of the embeddings endpoint against a real local server."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from llm4rec.core import ModelError
from llm4rec.features import Encoder, EncoderConfig, HashEncoder, open_encoder
from llm4rec.features import server as room

KEY = "sk-very-secret-0123456789"
Reply = tuple[int, Any]


def embeddings(texts: list[str], dimension: int = 8) -> dict[str, Any]:
    """Return a right answer: hashed words, three times too long."""
    vectors = 3 * HashEncoder(dimension).encode(texts)
    data = [{"object": "embedding", "index": i, "embedding": v.tolist()} for i, v in enumerate(vectors)]
    return {"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}


class Server:
    """Answers by ``self.reply(body, number of the request)``: (status, JSON value or raw bytes)."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answer_headers: dict[str, str] = {}
        self.reply: Callable[[dict[str, Any], int], Reply] = lambda body, n: (200, embeddings(body["input"]))
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    outer.bodies.append(body)
                    outer.headers.append({k.lower(): v for k, v in self.headers.items()})
                    number = len(outer.bodies)
                status, answer = outer.reply(body, number)
                if status == 0:  # hang up in the middle
                    self.connection.close()
                    return
                raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                for name, value in outer.answer_headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr(room, "_FIRST_WAIT", 0.01)
    local = Server()
    yield local
    local.http.shutdown()
    local.http.server_close()


def opened(server: Server, **changes: Any) -> Encoder:
    values = {"backend": "server", "model": "m", "base_url": server.url, "api_key_env": "TEST_KEY", "retries": 2, "timeout": 5}
    return open_encoder(EncoderConfig.model_validate(values | changes), cache=None)


def refused(server: Server, texts: list[str] | None = None, **changes: Any) -> str:
    """Return the error's line, after making sure that the key is not in it."""
    with pytest.raises(ModelError) as caught:
        opened(server, **changes).encode(["a", "b"] if texts is None else texts)
    line = str(caught.value)
    assert KEY not in line
    assert "\n" not in line
    assert caught.value.__cause__ is None, "a cause would show the request, key and all"
    return line


def test_vectors_come_back_in_order_and_unit_length(server: Server) -> None:
    texts = [f"text number {i}" for i in range(23)] + ["", "text number 0"]
    vectors = opened(server, batch_size=4).encode(texts)
    np.testing.assert_allclose(vectors, HashEncoder(8).encode(texts), atol=1e-6)
    assert vectors.dtype == np.float32
    assert len(server.bodies) == 6
    assert "" not in [text for body in server.bodies for text in body["input"]]


def test_the_request_as_it_goes_out(server: Server) -> None:
    encoder = opened(server, prefix="query: ", dimension=8)
    encoder.encode(["a"])
    assert server.bodies == [{"input": ["query: a"], "model": "m", "dimensions": 8, "encoding_format": "float"}]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(dict(encoder.identity))
    assert KEY not in repr(encoder.__dict__)


def test_without_a_key_none_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY")
    opened(server).encode(["a"])
    assert "authorization" not in server.headers[0]


def test_dimension_is_asked_once(server: Server) -> None:
    encoder = opened(server)
    assert encoder.dimension == 8
    assert encoder.dimension == 8
    assert encoder.encode(["", " "]).shape == (2, 8)
    assert encoder.encode([]).shape == (0, 8)
    assert len(server.bodies) == 1


def test_out_of_order_indices(server: Server) -> None:
    def reply(body: dict[str, Any], number: int) -> Reply:
        answer = embeddings(body["input"])
        answer["data"].reverse()
        return 200, answer

    server.reply = reply
    texts = ["one", "two", "three"]
    np.testing.assert_allclose(opened(server).encode(texts), HashEncoder(8).encode(texts), atol=1e-6)


@pytest.mark.parametrize("status", [408, 429, 500, 503, 0])
def test_a_passing_failure_is_repeated(server: Server, status: int) -> None:
    server.reply = lambda body, n: (status, {"error": {"message": "busy"}}) if n < 3 else (200, embeddings(body["input"]))
    assert opened(server).encode(["a"]).shape == (1, 8)
    assert len(server.bodies) == 3


def test_garbage_is_repeated_as_well(server: Server) -> None:
    server.reply = lambda body, n: (200, b"<html>proxy</html>") if n < 3 else (200, embeddings(body["input"]))
    assert opened(server).encode(["a"]).shape == (1, 8)


def test_retry_after_is_honoured(server: Server) -> None:
    server.answer_headers = {"Retry-After": "0.4"}
    server.reply = lambda body, n: (429, {"error": {"message": "slow down"}}) if n < 2 else (200, embeddings(body["input"]))
    start = time.monotonic()
    opened(server).encode(["a"])
    assert 0.4 <= time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("status", "answer", "wanted", "requests"),
    [
        (429, {"error": {"message": "busy"}}, "HTTP 429.*3 times", 3),
        (500, {"error": {"message": f"crash with {KEY}"}}, r"HTTP 500 \(.*\*\*\*.*3 times", 3),
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}, r"refuses the key \(HTTP 401\); set TEST_KEY", 1),
        (403, b"", r"refuses the key \(HTTP 403\)", 1),
        (404, {"error": {"message": "no such model"}}, "HTTP 404.*no such model.*check model", 1),
        (400, b"x" * 5000, "HTTP 400", 1),
        (0, None, "cannot be reached.*3 times", 3),
        (200, b"<html>", "not JSON.*ends in /v1", 3),
        (200, b'{"data": [{"ind', "not JSON", 3),
        (200, b"\xff\xfe", "not JSON", 3),
        (200, b"", "not JSON", 3),
        (200, [], "not a list of embeddings", 1),
        (200, {"data": None}, "not a list of embeddings", 1),
        (200, {"data": [{"index": 0}, {"index": 1}]}, "not a list of embeddings", 1),
        (200, {"data": [{"index": i, "embedding": "AAAA"} for i in range(2)]}, "not a list of embeddings", 1),
        (200, {"data": [{"index": i, "embedding": [0.1] * (i + 1)} for i in range(2)]}, "not a list of embeddings", 1),
        (200, {"data": [{"index": i, "embedding": []} for i in range(2)]}, "no finite numbers", 1),
        (200, {"data": [{"index": i, "embedding": [None]} for i in range(2)]}, "not a list|no finite", 1),
        (200, b'{"data": [{"index": 0, "embedding": [NaN]}, {"index": 1, "embedding": [1]}]}', "no finite numbers", 1),
        (200, embeddings(["a"]), "1 vectors for 2 texts", 1),
        (200, embeddings(["a", "b", "c"]), "3 vectors for 2 texts", 1),
        (200, {"data": [{"index": 5, "embedding": [1]}, {"index": 6, "embedding": [1]}]}, "numbers them wrongly", 1),
        (200, {"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [2]}]}, "numbers them wrongly", 1),
    ],
)
def test_bad_answers_give_one_line(server: Server, status: int, answer: Any, wanted: str, requests: int) -> None:
    server.reply = lambda body, n: (status, answer)
    assert re.search(wanted, refused(server))
    assert len(server.bodies) == requests


def test_another_dimension_than_asked_for(server: Server) -> None:
    assert "dimensions" in refused(server, dimension=16)


def test_a_dimension_that_changes(server: Server) -> None:
    server.reply = lambda body, n: (200, embeddings(body["input"], 8 if "a" in body["input"] else 4))
    assert "4, 8 dimensions" in refused(server, batch_size=1)


def test_no_answer_in_time(server: Server) -> None:
    def reply(body: dict[str, Any], number: int) -> Reply:
        time.sleep(0.6)
        return 200, embeddings(body["input"])

    server.reply = reply
    assert "no answer within 0.2 s, 1 times" in refused(server, timeout=0.2, retries=0)


def test_no_server_at_all(server: Server) -> None:
    server.http.shutdown()
    server.http.server_close()
    assert "cannot be reached" in refused(server)


def test_an_error_comes_through_whatever_batch_it_is_in(server: Server) -> None:
    def reply(body: dict[str, Any], number: int) -> Reply:
        return (400, {"error": {"message": "bad text"}}) if "x" in body["input"] else (200, embeddings(body["input"]))

    server.reply = reply
    assert "bad text" in refused(server, ["a", "b", "x", "c"], batch_size=1)
