"""From a catalogue to what a user can say of an item without naming it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from llm4rec.agents.catalogue import Catalogue, flat
from llm4rec.agents.simulate.leak import Secret, scan
from llm4rec.agents.simulate.values import Facet, Wish
from llm4rec.core.columns import ITEM

_YEAR = re.compile(r"(?:18|19|20)\d\d")
#: Share of an attribute's values that must be years for it to be the year, as a request is read.
_MOSTLY = 0.8
#: Characters of a value that a person would still say.
_SAYABLE = 40


@dataclass(frozen=True)
class Facets:
    """What is so of the items of a catalogue.

    Values come from the attributes that items share (:attr:`Catalogue.grouping`), and from years, which become decades.
    A value of fewer than ``least`` items would name a single item, and is no facet.

    Attributes:
        catalogue: whose items.
        least: number of items that a facet must hold for.
    """

    catalogue: Catalogue
    least: int = 5

    @cached_property
    def _cells(self) -> tuple[list[Facet], csr_matrix]:
        """All facets, and which items they hold for: CSR [n_items, facets] of 0 and 1."""
        pieces = []
        for column in self.catalogue.attributes:
            if flat(self.catalogue.table.schema[column]).is_nested():
                continue
            held = self.catalogue.table.select(ITEM, pl.col(column).alias("value"))
            if isinstance(held.schema["value"], pl.List):
                held = held.explode("value")
            held = held.with_columns(pl.col("value").cast(pl.String, strict=False).str.strip_chars()).drop_nulls()
            years = held["value"].unique().to_list()
            decade = sum(bool(_YEAR.fullmatch(v)) for v in years) > _MOSTLY * len(years)
            if not decade and column not in self.catalogue.grouping:
                continue
            if decade:
                held = held.filter(pl.col("value").str.contains(r"^(?:18|19|20)\d\d$")).with_columns(
                    (pl.col("value").str.slice(0, 3) + "0").alias("value")
                )
            pieces.append(held.with_columns(pl.lit(column).alias("attribute"), pl.lit(decade).alias("decade")))
        if not pieces:
            return [], csr_matrix((len(self.catalogue), 0), dtype=np.float32)
        cells = pl.concat(pieces).unique().filter(pl.col("value").str.len_chars().is_between(1, _SAYABLE))
        key = ["attribute", "value", "decade"]
        cells = cells.filter(pl.len().over(key) >= self.least).sort([*key, ITEM])
        names = cells.select(key).unique(maintain_order=True)
        codes = cells.join(names.with_row_index("code"), on=key, how="left", maintain_order="left")["code"].to_numpy()
        shape = (len(self.catalogue), len(names))
        held_by = csr_matrix((np.ones(len(codes), np.float32), (cells[ITEM].to_numpy(), codes)), shape=shape)
        return [Facet(a, v, d) for a, v, d in names.iter_rows()], held_by

    @property
    def all(self) -> list[Facet]:
        """Every facet, in order."""
        return self._cells[0]

    @property
    def matrix(self) -> csr_matrix:
        """Which facets hold for which items: CSR float32[n_items, facets] of 0 and 1."""
        return self._cells[1]

    def of(self, item: int) -> frozenset[Facet]:
        """Return what is so of an item."""
        every, held = self._cells
        return frozenset(every[code] for code in held.indices[held.indptr[item] : held.indptr[item + 1]].tolist())

    def wish(self, target: int, secrets: Sequence[Secret], rng: np.random.Generator) -> Wish:
        """Return the wish of somebody who wants one item: what is so of it, in an order of chance.

        What gives the item away (a genre that is the film's title) is left out.
        """
        mine = self.of(target)
        return self._wish(sorted(mine), mine, secrets, rng)

    def taste(self, items: NDArray[np.int32], secrets: Sequence[Secret], rng: np.random.Generator, most: int = 6) -> Wish:
        """Return the wish of somebody who likes several items: what is most often so of them, the most frequent first."""
        every, held = self._cells
        counts = np.asarray(held[items].sum(axis=0)).ravel()
        best = [every[c] for c in np.lexsort((np.arange(len(counts)), -counts))[:most].tolist() if counts[c] > 0]
        anything = frozenset(f for f, n in zip(every, counts.tolist(), strict=True) if n)
        wish = self._wish(best, anything, secrets, rng)
        return Wish(tuple(f for f in best if f in wish.facets), wish.decoys, wish.questions)

    def _wish(self, facets: list[Facet], mine: frozenset[Facet], secrets: Sequence[Secret], rng: np.random.Generator) -> Wish:
        told = [f for f in facets if not scan(f.words, secrets)]
        told = [told[i] for i in rng.permutation(len(told))]
        others = [f for f in self.all if f not in mine and not scan(f.words, secrets)]
        choices = [[f for f in others if f.attribute == a] for a in dict.fromkeys(f.attribute for f in told)]
        decoys = tuple(some[int(rng.integers(len(some)))] for some in choices if some)
        return Wish(tuple(told), decoys, tuple(dict.fromkeys(f.attribute for f in self.all)))
