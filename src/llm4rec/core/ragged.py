"""Rows of different lengths in two flat arrays (compressed sparse rows)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ragged:
    """``n`` rows of int32 values: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    Attributes:
        offsets: int64[n + 1], starts with 0, never falls, ends with ``len(values)``.
        values: int32[m].
    """

    offsets: NDArray[np.int64]
    values: NDArray[np.int32]

    def __post_init__(self) -> None:
        offsets = np.ascontiguousarray(self.offsets, dtype=np.int64)
        values = np.ascontiguousarray(self.values, dtype=np.int32)
        if offsets.ndim != 1 or values.ndim != 1 or len(offsets) == 0:
            raise ValueError("offsets and values must be one-dimensional, offsets not empty")
        if offsets[0] != 0 or offsets[-1] != len(values) or (np.diff(offsets) < 0).any():
            raise ValueError("offsets must start at 0, not fall, and end at len(values)")
        object.__setattr__(self, "offsets", offsets)
        object.__setattr__(self, "values", values)

    # -- making -------------------------------------------------------------------------
    @classmethod
    def of(cls, rows: Iterable[Sequence[int] | NDArray[np.integer]]) -> Ragged:
        """Make a Ragged of Python rows (for tests and small inputs)."""
        arrays = [np.asarray(row, dtype=np.int32) for row in rows]
        return cls.from_lengths(
            np.array([len(a) for a in arrays], dtype=np.int64),
            np.concatenate(arrays) if arrays else np.empty(0, np.int32),
        )

    @classmethod
    def from_lengths(cls, lengths: NDArray[np.integer], values: NDArray[np.integer]) -> Ragged:
        """Make a Ragged of row lengths int[n] and the rows' values one after the other."""
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(offsets, np.asarray(values, dtype=np.int32))

    @classmethod
    def empty(cls, n: int) -> Ragged:
        """Return ``n`` empty rows."""
        return cls(np.zeros(n + 1, dtype=np.int64), np.empty(0, dtype=np.int32))

    # -- reading ------------------------------------------------------------------------
    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int32]]:
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64[n], the number of values in each row."""
        return np.diff(self.offsets)

    @property
    def rows(self) -> NDArray[np.int64]:
        """int64[m], the row of each value, in step with ``values``."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def tolist(self) -> list[list[int]]:
        """Return the rows as Python lists."""
        return [row.tolist() for row in self]

    # -- deriving -----------------------------------------------------------------------
    def positions(self, rows: NDArray[np.integer], last: int | None = None) -> NDArray[np.int64]:
        """Return where in ``values`` the given rows (their last ``last`` values) lie, row by row."""
        rows = np.asarray(rows)
        stop = self.offsets[rows + 1]
        start = self.offsets[rows]
        if last is not None:
            start = np.maximum(start, stop - last)
        lengths = stop - start
        first = np.cumsum(lengths) - lengths
        return np.asarray(np.arange(int(lengths.sum())) + np.repeat(start - first, lengths), dtype=np.int64)

    def take(self, rows: NDArray[np.integer]) -> Ragged:
        """Return the given rows, in the given order."""
        rows = np.asarray(rows)
        return Ragged.from_lengths(self.lengths[rows], self.values[self.positions(rows)])

    def last(self, n: int) -> Ragged:
        """Return each row's last ``n`` values."""
        rows = np.arange(len(self))
        return Ragged.from_lengths(np.minimum(self.lengths, n), self.values[self.positions(rows, n)])

    def padded(self, length: int, *, pad: int = -1, align: str = "right") -> NDArray[np.int32]:
        """Return int32[n, length]: each row's last ``length`` values.

        ``align="right"`` puts the newest value in the last column, ``"left"`` the oldest kept
        one in the first; the rest is ``pad``.
        """
        kept = self.last(length)
        out = np.full((len(self), length), pad, dtype=np.int32)
        column = np.arange(len(kept.values)) - np.repeat(kept.offsets[:-1], kept.lengths)
        if align == "right":
            column += length - np.repeat(kept.lengths, kept.lengths)
        elif align != "left":
            raise ValueError(f"align must be 'left' or 'right', not {align!r}")
        out[kept.rows, column] = kept.values
        return out

    def contains(self, items: NDArray[np.integer], n_values: int) -> NDArray[np.bool_]:
        """Return bool[n, k]: is ``items[i, j]`` in row ``i``?  Values lie in ``[0, n_values)``."""
        n, k = items.shape
        if n != len(self):
            raise ValueError(f"{n} rows of items for {len(self)} rows")
        if not len(self.values):
            return np.zeros((n, k), dtype=bool)
        width = n_values + 1  # slot n_values takes the pads (-1)
        keys = np.sort(self.rows * width + self.values)
        asked = np.arange(n)[:, None] * width + np.where(items < 0, n_values, items)
        at = np.minimum(np.searchsorted(keys, asked.ravel()), len(keys) - 1)
        return np.asarray(keys[at] == asked.ravel(), dtype=bool).reshape(n, k)
