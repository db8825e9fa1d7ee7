"""The rules that a log passes on its way in, on inside codes, without a loop over users."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llm4rec.core.order import stable_order

Duplicates = Literal["first", "last", "keep"]


def one_per_pair(
    user: NDArray[np.integer], item: NDArray[np.integer], time: NDArray[np.integer], keep: Duplicates
) -> NDArray[np.bool_]:
    """Return bool[m]: is this the event that stays for its user and item?  Equal times: source order."""
    kept = np.ones(len(user), dtype=bool)
    if keep == "keep" or not len(user):
        return kept
    pairs = user.astype(np.int64) * (int(item.max()) + 1) + item
    ordered = np.sort(pairs)
    if not (ordered[1:] == ordered[:-1]).any():
        return kept
    order = stable_order(pairs, time)
    changes = pairs[order[1:]] != pairs[order[:-1]]
    kept[order] = np.append(True, changes) if keep == "first" else np.append(changes, True)
    return kept


def core(user: NDArray[np.integer], item: NDArray[np.integer], user_core: int, item_core: int) -> tuple[NDArray[np.bool_], int]:
    """Return bool[m], the events left when every user and item has enough of them, and the rounds it took."""
    kept = np.ones(len(user), dtype=bool)
    rounds = 0
    while len(user):
        stays = (np.bincount(user) >= user_core)[user] & (np.bincount(item) >= item_core)[item]
        if stays.all():
            break
        kept[kept] = stays
        user, item, rounds = user[stays], item[stays], rounds + 1
    return kept, rounds
