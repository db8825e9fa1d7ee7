"""What an ``[llm.NAME]`` table of an experiment says."""

from __future__ import annotations

import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from llm4rec.core import Config, FilePath
from llm4rec.llm.prices import LOCAL, Price, known_price

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]
OPENAI = "https://api.openai.com/v1"
#: Fields of a request that ``extra`` may not set: what is asked, how the answer comes, and keys.
_OWN = frozenset({"messages", "prompt", "model", "stream", "n", "api_key", "authorization", "key"})
Omittable = Literal["temperature", "seed", "response_format"]


class LLMConfig(Config):
    """An ``[llm.NAME]`` table: which model, where, and how it is asked."""

    # A key pasted into the wrong place must not come back in the message.
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    backend: Literal["local", "server", "scripted"] = "local"
    """``local`` runs in this process; ``server`` speaks the OpenAI protocol; ``scripted`` gives ``answers``."""
    model: str = Field(default="smollm2-135m-instruct", min_length=1)
    """Local: name of an asset, a ``.gguf`` file, a folder or a hub name.  Server: the model's name there."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Sets every request's temperature; unset, the component that asks decides."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Sets every request's bound on the answer, in tokens; unset, the component that asks decides."""

    revision: str = "main"
    """Local: revision of a hub name."""
    adapter: str | None = Field(default=None, min_length=1)
    """Local: folder of a LoRA adapter, as peft's ``save_pretrained`` writes it; merged into the weights."""
    dtype: Dtype = "auto"
    """Local: precision; ``auto`` is bfloat16 where the processor or GPU has it natively, else float32."""
    device: Device = "auto"
    """Local: ``auto`` is the GPU if there is one."""
    batch: int = Field(default=16, ge=1, le=1024)
    """Local: rows decoded together."""
    batch_tokens: int = Field(default=768, ge=16)
    """Local: tokens of continuations scored together after one prompt."""

    base_url: str = OPENAI
    """Server: its address, up to and with ``/v1``."""
    api_key_env: str = "OPENAI_API_KEY"
    """Server: name of the environment variable that holds the key; the key itself stands nowhere else."""
    concurrency: int = Field(default=8, ge=1, le=256)
    """Server: most requests under way at once; fewer while the server says that it is too much."""
    timeout: float = Field(default=120.0, gt=0)
    """Server: seconds for one whole attempt, connection to last byte."""
    retries: int = Field(default=4, ge=0, le=20)
    """Server: further attempts after a time-out, a lost connection, 429 or 5xx."""
    max_wait: float = Field(default=60.0, gt=0)
    """Server: longest wait before an attempt, in seconds; a longer ``Retry-After`` ends the retries, for all requests."""
    breaker: int = Field(default=20, ge=1)
    """Server: failed attempts in a row, whichever request they are of, after which nobody is asked for a while
    (at least two for each request that may be under way)."""
    breaker_pause: float = Field(default=30.0, gt=0)
    """Server: seconds for which nobody is asked then; afterwards one request tries."""
    top_logprobs: int = Field(default=20, ge=1, le=1000)
    """Server: how many log-probabilities to ask for when labels are scored."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Server: what it calls the bound on an answer; OpenAI's reasoning models take the second name only."""
    omit: tuple[Omittable, ...] = ()
    """Server: request fields that it refuses (an omitted ``response_format`` is put in words instead)."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Server: further fields of each request's body, such as ``reasoning_effort``."""

    price_in: float | None = Field(default=None, ge=0)
    """US dollars for a million tokens of prompt; unset, from a list of prices, else unknown."""
    price_out: float | None = Field(default=None, ge=0)
    """US dollars for a million tokens of answer."""
    prices: FilePath | None = None
    """A list of prices that goes before the one that ``LLM4REC_PRICES`` names, and before the shipped one."""

    answers: tuple[str, ...] = ()
    """Scripted: given in turn, over and over."""

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", value):
            raise ValueError("must be the name of an environment variable in capitals, never a key")
        return value

    @field_validator("extra")
    @classmethod
    def _leaves_the_request_alone(cls, value: dict[str, Any]) -> dict[str, Any]:
        if held := sorted(_OWN & {name.lower() for name in value}):
            raise ValueError(
                f"must not hold {', '.join(held)}: requests set what they ask, and a key belongs into the environment"
            )
        return value

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address such as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold no user, password or query: the key belongs into the environment")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _prices_in_pairs(self) -> Self:
        if (self.price_in is None) != (self.price_out is None):
            raise ValueError("price_in and price_out go together")
        return self

    @model_validator(mode="after")
    def _adapts_what_is_here(self) -> Self:
        if self.adapter is not None and self.backend != "local":
            raise ValueError("adapter goes with backend 'local'; a server is told its adapter by the model's name")
        return self

    @property
    def price(self) -> Price | None:
        """The tokens' price: of this table, else 0 in process, else of the lists of prices, else None."""
        if self.price_in is not None and self.price_out is not None:
            return Price(self.price_in, self.price_out, "the spec")
        if self.backend != "server":
            return LOCAL
        return known_price(self.base_url, self.model, self.prices)
