"""TextEASE: the contract, and the closed form against the paper's two steps taken one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from llm4rec.core import ModelError, Queries, Ragged, Resources
from llm4rec.features import Encoder, HashEncoder
from llm4rec.features.reduce import item_vectors
from llm4rec.models.ease import EASE, EASEConfig
from llm4rec.models.text_ease import TextEASE, TextEASEConfig
from tests import worlds
from tests.contracts import ScoringContract

TRAIN = worlds.topics().split.train
SMALL: dict[str, Any] = {"encoder": "hash", "template": "{title}", "l2": 5.0, "prior": 5.0, "text_l2": 0.5}


class Hashed:
    """Resources whose every encoder hashes words."""

    def llm(self, name: str) -> Any:
        raise AssertionError("TextEASE asked for an LLM")

    def encoder(self, name: str) -> Encoder:
        return HashEncoder(256)


class TestTextEASE(ScoringContract):
    """The right answers are items that nobody has touched: the text alone knows them."""

    component = TextEASE
    configs: ClassVar[dict[str, Any]] = {**SMALL, "prior": 50.0, "center": False, "half_life": 0.0}
    world = worlds.topics()
    floor = ("ndcg@10", 0.095)

    def resources(self) -> Resources:
        return Hashed()


class TestWhereTextSaysNothing(ScoringContract):
    component = TextEASE
    configs: ClassVar[dict[str, Any]] = {**SMALL, "text_control": "random", "prior": 0.5}

    def resources(self) -> Resources:
        return Hashed()


def fitted(seed: int = 0, **params: Any) -> TextEASE:
    model = TextEASE(TextEASEConfig.model_validate({**SMALL, **params}), encoder=HashEncoder(256))
    return model.fit(TRAIN, valid=None, rng=np.random.default_rng(seed))


@pytest.mark.parametrize(("prior", "text_l2", "center"), [(5.0, 0.5, False), (50.0, 3.0, True), (0.1, 0.1, True)])
def test_weights_are_the_paper_s_two_steps(prior: float, text_l2: float, center: bool) -> None:
    f = item_vectors(TRAIN, HashEncoder(256), "{title}").astype(np.float64)
    if center:
        f -= f.mean(axis=0)
    f /= np.linalg.norm(f, axis=1, keepdims=True)
    x = TRAIN.matrix().toarray().astype(np.float64)
    n = x.shape[1]
    s, b = np.zeros((n, n)), np.zeros((n, n))
    for j in range(n):  # each column is a ridge regression on the others, drawn to 0 and then to s
        o = np.delete(np.arange(n), j)
        s[o, j] = np.linalg.solve(f[o] @ f[o].T + text_l2 * np.eye(n - 1), f[o] @ f[j])
        right = x[:, o].T @ x[:, j] + prior * s[o, j]
        b[o, j] = np.linalg.solve(x[:, o].T @ x[:, o] + (5.0 + prior) * np.eye(n - 1), right)
    np.testing.assert_allclose(fitted(prior=prior, text_l2=text_l2, center=center).weights_, b, atol=1e-6)


def test_without_a_prior_it_is_ease() -> None:
    ease = EASE(EASEConfig(l2=5.0)).fit(TRAIN, valid=None, rng=np.random.default_rng(0))
    weights = fitted(prior=0.0).weights_
    np.testing.assert_allclose(weights[np.ix_(ease.known_, ease.known_)], ease.weights_, atol=1e-6)
    assert not weights[:, TRAIN.item_counts == 0].any()


def test_controls_keep_the_events_and_lose_the_text() -> None:
    """With text, cold items of the user's topic come first; with shuffled and random vectors they do not."""
    cases = worlds.topics().split.test
    cold = np.flatnonzero(TRAIN.item_counts == 0)
    truth = np.zeros((len(cases), TRAIN.n_items), dtype=bool)
    truth[cases.truth.rows, cases.truth.values] = True

    def margin(**params: Any) -> float:
        scores = fitted(**params).score(cases.queries)[:, cold]
        mine = truth[:, cold]
        return float(scores[mine].mean() - scores[~mine].mean())

    text = margin()
    assert text > 0
    for control in ("shuffled", "random"):
        assert np.mean([margin(text_control=control, seed=seed) for seed in range(5)]) < text / 3


def test_an_item_without_text_has_no_prior() -> None:
    blank = TRAIN.item_table.with_columns(title=TRAIN.item_table["title"].scatter(int(TRAIN.item_counts.argmin()), ""))
    model = TextEASE(TextEASEConfig.model_validate(SMALL), encoder=HashEncoder(256))
    model.fit(replace(TRAIN, item_table=blank), valid=None, rng=np.random.default_rng(0))
    assert not model.weights_[:, int(TRAIN.item_counts.argmin())].any()


def test_needs_its_encoder_and_scores_nothing_for_nobody() -> None:
    with pytest.raises(ModelError, match="TextEASE: has no encoder"):
        TextEASE(TextEASEConfig.model_validate(SMALL)).fit(TRAIN, valid=None, rng=np.random.default_rng(0))
    assert not fitted().score(Queries.of(Ragged.empty(2))).any()
