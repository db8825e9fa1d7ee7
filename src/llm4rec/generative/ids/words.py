"""Text cut into pieces of words, by a tokenizer that is trained here or that a model brings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Signs that every text may need: those of numbers, and of titles that need one.
_SIGNS = " (0) (1) (2) (3) (4) (5) (6) (7) (8) (9) . -"


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


class Words:
    """A tokenizer of the library ``tokenizers``, with a token that ends texts.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``.
        end: its token that ends a text.
    """

    def __init__(self, tokenizer: Any, end: int) -> None:
        self._tokenizer, self.end = tokenizer, end
        self.size: int = tokenizer.get_vocab_size()

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int, *, special: Sequence[str] = ("</s>",)) -> Words:
        """Train byte-pair encoding (Sennrich et al., ACL 2016); a piece that begins a word begins with ``▁``.

        Args:
            texts: to train on.
            vocabulary: pieces, at most; characters are kept even if there are more.
            special: the first tokens; the last of them ends a text.
        """
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        tokenizer: Any = Tokenizer(models.BPE())
        steps = [pre_tokenizers.Metaspace(), pre_tokenizers.Digits(individual_digits=True)]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
        trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=list(special), show_progress=False)
        tokenizer.train_from_iterator([*texts, _SIGNS], trainer)
        return cls(tokenizer, len(special) - 1)

    @property
    def pieces(self) -> Pieces:
        """The tokenizer as titles need it."""
        return Pieces(self.encode, self.size, self.end, self.written)

    @property
    def written(self) -> tuple[str, ...]:
        """How each token is written."""
        return tuple(self._tokenizer.id_to_token(token) for token in range(self.size))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of texts; one that spells the end has no end in it."""
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [[token for token in one.ids if token != self.end] for one in found]

    def padded(self, texts: Sequence[str], most: int | None = None) -> NDArray[np.int64]:
        """Return int64[n, t], the tokens of texts, at most ``most``, -1 behind the last."""
        rows = [row[:most] for row in self.encode(texts)]
        out = np.full((len(rows), max(map(len, rows), default=0)), -1, dtype=np.int64)
        for at, row in enumerate(rows):
            out[at, : len(row)] = row
        return out

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        written = self.written
        return "".join(written[token] for token in tokens).replace("▁", " ").strip()

    # -- saving -------------------------------------------------------------------------
    def dump(self) -> dict[str, Any]:
        """Return JSON values from which ``parse`` makes it again."""
        return {"tokenizer": self._tokenizer.to_str(), "end": self.end}

    @classmethod
    def parse(cls, dumped: dict[str, Any]) -> Words:
        """Read what ``dump`` returned."""
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_str(dumped["tokenizer"]), int(dumped["end"]))
