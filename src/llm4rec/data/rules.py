"""The rules that a log passes on its way in, on inside codes, without a loop over users."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Duplicates = Literal["first", "last", "keep"]


def one_per_pair(
    user: NDArray[np.integer], item: NDArray[np.integer], time: NDArray[np.integer], keep: Duplicates
) -> NDArray[np.bool_]:
    """Return bool[m]: is this the event that stays for its user and item?  Equal times: source order."""
    kept = np.ones(len(user), dtype=bool)
    if keep == "keep" or not len(user):
        return kept
    order = np.argsort(time, kind="stable")
    order = order if keep == "first" else order[::-1]
    pairs = user.astype(np.int64) * (int(item.max()) + 1) + item
    _, first = np.unique(pairs[order], return_index=True)  # the first in this order
    kept[:] = False
    kept[order[first]] = True
    return kept


def core(user: NDArray[np.integer], item: NDArray[np.integer], user_core: int, item_core: int) -> tuple[NDArray[np.bool_], int]:
    """Return bool[m], the events left when every user and item has enough of them, and the rounds it took."""
    kept = np.ones(len(user), dtype=bool)
    rounds = 0
    while kept.any():
        users = np.bincount(user[kept], minlength=int(user.max()) + 1)
        items = np.bincount(item[kept], minlength=int(item.max()) + 1)
        stays = kept & (users[user] >= user_core) & (items[item] >= item_core)
        if (stays == kept).all():
            break
        kept, rounds = stays, rounds + 1
    return kept, rounds
