"""BM25 and TF-IDF: the contract, and both formulas word by word."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from llm4rec.core import Queries, Ragged, SpecError
from llm4rec.models.lexical import BM25, TFIDF, BM25Config, LexicalConfig
from tests import worlds
from tests.contracts import ScoringContract

TRAIN = worlds.topics().split.train
TITLES = TRAIN.item_table["title"].to_list()


class TestBM25(ScoringContract):
    """The right answers are items that nobody has touched: the text alone knows them."""

    component = BM25
    configs: ClassVar[dict[str, Any]] = {"template": "{title}", "half_life": 0.0}
    world = worlds.topics()
    floor = ("ndcg@10", 0.02)


class TestTFIDF(ScoringContract):
    component = TFIDF
    configs: ClassVar[dict[str, Any]] = {"template": "{title}", "half_life": 0.0}
    world = worlds.topics()
    floor = ("ndcg@10", 0.02)


def words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower()))


def fitted(kind: Any = BM25, **params: Any) -> Any:
    config = (BM25Config if kind is BM25 else LexicalConfig).model_validate({"template": "{title} {title} {genres}", **params})
    return kind(config).fit(TRAIN, valid=None, rng=np.random.default_rng(0))


TEXTS = [words(f"{t} {t} {g}") for t, g in zip(TITLES, TRAIN.item_table["genres"].to_list(), strict=True)]
HOLDING = Counter(word for text in TEXTS for word in text)


def test_bm25_is_the_formula() -> None:
    k1, b, mean = 1.2, 0.75, np.mean([sum(t.values()) for t in TEXTS])
    idf = {w: np.log(1 + (len(TEXTS) - n + 0.5) / (n + 0.5)) for w, n in HOLDING.items()}
    got = fitted(half_life=1.0).score(Queries.of(Ragged.of([[3, 9]])))[0]
    asked: Counter[str] = Counter()
    for item, weight in ((3, 0.5), (9, 1.0)):
        for word in TEXTS[item]:
            asked[word] += weight * idf[word]  # type: ignore[assignment]
    whole = sum(asked.values())
    for item in (3, 9, 20, 31):
        length = sum(TEXTS[item].values())
        wanted = sum(
            q / whole * idf[w] * TEXTS[item][w] * (k1 + 1) / (TEXTS[item][w] + k1 * (1 - b + b * length / mean))
            for w, q in asked.items()
        )
        np.testing.assert_allclose(got[item], wanted, rtol=1e-4, atol=1e-6)


def test_tf_idf_is_the_cosine_of_the_formula() -> None:
    vocabulary = sorted(HOLDING)
    v = np.array([[(1 + np.log(t[w])) * np.log(len(TEXTS) / HOLDING[w]) if t[w] else 0.0 for w in vocabulary] for t in TEXTS])
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    got = fitted(TFIDF, half_life=1.0).score(Queries.of(Ragged.of([[3, 9]])))[0]
    wanted = v @ (v[3] / 2 + v[9])
    np.testing.assert_allclose(got / got.max(), wanted / wanted.max(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [BM25, TFIDF])
def test_a_request_in_words_is_answered_alone_or_beside_the_history(kind: Any) -> None:
    texts = ("a galaxy with ROCKET", "xyzzy", "")
    model = fitted(kind)
    alone = model.score(replace(Queries.of(Ragged.empty(3)), texts=texts))
    titled = [i for i, t in enumerate(TITLES) if {"galaxy", "rocket"} & set(words(t))]
    assert set(np.flatnonzero(alone[0])) == set(titled)
    assert not alone[1:].any()  # no known word, and no history
    history = Queries.of(Ragged.of([[3], [3], [3]]))
    both, plain = model.score(replace(history, texts=texts)), model.score(history)
    np.testing.assert_allclose(both[0], (alone[0] + plain[0]) / 2, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(both[1:], plain[1:], rtol=1e-5)
    only = fitted(kind, request_weight=1.0).score(replace(history, texts=texts))
    np.testing.assert_allclose(only[0], alone[0], rtol=1e-5, atol=1e-7)


def test_a_catalogue_without_words_is_refused_in_one_line() -> None:
    blank = replace(TRAIN, item_table=TRAIN.item_table.with_columns(title=TRAIN.item_table["title"].str.slice(0, 0)))
    with pytest.raises(SpecError, match="no item has any text; name other columns"):
        BM25(BM25Config(template="{title}")).fit(blank, valid=None, rng=np.random.default_rng(0))
