"""Orders of many rows by whole numbers, by one sort of plain words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Bits of a non-negative int64.
_WORD = 63


def stable_order(*keys: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return int64[m]: rows by the first key, then the second, ...; equal rows stay as they are.

    The order of ``np.lexsort`` with the keys reversed.  Keys and row number are packed into one
    word of 64 bits, and the words are sorted: many times faster than a sort of row numbers by keys
    (25 million events by user and time: 1 s of processor time, not 13).  Keys that do not fit into
    one word take a pass each, the least significant first.
    """
    m = len(keys[0])
    row_bits = max(1, (m - 1).bit_length())
    order: NDArray[np.int64] | None = None
    word: NDArray[np.int64] | None = None
    used = row_bits
    for key in reversed(keys):
        low = int(key.min()) if m else 0
        bits = (int(key.max()) - low).bit_length() if m else 0
        if word is not None and used + bits > _WORD:
            order, word, used = _pass(order, word, row_bits), None, row_bits
        if row_bits + bits > _WORD:  # one key too wide for any word
            step = np.argsort(key if order is None else key[order], kind="stable")
            order = step if order is None else order[step]
            continue
        own = np.subtract(key if order is None else key[order], low, dtype=np.int64)
        if word is None:
            word = np.left_shift(own, used, out=own)
        else:
            word |= np.left_shift(own, used, out=own)
        used += bits
    if word is not None:
        order = _pass(order, word, row_bits)
    assert order is not None
    return order


def _pass(order: NDArray[np.int64] | None, word: NDArray[np.int64], row_bits: int) -> NDArray[np.int64]:
    """Return the order refined by the words, whose lowest bits take the row's place; the words are used up."""
    word |= np.arange(len(word), dtype=np.int64)
    word.sort()
    word &= (1 << row_bits) - 1
    return word if order is None else order[word]


def first_of_each(key: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Return bool[m]: has no earlier row the same key?"""
    order = stable_order(key)
    ordered = key[order]
    first = np.ones(len(key), dtype=bool)
    first[order[1:]] = ordered[1:] != ordered[:-1]
    return first


def dense(ids: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.int32]]:
    """Return the distinct values, rising, and int32[m], the place of each row's value among them.

    What ``np.unique(ids, return_inverse=True)`` returns, without a sort where the values are
    whole numbers in a range not much larger than m.
    """
    if not len(ids):
        return ids, np.empty(0, np.int32)
    low, high = int(ids.min()), int(ids.max())
    if high - low > 4 * len(ids) + 1_000_000:
        distinct, place = np.unique(ids, return_inverse=True)
        return distinct, place.astype(np.int32)
    at = ids if low == 0 else ids - low
    present = np.zeros(high - low + 1, dtype=bool)
    present[at] = True
    places = np.cumsum(present, dtype=np.int32) - np.int32(1)
    return (np.flatnonzero(present) + low).astype(ids.dtype), places[at]
