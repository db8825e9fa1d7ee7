"""Component: config by type, saving and loading of every kind of state, the scoring adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import sparse

from llm4rec.core import (
    Cases,
    Component,
    Config,
    Dataset,
    Lists,
    NotFittedError,
    Queries,
    Ragged,
    RunError,
    ScoringComponent,
    SpecError,
)


class ThingConfig(Config):
    """Parameters of a thing."""

    size: int = 3
    """Number of parts."""


class Thing(Component[ThingConfig]):
    """Has state of every kind."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Thing:
        self.dense_ = np.arange(6, dtype=np.float32).reshape(2, 3)[:, ::-1]  # not contiguous
        self.fortran_ = np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3))
        self.ids_ = np.array([3, 1], dtype=np.int64)
        self.flags_ = np.array([True, False])
        self.nothing_ = np.empty((0, 4), dtype=np.float32)
        self.scalar_ = np.array(2.5)
        self.sparse_ = sparse.csr_matrix(np.array([[0, 1.5], [0, 0], [2, 0]], dtype=np.float32))
        self.column_ = self.sparse_.tocsc()
        self.names_ = ["a", "ü"]
        self.best_ = np.int64(7)
        self.loss_ = np.float32(0.5)
        self.cache = "not saved"
        self._hidden_ = "not saved either"
        return self


def fitted() -> Thing:
    return Thing().fit(None, valid=None, rng=np.random.default_rng(0))  # type: ignore[arg-type]


def test_state_of_every_kind_comes_back(tmp_path: Path) -> None:
    thing = fitted()
    thing.save(tmp_path / "deep" / "thing")
    back = Thing.load(tmp_path / "deep" / "thing")
    for name in ("dense_", "fortran_", "ids_", "flags_", "nothing_", "scalar_"):
        a, b = getattr(thing, name), getattr(back, name)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert np.array_equal(a, b), name
    for name in ("sparse_", "column_"):
        a, b = getattr(thing, name), getattr(back, name)
        assert sparse.issparse(b)
        assert b.dtype == a.dtype
        assert (a.toarray() == b.toarray()).all()
    assert (back.names_, back.best_, back.loss_) == (["a", "ü"], 7, 0.5)
    assert not hasattr(back, "cache")
    assert back.config == thing.config
    assert sorted(p.name for p in (tmp_path / "deep" / "thing").iterdir()) == ["arrays.safetensors", "config.json"]


def test_saving_twice_overwrites(tmp_path: Path) -> None:
    thing = fitted()
    thing.save(tmp_path)
    thing.best_ = 8
    thing.save(tmp_path)
    assert Thing.load(tmp_path).best_ == 8


def test_config_comes_from_the_type() -> None:
    assert Thing.Config is ThingConfig
    assert Thing().config == ThingConfig(size=3)

    class Special(Thing):
        """Inherits its config."""

    assert Special.Config is ThingConfig

    class OtherConfig(ThingConfig):
        """More parameters."""

        depth: int = 1
        """Levels."""

    class Scorer(ScoringComponent[OtherConfig]):
        """Has its own config through another generic base."""

        def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Scorer:
            return self

        def score(self, queries: Queries) -> np.ndarray:
            return np.zeros((len(queries), 2), np.float32)

    assert Scorer.Config is OtherConfig
    assert Scorer().config.depth == 1


def test_config_is_frozen_documented_and_strict() -> None:
    assert ThingConfig.model_fields["size"].description == "Number of parts."
    with pytest.raises(ValidationError):
        ThingConfig(sise=3)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        ThingConfig().size = 4  # type: ignore[misc]


def test_unfitted_says_what_to_do() -> None:
    with pytest.raises(NotFittedError, match=r"Thing is not fitted; call fit\(\) or load\(\) first"):
        Thing().dense_  # noqa: B018
    with pytest.raises(AttributeError, match="'Thing' object has no attribute 'dense'"):
        Thing().dense  # noqa: B018
    assert not hasattr(Thing(), "__array_struct__")  # what numpy looks for is no fitted state


def test_load_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot read a saved Thing.*fit it again"):
        Thing.load(tmp_path / "nowhere")
    fitted().save(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(saved | {"class": "Other"}))
    with pytest.raises(RunError, match="holds a Other, not a Thing"):
        Thing.load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"\xff\xfe"),
        ("config.json", b"[]"),
        ("config.json", b'{"class": "Thing"}'),
        ("config.json", b'{"class": "Thing", "config": {"no_such": 1}, "values": {}}'),
        ("config.json", None),
        ("arrays.safetensors", b"garbage"),
        ("arrays.safetensors", b""),
        ("arrays.safetensors", None),
    ],
)
def test_broken_folders_get_one_line(tmp_path: Path, file: str, content: bytes | None) -> None:
    fitted().save(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(RunError) as error:
        Thing.load(tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


# -- the scoring adapter ---------------------------------------------------------------------
class Fixed(ScoringComponent[ThingConfig]):
    """Scores item i of user u with the entry of a table."""

    table = np.array([[1, 3, 2, -np.inf], [0, 0, 5, 5]], dtype=np.float32)
    asked: list[int]

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Fixed:
        return self

    def score(self, queries: Queries) -> np.ndarray:
        self.asked.append(len(queries))
        return self.table[queries.users]


def fixed(batch: int = 1024) -> Fixed:
    component = Fixed()
    component.batch, component.asked = batch, []  # type: ignore[misc]
    return component


def users(*numbers: int) -> Queries:
    return Queries.of(Ragged.empty(len(numbers)), users=np.array(numbers, dtype=np.int64))


def test_retrieves_by_score_in_batches() -> None:
    component = fixed(batch=2)
    lists = component.retrieve(users(0, 1, 1), 3, exclude=Ragged.of([[1], [], [2]]))
    assert lists.to_ragged().tolist() == [[2, 0], [2, 3, 0], [3, 0, 1]]
    assert component.asked == [2, 1]


def test_fewer_queries_at_once_where_the_catalogue_is_large() -> None:
    component = fixed()
    component.cells = 12  # type: ignore[misc]  # three queries of four items
    component.retrieve(users(*[0, 1] * 36), 1, exclude=Ragged.empty(72))
    assert component.asked == [64, 3, 3, 2]
    component.cells, component.asked = 2, []  # type: ignore[misc]
    component.rank(users(*[1] * 66), Lists.empty(66, 1))
    assert component.asked == [64, 1, 1]


def test_ranks_by_score_in_batches() -> None:
    candidates = Lists(np.array([[0, 3, 1], [1, 2, -1], [3, 0, 2]]), np.array([[3, 2, 1], [1, 0, np.nan], [2, 1, 0.0]]))
    lists = fixed(batch=2).rank(users(0, 1, 1), candidates)
    assert lists.to_ragged().tolist() == [[1, 0, 3], [2, 1], [2, 3, 0]]
    assert lists.scores[0, 2] == np.finfo(np.float32).min  # -inf stays a candidate, at the end
    assert lists.scores[1].tolist()[:2] == [5, 0]


def test_no_queries() -> None:
    assert fixed().retrieve(users(), 3, exclude=Ragged.empty(0)).items.shape == (0, 3)
    assert fixed().rank(users(), Lists.empty(0, 2)).items.shape == (0, 2)


def test_load_hands_over_the_resources(tmp_path: Path) -> None:
    class Needy(Thing):
        """Takes an encoder from the resources."""

        encoder: Any = None

        @classmethod
        def create(cls, config: ThingConfig, resources: Any) -> Needy:
            component = cls(config)
            component.encoder = resources.encoder("small")
            return component

    class Shelf:
        def llm(self, name: str) -> Any:
            return None

        def encoder(self, name: str) -> Any:
            return f"the encoder {name}"

    needy = Needy().fit(None, valid=None, rng=np.random.default_rng(0))  # type: ignore[arg-type]
    needy.save(tmp_path)
    assert Needy.load(tmp_path, Shelf()).encoder == "the encoder small"


@pytest.mark.parametrize("score", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 70])  # beyond the first piece
def test_scores_that_are_no_finite_numbers_are_refused(score: float, row: int) -> None:
    """They would only shorten lists or tie items, and the figures would look like those of any weak system."""

    class Broken(ScoringComponent[ThingConfig]):
        def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Broken:
            return self

        def score(self, queries: Queries) -> np.ndarray:  # type: ignore[type-arg]
            scores = np.full((len(queries), 3), -np.inf, np.float32)
            scores[queries.users == row, 1] = score
            return scores

    queries = Queries.of(Ragged.empty(80), users=np.arange(80))
    lists = Lists(np.zeros((80, 1)), np.zeros((80, 1)))
    for ask in (lambda: Broken().retrieve(queries, 2, exclude=Ragged.empty(80)), lambda: Broken().rank(queries, lists)):
        with pytest.raises(SpecError, match="Broken gives scores that are no finite numbers"):
            ask()
