"""PopularByAttribute: the most popular items of the genres (brands, ...) that a user prefers."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Config, Dataset, Queries, ScoringComponent, SpecError, Uniform, did_you_mean
from llm4rec.core.columns import ITEM
from llm4rec.models.history import history_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class PopularByAttributeConfig(Config):
    """Parameters of PopularByAttribute."""

    attribute: str = "genres"
    """Column of the item table; each item has one value or a list of them."""
    smoothing: float = Field(30.0, gt=0)
    """Events of an average user that stand beside the user's own."""
    half_life: float = Field(10.0, ge=0)
    """Events of the history after which an older one counts half; 0: all count alike."""


class PopularByAttribute(ScoringComponent[PopularByAttributeConfig]):
    """Draws a value by the user's preference, then an item of that value by its popularity.

    An item spreads evenly over its values, ``A(i, v) = 1 / |values of i|`` (items without any share one
    value of their own), and ``n(i)`` counts its training events:

        ``P(j | u) = sum over v of P(v | u) n(j) A(j, v) / n(v)``, ``n(v) = sum over i of n(i) A(i, v)``,
        ``P(v | u) = (sum over the history of w(u, i) A(i, v) + smoothing p(v)) / (sum of w + smoothing)``,

    with ``p(v) = n(v) / sum of n`` and w falling with age.  Without a history that is popularity.

    "Most popular of the user's genres" is the usual content baseline; the smoothing is a Dirichlet prior's.
    """

    space: ClassVar = {"smoothing": Uniform(0.1, 100.0, log=True), "half_life": Uniform(1.0, 100.0, log=True)}

    values_: csr_matrix
    within_: csr_matrix
    share_: NDArray[np.float32]

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Count each value's events; raises ``SpecError`` if there is no such column."""
        from scipy import sparse

        self.values_ = _values(train, self.config.attribute)  # [n_items, n_values]
        counts = train.item_counts.astype(np.float64)
        of_value = self.values_.T @ counts  # [n_values]
        taken = sparse.diags_array(1.0 / np.maximum(of_value, 1e-12)) @ self.values_.T @ sparse.diags_array(counts)
        self.within_ = sparse.csr_matrix(taken, dtype=np.float32)  # [n_values, n_items], P(j | v)
        self.share_ = (of_value / max(of_value.sum(), 1.0)).astype(np.float32)  # p(v)
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items], probabilities that sum to 1."""
        history = history_matrix(queries, self.values_.shape[0], self.config.half_life)
        own = (history @ self.values_).toarray() + self.config.smoothing * self.share_  # [n, n_values]
        preference = own / np.maximum(own.sum(axis=1, keepdims=True), 1e-12)
        return np.asarray(preference @ self.within_, dtype=np.float32)


def _values(train: Dataset, attribute: str) -> csr_matrix:
    """Return float32 CSR [n_items, n_values], each item's share in each value of the column; the last stands for none."""
    from scipy import sparse

    table = train.item_table
    if attribute not in table.columns or attribute == ITEM:
        raise SpecError(
            f"the item table has no column {attribute!r}", where="attribute",
            todo=did_you_mean(attribute, (c for c in table.columns if c != ITEM)),
        )  # fmt: skip
    given = table.select(ITEM, value=attribute)
    if isinstance(given.schema["value"], pl.List):
        given = given.explode("value")
    given = given.drop_nulls().with_columns(pl.col("value").cast(pl.String)).filter(pl.col("value") != "").unique()
    names = given["value"].unique().sort()
    items = np.append(given[ITEM].to_numpy(), np.setdiff1d(np.arange(train.n_items), given[ITEM].to_numpy()))
    value = np.full(len(items), len(names))
    value[: len(given)] = names.search_sorted(given["value"]).to_numpy() if len(names) else 0
    share = 1.0 / np.bincount(items, minlength=train.n_items)[items]
    return sparse.csr_matrix((share.astype(np.float32), (items, value)), shape=(train.n_items, len(names) + 1))
