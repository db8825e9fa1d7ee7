"""The contract of every component: config, fitting, saving."""

from __future__ import annotations

import hashlib
import inspect
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import ValidationError

from llm4rec.core import Choice, Component, Config, Dataset, Lists, NotFittedError, Resources, Whole
from tests import worlds
from tests.contracts.agreement import assert_same_lists
from tests.worlds import World


def snapshot(dataset: Dataset) -> dict[str, str]:
    """Return a hash of each part of a data set that a careless ``fit`` could write to."""
    h = dataset.histories
    parts: dict[str, bytes] = {
        "events and ids": dataset.fingerprint().encode(),
        "item table": dataset.item_table.write_json().encode(),
        "user table": dataset.user_table.write_json().encode(),
        "histories": b"".join(a.tobytes() for a in (h.items.offsets, h.items.values, h.times, h.behaviors, h.values)),
        "item counts": dataset.item_counts.tobytes(),
    }
    return {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}


def assert_no_pickle(folder: Path) -> None:
    """Assert that no file below a folder can only be read by unpickling."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert files, "nothing was saved"
    for path in files:
        head = path.read_bytes()[:2]
        assert not (head[:1] == b"\x80" and head[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")), f"{path.name} is a pickle"
        assert path.suffix not in {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib"}, f"{path.name} may hold a pickle"
        if zipfile.is_zipfile(path):
            inside = zipfile.ZipFile(path).namelist()
            assert not any(name.endswith((".pkl", ".pickle")) for name in inside), f"{path.name} holds a pickle"
        if path.suffix in {".npy", ".npz"}:
            np.load(path, allow_pickle=False)


class ComponentContract:
    """A component with any verb; ``answer`` says what it gives, so that two fits can be compared."""

    #: The class under test.
    component: ClassVar[type[Component[Any]]]
    #: Its parameters in the small world.
    configs: ClassVar[dict[str, Any]] = {}
    #: Where it is fitted.
    world: ClassVar[World] = worlds.checkerboard()
    #: Does ``fit`` read the validation cases (early stopping, choice of weights)?
    uses_valid: ClassVar[bool] = False
    #: Does it keep what it learnt on disk?
    saves: ClassVar[bool] = True

    _fits: ClassVar[dict[int, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._fits = {}

    # -- hooks --------------------------------------------------------------------------
    def resources(self) -> Resources | None:
        """Return what the component needs besides its config (an encoder, an LLM)."""
        return None

    def make(self, config: Any) -> Component[Any]:
        """Build the component."""
        resources = self.resources()
        return self.component(config) if resources is None else self.component.create(config, resources)

    def answer(self, component: Any) -> Lists:
        """Return what the component gives for the world's test cases."""
        cases = self.world.split.test
        return component.retrieve(cases.queries, 10, exclude=cases.exclude("seen"))

    # -- help ---------------------------------------------------------------------------
    def config(self) -> Config:
        return self.component.Config.model_validate(self.configs)

    def fit(self, seed: int = 0, **parts: Any) -> Any:
        """Return a newly fitted component."""
        split = self.world.split
        given = {"train": split.train, "valid": split.valid} | parts
        component = self.make(self.config())
        return component.fit(given["train"], valid=given["valid"], rng=np.random.default_rng(seed))

    @pytest.fixture
    def fitted(self) -> Any:
        """A component fitted once for all tests of the class; tests must not change it."""
        if 0 not in self._fits:
            self._fits[0] = self.fit()
        return self._fits[0]

    # -- the contract -------------------------------------------------------------------
    def test_config_states_each_parameter_once_with_its_meaning(self) -> None:
        fields = self.component.Config.model_fields
        assert issubclass(self.component.Config, Config)
        assert [n for n, f in fields.items() if not f.description] == [], "parameters without a description"
        assert [n for n, f in fields.items() if f.is_required()] == [], "parameters without a default"
        self.component.Config()

    def test_config_is_frozen_and_refuses_unknown_keys(self) -> None:
        config = self.config()
        for name in type(config).model_fields:
            with pytest.raises(ValidationError):
                setattr(config, name, getattr(config, name))
        with pytest.raises(ValidationError):
            type(config).model_validate({**self.configs, "no_such_parameter": 1})

    @pytest.mark.parametrize("draw", range(5))
    def test_what_may_be_tuned_makes_a_config(self, draw: int) -> None:
        rng, drawn = np.random.default_rng(draw), {}
        for name, space in self.component.space.items():
            assert name in self.component.Config.model_fields, f"{name} is no parameter"
            if isinstance(space, Choice):
                drawn[name] = space.values[int(rng.integers(len(space.values)))]
            else:
                value = float(rng.choice([space.low, space.high, rng.uniform(space.low, space.high)]))
                drawn[name] = round(value) if isinstance(space, Whole) else value
        self.component.Config.model_validate(self.configs | drawn)

    def test_class_says_what_it_is(self) -> None:
        assert inspect.getdoc(self.component), "no docstring"
        assert self.component.__doc__ != self.component.__mro__[1].__doc__, "the docstring of its base"

    def test_fit_is_given_the_training_part_alone(self) -> None:
        parameters = list(inspect.signature(self.component.fit).parameters)
        assert parameters == ["self", "train", "valid", "rng"]

    def test_fit_returns_itself(self) -> None:
        component = self.make(self.config())
        split = self.world.split
        assert component.fit(split.train, valid=split.valid, rng=np.random.default_rng(0)) is component

    def test_unfitted_says_so(self) -> None:
        component = self.make(self.config())
        if not [name for name in self.fit().state() if name.endswith("_")]:
            pytest.skip("learns nothing")
        with pytest.raises(NotFittedError):
            self.answer(component)

    def test_fit_does_not_touch_the_data(self) -> None:
        split = self.world.split
        before = snapshot(split.train)
        valid = (split.valid.truth.values.copy(), split.valid.queries.history.values.copy())
        self.fit()
        assert snapshot(split.train) == before
        assert np.array_equal(split.valid.truth.values, valid[0])
        assert np.array_equal(split.valid.queries.history.values, valid[1])

    def test_same_seed_same_answer(self, fitted: Any) -> None:
        assert_same_lists(self.answer(self.fit()), self.answer(fitted))

    def test_other_seed_same_answer_if_deterministic(self, fitted: Any) -> None:
        if not fitted.deterministic:
            pytest.skip("declares that the seed matters")
        assert_same_lists(self.answer(self.fit(seed=1)), self.answer(fitted))

    def test_asking_does_not_change_it(self, fitted: Any) -> None:
        assert_same_lists(self.answer(fitted), self.answer(fitted))

    def test_fits_without_validation_cases(self) -> None:
        self.answer(self.fit(valid=None))

    def test_validation_answers_do_not_matter_unless_declared(self, fitted: Any) -> None:
        if self.uses_valid:
            pytest.skip("declares that it reads the validation cases")
        assert_same_lists(self.answer(self.fit(valid=None)), self.answer(fitted))

    def test_save_and_load_give_the_same_answer(self, fitted: Any, tmp_path: Path) -> None:
        if not self.saves:
            pytest.skip("keeps nothing on disk")
        fitted.save(tmp_path / "saved")
        assert_no_pickle(tmp_path / "saved")
        loaded = self.component.load(tmp_path / "saved", self.resources())
        assert loaded.config == fitted.config
        assert_same_lists(self.answer(loaded), self.answer(fitted))
