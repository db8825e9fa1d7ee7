"""The bias model: how high a user rates, how high an item is rated, and nothing of who likes what."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Cases, Component, Config, Dataset, Queries, SpecError, Uniform
from llm4rec.core.columns import ITEM, USER, VALUE

#: Newton steps of one offset at a time; the squared loss needs one.
_STEPS = 8
#: The longest of them, in logits: far from the answer the logistic loss is almost flat, and a free step would overshoot.
_LONGEST = 4.0

Loss = Literal["auto", "squared", "logistic"]
Floats = NDArray[np.float64]


class BiasConfig(Config):
    """Parameters of the bias model."""

    loss: Loss = "auto"
    """``squared`` for ratings, ``logistic`` for clicks; ``auto`` takes ``logistic`` if every training value is 0 or 1."""
    user_l2: float = Field(3.0, gt=0)
    """Weight of a user's squared bias in the loss, in events (of the logistic loss, in events of even odds)."""
    item_l2: float = Field(3.0, gt=0)
    """Likewise of an item's."""
    half_life: float = Field(30.0, ge=0)
    """Events of a query's history after which an older one counts half for the user's bias; 0: all count alike."""
    sweeps: int = Field(15, ge=1)
    """Times that all items' biases and then all users' are fitted, each to the others."""


class Bias(Component[BiasConfig]):
    """Predicts ``mean + b_u + b_i``, or the logistic function of it for clicks.

    The biases minimise the loss over the training events plus ``l2 b^2`` (``l2 / 8 b^2`` of the logistic
    loss), users and items in turn, each in closed form or by Newton's steps.  A query's
    own ``b_u`` is fitted in the same way to its history, so that events after training count, and
    a user whom nobody knows is served like any other; without values in the history it is 0.

    Koren: Factor in the Neighbors: Scalable and Accurate Collaborative Filtering, TKDD 2010, section 2.1.
    """

    space: ClassVar = {
        "user_l2": Uniform(0.5, 50.0, log=True),
        "item_l2": Uniform(0.5, 50.0, log=True),
        "half_life": Uniform(3.0, 300.0, log=True),
    }

    mean_: float
    item_biases_: NDArray[np.float64]
    limits_: list[float]
    logistic_: bool

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Fit items' and users' biases in turn; the users' are kept in what the items' have become."""
        c, events = self.config, train.events
        users, items = events[USER].to_numpy(), events[ITEM].to_numpy()
        values = events[VALUE].to_numpy().astype(np.float64)
        self.logistic_ = is_logistic(c.loss, values)
        self.limits_ = [float(values.min()), float(values.max())]
        mean = float(values.mean())
        self.mean_ = float(np.log(mean / (1 - mean))) if self.logistic_ and 0 < mean < 1 else mean
        b_user = np.zeros(train.n_users)
        for _ in range(c.sweeps):
            b_item = offsets(items, self.mean_ + b_user[users], values, train.n_items, c.item_l2, logistic=self.logistic_)
            b_user = offsets(users, self.mean_ + b_item[items], values, train.n_users, c.user_l2, logistic=self.logistic_)
        self.item_biases_ = b_item
        return self

    def predict(self, queries: Queries, items: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return float32[n], within the range of the training values."""
        history, values = queries.history, queries.history_values
        b_user = np.zeros(len(queries))
        if values is not None:
            age = np.repeat(history.offsets[1:], history.lengths) - 1 - np.arange(len(values))
            weight = np.exp2(-age / self.config.half_life) if self.config.half_life else np.ones(len(age))
            base = self.mean_ + self.item_biases_[history.values]
            given = history.rows, base, values.astype(np.float64)
            b_user = offsets(*given, len(queries), self.config.user_l2, logistic=self.logistic_, weights=weight)
        scores = self.mean_ + b_user + self.item_biases_[items]
        low, high = self.limits_
        return np.clip(_logistic(scores) if self.logistic_ else scores, low, high).astype(np.float32)


def is_logistic(loss: Loss, values: NDArray[np.floating]) -> bool:
    """Return whether a loss is the logistic one for these training values; ``SpecError`` where they are no chances."""
    if loss == "logistic" and (values.min() < 0 or values.max() > 1):
        what = f"the logistic loss is for values from 0 to 1, not from {values.min():g} to {values.max():g}"
        raise SpecError(what, where="loss", todo="take 'auto', or the task 'click'")
    return loss == "logistic" or (loss == "auto" and bool(np.isin(values, (0.0, 1.0)).all()))


def offsets(
    groups: NDArray[np.integer],
    base: Floats,
    values: Floats,
    n: int,
    l2: float,
    *,
    logistic: bool,
    weights: Floats | None = None,
) -> Floats:
    """Return float64[n], for each group the number that, added to ``base``, fits the group's values best.

    Squared loss: ``sum(w (value - base)) / (sum(w) + l2)``.  Logistic: Newton's steps from 0 on the
    loss with ``l2 / 8`` of the squared offset, which at even odds (p (1 - p) = 1/4) is as strong.  0 for
    a group without events.
    """
    w = np.ones(len(values)) if weights is None else weights
    if not logistic:
        return np.asarray(np.bincount(groups, w * (values - base), minlength=n) / (np.bincount(groups, w, minlength=n) + l2))
    b = np.zeros(n)
    for _ in range(_STEPS):
        p = _logistic(base + b[groups])
        slope = np.bincount(groups, w * (values - p), minlength=n) - l2 / 4 * b
        curve = np.bincount(groups, w * p * (1 - p), minlength=n) + l2 / 4
        b += np.clip(slope / curve, -_LONGEST, _LONGEST)
    return b


def _logistic(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))  # never overflows
