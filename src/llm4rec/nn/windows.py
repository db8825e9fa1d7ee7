"""Windows of training histories, for networks that predict at every position what comes next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm4rec.core import Dataset, Ragged

#: What is trained on of a history longer than a window: all of it, cut into windows, or its end alone.
Span = Literal["all", "last"]

#: The narrowest rows in which short histories are computed, and the share of the work that must remain
#: for it not to be worth their while: each width costs its own calls.
_NARROW, _WORTH = 8, 0.6


class Windows:
    """The training histories, cut into rows of one width that predict each event once.

    Attributes:
        events: int64[w, length + 1], places in the histories, padded on the left with -1.
    """

    def __init__(self, events: NDArray[np.int64], items: NDArray[np.int32], times: NDArray[np.int64] | None, pad: int) -> None:
        self.events = events
        self._items = torch.from_numpy(np.append(items, pad).astype(np.int64)[events])  # [w, t + 1]
        self._times = None if times is None else torch.from_numpy(np.append(times, 0)[events])
        self._lengths = (events >= 0).sum(axis=1) - 1  # [w], positions with something to predict from

    @classmethod
    def of(cls, train: Dataset, length: int, span: Span, *, timed: bool = False) -> Windows:
        """Cut the training histories into rows of ``length`` positions, with their times if they are wanted."""
        histories = train.histories
        whole = Ragged(histories.items.offsets, np.arange(len(histories.items.values), dtype=np.int32))
        events = cut(whole if span == "all" else whole.last(length + 1), length + 1)
        return cls(events, histories.items.values, histories.times if timed else None, train.n_items)

    def batch(self, rows: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Yield histories int64[b, t], what follows int64[b, t], times int64[b, t + 1] or None, of the given rows.

        Most histories may be far shorter than ``length``.  Rows then come in groups of like widths
        (8, 16, 32, ...), which changes nothing but the work: pads are invisible, and positions are
        counted from the end.
        """
        lengths, most = self._lengths[rows], self.events.shape[1] - 1
        widths = np.minimum(np.maximum(_NARROW, 1 << np.ceil(np.log2(lengths)).astype(np.int64)), most)  # [b]
        widest = int(widths.max())
        if widths.sum() > _WORTH * widest * len(rows):
            widths = np.full(len(rows), widest)
        for width in np.unique(widths):
            some = torch.from_numpy(rows[widths == width])
            items = self._items[some, -width - 1 :]
            yield items[:, :-1], items[:, 1:], None if self._times is None else self._times[some, -width - 1 :]


def cut(sequences: Ragged, width: int) -> NDArray[np.int64]:
    """Cut sequences into windows int64[w, width] of their values, padded on the left with -1.

    Windows are laid from the end of a sequence and share one event with the window before, so
    that every event but a sequence's first is the target of exactly one position.
    """
    step = width - 1
    counts = np.maximum(-(-(sequences.lengths - 1) // step), 0)  # windows of each sequence
    rows = np.repeat(np.arange(len(sequences)), counts)
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)  # 0 is the last window
    stop = sequences.offsets[rows + 1] - nth * step
    at = stop[:, None] - np.arange(width, 0, -1)  # [w, width]
    inside = at >= sequences.offsets[rows][:, None]
    return np.where(inside, sequences.values[np.maximum(at, 0)], -1).astype(np.int64)
