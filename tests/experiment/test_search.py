"""The space that is searched, and which values are tried next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import Choice, SpecError, Uniform, Whole
from llm4rec.experiment.catalog import CATALOG
from llm4rec.experiment.search import Search, search_of
from llm4rec.experiment.spec import parse_spec
from llm4rec.models.ease import EASE, EASEConfig
from llm4rec.models.sasrec import SASRecConfig
from tests.experiment.made_tune import with_search


@pytest.fixture
def path(log_folder: Path) -> Path:
    """Return a specification with a table for tuning."""
    return with_search(log_folder)


def space(path: Path, name: str, table: str) -> Search | None:
    text = path.read_text().split("[tune.space.both")[0].replace("[tune.space.sasrec]", "[unused]").split("[unused]")[0]
    return search_of(parse_spec(f"{text}\n[tune.space.{name}]\n{table}", folder=path.parent), name)


def test_ranges_of_the_specification_replace_those_of_the_component(path: Path) -> None:
    search = space(path, "ease", "l2 = { low = 1, high = 9 }")
    assert search is not None
    assert search.ranges == {"l2": Uniform(1.0, 9.0), "half_life": EASE.space["half_life"]}
    search = space(
        path, "sasrec", "epochs = { low = 1, high = 9 }\nheads = [1, 2]\nwidth = 16\ndropout = { low = 0, high = 0.5 }"
    )
    assert search is not None
    assert {k: search.ranges[k] for k in ("epochs", "heads", "dropout")} == {
        "epochs": Whole(1, 9), "heads": Choice((1, 2)), "dropout": Uniform(0.0, 0.5)
    }  # fmt: skip
    assert search.fixed == {"width": 16}


@pytest.mark.parametrize(
    ("name", "table", "says"),
    [
        ("ease", "l3 = [1.0, 2.0]", r"tune.space.ease.l3: there is no such parameter to tune; known: half_life, l2"),
        ("ease", "l2 = { low = 1.0 }", "a range needs 'high'"),
        ("ease", "l2 = { low = 5.0, high = 1.0 }", "no range"),
        ("ease", "l2 = { low = -1.0, high = 1.0 }", "cannot be -1.0: Input should be greater than 0"),
        ("ease", "l2 = [1.0, 'much']", "cannot be 'much'"),
        ("ease", "half_life = 'long'", "cannot be 'long'"),
        ("both", "fusion_weights.2 = [1.0, 2.0]", "there is no such parameter"),
        ("sasrec", "item_init.scale = [0.1, 0.2]", "there is no such parameter"),
        ("easy", "l2 = [1.0, 2.0]", "'easy' is no system; did you mean 'ease'"),
    ],
)
def test_a_range_that_does_not_fit_is_told(path: Path, name: str, table: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        space(path, name, table)


@pytest.mark.parametrize("name", [n for n, e in CATALOG.items() if e.component.space])
def test_declared_ranges_fit_their_component_and_hold_its_defaults(name: str) -> None:
    component = CATALOG[name].component
    own = component.Config().model_dump(mode="json")
    search = Search(component.Config, own, {k: s for k, s in component.space.items() if "." not in k})
    for key, space in search.ranges.items():
        ends = space.values if isinstance(space, Choice) else (space.low, space.high)
        for end in ends:
            component.Config.model_validate(own | {key: end})
        value = own[key]
        assert value in ends if isinstance(space, Choice) else space.low <= value <= space.high, f"{key}: {value}"
    for number in range(1, 4):
        params = search.propose([], sampler="random", seed=1, name=name, number=number)
        assert params is not None
        search.with_params(params)


def test_what_does_not_go_together_is_never_tried() -> None:
    search = Search(SASRecConfig, SASRecConfig().model_dump(mode="json"), {"width": Choice((8, 9)), "heads": Choice((2, 3, 4))})
    past: list[tuple[dict[str, Any], float | None]] = []
    while (params := search.propose(past, sampler="tpe", seed=1, name="x", number=len(past))) is not None:
        assert params["width"] % params["heads"] == 0
        past.append((dict(params), None))
    assert len(past) == 3


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(1, 15), st.sampled_from(["tpe", "random"]))
def test_a_proposal_follows_from_the_past_alone(seed: int, n: int, sampler: Any) -> None:
    search = Search(EASEConfig, EASEConfig().model_dump(mode="json"), {"l2": Uniform(10.0, 5000.0, log=True)})
    past: list[tuple[dict[str, Any], float | None]] = [({"l2": 400.0}, 0.1)]
    past += [({"l2": 10.0 + i}, None if i % 3 == 0 else 0.1 + i / 100) for i in range(n)]
    drawn = [search.propose(past, sampler=sampler, seed=seed, name="a", number=n) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] is not None
    value = drawn[0]["l2"]
    assert 10.0 <= value <= 5000.0
    assert value == float(f"{value:.4g}"), "short enough to read"


def test_tpe_finds_a_peak_sooner_than_chance() -> None:
    """On a made peak, 30 trials: the guided draws come nearer."""
    search = Search(
        EASEConfig, EASEConfig().model_dump(mode="json"), {"l2": EASE.space["l2"], "half_life": EASE.space["half_life"]}
    )

    def best(sampler: Any, seed: int) -> float:
        past: list[tuple[Any, float | None]] = []
        for number in range(30):
            params = search.propose(past, sampler=sampler, seed=seed, name="x", number=number)
            assert params is not None
            distance = np.log(params["l2"] / 300) ** 2 + np.log(params["half_life"] / 5) ** 2
            past.append((params, float(-distance)))
        return max(v for _, v in past if v is not None)

    assert best("tpe", 1) > best("random", 1)
