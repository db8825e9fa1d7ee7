"""Explanations without a language model: the best evidence in a fixed sentence.

The baseline of every explainer that writes, and what such an explainer falls back on (told as a
failure) when the model's sentence does not hold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Claim, Component, Config, Dataset, Explanation, Lists, Queries, Ragged, SpecError
from llm4rec.prompted.explain.evidence import Evidence, Pairs, attribute_table, rarity
from llm4rec.prompted.items import item_names


class EvidenceConfig(Config):
    """Parameters of what supports a recommendation."""

    attributes: tuple[str, ...] = ("genres",)
    """Columns of the item table whose values may be cited; "attributes = []" cites history items alone."""
    item: str = "{title}"
    """Template of an item's name in a sentence, over the columns of the item table."""
    articles: bool = True
    """Move a trailing article to the front: "Godfather, The" becomes "The Godfather"."""
    max_chars: int = Field(default=100, ge=8, le=200)
    """Longest name of an item, in characters."""
    thing: str = "movie"
    """What an item is, in the singular."""
    did: str = "watched"
    """What users have done with items."""
    history: int = Field(default=10, ge=1, le=200)
    """Number of the most recent history items that may be cited."""


class EvidenceExplainerConfig(EvidenceConfig):
    """Parameters of :class:`EvidenceExplainer`."""

    cooccurrence: float = Field(default=1.0, ge=0.0)
    """Weight of the share of users that two items have in common beside that of their attributes."""
    counts: bool = False
    """Add how many items with the shared attribute the user has touched, where there are at least two."""


class Sentences:
    """Fixed sentences over evidence, with the places of what they claim.

    Args:
        names: name of each item.
        thing, did: words of the domain.
    """

    def __init__(self, names: list[str], thing: str, did: str) -> None:
        self._names, self._thing, self._did = names, thing, did

    def write(self, evidence: Evidence, count: int | None = None) -> Explanation:
        """Return the sentence of a piece of evidence; without any, no sentence and a failure.

        A ``count`` of history items with the value is added to it.
        """
        if evidence.cited is None and evidence.value is None:
            return Explanation(evidence.item, "", failure="no_evidence")
        title, tail = "", ""
        if evidence.cited is not None:
            title = self._names[evidence.cited]
        value = evidence.value or ""
        if not title:
            head, tail = f"This {self._thing} is listed under ", "."
        elif not value:
            head, tail = f'Because you {self._did} "{title}".', ""
        else:
            head, tail = f'Because you {self._did} "{title}", another ', f" {self._thing}."
        more: tuple[Claim, ...] = ()
        if value and count is not None:
            tail = f"{tail.removesuffix('.')}; you have {self._did} {count} {value} {self._thing}s."
            at = len(head) + len(value) + tail.rindex(f"{count} {value}")
            span = (at, at + len(f"{count} {value}"))
            more = (Claim("count", None, evidence.attribute, value, span, "count=", count),)
        start = head.find(f'"{title}"') + 1
        named = (start, start + len(title)) if title else None
        stated = (len(head), len(head) + len(value)) if value else None
        return Explanation(evidence.item, head + value + tail, evidence.claims(named, stated) + more)


def choose(
    pairs: Pairs,
    listed: NDArray[np.integer],
    weights: NDArray[np.floating],
    attributes: Any,
    values: list[list[str]],
) -> list[Evidence]:
    """Return the best evidence for each of the listed items.

    Args:
        pairs: of the listed items with history items.
        listed: int[m], the items of all lists, one after the other.
        weights: float[p], how close the two items of each pair are.
        attributes, values: see :func:`llm4rec.prompted.explain.evidence.attribute_table`.
    """
    says = rarity(attributes)
    # The last of the pairs of one place in this order is its heaviest; of equals, the newest item.
    order = np.lexsort((-np.arange(len(pairs.place)), weights, pairs.place))
    best = np.full(len(listed), -1)
    best[pairs.place[order]] = order
    out = []
    for item, pair in zip(listed.tolist(), best.tolist(), strict=True):
        cited = None if pair < 0 else int(pairs.cited[pair])
        codes = attributes[item].indices if cited is None else pairs.values(pair)
        if len(codes):
            column, value = values[int(codes[np.argmax(says[codes])])]
            out.append(Evidence(item, cited, column, value))
        else:
            out.append(Evidence(item, cited))
    return out


def jaccard(pairs: Pairs, attributes: Any) -> NDArray[np.float64]:
    """Return float64[p], shared attribute values over all values of the two items (0 without any)."""
    counts = np.diff(attributes.indptr)
    shared = np.diff(pairs.shared.indptr)
    union = counts[pairs.item] + counts[pairs.cited] - shared
    return np.asarray(shared / np.maximum(union, 1), dtype=np.float64)


class EvidenceExplainer(Component[EvidenceExplainerConfig]):
    """Cites the history item that is nearest to the recommended one, and the rarest attribute they share.

    Nearness is the Jaccard index of the attribute values plus ``cooccurrence`` times the cosine of
    the sets of users in the training part; after :meth:`follow` it is the recommender's own.  No
    language model: every sentence is true by construction, and dull.
    """

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> EvidenceExplainer:
        """Keep names and attributes of the items, and who has touched them."""
        from scipy import sparse

        c = self.config
        self.names_ = item_names(train.item_table, c.item, max_chars=c.max_chars, articles=c.articles)
        self.attributes_, self.values_ = attribute_table(train.item_table, c.attributes)
        touched = train.matrix().T.tocsr()
        norms = np.sqrt(np.maximum(np.diff(touched.indptr), 1))
        self.users_ = (sparse.diags_array(1 / norms) @ touched).tocsr().astype(np.float32)
        self.near_ = np.empty((0, 0), np.float32)
        self.factors_ = np.empty((0, 0), np.float32)
        return self

    def follow(self, recommender: Component[Any]) -> EvidenceExplainer:
        """Take nearness from a fitted recommender: what it weighs from one item to another, or its item vectors.

        Read is what ``fit`` left: ``weights_`` from history item to recommended item ([n_items, n_items], or
        of the items in ``known_`` alone: ItemKNN, EASE), or ``item_vectors()`` ([n_items, d], compared by
        cosine: ALS, BPR, SASRec, text retrieval).

        Raises:
            SpecError: for a recommender that has neither.
        """
        n, state = len(self.names_), recommender.state()
        weights = state.get("weights_")
        factors = recommender.item_vectors() if hasattr(recommender, "item_vectors") else None
        known = state.get("known_", np.arange(n))
        if weights is not None and weights.shape == (n, n):
            self.near_ = weights
        elif weights is not None and weights.shape == (len(known), len(known)):
            self.near_ = np.zeros((n, n), np.float32)
            self.near_[np.ix_(known, known)] = weights
        elif factors is not None and len(factors) == n:
            self.factors_ = factors / np.maximum(np.linalg.norm(factors, axis=1, keepdims=True), 1e-12)
        else:
            raise SpecError(
                f"{type(recommender).__name__} has neither item weights nor item vectors for these items",
                todo="follow an ItemKNN, EASE, ALS, BPR, SASRec or text retriever, or leave nearness to attributes and users",
            )
        return self

    def _nearness(self, pairs: Pairs) -> NDArray[np.floating]:
        """Return float[p], how near the two items of each pair are."""
        if self.near_.shape[0]:
            return np.asarray(self.near_[pairs.cited, pairs.item]).ravel()
        if len(self.factors_):
            return np.asarray(np.einsum("pf,pf->p", self.factors_[pairs.item], self.factors_[pairs.cited]))
        together = np.asarray(self.users_[pairs.item].multiply(self.users_[pairs.cited]).sum(axis=1)).ravel()
        return np.asarray(jaccard(pairs, self.attributes_) + self.config.cooccurrence * together)

    def explain(self, queries: Queries, lists: Lists) -> list[tuple[Explanation, ...]]:
        """Return one explanation for each listed item; ``failure = "no_evidence"`` where there is none."""
        c = self.config
        listed = lists.to_ragged()
        pairs = Pairs.of(queries, lists, c.history, self.attributes_)
        found = choose(pairs, listed.values, self._nearness(pairs), self.attributes_, self.values_)
        sentences = Sentences(self.names_, c.thing, c.did)
        counts = self._counts(found, queries, listed) if c.counts else [None] * len(found)
        written = [sentences.write(evidence, count) for evidence, count in zip(found, counts, strict=True)]
        return [tuple(written[a:b]) for a, b in zip(listed.offsets[:-1], listed.offsets[1:], strict=True)]

    def _counts(self, found: list[Evidence], queries: Queries, listed: Ragged) -> list[int | None]:
        """Return how many different history items have the value of each piece of evidence; None below two."""
        code = {(column, value): at for at, (column, value) in enumerate(self.values_)}
        touched = [self.attributes_[np.unique(history)] for history in queries.history]
        out: list[int | None] = []
        for row, evidence in zip(listed.rows.tolist(), found, strict=True):
            at = None if evidence.cited is None else code.get((evidence.attribute or "", evidence.value or ""))
            n = 0 if at is None else int(touched[row][:, [at]].sum())
            out.append(n if n > 1 else None)
        return out
