"""Made worlds: what is true of their users and items, so that every right answer is known.

A world draws each event of a user anew: with the chance ``sequence`` the user takes the next part of
the series that the last item belongs to; else a category by the user's taste, and in it an item by
its popularity.  Tastes and popularity move with time, from one state at the start to another at the
end.  ``llm4rec.data.walks`` draws the events, ``llm4rec.data.made`` writes tables and files.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from llm4rec.core import Config, DataError, Dataset, Queries, Ragged, SpecError, did_you_mean

#: The clock of every world starts here: 2000-01-01, in seconds UTC.
START = 946_684_800
DAY = 86_400
#: Stars: the mean of all ratings, and how far users' and items' own means lie apart (standard deviation).
MEAN, SPREAD = 3.0, 0.4

#: Parameters of worlds as large as known sets.
SHAPES: Final[Mapping[str, Mapping[str, int | float]]] = {
    "ml-100k": {"users": 943, "items": 1_682, "events": 100_000, "least": 20, "categories": 18},
    "ml-1m": {"users": 6_040, "items": 3_706, "events": 1_000_209, "least": 20, "categories": 18},
    "ml-25m": {"users": 162_541, "items": 62_423, "events": 25_000_095, "least": 20, "categories": 19, "activity": 1.2},
}


class WorldConfig(Config):
    """Parameters of a made world; equal ones make equal worlds."""

    users: int = Field(1000, ge=1)
    """Number of users."""
    items: int = Field(500, ge=2)
    """Number of items in the catalogue."""
    events: int = Field(50_000, ge=1)
    """Number of events."""
    least: int = Field(5, ge=1)
    """No user has fewer events."""
    activity: float = Field(1.0, ge=0, le=20)
    """Standard deviation of the logarithm of a user's events beyond ``least``; 0: all have as many."""
    categories: int = Field(10, ge=1)
    """Kinds of items."""
    breadth: float = Field(2.0, gt=0)
    """How many categories a user likes, about: total mass of the Dirichlet distribution of tastes.
    Small: one category a user; large: everybody has the same taste."""
    curiosity: float = Field(0.1, ge=0, le=1)
    """Share of everybody's taste in each user's, so that no item is out of reach."""
    popularity: float = Field(0.8, ge=0, le=20)
    """Zipf's exponent: the item of rank r is taken in proportion to ``r ** -popularity``."""
    sequence: float = Field(0.2, ge=0, lt=1)
    """Chance that an event is the next part of the last item's series."""
    series: int = Field(6, ge=2)
    """Parts of a series (about); after the last part comes the first."""
    taste_drift: float = Field(0.0, ge=0, le=1)
    """Share of a user's taste that another taste has replaced at the end of the span."""
    popularity_drift: float = Field(0.0, ge=0, le=1)
    """Share of the popularity that belongs to other items at the end of the span."""
    days: float = Field(1000.0, gt=0, le=1_000_000)
    """Span of the world in days."""
    active: float = Field(0.3, gt=0, le=1)
    """Share of the span over which a user's events are spread, about."""
    repeats: bool = False
    """May a user take an item again?  If not, what is drawn a second time is left out."""
    affinity: float = Field(1.5, ge=0)
    """Stars that an item gains by the user's taste being for its category alone; in proportion otherwise."""
    noise: float = Field(0.6, ge=0)
    """Standard deviation of ratings around their mean, in stars."""
    seed: int = Field(0, ge=0)
    """Draws everything."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.users * self.least > self.events:
            raise ValueError(f"{self.users} users with at least {self.least} events are more than {self.events} events")
        if self.categories > self.items:
            raise ValueError(f"{self.categories} categories for {self.items} items")
        if not self.repeats and self.events > self.users * self.longest:
            raise ValueError(
                f"without repeats {self.users} users take at most {self.longest} events each (a quarter of the items); "
                "take fewer events, more items, or repeats = true"
            )
        return self

    @property
    def longest(self) -> int:
        """Events of the most active user: a quarter of the items, if no item is taken twice."""
        return max(1, self.items // 4) if not self.repeats else self.events


def world_config(parameters: Mapping[str, Any]) -> WorldConfig:
    """Return the parameters checked; raises ``SpecError`` of one line for the first that does not hold."""
    try:
        return WorldConfig.model_validate(parameters)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        hint = did_you_mean(name, WorldConfig.model_fields) if first["type"] == "extra_forbidden" else ""
        said = first["msg"].removeprefix("Value error, ")
        raise SpecError(f"{name}: {said}" if name else said, where="made world", todo=hint) from None


class World:
    """What is true of a made world.  Users and items are numbered from 0; outside ids count from "1".

    Attributes:
        config: its parameters.
        category: int32[items].
        popularity: float64[2, items], an item's share of its category at the start and at the end.
        weight: float64[categories], a category's share of the popularity, at all times.
        taste: float64[2, users, categories], rows sum to 1, at the start and at the end.
        successor: int32[items], the next part of the item's series.
        series, part: int32[items], series (numbered through) and place in it, from 0.
    """

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        items, users = np.random.SeedSequence(config.seed).spawn(2)
        self._make_items(np.random.default_rng(items))
        self._make_users(np.random.default_rng(users))

    def __repr__(self) -> str:
        return f"World({self.config!r})"

    def _make_items(self, rng: np.random.Generator) -> None:
        c = self.config
        # Ranks are dealt to the categories like cards, a round at a time, each round in its own order.
        rounds = -(-c.items // c.categories)
        dealt = rng.permuted(np.tile(np.arange(c.categories), (rounds, 1)), axis=1).ravel()[: c.items]
        by_category = np.argsort(dealt, kind="stable")  # ranks: by category, then falling popularity
        #: int64[categories]: where a category's items start in this order, and how many there are
        self.size = np.bincount(dealt, minlength=c.categories)
        self.start = np.cumsum(self.size) - self.size
        weight = np.arange(1, c.items + 1, dtype=np.float64)[by_category] ** -c.popularity
        self.weight = np.add.reduceat(weight, self.start)
        category = np.repeat(np.arange(c.categories), self.size)
        share = weight / self.weight[category]
        self.weight = self.weight / self.weight.sum()
        # Series: neighbours in popularity, in random order.
        place = np.arange(c.items) - self.start[category]
        n_series = np.maximum(1, self.size // c.series)
        first = np.cumsum(n_series) - n_series
        series = first[category] + place * n_series[category] // self.size[category]
        shuffled = np.lexsort((rng.random(c.items), series))  # positions, series by series
        length = np.bincount(series)
        offset = np.cumsum(length) - length
        part = np.empty(c.items, np.int64)
        part[shuffled] = np.arange(c.items) - offset[series]
        # At the end of the span the series of a category stand in another order.
        number = rng.permutation(c.items)  # position -> item number
        rank = rng.random(len(length))
        end = np.lexsort((place, rank[series], category))  # position at the end -> position at the start
        #: int32[2, items]: the item at each position, at the start and at the end
        self.at = np.stack([number, number[end]]).astype(np.int32)
        self.popularity = np.empty((2, c.items))
        self.popularity[0, self.at[0]] = self.popularity[1, self.at[1]] = share
        #: float64[items]: where an item's share of its category ends, plus the category's number
        self.until = np.cumsum(share)
        self.until[self.start + self.size - 1] = np.arange(c.categories) + 1.0
        #: int64[items]: all items series by series, part by part; where a series starts, and its number of parts
        self.members, self.series_start, self.series_length = number[shuffled], offset, length
        self.category, self.series, self.part = (np.empty(c.items, np.int32) for _ in range(3))
        for known, values in ((self.category, category), (self.series, series), (self.part, part)):
            known[number] = values
        self.successor = self.ahead(np.arange(c.items), np.array(1)).astype(np.int32)
        self.item_bias = rng.normal(0, SPREAD, c.items)
        self.price = np.round(np.exp(rng.normal(2.5, 0.6, c.items) + rng.normal(0, 0.5, c.categories)[self.category]), 2)

    def _make_users(self, rng: np.random.Generator) -> None:
        c = self.config
        mass = rng.standard_gamma(np.broadcast_to(c.breadth * self.weight, (2, c.users, c.categories)))
        none = mass.sum(axis=2, keepdims=True) <= 0  # every gamma fell below the smallest number
        mass = np.where(none, self.weight, mass)
        self.taste = (1 - c.curiosity) * mass / mass.sum(axis=2, keepdims=True) + c.curiosity * self.weight
        self.user_bias = rng.normal(0, SPREAD, c.users)
        self.joined = rng.random(c.users) * (1 - c.active)  # share of the span at the first event, about

    def ahead(self, items: NDArray[np.integer], steps: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return int64[n], the items that stand so many parts further in their series."""
        length = self.series_length[self.series[items]]
        return np.asarray(self.members[self.series_start[self.series[items]] + (self.part[items] + steps) % length])

    # -- the truth ------------------------------------------------------------------------
    @cached_property
    def predecessor(self) -> NDArray[np.int32]:
        """int32[items], the part before this one in its series."""
        before = np.empty_like(self.successor)
        before[self.successor] = np.arange(len(before), dtype=np.int32)
        return before

    def share_of_span(self, times: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return float64[n] from 0 to 1: how much of the span has passed at times in s."""
        return np.clip((np.asarray(times) - START) / (self.config.days * DAY), 0.0, 1.0)

    def tastes(self, users: NDArray[np.integer], passed: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64[n, categories], each user's taste when a share of the span has passed; -1: nobody's."""
        late = (self.config.taste_drift * passed)[:, None]
        own = (1 - late) * self.taste[0, users] + late * self.taste[1, users]
        return np.where((np.asarray(users) < 0)[:, None], self.weight, own)

    def draws(self, users: NDArray[np.integer], times: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return float64[n, items]: the chance of each item where no series is followed."""
        passed = self.share_of_span(times)
        late = (self.config.popularity_drift * passed)[:, None]
        share = (1 - late) * self.popularity[0] + late * self.popularity[1]
        return np.asarray(share * self.tastes(users, passed)[:, self.category])

    def next_item(self, users: NDArray[np.integer], history: Ragged, times: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return float64[n, items], the chance of each item to be the user's next event.

        Args:
            users: int[n]; -1 for somebody with the average taste.
            history: the items of all of the user's events so far, oldest first.
            times: int64[n] s, of the next event.

        With repeats the chance is ``s [i follows the last item] + (1 - s) d(i)``, ``d`` being
        :meth:`draws` and s ``sequence``.  Without, draws of items that the user has are left out, but a
        series goes on from them: the chance is that of the first new item.  Let v(j) count the
        visits of items j of the history on the way there: ``v(j) = [j last] + s v(j's predecessor) +
        (1 - s) d(j) V``, ``V = sum_j v(j)``; a new item i has ``s v(i's predecessor) + (1 - s) d(i) V``.
        (Exact where nothing drifts; else as if all left out draws fell on the time of the event.)
        """
        s, n = self.config.sequence, len(history)
        draws = self.draws(users, times)
        rows = np.flatnonzero(history.lengths)
        last = history.values[history.offsets[rows + 1] - 1]
        if self.config.repeats:
            draws[rows] *= 1 - s
            draws[rows, self.successor[last]] += s
            return draws
        had = np.zeros(draws.shape, dtype=bool)
        had[history.rows, history.values] = True
        known = np.where(had, draws, 0.0)
        start = np.zeros(draws.shape)
        start[rows, last] = 1.0
        one, per_visit = self._along_series(start, had), self._along_series((1 - s) * known, had)
        visits = one.sum(axis=1) / (1 - per_visit.sum(axis=1))  # V
        visits[history.lengths == 0] = 1 / (1 - s)  # the first event of all is a draw
        v = one + per_visit * visits[:, None]
        chance = s * v[:, self.predecessor] + (1 - s) * draws * visits[:, None]
        return np.asarray(np.where(had, 0.0, chance)).reshape(n, -1)

    def _along_series(self, source: NDArray[np.float64], had: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return x with ``x(j) = source(j) + s x(predecessor of j)`` for j in ``had``, 0 elsewhere; all [n, items]."""
        s = self.config.sequence
        x = np.where(had, source, 0.0)
        step = x
        for _ in range(10_000):  # s ** i falls below what a float64 can add
            step = np.where(had, s * step[:, self.predecessor], 0.0)
            if not (step > 1e-17).any():
                break
            x = x + step
        return x

    def probabilities(self, dataset: Dataset, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, dataset.n_items]: what a recommender that knows the world would score.

        No ranking of unseen items has a higher expected recall, MRR or NDCG of the next event.

        Args:
            dataset: made from this world, or filtered from it: its outside ids are the world's.
            queries: with the ``history`` of each user; one in batches where memory is short
                (some 50 bytes a query and item).

        Raises:
            DataError: the data set has other ids than the world.
        """
        users, items = self._numbers(dataset.users.ids, self.config.users), self._numbers(dataset.items.ids, self.config.items)
        asked = np.where(queries.users < 0, -1, users[queries.users])
        history = Ragged(queries.history.offsets, items[queries.history.values].astype(np.int32))
        return self.next_item(asked, history, queries.times)[:, items].astype(np.float32)

    def ratings(
        self, users: NDArray[np.integer], items: NDArray[np.integer], times: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Return float64[n], the mean of a user's rating of an item (numbers of the world) before noise and rounding."""
        late = self.config.taste_drift * self.share_of_span(times)
        kind = self.category[items]
        own = (1 - late) * self.taste[0, users, kind] + late * self.taste[1, users, kind]
        return np.asarray(MEAN + self.user_bias[users] + self.item_bias[items] + self.config.affinity * own)

    @staticmethod
    def _numbers(ids: tuple[str, ...], n: int) -> NDArray[np.int64]:
        try:
            numbers = np.array(ids, dtype=np.int64) - 1
        except ValueError:
            numbers = np.array([-1])
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= n):
            raise DataError(f"the data set is not of this world: its ids are not 1 to {n}", todo="make it with the same config")
        return numbers
