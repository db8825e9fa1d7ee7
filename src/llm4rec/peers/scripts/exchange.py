"""What the scripts of all peers share: they run in a peer's own interpreter and talk to ours by files.

Nothing here imports the package; numpy and the standard library are in every environment.  The
script is asked by lines of JSON on its standard input and answers by lines of JSON on its
standard output.  In the working directory lie ``train.npz`` (``users``, ``items``, ``times``,
``values`` of each event, sorted by user and time), ``valid.npz`` where there are validation cases
(``users``, ``offsets`` and ``history``, ``truth_offsets`` and ``truth``), and after ``fit`` what it
learnt: ``state.npz`` (arrays) and ``state.json`` (the rest).  No file is a pickle.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

Job = Mapping[str, Any]
#: ``users`` int[n], ``offsets`` int[n + 1] and ``history`` int[m] -> float32[n, n_items].
Scorer = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


class Clock:
    """Times epochs and validations, and says when training has taken as long as it may."""

    def __init__(self, minutes: float | None) -> None:
        self.seconds: list[float] = []
        self.processor: list[float] = []
        self.curve: list[dict[str, float]] = []
        self._begun, self._minutes = time.perf_counter(), minutes

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Time what is done within."""
        start, spent = time.perf_counter(), time.process_time()
        yield
        self.seconds.append(time.perf_counter() - start)
        self.processor.append(time.process_time() - spent)

    def validated(self, figure: float) -> None:
        """Note a validation figure of the library's own, after the last epoch."""
        elapsed = time.perf_counter() - self._begun
        self.curve.append({"epoch": len(self.seconds), "valid": figure, "elapsed": elapsed})

    @property
    def over(self) -> bool:
        """Has training taken as long as it may?"""
        return self._minutes is not None and time.perf_counter() - self._begun > 60 * self._minutes

    def told(self) -> dict[str, Any]:
        """Return what is told of the training."""
        return {
            "epochs": len(self.seconds), "epoch_seconds": self.seconds, "epoch_processor_seconds": self.processor,
            "curve": self.curve,
        }  # fmt: skip


def serve(
    fit: Callable[[Job], Mapping[str, Any]], load: Callable[[Job], Scorer], **others: Callable[[Job], Mapping[str, Any]]
) -> None:
    """Answer requests until the standard input ends; whatever a library prints goes to the standard error.

    A job's ``do`` is ``fit``, ``score`` (by what ``load`` returns) or the name of one of the others.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    scorer: Scorer | None = None
    for line in sys.stdin:
        job = json.loads(line)
        if job["do"] in others:
            answer = dict(others[job["do"]](job))
        elif job["do"] == "fit":
            answer = dict(fit(job))
        else:
            scorer = scorer or load(job)
            with np.load(job["queries"], allow_pickle=False) as queries:
                scores = scorer(queries["users"], queries["offsets"], queries["history"])
            np.save(job["scores"], np.ascontiguousarray(scores, dtype=np.float32), allow_pickle=False)
            answer = {}
        print(json.dumps(answer), file=replies, flush=True)


def events(file: str = "train.npz") -> dict[str, np.ndarray]:
    """Return the arrays of a file of the working directory."""
    with np.load(file, allow_pickle=False) as held:
        return dict(held)


def offsets(lengths: np.ndarray) -> np.ndarray:
    """Return int64[n + 1] row offsets of row lengths int[n]."""
    return np.concatenate([[0], np.cumsum(lengths)])


def padded(at: np.ndarray, values: np.ndarray, length: int, *, pad: int, left: bool) -> np.ndarray:
    """Return int64[n, length]: each row's last ``length`` values, the pads on the left or on the right."""
    stop = at[1:]
    size = np.minimum(np.diff(at), length)
    column = np.arange(length) - (length - size if left else np.zeros_like(size))[:, None]
    inside = (column >= 0) & (column < size[:, None])
    if not len(values):
        return np.full(inside.shape, pad)
    place = np.clip((stop - size)[:, None] + column, 0, len(values) - 1)
    return np.where(inside, values[place], pad)


def write_state(state: Mapping[str, Any]) -> None:
    """Write arrays, sparse matrices and JSON values by name; anything else is an error."""
    arrays: dict[str, np.ndarray] = {}
    values: dict[str, Any] = {}
    for name, value in state.items():
        array = value.detach().cpu().numpy() if hasattr(value, "detach") else value
        if isinstance(array, np.ndarray) and array.dtype.kind in "biuf":
            arrays[name] = array
        elif hasattr(array, "tocsr"):  # a sparse matrix of scipy
            csr = array.tocsr()
            arrays |= {f"{name}@data": csr.data, f"{name}@indices": csr.indices, f"{name}@indptr": csr.indptr}
            values[f"{name}@sparse"] = [array.format, *csr.shape]
        elif isinstance(array, np.generic):
            values[name] = array.item()
        elif array is None or isinstance(array, (bool, int, float, str, list, tuple, dict)):
            values[name] = array
        else:
            raise TypeError(f"the state {name!r} is a {type(value).__name__}, which cannot be stored without pickle")
    np.savez("state.npz", **arrays)
    with open("state.json", "w", encoding="utf-8") as file:
        json.dump(values, file)


def read_state() -> dict[str, Any]:
    """Return what ``write_state`` wrote."""
    arrays = events("state.npz")
    with open("state.json", encoding="utf-8") as file:
        state: dict[str, Any] = json.load(file)
    sparse_names = [n.removesuffix("@sparse") for n in state if n.endswith("@sparse")]
    if sparse_names:
        from scipy import sparse
    for name in sparse_names:
        kind, rows, columns = state.pop(f"{name}@sparse")
        parts = tuple(arrays.pop(f"{name}@{part}") for part in ("data", "indices", "indptr"))
        state[name] = sparse.csr_matrix(parts, shape=(rows, columns)).asformat(kind)
    return state | arrays
