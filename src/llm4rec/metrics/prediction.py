"""What predicted ratings and click probabilities are worth: RMSE, MAE, AUC, log loss, GAUC.

A question is one user and one item.  What is added up over questions (the errors, the log loss) is
kept per case; AUC orders pairs of questions and is not.  The units of intervals and of tests are
users: the errors of one user's questions are alike, so cases would make intervals too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llm4rec.metrics.accuracy import Values
from llm4rec.metrics.statistics import Comparison, Interval, paired_tests

#: Names of the metrics, in the order of tables.
PREDICTION: Final = ("rmse", "mae", "auc", "logloss", "gauc")
#: Metrics of which less is better.
LOWER: Final = frozenset({"rmse", "mae", "logloss"})
#: Metric -> what is kept of it for each case.
PER_CASE: Final = {"rmse": "squared_error", "mae": "absolute_error", "logloss": "log_loss"}
#: Probabilities are held within [CLIP, 1 - CLIP] in the log loss: one certain and wrong answer costs 16.1, not infinity.
CLIP: Final = 1e-7
#: Entries of a resampling matrix that are held at once (8 bytes each).
_ENTRIES = 4_000_000

Integers = NDArray[np.integer]


def errors(predictions: NDArray[np.floating], values: NDArray[np.floating], *, clicks: bool) -> dict[str, Values]:
    """Return what is kept for each case, float64[n] by name: the errors, and of click probabilities the log loss.

    ``squared_error`` is ``(p - y)^2``, ``absolute_error`` is ``|p - y|``, and ``log_loss`` is
    ``-ln p`` where y is 1 and ``-ln(1 - p)`` where y is 0, p clipped to [1e-7, 1 - 1e-7].

    Raises ``ValueError`` for predictions that are not finite, and for probabilities beyond [0, 1].
    """
    p, y = np.asarray(predictions, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if p.shape != y.shape or not np.isfinite(p).all():
        raise ValueError(f"predictions of shape {p.shape} for {y.shape} questions, or some are not finite")
    found = {"squared_error": (p - y) ** 2, "absolute_error": np.abs(p - y)}
    if clicks:
        if len(p) and (p.min() < 0 or p.max() > 1):
            raise ValueError(f"probabilities from {p.min()} to {p.max()} lie beyond 0 and 1")
        sure = np.clip(p, CLIP, 1 - CLIP)
        found["log_loss"] = -np.where(y > 0, np.log(sure), np.log1p(-sure))
    return found


def auc(scores: Values, labels: NDArray[np.bool_]) -> float:
    """Return the chance that a positive scores above a negative, equal scores counted half; nan with one class.

    Exact, by mid-ranks: ``(R - P (P + 1) / 2) / (P N)`` with R the sum of the positives' ranks (Mann
    and Whitney 1947; Hanley and McNeil, The meaning and use of the area under a ROC curve, 1982).
    """
    return float(user_auc(scores, labels, np.zeros(len(scores), dtype=np.int64), 1)[0])


def user_auc(scores: Values, labels: NDArray[np.bool_], users: Integers, n_users: int) -> Values:
    """Return float64[n_users], the AUC of each user's own questions; nan for users with one class or none.

    Args:
        scores: float[n].
        labels: bool[n].
        users: int[n] in [0, n_users).
    """
    labels = np.asarray(labels, dtype=bool)
    order = np.lexsort((scores, users))
    who, score, positive = np.asarray(users)[order], np.asarray(scores)[order], labels[order].astype(np.float64)
    n = np.bincount(who, minlength=n_users)
    new = np.ones(len(who), dtype=bool)  # where a run of equal scores of one user starts
    new[1:] = (who[1:] != who[:-1]) | (score[1:] != score[:-1])
    first = np.flatnonzero(new)
    size = np.diff(np.append(first, len(who)))
    start = np.cumsum(n) - n
    middle = np.repeat(first + (size + 1) / 2, size) - start[who]  # mid-ranks from 1 within the user
    positives = np.bincount(who, positive, minlength=n_users)
    pairs = positives * (n - positives)
    above = np.bincount(who, middle * positive, minlength=n_users) - positives * (positives + 1) / 2
    return _ratio(above, pairs)


def gauc(scores: Values, labels: NDArray[np.bool_], users: Integers) -> float:
    """Return the mean of the users' own AUC, weighted by their questions; nan if no user has both classes.

    Users with one class have no AUC and are left out; ``one_class`` counts them.  Zhu et al.,
    Optimized Cost per Click in Taobao Display Advertising, KDD 2017 (arXiv 1703.02091).
    """
    _, at = np.unique(users, return_inverse=True)
    n = np.bincount(at)
    each = user_auc(scores, labels, at, len(n))
    known = ~np.isnan(each)
    return float(np.average(each[known], weights=n[known])) if known.any() else float("nan")


def one_class(labels: NDArray[np.bool_], users: Integers) -> int:
    """Return how many users have questions of one class only, so that GAUC leaves them out."""
    _, at = np.unique(users, return_inverse=True)
    positives, n = np.bincount(at, np.asarray(labels, dtype=np.float64)), np.bincount(at)
    return int(((positives == 0) | (positives == n)).sum())


def prediction_intervals(
    names: Sequence[str], predictions: Values, values: Values, labels: NDArray[np.bool_] | None, users: Integers,
    *, clicks: bool, rng: np.random.Generator, level: float = 0.95, resamples: int = 2000,
) -> dict[str, Interval]:  # fmt: skip
    """Return each metric over all questions, with a bootstrap interval whose units are users.

    Of several seeds each metric is computed apart, in every resample, and averaged.

    Args:
        names: of ``PREDICTION``.
        predictions: float[seeds, n].
        values: float[n], the ratings, or 0 and 1.
        labels: bool[n], positives; needed for AUC and GAUC.
        users: int[n].

    Returns:
        By name; ``n`` counts questions, those of users with both classes for GAUC.
    """
    measures = _measures(predictions, values, labels, users, clicks)
    n_users = len(measures[0].cases)

    def mean(counts: Values) -> dict[str, Values]:
        return {name: np.mean([m(name, counts) for m in measures], axis=0) for name in names}

    whole = mean(np.ones((1, n_users)))
    drawn: dict[str, list[Values]] = {name: [] for name in names}
    size = max(1, _ENTRIES // max(1, len(values)))
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        picks = rng.integers(n_users, size=(rows, n_users)) + np.arange(rows)[:, None] * n_users
        counts = np.bincount(picks.ravel(), minlength=rows * n_users).reshape(rows, n_users).astype(np.float64)
        for name, found in mean(counts).items():
            drawn[name].append(found)
    out = {}
    for name in names:
        every = np.concatenate(drawn[name])
        known = every[~np.isnan(every)]
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) if len(known) else (np.nan, np.nan)
        n = measures[0].asked if name == "gauc" else len(values)
        out[name] = Interval(float(whole[name][0]), float(low), float(high), n)
    return out


def prediction_means(
    names: Sequence[str], predictions: Values, values: Values, labels: NDArray[np.bool_] | None, users: Integers,
    *, clicks: bool,
) -> dict[str, float]:  # fmt: skip
    """Return each metric over all questions, averaged over seeds; nan where there is nothing to measure.

    The arguments are those of :func:`prediction_intervals`.
    """
    measures = _measures(predictions, values, labels, users, clicks)
    once = np.ones((1, len(measures[0].cases)))
    return {name: float(np.mean([m(name, once)[0] for m in measures])) for name in names}


def _measures(
    predictions: Values, values: Values, labels: NDArray[np.bool_] | None, users: Integers, clicks: bool
) -> list[_Measure]:
    """Return what measures each seed's predictions, float[seeds, n]."""
    _, at = np.unique(users, return_inverse=True)
    return [_Measure(row, values, labels, at, int(at.max(initial=-1)) + 1, clicks) for row in predictions]


class _Measure:
    """The metrics of one system's predictions when each user counts so many times."""

    def __init__(
        self, predictions: Values, values: Values, labels: NDArray[np.bool_] | None, at: Integers, n_users: int, clicks: bool
    ) -> None:
        self.cases = np.bincount(at, minlength=n_users).astype(np.float64)
        kept = errors(predictions, values, clicks=clicks)
        self.sums = {name: np.bincount(at, found, minlength=n_users) for name, found in kept.items()}
        self.asked = 0
        if labels is None:
            return
        each = user_auc(predictions, labels, at, n_users)
        self.both = np.where(np.isnan(each), 0.0, self.cases)
        self.grouped = np.nan_to_num(each) * self.both
        self.asked = int(self.both.sum())
        order = np.argsort(predictions, kind="stable")
        self.user, self.positive = at[order], np.asarray(labels, dtype=bool)[order]
        self.run = np.flatnonzero(np.diff(np.asarray(predictions)[order], prepend=-np.inf) > 0)  # starts of equal scores

    def __call__(self, name: str, counts: Values) -> Values:
        """Return float64[r] of counts float64[r, n_users]; nan where there is nothing to measure."""
        if name == "gauc":
            return _ratio(counts @ self.grouped, counts @ self.both)
        if name == "auc":
            weight = counts[:, self.user]
            positive = np.add.reduceat(np.where(self.positive, weight, 0.0), self.run, axis=1)
            negative = np.add.reduceat(np.where(self.positive, 0.0, weight), self.run, axis=1)
            below = np.cumsum(negative, axis=1) - negative / 2
            return _ratio((positive * below).sum(1), positive.sum(1) * negative.sum(1))
        mean = _ratio(counts @ self.sums[PER_CASE[name]], counts @ self.cases)
        return np.sqrt(mean) if name == "rmse" else mean


def _ratio(a: Values, b: Values) -> Values:
    return np.asarray(np.divide(a, b, out=np.full(len(b), np.nan), where=b > 0))


def compare_predictions(
    metric: str, a: Values, b: Values, values: Values, labels: NDArray[np.bool_] | None, users: Integers,
    *, clicks: bool, rng: np.random.Generator,
) -> Comparison:  # fmt: skip
    """Test two systems' predictions, float[seeds, n] each, on the same questions; the units are users.

    The difference is a - b of the mean squared error for ``rmse`` (a root does not add up), else
    of the metric itself; AUC over all questions is no mean over users, and has no such test.
    """
    _, at = np.unique(users, return_inverse=True)
    n_users = int(at.max(initial=-1)) + 1

    def shares(predictions: Values) -> Values:
        """float64[n_users] whose mean is the metric."""
        found = []
        for row in predictions:
            m = _Measure(row, values, labels, at, n_users, clicks)
            total, weight = (m.grouped, m.both) if metric == "gauc" else (m.sums[PER_CASE[metric]], m.cases)
            found.append(total * n_users / weight.sum() if weight.sum() else np.full(n_users, np.nan))
        return np.asarray(np.mean(found, axis=0))

    return paired_tests(shares(a)[:, None], shares(b)[:, None], rng=rng)[0]
