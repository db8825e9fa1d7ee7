"""How items are named in prompts: one short, harmless line each."""

from __future__ import annotations

import re

import polars as pl

from llm4rec.features.text import ItemText
from llm4rec.llm.prompts import plain

# Catalogues sort titles by their first real word: "Godfather, The"; people and their texts do not.
_SORTED_TITLE = re.compile(
    r"^(?P<title>[^()]+), (?P<article>The|A|An|Le|La|Les|L'|Il|El|Lo|Los|Las|Der|Die|Das)(?P<rest>(?: \(.*)?)$"
)


def spoken(title: str) -> str:
    """Return a title with a trailing article moved to the front: ``"Godfather, The"`` is "The Godfather"."""
    match = _SORTED_TITLE.match(title)
    if match is None:
        return title
    gap = "" if match["article"].endswith("'") else " "
    return f"{match['article']}{gap}{match['title']}{match['rest']}"


def item_names(table: pl.DataFrame, template: str, *, max_chars: int, articles: bool, nameless: str | None = None) -> list[str]:
    """Return the name of each row of an item table; an item without any text is called by its number.

    Args:
        table: item table, in vocabulary order.
        template: of :class:`llm4rec.features.text.ItemText`.
        max_chars: longer names are cut.
        articles: move trailing articles to the front.
        nameless: what an item without any text is called in place of its number.

    Raises:
        SpecError: for a template that names unknown columns.
    """
    names = [plain(text, max_chars) for text in ItemText(template).render(table)]
    if articles:
        names = [spoken(name) for name in names]
    return [name or (f"item {at}" if nameless is None else nameless) for at, name in enumerate(names)]
