"""How the command line writes figures and words into columns."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.table import Table

#: Control characters, and those that turn the direction of writing.
_OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


def console_of_results() -> Console:
    """Return the console for results: a file or pipe gets room for whole rows, whatever the terminal's width."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def bare_table(**options: Any) -> Table:
    """Return a table without lines around its cells."""
    return Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0), **options)


def decimal(value: float | None) -> str:
    """Return a share with four places and no zero in front."""
    if value is None:  # such as the AUC of questions of one class
        return "none"
    return f"{value:.4f}".removeprefix("0")


def plain(text: str) -> str:
    """Return one line without what a terminal obeys: titles and answers are anybody's text."""
    return " ".join(_OBEYED.sub(" ", text).split())
