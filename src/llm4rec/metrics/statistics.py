"""How sure is a mean, and is a difference more than chance?  Cases are the units.

Both questions are answered by resampling, so that nothing is assumed about the distribution of a
metric (most are mostly zero).  A value of nan means that a case has none; it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from llm4rec.metrics.accuracy import Values

#: Entries of a resampling matrix that are held at once (8 bytes each).
_ENTRIES = 4_000_000
#: Resamples for each test of a family where fewer show nothing as extreme: the least p after Holm is then 1 / 400.
_FINER = 400
#: Signs that are drawn for it, at most.
_FLIPS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over ``n`` cases and its confidence interval."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The mean of ``a - b`` over the ``n`` cases that have both, and how sure it is.

    Attributes:
        difference: mean of a - b.
        low, high: bootstrap interval of the difference.
        p: two-sided p-value of the sign-flip test; not corrected for several tests.
        n: cases.
        deviation: standard deviation of a - b over the cases (nan with fewer than two).
    """

    difference: float
    low: float
    high: float
    p: float
    n: int
    deviation: float

    @property
    def detectable(self) -> float:
        """The smallest true difference that so many cases would show (see ``minimum_detectable``)."""
        return minimum_detectable(self.deviation, self.n)


@dataclass(frozen=True, slots=True)
class Components:
    """How sure the mean over cases and seeds is: standard errors, by where they come from.

    Attributes:
        cases: other cases with these seeds would move the mean by so much.
        seeds: other seeds on these cases; more cases do not lessen it.
        rest: what of a case's value neither the case nor the seed explains.
    """

    cases: float
    seeds: float
    rest: float

    @property
    def together(self) -> float:
        """Standard error of the mean where both cases and seeds are drawn anew."""
        return math.hypot(self.cases, self.seeds, self.rest)


def _columns(values: Values) -> tuple[Values, Values]:
    """Return (values with 0 for nan, 1 where there is a value) as float64[n, m]."""
    known = ~np.isnan(values)
    return np.where(known, values, 0.0), known.astype(np.float64)


def _chunks(resamples: int, n: int) -> Iterator[int]:
    """Yield sizes of chunks of resamples such that chunk x n stays within memory."""
    size = max(1, _ENTRIES // max(1, n))
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def _bootstrap_means(filled: Values, known: Values, resamples: int, rng: np.random.Generator) -> Values:
    """Return float64[resamples, m], the means of samples of n cases with replacement.

    A sample is a row of counts, so that all metrics share one draw and one matrix product.
    """
    n, m = filled.shape
    means = np.full((resamples, m), np.nan)
    done = 0
    for size in _chunks(resamples, n):
        drawn = rng.integers(n, size=(size, n)) + np.arange(size)[:, None] * n
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        total, cases = counts @ filled, counts @ known
        np.divide(total, cases, out=means[done : done + size], where=cases > 0)
        done += size
    return means


def _check(values: Values, level: float, resamples: int) -> Values:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"values must be [cases, metrics], not of shape {values.shape}")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(f"a level of {level} or {resamples} resamples makes no interval")
    return values


def bootstrap_intervals(
    values: Values, *, level: float = 0.95, resamples: int = 2000, rng: np.random.Generator
) -> list[Interval]:
    """Return the percentile bootstrap interval of each column of float64[n, m].

    Resamples cases with replacement; the ends are quantiles of the resampled means at
    ``(1 - level) / 2`` from both sides.  A column without values gives nan and n = 0.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.
    """
    values = _check(values, level, resamples)
    filled, known = _columns(values)
    counts = known.sum(axis=0)
    means = np.divide(filled.sum(axis=0), counts, out=np.full(values.shape[1], np.nan), where=counts > 0)
    low, high = np.full((2, values.shape[1]), np.nan)
    some = counts > 0
    if some.any():
        drawn = _bootstrap_means(filled[:, some], known[:, some], resamples, rng)
        low[some], high[some] = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Interval(float(a), float(b), float(c), int(n)) for a, b, c, n in zip(means, low, high, counts, strict=True)]


def bootstrap_interval(values: Values, *, level: float = 0.95, resamples: int = 2000, rng: np.random.Generator) -> Interval:
    """Return the percentile bootstrap interval of the mean of float64[n]; see ``bootstrap_intervals``."""
    return bootstrap_intervals(np.asarray(values)[:, None], level=level, resamples=resamples, rng=rng)[0]


def paired_tests(
    a: Values, b: Values, *, rng: np.random.Generator, resamples: int = 10_000, level: float = 0.95, family: int | None = None
) -> list[Comparison]:
    """Compare two systems on the same cases, column by column of float64[n, m].

    Sign-flip randomisation test: if the systems were alike, each case's difference could as well
    have had the other sign.  ``p = (1 + #{|mean of flipped| >= |mean|}) / (1 + resamples)``, two-sided; where
    none of the resamples is as extreme, they are made more, so that their number is no floor under p in a table
    of ``family`` tests (by default the columns), and p is at most Hoeffding's bound on the exact one,
    ``2 exp(-(sum d)^2 / (2 sum d^2))``.
    Interval: percentile bootstrap of the difference, 2,000 resamples.
    Source: Smucker, Allan, Carterette, A comparison of statistical significance tests for
    information retrieval evaluation, CIKM 2007; the added ones: Phipson and Smyth 2010; the bound: Hoeffding 1963.
    """
    a, b = _check(a, level, resamples), _check(b, level, resamples)
    if a.shape != b.shape:
        raise ValueError(f"cannot pair {a.shape} with {b.shape}")
    difference = a - b
    intervals = bootstrap_intervals(difference, level=level, rng=rng)
    filled, _ = _columns(difference)
    observed = np.abs(filled.sum(axis=0))
    tolerance = 1e-12 * np.abs(filled).sum(axis=0)  # sums of the same numbers in another order
    p = (_extreme(filled, observed - tolerance, resamples, rng) + 1) / (resamples + 1)
    squares = np.maximum((filled**2).sum(axis=0), np.finfo(float).tiny)
    bound = 2 * np.exp(-(observed**2) / (2 * squares))
    wanted = min(_FINER * (len(p) if family is None else family), _FLIPS // max(1, len(filled)))
    floor = np.flatnonzero((p < 1.5 / (resamples + 1)) & (bound > 1 / (wanted + 1)))
    if len(floor) and wanted > resamples:
        found = _extreme(filled[:, floor], (observed - tolerance)[floor], wanted - resamples, rng)
        p[floor] = (found + 1) / (wanted + 1)
    p = np.where(p < 1.5 / (resamples + 1), np.minimum(p, bound), p)
    deviations = [float(np.std(known, ddof=1)) if len(known := d[~np.isnan(d)]) > 1 else math.nan for d in difference.T]
    return [
        Comparison(i.mean, i.low, i.high, float(x) if i.n else math.nan, i.n, deviation)
        for i, x, deviation in zip(intervals, p, deviations, strict=True)
    ]


def _extreme(differences: Values, least: Values, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return int64[m], how many sums of float64[n, m] under random signs are at least ``least`` in size."""
    extreme = np.zeros(differences.shape[1], dtype=np.int64)
    moving = differences[(differences != 0).any(axis=1)]  # a difference of zero has no sign to flip
    for size in _chunks(resamples, len(moving)):
        signs = rng.integers(0, 2, size=(size, len(moving)), dtype=np.int8) * 2.0 - 1.0
        extreme += (np.abs(signs @ moving) >= least).sum(axis=0)
    return extreme


def paired_test(
    a: Values, b: Values, *, rng: np.random.Generator, resamples: int = 10_000, level: float = 0.95, family: int = 1
) -> Comparison:
    """Compare two systems on the same cases, float64[n] each; see ``paired_tests``."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return paired_tests(a[:, None], b[:, None], rng=rng, resamples=resamples, level=level, family=family)[0]


def holm(p_values: Sequence[float] | Values, *, family: int | None = None) -> NDArray[np.float64]:
    """Return p-values adjusted for testing all of them at once, in the order given.

    ``family`` is the number of tests that could have been made, where which of them are made was chosen by the
    data (all pairs of k systems, where the best of them is the one that the others are tested against); those that
    were not made count as if they had the larger p-values, which is on the safe side.

    With ``p_(1) <= ... <= p_(m)``: ``adjusted_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))``.  Keeps
    the chance of any false finding below the level, whatever the dependence between the tests.
    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values must be one row of numbers in [0, 1]")
    m = len(p) if family is None else family
    if m < len(p):
        raise ValueError(f"a family of {m} tests does not hold {len(p)}")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * (m - np.arange(len(p)))))
    return adjusted


def minimum_detectable(deviation: float, n: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the smallest true mean difference that a two-sided paired test on ``n`` cases finds with ``power``.

    ``(t_{1 - alpha/2} + t_{power}) s / sqrt(n)`` with quantiles of Student's t of n - 1 degrees of
    freedom and the deviation s of the paired differences.  It does not depend on the difference that
    was found: a smaller one than this may be real, and the cases were too few to show it.
    Source: Bloom, Minimum Detectable Effects, Evaluation Review 19, 1995; for retrieval: Sakai,
    Statistical reform in information retrieval?, SIGIR Forum 48, 2014.

    Returns nan for fewer than two cases.
    """
    if not (0 < alpha < 1 and 0.5 <= power < 1):
        raise ValueError(f"no test has alpha {alpha} and power {power}")
    if n < 2:
        return math.nan
    return float((stdtrit(n - 1, 1 - alpha / 2) + stdtrit(n - 1, power)) * deviation / math.sqrt(n))


def cases_needed(difference: float, deviation: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return how many cases would show a true mean difference: the least n whose ``minimum_detectable`` is no larger."""
    if difference <= 0 or not math.isfinite(deviation):
        raise ValueError(f"no number of cases shows a difference of {difference} with a deviation of {deviation}")
    low, high = 1, 2  # low is too few
    while minimum_detectable(deviation, high, alpha=alpha, power=power) > difference:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if minimum_detectable(deviation, middle, alpha=alpha, power=power) > difference:
            low = middle
        else:
            high = middle
    return high


def variance_components(values: Values) -> Components:
    """Return where the uncertainty of a mean comes from, for float64[n, s] values of n cases with s seeds each.

    ``y_cs = m + a_c + b_s + e_cs`` with random cases a, seeds b and rest e; the variance of the mean is
    ``var(a)/n + var(b)/s + var(e)/(n s)``.  The three are estimated from the mean squares of the
    two-way layout, ``var(e) = MS_e``, ``var(a) = (MS_a - MS_e)/s``, ``var(b) = (MS_b - MS_e)/n``, and
    are zero where that is below zero.
    Source: Searle, Casella, McCulloch, Variance Components, 1992, ch. 4.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 2 or np.isnan(values).any():
        raise ValueError(f"needs known values of at least two cases and two seeds, not of shape {values.shape}")
    n, s = values.shape
    by_case, by_seed = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_case[:, None] - by_seed[None, :] + values.mean()
    squares = float((rest**2).sum()) / ((n - 1) * (s - 1))
    cases = max(0.0, float(by_case.var(ddof=1)) - squares / s)
    seeds = max(0.0, float(by_seed.var(ddof=1)) - squares / n)
    return Components(math.sqrt(cases / n), math.sqrt(seeds / s), math.sqrt(squares / (n * s)))
