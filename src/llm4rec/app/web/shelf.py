"""The catalogue: found by words and attributes, and what is known of one item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import polars as pl

from llm4rec.agents.catalogue import Operator
from llm4rec.agents.engine import Engine, Found
from llm4rec.core import DataError
from llm4rec.core.columns import ITEM, TIME
from llm4rec.experiment.opened import OpenRun
from llm4rec.prompted.memory.facts import Fact
from llm4rec.prompted.memory.items import ItemMemory

PAGE = 24
#: Values of an attribute that are offered for choice; items that are shown as similar; bars of a time line.
_VALUES, _SIMILAR, _BARS = 60, 12, 24
#: Characters of an attribute's value on a card.
_SHORT = 120


@dataclass(frozen=True, slots=True)
class Look:
    """What a reader looks for: words, and something that has to be so of an attribute."""

    words: str = ""
    attribute: str = ""
    operator: str = "is"
    value: str = ""
    page: int = 0


class Shelf:
    """Looks at the catalogue as the server holds it, new items included.

    Args:
        engine: of the server.
        opened: the run, for what its augmenters remember of items.
    """

    def __init__(self, engine: Engine, opened: OpenRun) -> None:
        self._engine, self._opened = engine, opened
        self._remembering = [n for n, s in opened.spec.systems.items() if s.augment]
        self._facts: dict[str, dict[str, tuple[Fact, ...]]] = {}

    # -- finding ------------------------------------------------------------------------------
    def look(self, wanted: Look) -> dict[str, Any]:
        """Return a page of items, best first where words are given, else by popularity; raises ``DataError``."""
        catalogue, allowed = self._engine.catalogue, None
        if wanted.attribute and wanted.value.strip():
            if wanted.operator not in get_args(Operator):
                raise DataError(f"there is no operator {wanted.operator!r}", todo=f"known: {', '.join(get_args(Operator))}")
            allowed = catalogue.where(wanted.attribute, wanted.operator, wanted.value)  # type: ignore[arg-type]
        if wanted.words.strip():
            found = self._engine.search(wanted.words, len(catalogue), allowed=allowed)
            order = found.items
        else:
            order = np.argsort(-self._engine.popularity, kind="stable").astype(np.int32)
            order = order if allowed is None else order[allowed[order]]
        shown = order[wanted.page * PAGE : (wanted.page + 1) * PAGE]
        return {
            "look": wanted, "total": len(order), "all": len(catalogue), "per": PAGE, "operators": get_args(Operator),
            "cards": [self.card(int(i)) for i in shown], "attributes": catalogue.attributes,
            "values": self._values(wanted.attribute),
        }  # fmt: skip

    def _values(self, attribute: str) -> list[str]:
        known = self._engine.catalogue
        return [v for v, _ in known.values(attribute)[:_VALUES]] if attribute in known.attributes else []

    def card(self, item: int) -> dict[str, Any]:
        """Return an item as a card shows it."""
        catalogue = self._engine.catalogue
        told = catalogue.details(item)
        lines = [(k, v) for k, v in told["attributes"].items() if k != "title" and k in catalogue.grouping]
        return {**told, "lines": lines[:4], "events": int(self._engine.popularity[item]), "short": _SHORT}

    # -- one item -----------------------------------------------------------------------------
    def item(self, identifier: str) -> dict[str, Any]:
        """Return what is known of an item; raises ``DataError`` for one that is not there."""
        catalogue = self._engine.catalogue
        at = catalogue.index(identifier)
        told, counts = catalogue.details(at), self._engine.popularity
        return {
            **told, "events": int(counts[at]), "above": int((counts > counts[at]).sum()), "all": len(catalogue),
            "bars": self._bars(at), "memory": self.memory(identifier), "remembering": bool(self._remembering),
            "systems": [s for s in self._engine.systems.values() if not s.uses_llm], "stand_in": self._stand_in(at),
        }  # fmt: skip

    def _stand_in(self, item: int) -> tuple[str, str] | None:
        catalogue = self._engine.catalogue
        if item < catalogue.known or (like := int(catalogue.stand_ins[item - catalogue.known])) < 0:
            return None
        return catalogue.items.ids[like], catalogue.names[like]

    def _bars(self, item: int) -> list[tuple[int, int]]:
        """Return the item's events in spans of equal length over the run: (end of the span, events)."""
        events = self._engine.dataset.events
        times = events.filter(pl.col(ITEM) == item)[TIME].to_numpy()
        low, high = int(events[TIME].min() or 0), int(events[TIME].max() or 0)  # type: ignore[arg-type]
        if len(times) < 2 or high <= low:
            return []
        counts, edges = np.histogram(times, bins=_BARS, range=(low, high))
        return [(int(edge), int(n)) for edge, n in zip(edges[1:], counts, strict=True)]

    def similar(self, identifier: str, system: str | None) -> Found:
        """Return what a system recommends to somebody who touched this item alone; asked in the thread of the systems."""
        return self._engine.similar(self._engine.catalogue.index(identifier), _SIMILAR, system)

    def memory(self, identifier: str) -> list[tuple[str, tuple[Fact, ...]]]:
        """Return (system, facts) for the systems whose augmenters remember something of an item."""
        told = []
        for name in self._remembering:
            for augmenter in self._opened.system(name).augmenters:
                if isinstance(augmenter, ItemMemory):
                    if name not in self._facts:
                        self._facts[name] = augmenter.shown()
                    if facts := self._facts[name].get(identifier):
                        told.append((name, facts))
        return told
