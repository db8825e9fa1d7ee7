"""Title IDs: the words of the title themselves, in pieces, and a token that ends them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Dataset, ModelError, Ragged
from llm4rec.features.text import ItemText
from llm4rec.features.values import Encoder
from llm4rec.generative.ids.codebooks import occurrence
from llm4rec.generative.ids.scheme import Scheme
from llm4rec.generative.ids.values import ItemIDs

#: Times that equal rows get new numbers, at most: one is enough for a tokenizer that tells numbers apart.
_ROUNDS = 100
_END = "</s>"


@dataclass(frozen=True, slots=True)
class Pieces:
    """A tokenizer, as far as titles need one.

    Attributes:
        encode: texts -> their tokens, without any special ones.
        n_tokens: size of the alphabet.
        end: token that ends an ID and stands in none.
        words: how each token is written, or None.
    """

    encode: Callable[[Sequence[str]], Sequence[Sequence[int]]]
    n_tokens: int
    end: int
    words: tuple[str, ...] | None = None


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

    def assign(self, train: Dataset, *, encoder: Encoder | None, rng: np.random.Generator) -> ItemIDs:
        """Cut the titles by byte-pair encoding."""
        return self._assign(train, None)

    def _assign(self, train: Dataset, pieces: Pieces | None) -> ItemIDs:
        texts = ItemText(self.template).render(train.item_table)
        if pieces is None:
            pieces = byte_pairs(texts, self.vocabulary)
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


def byte_pairs(texts: Sequence[str], vocabulary: int) -> Pieces:
    """Train byte-pair encoding on the texts; a piece that begins a word begins with ``▁``."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True)]
    )
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[_END], show_progress=False)
    # The numbers of equal titles, so that every sign of theirs is known.
    tokenizer.train_from_iterator([*texts, " (0) (1) (2) (3) (4) (5) (6) (7) (8) (9)"], trainer)
    words = tuple(tokenizer.id_to_token(token) for token in range(tokenizer.get_vocab_size()))

    def encode(texts: Sequence[str]) -> list[list[int]]:
        # A title that spells the end is no end: pieces alone, not special tokens.
        return [[t for t in one.ids if t] for one in tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    return Pieces(encode, len(words), 0, words)


def _first(rows: Sequence[Sequence[int]], n: int) -> list[Sequence[int]]:
    return [row[:n] for row in rows]


def _ended(titles: Ragged, number: NDArray[np.int64], pieces: Pieces) -> Ragged:
    """Return the rows, each with its number in brackets, unless that is 1, and the end."""
    suffix = pieces.encode([f" ({n})" if n > 1 else "" for n in number.tolist()])
    return Ragged.of([[*title, *more, pieces.end] for title, more in zip(titles, suffix, strict=True)])


def _repeated(rows: Ragged) -> NDArray[np.int64]:
    """Return int64[n]: how many earlier rows are the same."""
    return occurrence(rows.padded(int(rows.lengths.max(initial=0)), align="left").astype(np.int64))
