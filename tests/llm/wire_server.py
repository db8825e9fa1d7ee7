"""A real HTTP server on loopback that speaks the protocol well, or badly in every way we know of."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Takes the handler and the request's body; writes the answer.
Behaviour = Callable[["Handler", dict[str, Any]], None]


def completion(text: str | None = "hello", **changed: Any) -> dict[str, Any]:
    """Return the body of a chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}
    choice |= changed.pop("choice", {})
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}} | changed  # fmt: skip


@dataclass
class State:
    """What the server does with the next requests, and what it saw."""

    behaviours: list[Behaviour] = field(default_factory=list)
    default: Behaviour = lambda handler, body: handler.send_json(completion())
    seen: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: Any = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    """Hands each POST to the state's next behaviour."""

    protocol_version = "HTTP/1.1"
    server: Wire

    def do_POST(self) -> None:
        state = self.server.state
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with state.lock:
            state.seen.append({"path": self.path, **body})
            state.headers.append({k.lower(): v for k, v in self.headers.items()})
            state.times.append(time.monotonic())
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
            behaviour = state.behaviours.pop(0) if state.behaviours else state.default
        try:
            behaviour(self, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with state.lock:
                state.at_once -= 1

    def send_json(self, body: Any, status: int = 200, **headers: str) -> None:
        self.send_raw(json.dumps(body).encode(), status, "application/json", **headers)

    def send_raw(self, data: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Keep the test's output clean."""


class Wire(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    state: State

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep open."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: Any) -> None:
        """A client that has gone away is what some tests are about."""


@contextmanager
def serve() -> Iterator[tuple[str, State]]:
    """Run the server; yields its base URL and state."""
    server = Wire(("127.0.0.1", 0), Handler)
    server.state = State()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", server.state
    finally:
        server.shutdown()
        server.server_close()
        server.hang_up()


# -- ways to behave -----------------------------------------------------------------------


def says(text: str | None = "hello", **changed: Any) -> Behaviour:
    return lambda handler, body: handler.send_json(completion(text, **changed))


def status(code: int, body: Any = None, **headers: str) -> Behaviour:
    return lambda handler, _: handler.send_json(
        {"error": {"message": f"status {code}"}} if body is None else body, code, **headers
    )


def raw(data: bytes, code: int = 200, kind: str = "application/json") -> Behaviour:
    return lambda handler, _: handler.send_raw(data, code, kind)


def drips(handler: Handler, _: dict[str, Any]) -> None:
    """Send a byte now and then: each read is in time, the whole never is."""
    data = json.dumps(completion()).encode()
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", str(len(data)))
    handler.end_headers()
    for byte in data:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.1)


def sleeps(handler: Handler, _: dict[str, Any]) -> None:
    time.sleep(5)
    handler.send_json(completion("late"))


def cuts(handler: Handler, _: dict[str, Any]) -> None:
    """Close the stream in the middle of the body."""
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')
    handler.wfile.flush()
    handler.close_connection = True


def resets(handler: Handler, _: dict[str, Any]) -> None:
    """Reset the connection instead of answering."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True
