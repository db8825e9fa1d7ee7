"""The words of an answer, checked: no item gets into them but by its id.

A model writes ``[[id]]``, and code writes the name. A name that the model wrote itself stays only if it is of an item that
the turn has found, that the user named, or that the user has touched; any other is struck, and so is a
quotation that nobody said, which mostly is the title of an item that does not exist.
"""

from __future__ import annotations

import re

import numpy as np

from llm4rec.agents.reading import Reader
from llm4rec.agents.tools import Session
from llm4rec.llm.prompts import plain
from llm4rec.prompted.explain.mentions import folded

_ID = re.compile(r"\[\[\s*([^\[\]\n]{1,200}?)\s*\]\]")
_STRUCK = "[...]"
_LONGEST, _LONGEST_NAME = 4_000, 100  # characters


def checked(text: str, session: Session, request: str, reader: Reader) -> tuple[str, list[str]]:
    """Return the words with names for ids and without unfounded names, and the kind of each thing that was struck.

    Args:
        text: as the model wrote it.
        session: whose candidates the turn has found.
        request: the user's words.
        reader: of the session's catalogue.
    """
    catalogue = session.engine.catalogue
    founded = _founded(session, request, reader)
    failures: list[str] = []

    def named(match: re.Match[str]) -> str:
        item = catalogue.index(match[1]) if match[1] in catalogue.items else -1
        if item not in founded:
            failures.append("prose:unknown_id")
            return _STRUCK
        return plain(catalogue.names[item], _LONGEST_NAME)

    pieces, last = [], 0
    text = "\n".join(filter(None, (plain(line, _LONGEST) for line in text[:_LONGEST].splitlines())))
    for match in _ID.finditer(text):
        pieces += [_without_strangers(text[last : match.start()], founded, request, reader, failures), named(match)]
        last = match.end()
    pieces.append(_without_strangers(text[last:], founded, request, reader, failures))
    return "".join(pieces).strip(), failures


def _founded(session: Session, request: str, reader: Reader) -> set[int]:
    """Return the items that may be named: the candidates, the user's own, and those of the request."""
    held = session.candidates
    items = set() if held is None else set(held.items.tolist())
    if session.user is not None:
        items |= set(np.unique(session.engine.users.history(session.user).items).tolist())
    return items | {i for mention in reader.mentions(request) if mention.kind == "title" for i in mention.ids}


def _without_strangers(text: str, founded: set[int], request: str, reader: Reader, failures: list[str]) -> str:
    said = f" {' '.join(folded(request))} "
    pieces, last = [], 0
    for mention in reader.mentions(text):
        unfounded = mention.kind == "title" and not founded & set(mention.ids)
        invented = mention.kind == "quotation" and f" {' '.join(folded(mention.text))} " not in said
        if unfounded or invented:
            failures.append("prose:unfounded_title" if unfounded else "prose:quotation")
            start, end = mention.span
            pieces += [text[last:start], _STRUCK]
            last = end
    return "".join(pieces) + text[last:]
