"""Windows of histories: every event once, grouped without a trace."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.core import DataError, Ragged
from llm4rec.models.sasrec import SASRec, SASRecConfig
from llm4rec.nn.windows import Span, Windows, cut
from tests import worlds


@given(st.lists(st.integers(0, 23), max_size=6), st.integers(2, 9))
def test_windows_predict_every_event_but_the_first_exactly_once(lengths: list[int], width: int) -> None:
    values = np.arange(sum(lengths))  # every event has a name of its own
    sequences = Ragged.from_lengths(np.array(lengths, dtype=np.int64), values)
    windows = cut(sequences, width)
    inputs, targets = windows[:, :-1], windows[:, 1:]
    asked = inputs >= 0
    pairs = sorted(zip(inputs[asked].tolist(), targets[asked].tolist(), strict=True))
    assert pairs == [(v, v + 1) for row in sequences for v in row[:-1].tolist()]
    for window in windows:  # padded on the left alone, in order
        held = window[window >= 0]
        assert (window[len(window) - len(held) :] == held).all()


def _windows(lengths: list[int], length: int) -> Windows:
    events = cut(Ragged.from_lengths(np.array(lengths), np.arange(sum(lengths))), length + 1)
    n = sum(lengths)
    return Windows(events, np.arange(n, dtype=np.int32), 10 * np.arange(n), pad=n)


@given(st.lists(st.integers(2, 60), min_size=1, max_size=12), st.sampled_from([5, 8, 50]))
def test_groups_hold_the_batch_and_no_more(lengths: list[int], length: int) -> None:
    windows, n = _windows(lengths, length), sum(lengths)
    pairs, times = [], []
    for history, following, moments in windows.batch(np.arange(len(windows.events))):
        real = history != n
        pairs += list(zip(history[real].tolist(), following[real].tolist(), strict=True))
        assert moments is not None
        times += moments[:, 1:][real].tolist()
    assert sorted(pairs) == [(v, v + 1) for row in cut_rows(lengths) for v in row[:-1]]
    assert sorted(times) == sorted(10 * following for _, following in pairs)


def cut_rows(lengths: list[int]) -> list[list[int]]:
    return Ragged.from_lengths(np.array(lengths), np.arange(sum(lengths))).tolist()


def test_short_histories_are_computed_in_narrow_rows() -> None:
    short, full = _windows([5] * 100 + [51], 50), _windows([51] * 20 + [5], 50)
    assert sorted(h.shape for h, _, _ in short.batch(np.arange(101))) == [(1, 50), (100, 8)]
    assert [h.shape for h, _, _ in full.batch(np.arange(21))] == [(21, 50)], "too little to gain"


def test_groups_give_the_states_of_whole_rows() -> None:
    """A network's answer to a history is the same in narrow rows and in wide ones."""
    windows, n = _windows([5] * 20 + [40], 50), 140
    torch.manual_seed(0)
    network = SASRec(SASRecConfig(width=16)).network(n).eval()
    rows = np.arange(21)
    whole = torch.from_numpy(np.append(np.arange(n), n)[windows.events])
    wanted = network(whole[:, :-1])[whole[:, :-1] != n]
    got = torch.cat([network(h)[h != n] for h, _, _ in windows.batch(rows)])
    assert len(list(windows.batch(rows))) > 1
    torch.testing.assert_close(got.sum(0), wanted.sum(0))


@pytest.mark.parametrize("windows", ["all", "last"])
def test_windows_of_the_end_alone_leave_the_rest_out(windows: Span) -> None:
    train = worlds.cycle().split.train
    lengths = train.histories.items.lengths
    made = Windows.of(train, 3, windows)
    predicted = (made.events[:, :-1] >= 0).sum()
    assert predicted == {"all": (lengths - 1).sum(), "last": np.minimum(lengths - 1, 3).sum()}[windows]


def test_histories_of_one_event_are_told_of_in_one_line() -> None:
    train = worlds.cycle().split.train
    single = train.with_events(train.events.unique("user", keep="first", maintain_order=True))
    with pytest.raises(DataError, match="no user has two training events"):
        SASRec(SASRecConfig(width=8)).fit(single, valid=None, rng=np.random.default_rng(0))
