"""Explanations without a language model: the best evidence in a fixed sentence.

The baseline of every explainer that writes, and what such an explainer falls back on (told as a
failure) when the model's sentence does not hold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Component, Config, Dataset, Explanation, Lists, Queries
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


class Sentences:
    """Fixed sentences over evidence, with the places of what they claim.

    Args:
        names: name of each item.
        thing, did: words of the domain.
    """

    def __init__(self, names: list[str], thing: str, did: str) -> None:
        self._names, self._thing, self._did = names, thing, did

    def write(self, evidence: Evidence) -> Explanation:
        """Return the sentence of a piece of evidence; without any, no sentence and a failure."""
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
        start = head.find(f'"{title}"') + 1
        named = (start, start + len(title)) if title else None
        stated = (len(head), len(head) + len(value)) if value else None
        return Explanation(evidence.item, head + value + tail, evidence.claims(named, stated))


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
    the sets of users in the training part.  No language model: every sentence is true by
    construction, and dull.
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
        return self

    def explain(self, queries: Queries, lists: Lists) -> list[tuple[Explanation, ...]]:
        """Return one explanation for each listed item; ``failure = "no_evidence"`` where there is none."""
        c = self.config
        listed = lists.to_ragged()
        pairs = Pairs.of(queries, lists, c.history, self.attributes_)
        together = np.asarray(self.users_[pairs.item].multiply(self.users_[pairs.cited]).sum(axis=1)).ravel()
        weights = jaccard(pairs, self.attributes_) + c.cooccurrence * together
        found = choose(pairs, listed.values, weights, self.attributes_, self.values_)
        sentences = Sentences(self.names_, c.thing, c.did)
        written = [sentences.write(evidence) for evidence in found]
        return [tuple(written[a:b]) for a, b in zip(listed.offsets[:-1], listed.offsets[1:], strict=True)]
