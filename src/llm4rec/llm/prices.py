"""Prices of tokens: from the spec, else from a dated table, else unknown."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

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


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(resources.files("llm4rec.llm").joinpath("prices.toml").read_text())


def known_price(base_url: str, model: str) -> Price | None:
    """Return the table's price of a model at a provider, or None; a dated snapshot has its family's price."""
    table: dict[str, Any] = _table()
    for provider in table["provider"]:
        if provider["host"] == urlsplit(base_url).hostname:
            found = provider["models"].get(model) or provider["models"].get(_DATE.sub("", model))
            if found:
                tokens_in, tokens_out = found
                return Price(float(tokens_in), float(tokens_out), f"{provider['host']}, list price of {table['date']}")
    return None
