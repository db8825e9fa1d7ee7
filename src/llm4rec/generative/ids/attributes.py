"""IDs that follow the item table: one level for each attribute, from the general to the particular."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Dataset, Ragged, SpecError, did_you_mean
from llm4rec.core.columns import ITEM
from llm4rec.features.values import Encoder
from llm4rec.generative.ids.codebooks import occurrence
from llm4rec.generative.ids.scheme import Scheme, letters
from llm4rec.generative.ids.values import ItemIDs


class AttributeIDs(Scheme):
    """A path through the attributes, then a number among the items that share it.

    A column of single values is one level.  A column of lists, such as a category path or genres, gives a
    level for each of its first values.  Missing values are a code of their own.  Items that agree in all are
    told apart by their number, in groups of ``codebook`` codes.  A cold item has attributes like any other.

    Hua et al., *How to Index Item IDs for Recommendation Foundation Models*, SIGIR-AP 2023 (arXiv 2305.06569),
    there "semantic (content-based) indexing".
    """

    scheme: Literal["attributes"] = "attributes"
    columns: tuple[str, ...] = Field(("genres",), min_length=1)
    """Columns of the item table, the most general first."""
    values: int = Field(2, ge=1)
    """Values of a list that count, each a level."""
    codebook: int = Field(256, ge=2)
    """Codes of a level of the number."""

    def assign(self, train: Dataset, *, encoder: Encoder | None, rng: np.random.Generator) -> ItemIDs:
        """Read the columns; raises ``SpecError`` if there is none of a name."""
        levels = [level for column in self.columns for level in self._levels(train, column)]
        codes, names = [code for code, _ in levels], [name for _, name in levels]
        nth = occurrence(np.stack(codes, axis=1))
        most = int(nth.max(initial=0))
        digits = 0 if most == 0 else 1
        while self.codebook**digits <= most:
            digits += 1
        for digit in reversed(range(digits)):
            codes.append(nth // self.codebook**digit % self.codebook)
            names.append([str(code) for code in range(int(codes[-1].max()) + 1)])
        offsets = np.cumsum([0, *map(len, names)])
        rows = np.stack(codes, axis=1) + offsets[:-1]
        words = tuple(f"<{letters(level)}_{name}>" for level, held in enumerate(names) for name in held)
        held = Ragged.from_lengths(np.full(len(rows), len(names)), rows.ravel())
        return ItemIDs(held, int(offsets[-1]), words, int((nth > 0).sum()))

    def _levels(self, train: Dataset, column: str) -> list[tuple[NDArray[np.int64], list[str]]]:
        """Return the levels of a column: codes int64[n_items] and the values that they stand for, "" for a missing one."""
        table = train.item_table
        if column not in table.columns or column == ITEM:
            raise SpecError(
                f"the item table has no column {column!r}", where="ids.columns",
                todo=did_you_mean(column, (c for c in table.columns if c != ITEM)),
            )  # fmt: skip
        given = table[column]
        if isinstance(given.dtype, pl.List):
            parts = given.cast(pl.List(pl.String))
            texts = [parts.list.get(nth, null_on_oob=True) for nth in range(self.values)]
        else:
            texts = [given.cast(pl.String)]
        return [_coded(text.str.strip_chars().fill_null("")) for text in texts]


def _coded(text: pl.Series) -> tuple[NDArray[np.int64], list[str]]:
    values = text.unique().sort()
    return values.search_sorted(text).to_numpy().astype(np.int64), values.to_list()
