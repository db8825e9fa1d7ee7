"""Intervals and tests: known answers, error rates on simulated data, agreement with scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llm4rec.metrics import (
    bootstrap_interval,
    bootstrap_intervals,
    cases_needed,
    holm,
    minimum_detectable,
    paired_test,
    paired_tests,
    statistics,
    variance_components,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# -- intervals ----------------------------------------------------------------------------
def test_interval_of_a_constant() -> None:
    got = bootstrap_interval(np.full(30, 0.25), rng=rng())
    assert (got.mean, got.low, got.high, got.n) == (0.25, 0.25, 0.25, 30)


def test_interval_is_that_of_the_normal_for_many_cases() -> None:
    values = (rng().random(2000) < 0.2).astype(float)
    got = bootstrap_interval(values, rng=rng(1), resamples=4000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert got.mean == pytest.approx(values.mean())
    assert got.low == pytest.approx(values.mean() - half, abs=half / 8)
    assert got.high == pytest.approx(values.mean() + half, abs=half / 8)


def test_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    """200 studies of 150 cases as skewed as a metric: 95 % intervals hold the true mean in 90 to 98.5 %."""
    generator = rng(2)
    studies = generator.beta(0.3, 2.0, size=(150, 200))
    intervals = bootstrap_intervals(studies, rng=generator, resamples=600)
    covered = np.mean([i.low <= 0.3 / 2.3 <= i.high for i in intervals])
    assert 0.90 <= covered <= 0.985
    narrow = bootstrap_intervals(studies, rng=generator, resamples=600, level=0.5)
    assert 0.40 <= np.mean([i.low <= 0.3 / 2.3 <= i.high for i in narrow]) <= 0.60


def test_interval_agrees_with_scipy() -> None:
    values = rng(3).random(80)
    wanted = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=rng(4)).confidence_interval
    got = bootstrap_interval(values, rng=rng(5), resamples=5000)
    assert (got.low, got.high) == (pytest.approx(wanted.low, abs=0.004), pytest.approx(wanted.high, abs=0.004))


def test_cases_without_a_value_are_left_out() -> None:
    values = np.append(rng().random(50), [np.nan] * 10)
    got = bootstrap_interval(values, rng=rng())
    assert got.n == 50
    assert got.mean == pytest.approx(values[:50].mean())
    assert got.low < got.mean < got.high
    empty = bootstrap_interval(np.full(4, np.nan), rng=rng())
    assert empty.n == 0
    assert np.isnan([empty.mean, empty.low, empty.high]).all()
    assert bootstrap_interval(np.empty(0), rng=rng()).n == 0


def test_columns_share_one_draw_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = rng().random((40, 3))
    values[:, 2] = values[:, 0]
    whole = bootstrap_intervals(values, rng=rng(1), resamples=100)
    assert whole[0] == whole[2] != whole[1]
    monkeypatch.setattr(statistics, "_ENTRIES", 130)  # three resamples at once
    for part, wanted in zip(bootstrap_intervals(values, rng=rng(1), resamples=100), whole, strict=True):
        assert (part.low, part.high) == (pytest.approx(wanted.low), pytest.approx(wanted.high))  # the last bit may round


@pytest.mark.parametrize("bad", [{"level": 0.0}, {"level": 1.0}, {"resamples": 0}])
def test_refuses_nonsense(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="makes no interval"):
        bootstrap_interval(np.ones(3), rng=rng(), **bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[cases, metrics\]"):
        bootstrap_intervals(np.ones(3), rng=rng())


# -- paired tests ---------------------------------------------------------------------------
def test_p_is_uniform_when_nothing_differs() -> None:
    """300 comparisons of twins: p-values pass a test for uniformity, 5 % are below .05."""
    generator = rng(6)
    a, b = generator.random((2, 60, 300))
    p = np.array([c.p for c in paired_tests(a, b, rng=generator, resamples=999)])
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.02 <= (p < 0.05).mean() <= 0.085


def test_finds_a_difference() -> None:
    a = rng().random(200)
    got = paired_test(a + 0.05 + 0.1 * rng(1).standard_normal(200), a, rng=rng(2))
    assert got.p < 0.001
    assert got.low < got.difference < got.high
    assert got.low > 0
    assert got.n == 200


@pytest.mark.parametrize("seed", range(4))
def test_p_agrees_with_the_exact_test(seed: int) -> None:
    a, b = rng(seed).random((2, 10))
    exact = stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert paired_test(a, b, rng=rng(9), resamples=20_000).p == pytest.approx(exact, abs=0.012)


def test_p_counts_ties_as_extreme() -> None:
    """Three equal differences: of the 8 sign patterns 2 are as extreme, so p is a quarter."""
    assert paired_test(np.full(3, 0.1), np.zeros(3), rng=rng(), resamples=20_000).p == pytest.approx(0.25, abs=0.015)


def test_equal_systems() -> None:
    a = rng().random(50)
    got = paired_test(a, a, rng=rng())
    assert (got.difference, got.low, got.high, got.p, got.n) == (0, 0, 0, 1, 50)


def test_is_symmetric() -> None:
    a, b = rng(1).random((2, 40))
    one, other = paired_test(a, b, rng=rng(2)), paired_test(b, a, rng=rng(2))
    assert one.p == other.p
    assert one.difference == pytest.approx(-other.difference)
    assert one.low == pytest.approx(-other.high)


def test_p_is_never_zero_and_pairs_need_both_values() -> None:
    a = np.append(np.ones(60), np.nan)
    got = paired_test(a, np.zeros(61), rng=rng(), resamples=99)
    assert got.p == pytest.approx(2 * np.exp(-30.0))
    assert got.n == 60
    assert np.isnan(paired_test(np.full(3, np.nan), np.zeros(3), rng=rng()).p)
    with pytest.raises(ValueError, match="cannot pair"):
        paired_test(np.ones(3), np.ones(4), rng=rng())


# -- Holm -----------------------------------------------------------------------------------
def test_holm_known_answers() -> None:
    # The worked example of Holm's method with four hypotheses: .005, .01, .03, .04.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])
    assert holm([]).shape == (0,)
    assert holm([0.03]).tolist() == [0.03]
    # Two of six tests were made: the others count as if they had the larger p-values.
    np.testing.assert_allclose(holm([0.02, 0.001], family=6), [0.10, 0.006])
    with pytest.raises(ValueError, match="a family of 1 tests does not hold 2"):
        holm([0.1, 0.2], family=1)


def test_p_has_no_floor_where_no_resample_is_as_extreme() -> None:
    """Each of 60 cases is better by one: the exact p is 2 in 2^60, Hoeffding's bound 2 e^-30, ten thousand flips say 1e-4."""
    clear = paired_test(np.ones(60), np.zeros(60), rng=rng(0))
    assert clear.p == pytest.approx(2 * np.exp(-30.0))
    exact = 2.0**-59
    assert exact <= clear.p < 1e-12
    some = paired_test(np.r_[np.ones(12), 0.0], np.zeros(13), rng=rng(0))  # exactly 2 in 2^12: flips find it
    assert some.p == pytest.approx(2.0**-11, abs=5e-4)
    # 2 in 2^16, which ten thousand flips cannot tell from less: in a large family there are more of them.
    alone, among = (paired_test(np.ones(16), np.zeros(16), rng=rng(0), family=m) for m in (1, 1000))
    assert alone.p >= 1 / 10_001
    assert among.p == pytest.approx(2.0**-15, rel=0.5)
    same = [paired_test(rng(1).random(40), rng(3).random(40), rng=rng(0), family=m).p for m in (1, 1000)]
    assert same[0] == same[1], "where some resamples are as extreme, they are enough"


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(p_values: list[float]) -> None:
    p = np.array(p_values)
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, p * len(p)) + 1e-12).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


@pytest.mark.parametrize("bad", [[1.2], [-0.1], [float("nan")], [[0.1]]])
def test_holm_refuses_what_is_no_p_value(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="p-values"):
        holm(bad)


# -- what so many cases can show ------------------------------------------------------------
@pytest.mark.parametrize(("n", "power"), [(40, 0.8), (150, 0.8), (150, 0.9)])
def test_the_detectable_difference_is_found_as_often_as_it_says(n: int, power: float) -> None:
    """2,000 studies with exactly that true difference, judged by scipy's paired t-test; and none at zero."""
    deviation = 0.3
    true = minimum_detectable(deviation, n, power=power)
    studies = rng(n).normal(true, deviation, size=(2000, n))
    found = stats.ttest_1samp(studies, 0.0, axis=1).pvalue < 0.05
    assert np.mean(found) == pytest.approx(power, abs=0.03)
    none = stats.ttest_1samp(studies - true, 0.0, axis=1).pvalue < 0.05
    assert np.mean(none) == pytest.approx(0.05, abs=0.015)


def test_our_own_test_finds_the_detectable_difference_on_a_skewed_metric() -> None:
    """Differences like those of a metric that is mostly zero, judged by the sign-flip test."""
    generator, n = rng(5), 300
    studies = np.where(generator.random((n, 200)) < 0.15, generator.normal(0.0, 0.5, (n, 200)), 0.0)
    deviation = 0.5 * np.sqrt(0.15)
    shifted = studies + minimum_detectable(deviation, n)
    found = [t.p < 0.05 for t in paired_tests(shifted, np.zeros_like(shifted), rng=generator, resamples=800)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.09)


def test_detectable_known_answers() -> None:
    assert minimum_detectable(1.0, 10**6) * 10**3 == pytest.approx(stats.norm.ppf(0.975) + stats.norm.ppf(0.8), rel=1e-5)
    assert minimum_detectable(0.25, 120) == pytest.approx(0.0644, abs=2e-4)
    assert np.isnan(minimum_detectable(0.25, 1))
    got = paired_test(np.array([0.2, 0.4, 0.9, 0.1]), np.array([0.1, 0.1, 0.1, 0.1]), rng=rng())
    assert got.deviation == pytest.approx(np.std([0.1, 0.3, 0.8, 0.0], ddof=1))
    assert got.detectable == minimum_detectable(got.deviation, 4)


@given(st.floats(0.001, 2.0), st.floats(0.01, 1.0), st.sampled_from([0.01, 0.05]), st.sampled_from([0.8, 0.95]))
def test_the_cases_needed_are_the_fewest_that_do(difference: float, deviation: float, alpha: float, power: float) -> None:
    n = cases_needed(difference, deviation, alpha=alpha, power=power)
    assert minimum_detectable(deviation, n, alpha=alpha, power=power) <= difference
    assert n == 2 or minimum_detectable(deviation, n - 1, alpha=alpha, power=power) > difference


@pytest.mark.parametrize("bad", [{"alpha": 0.0}, {"power": 1.0}, {"power": 0.3}])
def test_no_such_test(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no test has"):
        minimum_detectable(0.1, 10, **bad)
    with pytest.raises(ValueError, match="no number of cases"):
        cases_needed(0.0, 0.1)


# -- cases and seeds ------------------------------------------------------------------------
def test_components_are_those_that_were_put_in() -> None:
    """Means over 300 made studies of 200 cases and 4 seeds; and the sum is the true variance of the mean."""
    generator, n, s = rng(6), 200, 4
    found, means = [], []
    for _ in range(300):
        case, seed = generator.normal(0, 0.4, (n, 1)), generator.normal(0, 0.02, (1, s))
        values = 0.2 + case + seed + generator.normal(0, 0.3, (n, s))
        c = variance_components(values)
        found.append([c.cases**2, c.seeds**2, c.rest**2, c.together**2])
        means.append(values.mean())
    wanted = [0.4**2 / n, 0.02**2 / s, 0.3**2 / (n * s)]
    assert np.mean(found, axis=0)[[0, 2]] == pytest.approx([wanted[0], wanted[2]], rel=0.05)
    assert np.mean(found, axis=0)[1] == pytest.approx(wanted[1], rel=0.35)
    assert np.mean(found, axis=0)[3] == pytest.approx(np.var(means, ddof=1), rel=0.25)


def test_seeds_that_agree_add_nothing_and_a_lucky_seed_does() -> None:
    values = np.repeat(rng().random((50, 1)), 3, axis=1)
    same = variance_components(values)
    assert (same.seeds, same.rest) == (0.0, pytest.approx(0.0, abs=1e-12))
    assert same.cases == pytest.approx(values[:, 0].std(ddof=1) / np.sqrt(50))
    lucky = variance_components(values + np.array([0.0, 0.0, 0.1]))
    assert lucky.seeds == pytest.approx(np.std([0.0, 0.0, 0.1], ddof=1) / np.sqrt(3))
    for bad in (values[:, :1], values[:1], values[:, 0]):
        with pytest.raises(ValueError, match="two cases and two seeds"):
            variance_components(bad)
