"""One alphabet for text and for item IDs, and prompts written in it with a number for each whole word."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Ragged
from llm4rec.generative.ids import ItemIDs, Words
from llm4rec.generative.trie import Trie

_HOLE = re.compile(r"\{(\w+)\}")

#: A part of prompts: int64[m, w] tokens, -1 where there is none, and bool[m, w], where a whole word begins.
Part = tuple[NDArray[np.int64], NDArray[np.bool_]]


@dataclass(frozen=True)
class Prompts:
    """m prompts, padded behind their ends.

    Attributes:
        tokens: int64[m, t]; ``Alphabet.pad`` behind the end.
        words: int64[m, t], the number of the whole word that a token is part of: all tokens of an item's ID, or
            all pieces of a word, have the same.
        real: bool[m, t], False for pads.
    """

    tokens: NDArray[np.int64]
    words: NDArray[np.int64]
    real: NDArray[np.bool_]


@dataclass(frozen=True)
class Alphabet:
    """The tokens of a text-to-text model: those of its text, and behind them those of item IDs.

    IDs that are themselves text in pieces of this tokenizer (titles) bring no tokens of their own.

    Attributes:
        text: the tokenizer.
        ids: of the items.
        pad: a text token that stands for nothing.
        shared: are the IDs' tokens those of the text?
    """

    text: Words
    ids: ItemIDs
    pad: int
    shared: bool

    @property
    def size(self) -> int:
        """Number of tokens."""
        return self.text.size + (0 if self.shared else self.ids.n_tokens)

    @property
    def of_ids(self) -> NDArray[np.int64]:
        """int64[ids.n_tokens], the token of each token of the IDs."""
        return np.arange(self.ids.n_tokens) + (0 if self.shared else self.text.size)

    @cached_property
    def items(self) -> NDArray[np.int64]:
        """int64[n_items + 1, depth], each item's tokens, -1 behind the last; the last row stands for no item."""
        padded = self.ids.padded()
        tokens = np.where(padded < 0, -1, np.append(self.of_ids, -1)[padded])
        return np.concatenate([tokens, np.full((1, self.ids.depth), -1)])

    @cached_property
    def trie(self) -> Trie:
        """The items' IDs."""
        return Trie.of(self.ids, self.of_ids, self.size)

    def trie_of(self, texts: Sequence[str]) -> Trie:
        """Return the trie of some texts, each with the end behind it: item i is text i."""
        rows = [[*row, self.text.end] for row in self.text.encode(texts)]
        return Trie.build(Ragged.of(rows), self.size)

    # -- prompts ------------------------------------------------------------------------
    @cached_property
    def _begins(self) -> NDArray[np.bool_]:
        """bool[text.size], the text tokens that begin a word."""
        return np.array([word.startswith("▁") for word in self.text.written])

    def words(self, texts: Sequence[str], most: int | None = None) -> Part:
        """Return texts as parts of prompts, at most so many tokens each."""
        tokens = self.text.padded(texts, most)
        begins = np.append(self._begins, False)[tokens]
        begins[:, :1] = True
        return tokens, begins & (tokens >= 0)

    def named(self, items: NDArray[np.integer]) -> Part:
        """Return the IDs of items int[m, n] as parts of prompts, one word each; -1 is no item."""
        tokens = self.items[items]  # [m, n, depth]
        begins = np.zeros(tokens.shape, dtype=bool)
        begins[:, :, :1] = tokens[:, :, :1] >= 0
        m = len(tokens)
        return tokens.reshape(m, -1), begins.reshape(m, -1)

    def prompts(self, template: str, m: int, parts: Mapping[str, Part], most: int) -> Prompts:
        """Return m prompts of a template whose holes, such as ``{user}``, are filled with parts.

        Args:
            template: text with holes.
            parts: by the names of the holes.
            most: number of the last whole word; later ones share it.
        """
        pieces: list[Part] = []
        for at, piece in enumerate(_HOLE.split(template)):
            if at % 2:
                pieces.append(parts[piece])
            elif piece.strip():
                tokens, begins = self.words([piece.strip()])
                pieces.append((np.repeat(tokens, m, axis=0), np.repeat(begins, m, axis=0)))
        tokens = np.concatenate([tokens for tokens, _ in pieces], axis=1)
        begins = np.concatenate([begins for _, begins in pieces], axis=1)
        order = np.argsort(tokens < 0, axis=1, kind="stable")  # what there is, then the pads
        tokens, begins = np.take_along_axis(tokens, order, axis=1), np.take_along_axis(begins, order, axis=1)
        longest = int((tokens >= 0).sum(axis=1).max(initial=0))
        tokens, begins = tokens[:, :longest], begins[:, :longest]
        real = tokens >= 0
        words = np.clip(np.cumsum(begins, axis=1) - 1, 0, most)
        return Prompts(np.where(real, tokens, self.pad), np.where(real, words, 0), real)

    # -- saving -------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return arrays and JSON values from which ``restored`` makes it again."""
        ids = {f"ids_{name}_": value for name, value in self.ids.state().items()}
        return ids | {"text_": self.text.dump(), "pad_": self.pad, "shared_": self.shared}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Self:
        """Take over what ``state`` returned."""
        names = [name for name in state if name.startswith("ids_")]
        ids = ItemIDs.from_state({name.removeprefix("ids_").removesuffix("_"): state[name] for name in names})
        return cls(Words.parse(state["text_"]), ids, int(state["pad_"]), bool(state["shared_"]))
