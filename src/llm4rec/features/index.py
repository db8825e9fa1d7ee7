"""Nearest items by inner product: exact (flat) or approximate (HNSW, IVF), through FAISS.

FAISS finds candidates; what stands in a list, and in which order, is decided here by inner
products in float64 and, where they are equal, by inside id.  So the answer to one question does
not depend on the others asked with it, and equal texts keep one order everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Config, Lists, Ragged, RunError

#: Candidates beyond ``k`` that are scored again, against rounding in FAISS.
_SLACK = 16
#: How far a float32 inner product of unit vectors may be off.
_ROUNDING = 4e-6
#: Values gathered or multiplied at once; keeps a step's memory near 32 MiB.
_VALUES = 2**22
#: Gathering one candidate's vector to score it again costs about as much as scoring so many in a product.
_GATHERED = 64
_SEED = 1234


class IndexConfig(Config):
    """How items are searched."""

    kind: Literal["flat", "hnsw", "ivf"] = "flat"
    """``flat`` is exact.  ``hnsw`` (a graph) and ``ivf`` (cells) look at a part of the catalogue;
    they pay from about 100,000 items on."""

    neighbors: int = Field(default=32, ge=2)
    """HNSW: links of an item in the graph."""

    build_width: int = Field(default=64, ge=1)
    """HNSW: candidates looked at on inserting an item."""

    search_width: int = Field(default=64, ge=1)
    """HNSW: candidates kept in a search; never fewer than are fetched."""

    cells: int = Field(default=0, ge=0)
    """IVF: number of cells; 0 takes four times the square root of the number of items, but
    at least 40 items a cell."""

    probes: int = Field(default=16, ge=1)
    """IVF: cells that a search looks into."""


class VectorIndex:
    """Items with their vectors, searched by inner product.

    Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using HNSW
    graphs, TPAMI 2020; Jégou et al., Product quantization for nearest neighbor search, TPAMI 2011
    (inverted file); Douze et al., The Faiss library, 2024 (arXiv 2401.08281).

    Args:
        vectors: float32[n_items, d], unit length.
        items: int32[m], rising: the inside ids that can be found; None for all.
        config: kind and parameters.
        built: the FAISS index as ``state`` returned it, to spare building.

    Attributes:
        fallbacks: questions since the object was made for which the approximate search had found
            too few items after exclusion, and which were therefore answered exactly.  (A question
            that would have to fetch the whole catalogue is answered exactly from the start.)
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        items: NDArray[np.int32] | None = None,
        config: IndexConfig | None = None,
        *,
        built: NDArray[np.uint8] | None = None,
    ) -> None:
        self.config = IndexConfig() if config is None else config
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        self.items = np.arange(len(vectors), dtype=np.int32) if items is None else np.asarray(items, dtype=np.int32)
        self.fallbacks = 0
        held = self.vectors if items is None else self.vectors[self.items]
        self._index: Any = _build(held, self.config) if built is None else faiss.deserialize_index(built)

    @property
    def n_items(self) -> int:
        return len(self.vectors)

    def scores(self, queries: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return float32[n, n_items], inner products of float[n, d]; -inf for items that cannot be found."""
        wide = np.asarray(queries, dtype=np.float64)
        out = np.empty((len(wide), self.n_items), np.float32)
        step = max(1, _VALUES // self.vectors.shape[1])
        for start in range(0, self.n_items, step):
            out[:, start : start + step] = wide @ self.vectors[start : start + step].T.astype(np.float64)
        if len(self.items) < self.n_items:
            lost = np.ones(self.n_items, bool)
            lost[self.items] = False
            out[:, lost] = -np.inf
        return out

    def search(self, queries: NDArray[np.floating], k: int, *, exclude: Ragged) -> Lists:
        """Return the ``k`` nearest items of each query, none of them excluded.

        Exclusion costs no places: a question fetches ``k`` items and as many more as it
        excludes, and a list is shorter than ``k`` only if too few items are left in the catalogue.

        Args:
            queries: float[n, d]; of any length, which scales the scores and changes no order.
            exclude: items that must not appear, n rows.
        """
        wide = np.asarray(queries, dtype=np.float64)
        n, m = len(wide), len(self.items)
        parts = Lists.empty(n, k)
        items, scores = parts.items.copy(), parts.scores.copy()
        # What is fetched for a question depends on that question alone: k, slack and its own
        # exclusions, rounded up to a power of two so that few sizes occur.
        asked = k + _SLACK + exclude.lengths
        sizes = np.minimum(2 ** np.ceil(np.log2(asked)).astype(np.int64), m)
        lengths = np.linalg.norm(wide, axis=1)
        for size in np.unique(sizes):
            rows_of_size = np.flatnonzero(sizes == size)
            step = max(1, _VALUES // max(1, int(size)))
            for start in range(0, len(rows_of_size), step):
                rows = rows_of_size[start : start + step]
                found = self._search(wide[rows], lengths[rows], int(size), k, exclude.take(rows))
                items[rows], scores[rows] = found.items, found.scores
        return Lists(items, scores)

    def _search(self, queries: NDArray[np.float64], lengths: NDArray[np.float64], size: int, k: int, exclude: Ragged) -> Lists:
        """Search with ``size`` candidates each; what that does not settle is scored in full."""
        small = self.config.kind == "flat" and len(self.items) <= _GATHERED * (k + _SLACK)
        if small or size >= len(self.items):
            return self._in_full(queries, k, exclude)
        units = queries / np.where(lengths > 0, lengths, 1.0)[:, None]
        near, at = self._index.search(units.astype(np.float32), size, params=self._parameters(size))
        pool = np.where(at < 0, -1, self.items[np.maximum(at, 0)]).astype(np.int32)
        near[exclude.contains(pool, self.n_items)] = -np.inf
        pool = np.where(np.isneginf(near), -1, pool)
        order = np.argsort(-near, axis=1, kind="stable")[:, : k + _SLACK]
        pool, near = np.take_along_axis(pool, order, axis=1), np.take_along_axis(near, order, axis=1)
        lists = Lists.from_pools(pool, self._exact(queries, pool), k)
        if self.config.kind != "flat":
            # Less than the catalogue was asked for, so at least k items are not excluded.
            unsettled = np.flatnonzero(lists.lengths < k)
            self.fallbacks += len(unsettled)
        else:
            # An item that FAISS left out scores at most as the last one kept, give or take
            # rounding; where the k-th score is not clearly above that, the item may belong in.
            kth = lists.scores[:, k - 1] if k else np.full(len(queries), np.inf)
            unsettled = np.flatnonzero(~(kth > lengths * (near[:, -1] + _ROUNDING)))
        if not len(unsettled):
            return lists
        full = self._in_full(queries[unsettled], k, exclude.take(unsettled))
        items, scores = lists.items.copy(), lists.scores.copy()
        items[unsettled], scores[unsettled] = full.items, full.scores
        return Lists(items, scores)

    def _in_full(self, queries: NDArray[np.float64], k: int, exclude: Ragged) -> Lists:
        """Score the whole catalogue, a bounded number of scores at once."""
        step = max(1, _VALUES // max(1, self.n_items))
        chunks = [np.arange(start, min(start + step, len(queries))) for start in range(0, len(queries), step)]
        return Lists.concatenate([Lists.from_scores(self.scores(queries[c]), k, exclude=exclude.take(c)) for c in chunks])

    def _exact(self, queries: NDArray[np.float64], pool: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return float32[n, m], inner products with the pooled items; nan for pads."""
        scores = np.empty(pool.shape, np.float64)
        step = max(1, _VALUES // max(1, pool.shape[1] * queries.shape[1]))
        for rows in (slice(start, start + step) for start in range(0, len(pool), step)):
            vectors = self.vectors[np.maximum(pool[rows], 0)]  # [n, m, d]
            np.einsum("nd,nmd->nm", queries[rows], vectors, out=scores[rows])  # in float64, as the queries are
        return np.where(pool < 0, np.nan, scores).astype(np.float32)

    def _parameters(self, size: int) -> Any:
        library: Any = faiss  # its stubs lack the classes of search parameters
        if self.config.kind == "hnsw":
            return library.SearchParametersHNSW(efSearch=max(self.config.search_width, size))
        if self.config.kind == "ivf":
            return library.SearchParametersIVF(nprobe=min(self.config.probes, self._index.nlist))
        return None

    # -- saving -------------------------------------------------------------------------
    def state(self) -> dict[str, NDArray[Any]]:
        """Return ``vectors``, ``items`` and, unless flat, the FAISS index as bytes (``built``)."""
        state: dict[str, NDArray[Any]] = {"vectors": self.vectors, "items": self.items}
        return state if self.config.kind == "flat" else state | {"built": faiss.serialize_index(self._index)}

    def save(self, folder: Path) -> None:
        """Write the index into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in self.state().items():
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        (folder / "index.json").write_text(self.config.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> VectorIndex:
        """Read what ``save`` wrote."""
        try:
            config = IndexConfig.model_validate_json((folder / "index.json").read_text())
            names = ["vectors", "items"] + ["built"] * (config.kind != "flat")
            arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in names}
            return cls(arrays["vectors"], arrays["items"], config, built=arrays.get("built"))
        except (OSError, ValueError, RuntimeError) as error:
            raise RunError(f"cannot read an index ({error})", where=str(folder), todo="build it again") from None


def _build(vectors: NDArray[np.float32], config: IndexConfig) -> Any:
    """Return the FAISS index of float32[m, d]; the same vectors give the same index."""
    n, d = vectors.shape
    index: Any
    with _one_thread():
        if config.kind == "hnsw":
            index = faiss.IndexHNSWFlat(d, config.neighbors, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = config.build_width
        elif config.kind == "ivf":
            cells = config.cells or max(1, min(int(4 * n**0.5), n // 40))
            index = faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, max(1, min(cells, n)), faiss.METRIC_INNER_PRODUCT)
            index.cp.seed = _SEED
            index.cp.min_points_per_centroid = 1
            if n:
                index.train(vectors)
        else:
            index = faiss.IndexFlatIP(d)
        if n:
            index.add(vectors)
    return index


@contextmanager
def _one_thread() -> Iterator[None]:
    """Build with one thread: with more, the order of insertion and so the graph is left to chance."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
