"""What a language model with item tokens is tuned on: histories written in IDs, titles asked of IDs, IDs asked of titles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Dataset, Ragged

#: What is written before the IDs of a history; the next item is the one that the list goes on with.
HISTORY = "The user took, in this order:"
#: Before and behind an ID whose title is asked for, and before and behind a title whose ID is asked for.
TITLE_OF, ID_OF = ("The item", " is called"), ("The item called", " is")


@dataclass(frozen=True, slots=True)
class Sequences:
    """Rows of tokens, some of which are answers.

    Attributes:
        tokens: Ragged of n rows, in the model's alphabet.
        answers: bool, one for each value: is this token to be learnt?  The others are read only.
    """

    tokens: Ragged
    answers: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def joined(cls, parts: Sequence[tuple[Ragged, NDArray[np.bool_] | bool]]) -> Self:
        """Put parts of the same number of rows side by side, each with its answers (for all values, or one for all)."""
        lengths = np.sum([part.lengths for part, _ in parts], axis=0)
        values = np.empty(int(lengths.sum()), dtype=np.int32)
        answers = np.empty(len(values), dtype=np.bool_)
        at = np.cumsum(lengths) - lengths  # where each row goes on
        for part, learnt in parts:
            place = np.repeat(at - part.offsets[:-1], part.lengths) + np.arange(len(part.values))
            values[place], answers[place] = part.values, learnt
            at = at + part.lengths
        return cls(Ragged.from_lengths(lengths, values), answers)

    @classmethod
    def stacked(cls, some: Sequence[Self]) -> Self:
        """Put the rows of some below each other."""
        lengths = np.concatenate([one.tokens.lengths for one in some])
        values = np.concatenate([one.tokens.values for one in some])
        return cls(Ragged.from_lengths(lengths, values), np.concatenate([one.answers for one in some]))

    def padded(self, rows: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the tokens int64[m, t] of rows int[m] and which of them are answers bool[m, t]; behind an end: 0, False."""
        lengths = self.tokens.lengths[rows]
        at = self.tokens.offsets[:-1][rows][:, None] + np.arange(int(lengths.max(initial=0)))
        real = np.arange(at.shape[1]) < lengths[:, None]
        at = np.where(real, at, 0)
        return np.where(real, self.tokens.values[at], 0).astype(np.int64), real & self.answers[at]


class Examples:
    """Draws the sequences of an epoch.

    Args:
        train: the training part.
        codes: the tokens of each item's ID, in the model's alphabet.
        titles: the tokens of each item's title with its end, none for an item without one; None where no title is read.
        encode: text -> its tokens, at the beginning of a sequence or not.
        length: items that the last answer of a sequence follows, at most.
        to_title, to_id: shares of an epoch's sequences that ask for titles, and for IDs of titles.
    """

    def __init__(
        self, train: Dataset, codes: Ragged, titles: Ragged | None, encode: Callable[[str, bool], list[int]], *,
        length: int, to_title: float, to_id: float,
    ) -> None:  # fmt: skip
        self._events, self._codes, self._titles, self._length = train.histories.items, codes, titles, length
        self._shares = {"title": to_title, "id": to_id} if titles is not None else {}
        self._named = np.empty(0, np.int64) if titles is None else np.flatnonzero(titles.lengths > 1)  # more than the end
        self._opening = encode(HISTORY, True)
        self._around = {
            "title": (encode(TITLE_OF[0], True), encode(TITLE_OF[1], False)),
            "id": (encode(ID_OF[0], True), encode(ID_OF[1], False)),
        }

    def draw(self, rng: np.random.Generator) -> Sequences:
        """Return an epoch: each history once, and of the other tasks as many as their shares say."""
        histories = self.histories(rng)
        kinds, rest = [histories], 1.0 - sum(self._shares.values())
        for task, share in self._shares.items():
            if n := round(len(histories) * share / rest) if len(self._named) else 0:
                rounds = [rng.permutation(self._named) for _ in range(-(-n // len(self._named)))]
                kinds.append(self.aligned(task, np.concatenate(rounds)[:n]))
        return Sequences.stacked(kinds)

    def histories(self, rng: np.random.Generator) -> Sequences:
        """Return every history in windows of at most ``length`` answers and the item before them, cut anew each time.

        So each event but a history's first is the answer of one place, and the last place of a window has read
        ``length`` items, as a question has.
        """
        events, length = self._events, self._length
        answers = np.maximum(events.lengths - 1, 0)
        shift = np.where(answers > length, rng.integers(length, size=len(events)), 0)
        counts = np.where(answers > 0, -(-(answers + shift) // length), 0)
        row = np.repeat(np.arange(len(events)), counts)
        nth = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        first = np.maximum(nth * length - shift[row], 0)  # the item before the window's answers, counted in its history
        lengths = np.minimum((nth + 1) * length - shift[row], answers[row]) - first + 1
        begin = events.offsets[:-1][row] + first - (np.cumsum(lengths) - lengths)
        at = np.repeat(begin, lengths) + np.arange(int(lengths.sum()))
        return written(Ragged.from_lengths(lengths, events.values[at]), self._codes, self._opening)

    def aligned(self, task: str, items: NDArray[np.int64]) -> Sequences:
        """Return for items int64[n] the question for their titles (``"title"``), or for the IDs of their titles (``"id"``)."""
        assert self._titles is not None
        before, behind = (_repeated(phrase, len(items)) for phrase in self._around[task])
        codes, titles = self._codes.take(items), self._titles.take(items)
        if task == "title":
            return Sequences.joined([(before, False), (codes, False), (behind, False), (titles, True)])
        return Sequences.joined([(before, False), (without_end(titles), False), (behind, False), (codes, True)])


def written(histories: Ragged, codes: Ragged, opening: Sequence[int]) -> Sequences:
    """Return histories of items as they are written: an opening, then the ID of each item; all but the first are answers."""
    tokens = codes.take(histories.values)
    learnt = np.ones(len(histories.values), dtype=np.bool_)
    learnt[histories.offsets[:-1][histories.lengths > 0]] = False
    ids = Ragged(tokens.offsets[histories.offsets], tokens.values)
    return Sequences.joined([(_repeated(opening, len(histories)), False), (ids, np.repeat(learnt, tokens.lengths))])


def _repeated(tokens: Sequence[int], n: int) -> Ragged:
    return Ragged.from_lengths(np.full(n, len(tokens)), np.tile(np.asarray(tokens, dtype=np.int32), n))


def without_end(names: Ragged) -> Ragged:
    """Return names, none of which is empty, without their last tokens."""
    inner = np.ones(len(names.values), dtype=np.bool_)
    inner[names.offsets[1:] - 1] = False
    return Ragged.from_lengths(names.lengths - 1, names.values[inner])
