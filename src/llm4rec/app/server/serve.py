"""``llm4rec serve``: open a run, listen, and end in good order."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from sqlalchemy import Engine as Database
from sqlalchemy import text

from llm4rec.agents.memory import MemoryStore
from llm4rec.agents.storage import open_database
from llm4rec.app.agents import open_agents
from llm4rec.app.opening import open_engine
from llm4rec.app.server.api import create_app
from llm4rec.app.server.browsers import Browsers
from llm4rec.app.server.config import ServerConfig
from llm4rec.app.server.conversation import Chatting
from llm4rec.app.server.events import EventStore
from llm4rec.app.server.figures import Figures
from llm4rec.app.server.guard import Guard
from llm4rec.app.server.keys import Keys
from llm4rec.app.server.service import Service
from llm4rec.app.server.sessions import Sessions
from llm4rec.app.server.thinking import Thinking
from llm4rec.app.web.frame import error_page
from llm4rec.app.web.pages import add_pages
from llm4rec.app.web.site import Site
from llm4rec.core import RunError
from llm4rec.experiment.opened import OpenRun

_TAKEN, _OTHER = "another server keeps it", "stop that one, or name another --store"
#: Longest request line and headers, in bytes.
_HEAD = 32 << 10


def serve(run: Path, config: ServerConfig, tell: Callable[[str], None]) -> None:
    """Serve a run until a signal to stop.

    Args:
        run: the run directory.
        config: how.
        tell: called with lines for people.

    Raises:
        LLM4RecError: for a run, a store or a file of keys that cannot be used, or a port that is taken.
    """
    tell("opening the run ...")
    keys = None if config.keys is None else Keys.read(config.keys)
    opened = OpenRun(run)
    engine = open_engine(opened, config.system)
    database = open_database(config.store or run / "serve" / "store.sqlite")
    with alone(database), _listening(config) as listener:
        figures = Figures()
        service = Service(engine, EventStore(database), MemoryStore(database), config, figures)
        thinking = Thinking(config.chat_workers, config.chat_timeout)
        chatting = Chatting(open_agents(opened.spec.llm, config.llm, config.calls), config.agent, thinking)
        tell(f"warming {engine.default} ...")
        service.warm()
        browsers = Browsers()
        site = Site(opened, service, config.compare, keys, browsers)
        gc.collect()
        gc.freeze()  # what is open stays: no collection has to look at it again
        _log()
        app = create_app(service, Sessions(database), error_page, chatting)
        add_pages(app, site)
        server = uvicorn.Server(
            uvicorn.Config(
                Guard(app, config, figures, keys, browsers, error_page),
                http="h11", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
                limit_concurrency=config.connections, h11_max_incomplete_event_size=_HEAD,
                timeout_graceful_shutdown=int(config.drain) or 1, timeout_keep_alive=30,
            )
        )  # fmt: skip
        for number in (signal.SIGTERM, signal.SIGINT):  # those that come before uvicorn listens to them, or that it hands on
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        chatting.warm()
        listener.listen(2_048)  # who connects from now on waits until the server takes it
        host, port = listener.getsockname()[:2]
        tell(f"serving {run} with {engine.default} on http://{f'[{host}]' if ':' in host else host}:{port} (pages and API)")
        server.run(sockets=[listener])
        thinking.close()
        idle = service.close() and thinking.idle
    opened.close()
    database.dispose()
    tell("stopped")
    if not idle:  # a language model that does not answer keeps nobody from leaving
        sys.stdout.flush()
        os._exit(0)


@contextmanager
def _listening(config: ServerConfig) -> Iterator[socket.socket]:
    """Bind the port before anything slow begins."""
    try:
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        # The protocol by name: with the default of 0 asyncio takes connections for something else than TCP, leaves Nagle's
        # algorithm on, and every answer waits some 40 ms for the client's acknowledgement of its header.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
    except OSError as error:
        where = f"{config.host}:{config.port}"
        raise RunError(f"cannot listen ({error.strerror})", where=where, todo="choose another --port or --host") from None
    with listener:
        yield listener


@contextmanager
def alone(database: Database) -> Iterator[None]:
    """Hold a store for this process: two servers on one would not know of each other's events."""
    if database.url.get_backend_name() == "postgresql":
        with database.connect() as connection:  # the lock is the connection's: it goes when the process does
            if not connection.scalar(text("SELECT pg_try_advisory_lock(hashtext('llm4rec'))")):
                raise RunError(_TAKEN, where=database.url.render_as_string(), todo=_OTHER)
            connection.commit()
            try:
                yield
            finally:
                connection.invalidate()  # closes it; back in the pool it would keep the lock
        return
    place = database.url.database
    if database.url.get_backend_name() != "sqlite" or place is None:
        yield
        return
    with open(f"{place}.lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(_TAKEN, where=place, todo=_OTHER) from None
        yield


def _log() -> None:
    """Write the log to stdout, a JSON object a line; what uvicorn has to say as well, from warnings on."""

    class Lines(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            message = record.getMessage()
            own = message if record.name == "llm4rec.serve" else f'{{"warning": "{record.name}"}}'
            return f'{{"time": "{self.formatTime(record)}", {own[1:]}'

    handler: Any = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Lines())
    for name, level in (("llm4rec.serve", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
