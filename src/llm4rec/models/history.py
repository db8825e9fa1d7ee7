"""What a query's history says about the user, as a sparse matrix: the input of linear models."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from llm4rec.core import Queries


def history_matrix(queries: Queries, n_items: int, half_life: float = 0.0) -> sparse.csr_matrix:
    """Return float32 CSR [n, n_items]: the weight of each item in each query's history.

    The newest event weighs 1, and an event ``half_life`` events older half as much; with a
    ``half_life`` of 0 every event weighs 1.  An item that occurs several times counts once, as of
    its newest event.
    """
    history = queries.history
    age = np.repeat(history.offsets[1:], history.lengths) - 1 - np.arange(len(history.values))
    weight = np.exp2(-age / half_life) if half_life else np.ones(len(age))
    keys = history.rows * n_items + history.values
    # np.unique gives each key's first place: counted from the end, that is the newest event.
    keys, place = np.unique(keys[::-1], return_index=True)
    indptr = np.searchsorted(keys, np.arange(len(queries) + 1) * n_items)
    return sparse.csr_matrix(
        (weight[::-1][place].astype(np.float32), (keys % n_items).astype(np.int32), indptr), shape=(len(queries), n_items)
    )
