"""What lists are like beside being right: coverage, concentration, novelty, popularity, diversity.

Notation: a list shows ``m <= k`` items; ``c_i`` counts the training events of item ``i``.
Measures of single lists give float64[n] with nan where a list cannot be judged (it is empty, has
no pair of items, or there is no history to compare with); measures of all lists together give a
float.

To add a measure, write one function from :class:`Shown` and enter it in ``BEYOND``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Dataset, Lists, Ragged, SpecError
from llm4rec.metrics.accuracy import Values
from llm4rec.metrics.names import parse_metric

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def _divide(a: NDArray[Any], b: NDArray[Any]) -> Values:
    """Return float64[n] a / b, nan where b is not above 0."""
    return np.asarray(np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0))


def _squared_lengths(vectors: Any) -> Values:
    """Return float64[n], the squared length of each row of a dense or sparse matrix."""
    if isinstance(vectors, np.ndarray):
        return np.asarray(np.einsum("nd,nd->n", vectors, vectors), dtype=np.float64)
    return np.asarray(vectors.multiply(vectors).sum(axis=1), dtype=np.float64).ravel()


@dataclass(frozen=True)
class ItemContext:
    """What is known about the items, from the training part alone.

    Attributes:
        counts: int64[n_items], training events of each item.
        vectors: float32[n_items, d], dense or CSR (text vectors, multi-hot genres), or None.
    """

    counts: NDArray[np.int64]
    vectors: NDArray[np.float32] | csr_matrix | None = None

    def __post_init__(self) -> None:
        if self.vectors is not None and self.vectors.shape[0] != len(self.counts):
            raise ValueError(f"{self.vectors.shape[0]} vectors for {len(self.counts)} items")

    @classmethod
    def of(cls, train: Dataset, vectors: NDArray[np.float32] | csr_matrix | None = None) -> ItemContext:
        """Make the context of a training part."""
        return cls(train.item_counts, vectors)

    @property
    def n_items(self) -> int:
        return len(self.counts)

    @cached_property
    def information(self) -> Values:
        """float64[n_items], ``-log2 p_i`` in bits, ``p_i = (c_i + 1) / (sum_j c_j + n_items)``."""
        return np.asarray(-np.log2((self.counts + 1) / (self.counts.sum() + self.n_items)))

    @cached_property
    def percentile(self) -> Values:
        """float64[n_items], share of the catalogue with fewer events, plus half of those with as many."""
        ordered = np.sort(self.counts)
        below = np.searchsorted(ordered, self.counts, side="left")
        up_to = np.searchsorted(ordered, self.counts, side="right")
        return np.asarray((below + up_to) / (2 * self.n_items))

    @cached_property
    def units(self) -> Any:
        """The vectors at length 1 (zero vectors stay zero), float32, dense or CSR as given."""
        if self.vectors is None:
            raise SpecError(
                "diversity needs item vectors", where="metrics", todo="give the items text or attributes, or leave it out"
            )
        lengths = np.sqrt(_squared_lengths(self.vectors))
        scale = 1 / np.where(lengths > 0, lengths, 1)
        if isinstance(self.vectors, np.ndarray):
            return (self.vectors * scale[:, None]).astype(np.float32)
        from scipy import sparse

        return (sparse.diags_array(scale) @ self.vectors).tocsr().astype(np.float32)


#: Places read at once: they and what is looked up for them stay in the processor's cache.
_BLOCK = 1 << 18


@dataclass(frozen=True)
class Shown:
    """``n`` lists cut at ``k``, and what is known about their items and users.

    Attributes:
        items: int32[n, w], w <= k; -1 pads on the right.
        context: of the items.
        history: what each user has touched before, or None.
        inner: the same lists cut shorter, whose counts and sums need not be taken again; or None.
    """

    items: NDArray[np.int32]
    context: ItemContext
    history: Ragged | None
    inner: Shown | None = None

    @cached_property
    def held(self) -> NDArray[np.bool_]:
        """bool[n, w]: is there an item at this place?"""
        return self.items >= 0

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """int64[n], items in each list."""
        n, width = self.items.shape
        if width and (self.items[:, -1] >= 0).all():
            return np.full(n, width)
        return np.asarray(np.count_nonzero(self.held, axis=1))

    @cached_property
    def frequency(self) -> NDArray[np.int64]:
        """int64[n_items], the number of lists that show each item."""
        slots = self.context.n_items + 1
        total = np.zeros(slots, dtype=np.int64)
        for _, block in self._new_places(max(_BLOCK, slots)):
            total += np.bincount(block.ravel(), minlength=slots)
        return total[1:] if self.inner is None else total[1:] + self.inner.frequency

    def mean(self, what: Literal["counts", "information", "percentile"]) -> Values:
        """Return float64[n], the mean of an item value of the context over each list; nan for empty ones."""
        return _divide(self._total(what), self.lengths)

    def _total(self, what: str) -> Values:
        if what not in self._totals:
            value = np.concatenate(([0.0], getattr(self.context, what)))  # [n_items + 1], 0 for the pad
            total = np.zeros(len(self.items))
            for rows, block in self._new_places(_BLOCK):
                total[rows] = value.take(block, mode="clip").sum(axis=1)
            self._totals[what] = total if self.inner is None else total + self.inner._total(what)
        return self._totals[what]

    @cached_property
    def _totals(self) -> dict[str, Values]:
        return {}

    def _new_places(self, size: int) -> Iterator[tuple[slice, NDArray[np.intp]]]:
        """Yield (rows, item + 1, which is 0 for a pad, of the places beyond ``inner``) in blocks of about ``size`` places."""
        new = self.items if self.inner is None else self.items[:, self.inner.items.shape[1] :]
        step = max(1, size // max(1, new.shape[1]))
        for start in range(0, len(new), step):
            rows = slice(start, start + step)
            yield rows, np.add(new[rows], 1, dtype=np.intp)


def coverage(shown: Shown) -> float:
    """Share of the catalogue that stands in at least one list.

    Source: Herlocker et al., Evaluating collaborative filtering recommender systems, TOIS 2004.
    """
    return float(np.count_nonzero(shown.frequency) / shown.context.n_items)


def gini(shown: Shown) -> float:
    """Concentration of recommendations: ``sum_j (2j - n - 1) x_j / (n sum_j x_j)``.

    ``x_1 <= ... <= x_n`` are the numbers of lists that show each item of the whole catalogue.  0:
    all items are shown equally often; ``1 - 1/n``: one item takes every place; nan without any.
    Source: Fleder and Hosanagar, Blockbuster culture's next rise or fall, Management Science 2009.
    """
    x = np.sort(shown.frequency)
    n, total = len(x), int(x.sum())
    return float(((2 * np.arange(1, n + 1) - n - 1) * x).sum() / (n * total)) if total else float("nan")


def entropy(shown: Shown) -> float:
    """Spread of recommendations in bits: ``-sum_i q_i log2 q_i``, ``q_i`` the share of places of item i.

    2 to this power is the number of items that would, equally often shown, spread as widely.
    Source: Shannon 1948; for recommenders Vargas and Castells, RecSys 2011.
    """
    x = shown.frequency[shown.frequency > 0]
    if not len(x):
        return float("nan")
    q = x / x.sum()
    return float(max(0.0, -(q * np.log2(q)).sum()))


def novelty(shown: Shown) -> Values:
    """Mean self-information of the shown items in bits, ``1/m sum_i -log2 p_i``.

    ``p_i = (c_i + 1) / (sum_j c_j + n_items)``; the one added keeps untouched items finite.
    Source: Zhou et al., Solving the apparent diversity-accuracy dilemma, PNAS 2010.
    """
    return shown.mean("information")


def popularity(shown: Shown) -> Values:
    """Mean popularity percentile of the shown items, in (0, 1); .5 for a random list.

    An item's percentile is the share of the catalogue with fewer training events, plus half of
    the share with as many.
    """
    return shown.mean("percentile")


def arp(shown: Shown) -> Values:
    """Average recommendation popularity: mean ``c_i`` of the shown items, in training events.

    Source: Yin et al., Challenging the long tail recommendation, VLDB 2012.
    """
    return shown.mean("counts")


def lift(shown: Shown) -> Values:
    """Popularity lift: ``arp`` of the list over ``arp`` of the user's history, less 1.

    0: as popular as what the user chose; 1: twice as popular; nan without a history or where
    nothing of it was touched in training.  Source: Abdollahpouri et al., The unfairness of
    popularity bias in recommendation, 2019, there over groups of users.
    """
    if shown.history is None:
        raise SpecError("lift needs the users' histories", where="metrics", todo="pass history, or leave it out")
    counts, history = shown.context.counts, shown.history
    total = np.bincount(history.rows, weights=counts[history.values], minlength=len(history))
    return _divide(arp(shown), _divide(total, history.lengths)) - 1.0


def diversity(shown: Shown) -> Values:
    """Intra-list diversity: ``1 - 1/(m(m - 1)) sum_{i != j} cos(v_i, v_j)``; nan below two items.

    An item whose vector is zero is orthogonal to all others.  The sum over pairs is taken as
    ``|sum_i u_i|^2 - sum_i |u_i|^2`` over unit vectors.  Source: Ziegler et al., Improving
    recommendation lists through topic diversification, WWW 2005; Smyth and McClave 2001.
    """
    from scipy import sparse

    units, n, m = shown.context.units, len(shown.items), shown.lengths
    picked = shown.items[shown.held]
    starts = np.concatenate(([0], np.cumsum(m)))
    choice = sparse.csr_array((np.ones(len(picked), np.float32), picked, starts), shape=(n, shown.context.n_items))
    own = choice @ _squared_lengths(units)
    return 1.0 - _divide(_squared_lengths(choice @ units) - own, m * (m - 1))


#: Every measure beyond accuracy by its name in specs and tables.
BEYOND: Final[Mapping[str, Callable[[Shown], Values | float]]] = MappingProxyType(
    {
        "coverage": coverage,
        "gini": gini,
        "entropy": entropy,
        "novelty": novelty,
        "popularity": popularity,
        "arp": arp,
        "lift": lift,
        "diversity": diversity,
    }
)


def evaluate_beyond(
    lists: Lists, names: Sequence[str], context: ItemContext, *, history: Ragged | None = None
) -> dict[str, Values | float]:
    """Return each measure: float64[n] where it judges single lists, a float where all together.

    Args:
        lists: n ranked lists.
        names: such as ``"novelty@10"``; the table is ``BEYOND``.
        context: counts and vectors of the items.
        history: what each user had touched before, for ``lift``.

    Raises:
        SpecError: for an unknown name or cut-off, and where a measure lacks vectors or history.
        ValueError: where lists and history do not match.
    """
    wanted = {name: parse_metric(name, BEYOND) for name in names}
    if history is not None and len(history) != len(lists):
        raise ValueError(f"{len(history)} histories for {len(lists)} lists")
    cut: dict[int, Shown] = {}
    inner = None
    for k in sorted({k for _, k in wanted.values()}):
        inner = cut[k] = Shown(lists.items[:, :k], context, history, inner)
    return {name: BEYOND[measure](cut[k]) for name, (measure, k) in wanted.items()}
