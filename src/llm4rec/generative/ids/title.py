"""Title IDs: the words of the title themselves, in pieces, and a token that ends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Dataset, ModelError, Ragged
from llm4rec.features.text import ItemText
from llm4rec.features.values import Encoder
from llm4rec.generative.ids.codebooks import occurrence
from llm4rec.generative.ids.scheme import Scheme
from llm4rec.generative.ids.values import ItemIDs
from llm4rec.generative.ids.words import Pieces, Words

#: Times that equal rows get new numbers, at most: one is enough for a tokenizer that tells numbers apart.
_ROUNDS = 100


class TitleIDs(Scheme):
    """An item is named by its title, which a language model knows; the longest IDs, and the only readable ones.

    Titles are cut into pieces by byte-pair encoding trained on the catalogue (Sennrich et al., ACL 2016), or by
    the tokenizer of the model that will write them.  Of equal titles the second is called ``... (2)``, and so
    on, in order of inside id.

    Cao et al., *Autoregressive Entity Retrieval*, ICLR 2021 (arXiv 2010.00904); Hua et al., SIGIR-AP 2023
    (arXiv 2305.06569), there "title indexing".
    """

    scheme: Literal["title"] = "title"
    template: str = "{title}"
    """What counts as the title, from columns of the item table."""
    vocabulary: int = Field(2000, ge=2)
    """Different pieces, at most, and the end; characters are kept even if there are more."""
    max_pieces: int = Field(24, ge=1)
    """Longer titles are cut."""

    def build(
        self, train: Dataset, *, encoder: Encoder | None, rng: np.random.Generator, pieces: Pieces | None = None
    ) -> ItemIDs:
        """Return the IDs; ``pieces`` is the tokenizer of a model that has one."""
        return self.controlled(self._assign(train, pieces), rng)

    def titles(self, train: Dataset) -> list[str]:
        """Return the title of each item."""
        return ItemText(self.template).render(train.item_table)

    def assign(self, train: Dataset, *, encoder: Encoder | None, rng: np.random.Generator) -> ItemIDs:
        """Cut the titles by byte-pair encoding."""
        return self._assign(train, None)

    def _assign(self, train: Dataset, pieces: Pieces | None) -> ItemIDs:
        texts = self.titles(train)
        if pieces is None:
            pieces = Words.train(texts, self.vocabulary).pieces
        titles = Ragged.of(_first(pieces.encode(texts), self.max_pieces))
        number = np.ones(len(texts), np.int64)  # of an item among those of its title; 1 is not written
        collisions = None
        for _ in range(_ROUNDS):
            ids = _ended(titles, number, pieces)
            repeated = _repeated(ids)
            if collisions is None:
                collisions = int((repeated > 0).sum())
            if not repeated.any():
                return ItemIDs(ids, pieces.n_tokens, pieces.words, collisions)
            number += repeated
        raise ModelError("its tokenizer does not tell numbers apart", where="title IDs", todo="use another scheme")


def _first(rows: Sequence[Sequence[int]], n: int) -> list[Sequence[int]]:
    return [row[:n] for row in rows]


def _ended(titles: Ragged, number: NDArray[np.int64], pieces: Pieces) -> Ragged:
    """Return the rows, each with its number in brackets, unless that is 1, and the end."""
    suffix = pieces.encode([f" ({n})" if n > 1 else "" for n in number.tolist()])
    return Ragged.of([[*title, *more, pieces.end] for title, more in zip(titles, suffix, strict=True)])


def _repeated(rows: Ragged) -> NDArray[np.int64]:
    """Return int64[n]: how many earlier rows are the same."""
    return occurrence(rows.padded(int(rows.lengths.max(initial=0)), align="left").astype(np.int64))
