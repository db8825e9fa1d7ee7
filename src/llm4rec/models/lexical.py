"""Word retrieval: items whose text shares telling words with what the user has touched or asks for (BM25, TF-IDF)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Config, Dataset, Queries, ScoringComponent, SpecError, Uniform
from llm4rec.features.reduce import DEFAULT_TEMPLATE
from llm4rec.features.text import ItemText
from llm4rec.models.history import history_matrix

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class LexicalConfig(Config):
    """Parameters of word retrieval."""

    template: str = DEFAULT_TEMPLATE
    """Item text, from columns of the item table."""
    half_life: float = Field(5.0, ge=0)
    """Events of the history after which an older one counts half; 0: all count alike."""
    request_weight: float = Field(0.5, ge=0, le=1)
    """Share of what the user asks for in words against the history, where both are given; 1 ignores the history."""


class BM25Config(LexicalConfig):
    """Parameters of BM25."""

    k1: float = Field(1.2, ge=0)
    """How slowly a word that is repeated in a text stops counting for more; 0: it counts once."""
    b: float = Field(0.75, ge=0, le=1)
    """How much a text's length counts against it."""


C = TypeVar("C", bound=LexicalConfig)


class _Lexical(ScoringComponent[C]):
    """Scores an item by its words' weights, summed over the words of a query with the query's weights.

    A history's query is the sum of its items' word weights (as the class weighs them in a query), each
    item by its recency; a request's are those of its own words.  Each is scaled to the sum 1, and where both are
    given they are mixed.  A query without a known word scores 0 everywhere.
    """

    words_: list[str]
    #: Weight of each word in each item's text, as scored and as part of a query: float32 [n_items, n_words].
    scored_: csr_matrix
    asked_: csr_matrix
    #: How telling each word is: float32[n_words].
    idf_: NDArray[np.float32]

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Count the words of the catalogue; no event is looked at."""
        texts = ItemText(self.config.template).render(train.item_table)
        table = _words(texts)
        self.words_ = table["word"].unique().sort().to_list()
        if not self.words_:
            raise SpecError("no item has any text", where=f"template {self.config.template!r}", todo="name other columns")
        counts = _counts(table, self.words_, len(texts))  # [n_items, n_words]
        holding = np.bincount(counts.indices, minlength=len(self.words_))  # items with the word
        self.idf_ = self._idf(holding, len(texts)).astype(np.float32)
        self.scored_ = self._scored(counts)
        self.asked_ = self._asked(counts)
        return self

    @abstractmethod
    def _idf(self, holding: NDArray[np.int64], n_items: int) -> NDArray[np.float64]:
        """Return float64[n_words], how telling words are that so many of the items hold."""

    @abstractmethod
    def _scored(self, counts: csr_matrix) -> csr_matrix:
        """Return the weights of the words in the items' texts."""

    @abstractmethod
    def _asked(self, counts: csr_matrix) -> csr_matrix:
        """Return the weights of the words of texts in a query."""

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items]; 0 for an item that shares no word with the query."""
        query = _to_one(history_matrix(queries, self.scored_.shape[0], self.config.half_life) @ self.asked_)
        if queries.texts is not None:
            request = _to_one(self._asked(_counts(_words(queries.texts), self.words_, len(queries))))
            has_history, has_request = ((np.diff(m.indptr) > 0).astype(np.float32) for m in (query, request))
            share = np.where(has_history > 0, self.config.request_weight * has_request, 1.0).astype(np.float32)
            query = _rows_times(query, 1.0 - share) + _rows_times(request, share)
        return np.asarray((query @ self.scored_.T).toarray(), dtype=np.float32)


class BM25(_Lexical[BM25Config]):
    """Okapi BM25 of each item's text, for a query made of the texts of the user's items, or in words.

    ``score(q, i) = sum over words t of q_t idf_t tf (k1 + 1) / (tf + k1 (1 - b + b |i| / mean |i|))`` with
    ``idf_t = ln(1 + (N - n_t + 1/2) / (n_t + 1/2))``; in a query a word weighs its idf, once for each item that has it.

    Robertson, Zaragoza: The Probabilistic Relevance Framework: BM25 and Beyond, 2009.  The paper's query has
    few words, and weighs them by their counts alone; one made of whole texts is better ruled by its telling ones.
    """

    space: ClassVar = {
        "k1": Uniform(0.1, 5.0, log=True),
        "b": Uniform(0.0, 1.0),
        "half_life": Uniform(1.0, 30.0, log=True),
    }

    def _idf(self, holding: NDArray[np.int64], n_items: int) -> NDArray[np.float64]:
        return np.asarray(np.log1p((n_items - holding + 0.5) / (holding + 0.5)))

    def _scored(self, counts: csr_matrix) -> csr_matrix:
        k1, b = self.config.k1, self.config.b
        length = np.asarray(counts.sum(axis=1)).ravel()
        norm = np.repeat(k1 * (1 - b + b * length / max(length.mean(), 1e-9)), np.diff(counts.indptr))
        return _with_data(counts, self.idf_[counts.indices] * counts.data * (k1 + 1) / (counts.data + norm))

    def _asked(self, counts: csr_matrix) -> csr_matrix:
        return _with_data(counts, self.idf_[counts.indices])


class TFIDF(_Lexical[LexicalConfig]):
    """Cosine of TF-IDF vectors of each item's text and of the user's items' texts, or of words.

    A word weighs ``(1 + ln tf) ln(N / n_t)``; each text's vector has unit length, and the query's scale, which
    changes no order, is that of the sum 1.

    Salton, Buckley: Term-weighting approaches in automatic text retrieval, 1988; profiles as in Pazzani, Billsus 2007.
    """

    space: ClassVar = {"half_life": Uniform(1.0, 30.0, log=True)}

    def _idf(self, holding: NDArray[np.int64], n_items: int) -> NDArray[np.float64]:
        return np.asarray(np.log(n_items / np.maximum(holding, 1)))

    def _scored(self, counts: csr_matrix) -> csr_matrix:
        weights = _with_data(counts, (1 + np.log(counts.data)) * self.idf_[counts.indices])
        length = np.sqrt(np.asarray(weights.multiply(weights).sum(axis=1)).ravel())
        return _rows_times(weights, 1.0 / np.maximum(length, 1e-9))

    def _asked(self, counts: csr_matrix) -> csr_matrix:
        return self._scored(counts)


# -- words --------------------------------------------------------------------------------
def _words(texts: Sequence[str]) -> pl.DataFrame:
    """Return ``row`` and ``word`` of each word of each text: runs of letters, marks and digits, in lower case."""
    table = pl.DataFrame({"row": np.arange(len(texts), dtype=np.int64), "text": pl.Series(list(texts), dtype=pl.String)})
    found = pl.col("text").str.to_lowercase().str.extract_all(r"[\p{L}\p{M}\p{N}]+")
    return table.select("row", word=found).explode("word").drop_nulls()


def _counts(table: pl.DataFrame, words: Sequence[str], n_texts: int) -> csr_matrix:
    """Return float32 CSR [n_texts, n_words], how often each text holds each known word."""
    from scipy import sparse

    known = pl.DataFrame({"word": pl.Series(words, dtype=pl.String), "column": np.arange(len(words), dtype=np.int64)})
    counted = table.join(known, on="word").group_by("row", "column").len().sort("row", "column")
    place = (counted["row"].to_numpy(), counted["column"].to_numpy())
    return sparse.csr_matrix((counted["len"].to_numpy().astype(np.float32), place), shape=(n_texts, len(words)))


def _with_data(matrix: csr_matrix, data: NDArray[np.floating]) -> csr_matrix:
    """Return a matrix with the same places and other values."""
    from scipy import sparse

    return sparse.csr_matrix((data.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)


def _rows_times(matrix: csr_matrix, by: NDArray[np.floating]) -> csr_matrix:
    """Return a matrix whose rows are multiplied by ``by`` [n]."""
    return _with_data(matrix, matrix.data * np.repeat(by, np.diff(matrix.indptr)))


def _to_one(matrix: csr_matrix) -> csr_matrix:
    """Return a matrix whose rows sum to 1, or to 0 where they did."""
    return _rows_times(matrix, 1.0 / np.maximum(np.asarray(matrix.sum(axis=1)).ravel(), 1e-12))
