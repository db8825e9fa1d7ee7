"""How a run is served."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from llm4rec.agents.turn import AgentName
from llm4rec.core import Config


class ServerConfig(Config):
    """Parameters of ``llm4rec serve``."""

    host: str = "127.0.0.1"
    """Address to listen on; without keys only one of this machine."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one, which is printed."""
    keys: Path | None = None
    """File of API keys (see ``llm4rec keys``); None lets everybody on this machine do everything."""
    store: str | None = None
    """Database of events, new items and memory: a file or a URL; None is ``serve/store.sqlite`` in the run directory."""
    system: str | None = None
    """System that answers unless a request names one; None is the best of the run."""
    compare: tuple[Path, ...] | None = None
    """Further run directories that the pages compare with this one; None takes the runs that lie beside it."""
    agent: AgentName = "rule"
    """Agent that answers in ``/v1/chat`` unless a request names one; ``plan`` and ``react`` ask a language model."""
    llm: str | None = None
    """Language model of the agents: an ``[llm.NAME]`` table of the run, an asset's name, or a TOML file with a table; None
    leaves the rule agent alone."""
    calls: Path | None = None
    """File that keeps what the agents ask and are answered, words of users included; None keeps none."""
    chat_timeout: float = Field(30.0, gt=0)
    """Seconds for a turn of an agent that asks a language model; beyond, the rule agent answers, and it is marked."""
    chat_workers: int = Field(8, ge=1)
    """Turns of such agents at once; further ones are answered by the rule agent, marked."""
    max_body: int = Field(1 << 20, ge=1_024)
    """Longest body of a request, in bytes."""
    timeout: float = Field(10.0, gt=0)
    """Seconds for one request, and for its body; 504 beyond (408 for the body). What asks a language model (``/v1/chat``, the
    playground) has the bound of that besides."""
    llm_timeout: float = Field(5.0, gt=0)
    """Seconds for a system that asks a language model; beyond, the list is its retriever's, and marked."""
    llm_workers: int = Field(2, ge=1)
    """Requests that may ask language models at once; further ones get the retriever's list, marked."""
    per_minute: int = Field(60_000, ge=1)
    """Requests a minute of each key, or of each address where there are no keys; 429 beyond."""
    batch: int = Field(64, ge=1)
    """Requests that are answered by one call of a system, at most."""
    waiting: int = Field(1_000, ge=1)
    """Requests that may wait for a system; 503 beyond."""
    connections: int = Field(2_000, ge=1)
    """Connections at once; 503 beyond."""
    drain: float = Field(10.0, gt=0)
    """Seconds that requests under way have to end after a signal to stop."""
    log_paths: bool = False
    """Write the paths of requests, with the ids in them, to the log; by default only their routes."""

    @model_validator(mode="after")
    def _thinks_with_something(self) -> Self:
        if self.agent != "rule" and self.llm is None:
            raise ValueError(f"the agent {self.agent!r} asks a language model: name one in llm")
        return self

    @model_validator(mode="after")
    def _open_only_at_home(self) -> Self:
        if self.keys is None and not _is_loopback(self.host):
            raise ValueError(f"without keys nobody else may connect: give keys, or a host such as 127.0.0.1, not {self.host!r}")
        return self


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
