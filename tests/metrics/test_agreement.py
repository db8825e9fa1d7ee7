"""Agreement beyond chance: published examples, and the ends of the scale."""

from __future__ import annotations

import numpy as np
import pytest

from llm4rec.metrics.agreement import agreement, cohen_kappa, fleiss_kappa


def test_cohen_by_hand() -> None:
    # 50 cases: 20 both yes, 15 both no, 5 yes/no, 10 no/yes: p_o = .7, p_e = .5
    a = ["y"] * 25 + ["n"] * 25
    b = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert agreement(a, b) == pytest.approx(0.7)
    assert cohen_kappa(a, b) == pytest.approx(0.4)


def test_fleiss_example() -> None:
    # Fleiss 1971 as tabulated widely: 10 cases, 14 judges, 5 labels, kappa .210
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss_kappa(np.array(table)) == pytest.approx(0.2099, abs=1e-4)


def test_ends_of_the_scale() -> None:
    assert cohen_kappa(["a", "b"], ["a", "b"]) == 1
    assert cohen_kappa(["a", "b"], ["b", "a"]) == -1
    assert np.isnan(cohen_kappa(["a"], ["a"]))
    assert np.isnan(cohen_kappa([], []))
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == 1
    assert np.isnan(fleiss_kappa(np.array([[3, 0], [3, 0]])))
    assert np.isnan(fleiss_kappa(np.empty((0, 3), np.int64)))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="labels of one judge"):
        cohen_kappa(["a"], [])
    with pytest.raises(ValueError, match="same number of judges"):
        fleiss_kappa(np.array([[2, 0], [1, 0]]))
