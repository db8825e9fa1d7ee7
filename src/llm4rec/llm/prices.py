"""Prices of tokens: from the spec, else from a list of the user's own, else from a dated one of ours, else unknown."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from llm4rec.core import SpecError

#: A snapshot's date at the end of a model's name: ``-2024-07-18``.
_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens.

    Attributes:
        tokens_in, tokens_out: of the prompt, of the answer.
        source: where the price comes from, with its date.
    """

    tokens_in: float
    tokens_out: float
    source: str

    @property
    def free(self) -> bool:
        """Is no money paid, whatever the number of tokens?"""
        return self.tokens_in == self.tokens_out == 0

    def covers(self, unreported: int) -> bool:
        """Can money be known although that many calls did not report their tokens?"""
        return self.free or unreported == 0

    def of(self, tokens_in: int, tokens_out: int) -> float:
        """Return the price of so many tokens in US dollars."""
        return (self.tokens_in * tokens_in + self.tokens_out * tokens_out) / 1e6


#: A model in this process: no money is paid.  Its cost is its time, which is reported beside.
LOCAL = Price(0.0, 0.0, "in process, nothing is paid")


#: Names a list of prices that goes before ours.
VARIABLE = "LLM4REC_PRICES"
_Dollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Provider(BaseModel):
    """Models of one host (with its port, where it has one) and their prices: [prompt, answer]."""

    model_config = ConfigDict(extra="forbid")

    host: str = Field(min_length=1)
    source: str = ""
    models: dict[str, tuple[_Dollars, _Dollars]]


class _PriceList(BaseModel):
    """A file of prices: US dollars for a million tokens, as of a date."""

    model_config = ConfigDict(extra="forbid")

    date: str = Field(min_length=1)
    provider: list[_Provider]

    @field_validator("date", mode="before")
    @classmethod
    def _of_toml(cls, value: object) -> object:
        return value.isoformat() if isinstance(value, date) else value


@cache
def _ours() -> _PriceList:
    return _PriceList.model_validate(tomllib.loads(resources.files("llm4rec.llm").joinpath("prices.toml").read_text()))


def read_prices(path: Path) -> _PriceList:
    """Read a list of prices; raises ``SpecError`` where there is none, or a wrong one."""
    try:
        return _PriceList.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SpecError(f"cannot read the list of prices ({error.strerror})", where=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"not TOML ({error})", where=str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        todo = 'it has date = "..." and tables [[provider]] with host and models = { NAME = [prompt, answer] }'
        raise SpecError(f"{key}: {first['msg']}", where=str(path), todo=todo) from None


def known_price(base_url: str, model: str, own: Path | None = None) -> Price | None:
    """Return the price of a model at a provider, or None; a dated snapshot has its family's price.

    Args:
        base_url: the provider's address.
        model: the model's name there.
        own: a list that goes before all others; next comes the one that ``LLM4REC_PRICES`` names.

    Raises:
        SpecError: if a list that is named cannot be read.
    """
    named = os.environ.get(VARIABLE, "").strip()
    paths = ([own] if own is not None else []) + ([Path(named)] if named else [])
    address = urlsplit(base_url)
    hosts = (address.netloc, address.hostname)
    for listed, source in [*((read_prices(path.expanduser()), path.name) for path in paths), (_ours(), "list price")]:
        for provider in listed.provider:
            if provider.host in hosts:
                found = provider.models.get(model) or provider.models.get(_DATE.sub("", model))
                if found:
                    return Price(*found, f"{provider.host}, {source} of {listed.date}")
    return None
