"""The events of a made world, drawn for many users at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import DataError
from llm4rec.core.order import first_of_each, stable_order
from llm4rec.data.world import DAY, START, World

#: Events drawn at once; bounds memory at some 100 bytes each.
_BLOCK = 2_000_000
#: Rounds of drawing after which a user who finds nothing new is given up on; each draws twice as much.
_ROUNDS = 16


@dataclass(frozen=True)
class Walks:
    """``m`` events under the world's numbers, by user, then in the order in which they were drawn.

    Attributes:
        user, item: int32[m].
        time: int64[m], seconds UTC, never falling within a user.
        value: float32[m], stars from 0.5 to 5 in halves.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time: NDArray[np.int64]
    value: NDArray[np.float32]


def walks(world: World) -> Walks:
    """Draw all events of a world.

    Raises:
        DataError: users find no new items though they draw and draw.
    """
    c = world.config
    lengths, events = np.random.SeedSequence(c.seed).spawn(4)[2:]  # the first two draw items and users
    n = _lengths(world, np.random.default_rng(lengths))
    # Users are cut into blocks of about as many events, each with its own stream of chance.
    block = np.cumsum(n) // _BLOCK
    bounds = np.flatnonzero(np.diff(block, prepend=-1, append=block[-1] + 1))
    rngs = np.random.default_rng(events).spawn(len(bounds) - 1)
    parts = [_walk(world, np.arange(a, b), n[a:b], rng) for a, b, rng in zip(bounds, bounds[1:], rngs, strict=False)]
    return Walks(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("user", "item", "time", "value")))


def _lengths(world: World, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return int64[users], how many events each user has; they sum to what was asked for."""
    c = world.config
    n = np.full(c.users, c.least, dtype=np.int64)
    weight = np.exp(rng.normal(0, c.activity, c.users))
    while (left := c.events - int(n.sum())) > 0:
        room = np.where(n < c.longest, weight, 0.0)
        more = np.floor(left * room / room.sum()).astype(np.int64)
        if not more.any():  # fewer are left than there are users
            open_ = np.flatnonzero(n < c.longest)
            more[rng.choice(open_, min(left, len(open_)), replace=False)] = 1
        n = np.minimum(n + more, c.longest)
    return n


def _walk(world: World, users: NDArray[np.int64], n: NDArray[np.int64], rng: np.random.Generator) -> Walks:
    """Draw until each of the users has n events."""
    c = world.config
    pens = _Pens(
        users,
        last=np.full(len(users), -1, dtype=np.int64),
        clock=START + world.joined[users] * c.days * DAY,
        gap=c.active * c.days * DAY / n,
    )
    wanted = np.arange(len(users))
    drawn = np.empty((3, 0), dtype=np.int64)  # of users who have not enough yet: number in the block, item, time
    kept = []
    for turn in range(_ROUNDS):
        missing = n[wanted] - np.bincount(drawn[0], minlength=len(users))[wanted]
        count = missing if c.repeats else (missing * 1.2 ** (turn + 1)).astype(np.int64) + 4 * 2**turn
        drawn = np.concatenate([drawn, _draw(world, pens, wanted, count, rng)], axis=1)
        drawn = drawn[:, stable_order(drawn[0])]
        if not c.repeats:
            drawn = drawn[:, first_of_each(drawn[0] * c.items + drawn[1])]
        # A user stops at the event that makes n, not after a number of draws: so nothing about the last
        # event tells that it was the last.
        found = np.bincount(drawn[0], minlength=len(users))
        place = np.arange(drawn.shape[1]) - (np.cumsum(found) - found)[drawn[0]]
        enough = found >= n
        kept.append(drawn[:, enough[drawn[0]] & (place < n[drawn[0]])])
        drawn, wanted = drawn[:, ~enough[drawn[0]]], wanted[~enough[wanted]]
        if not len(wanted):
            break
    else:
        raise DataError(
            f"{len(wanted)} users of a made world find too few new items",
            todo="lower popularity or sequence, raise curiosity, breadth or items, or set repeats = true",
        )
    whole = np.concatenate(kept, axis=1)
    local, item, time = whole[:, stable_order(whole[0])]
    stars = world.ratings(users[local], item, time) + rng.normal(0, c.noise, len(item))
    value = np.clip(np.round(stars * 2) / 2, 0.5, 5.0)
    return Walks(users[local].astype(np.int32), item.astype(np.int32), time, value.astype(np.float32))


@dataclass
class _Pens:
    """Where each user of a block stands: who it is, the last item (-1: none), the time in s, the mean step in s."""

    users: NDArray[np.int64]
    last: NDArray[np.int64]
    clock: NDArray[np.float64]
    gap: NDArray[np.float64]


def _draw(
    world: World, pens: _Pens, wanted: NDArray[np.int64], count: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return int64[3, m], the next ``count`` draws of the wanted users: number in the block, item, time; move the pens."""
    c, m = world.config, int(count.sum())
    first = np.cumsum(count) - count
    end = first + count - 1
    local = np.repeat(wanted, count)

    steps = rng.exponential(size=m) * pens.gap[local]
    passed = np.cumsum(steps)
    passed += np.repeat(pens.clock[wanted] - (passed[first] - steps[first]), count)
    time = passed.astype(np.int64)
    pens.clock[wanted] = passed[end]
    share = world.share_of_span(time)

    # A draw by taste and popularity for every event, used or not.
    late = (rng.random(m) < c.taste_drift * share).astype(np.int64)
    upto = np.cumsum(world.taste[:, pens.users], axis=2, dtype=np.float32)  # [2, users of the block, categories]
    chance = rng.random(m, dtype=np.float32)
    kind = np.empty(m, dtype=np.int64)
    for begin in range(0, m, 1 << 18):
        rows = slice(begin, begin + (1 << 18))
        kind[rows] = (chance[rows, None] >= upto[late[rows], local[rows], :-1]).sum(axis=1)
    late = (rng.random(m) < c.popularity_drift * share).astype(np.int64)
    at = np.searchsorted(world.until, kind + rng.random(m), side="right")
    item = world.at[late, np.clip(at, world.start[kind], world.start[kind] + world.size[kind] - 1)].astype(np.int64)

    # Who follows a series stands as many parts behind the last draw as steps have been taken since.
    follows = rng.random(m) < c.sequence
    follows[first] &= pens.last[wanted] >= 0
    here = np.arange(m)
    origin = np.maximum.accumulate(np.where(follows, 0, here))
    started = np.repeat(first, count)
    before = origin < started  # the walk goes on from the item before these draws
    steps_on = np.where(before, here - started + 1, here - origin)
    item = world.ahead(np.where(before, pens.last[local], item[origin]), steps_on)
    pens.last[wanted] = item[end]
    return np.stack([local, item, time])
