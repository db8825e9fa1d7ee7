"""Made worlds: what is asked for is what comes out, and the known answers are the best ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llm4rec.core import DataError, Lists, Queries, Ragged
from llm4rec.core.columns import ITEM, TIME, USER, VALUE
from llm4rec.data import DataConfig, World, WorldConfig, load, make, make_split, read
from llm4rec.data.made import write
from llm4rec.data.walks import walks
from llm4rec.data.world import SHAPES
from llm4rec.metrics import evaluate
from llm4rec.models.ease import EASE
from llm4rec.models.popular import Popular

SMALL: dict[str, Any] = {
    "users": 2_000, "items": 120, "events": 28_000, "least": 8, "categories": 6, "activity": 0.3,
}  # fmt: skip


def last_events(config: WorldConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return float64[users, items], the chance of each item to be each user's last event, and the items that were."""
    world, drawn = World(config), walks(World(config))
    n = np.bincount(drawn.user)
    end = np.cumsum(n) - 1
    before = np.ones(len(drawn.user), dtype=bool)
    before[end] = False
    history = Ragged.from_lengths(n - 1, drawn.item[before])
    return world.next_item(np.arange(len(n)), history, drawn.time[end]), drawn.item[end]


@st.composite
def configs(draw: st.DrawFn) -> WorldConfig:
    users, items = draw(st.integers(1, 40)), draw(st.integers(12, 60))
    return WorldConfig(
        users=users,
        items=items,
        events=draw(st.integers(2 * users, users * (items // 4))),
        least=draw(st.integers(1, 2)),
        activity=draw(st.floats(0, 2)),
        categories=draw(st.integers(1, 6)),
        breadth=draw(st.floats(0.2, 20)),
        popularity=draw(st.floats(0, 1)),
        sequence=draw(st.floats(0, 0.9)),
        series=draw(st.integers(2, 9)),
        taste_drift=draw(st.floats(0, 1)),
        popularity_drift=draw(st.floats(0, 1)),
        repeats=draw(st.booleans()),
        seed=draw(st.integers(0, 3)),
    )


@given(configs())
@settings(max_examples=60, deadline=None)
def test_every_world_has_what_was_asked_for(config: WorldConfig) -> None:
    world, drawn = World(config), walks(World(config))
    assert len(drawn.user) == config.events
    n = np.bincount(drawn.user, minlength=config.users)
    assert len(n) == config.users
    assert n.min() >= config.least
    assert 0 <= drawn.item.min() <= drawn.item.max() < config.items
    same = drawn.user[1:] == drawn.user[:-1]
    assert (np.diff(drawn.time)[same] >= 0).all()
    assert set(np.unique(drawn.value * 2)) <= set(range(1, 11))
    if not config.repeats:
        assert len(np.unique(drawn.user.astype(np.int64) * config.items + drawn.item)) == config.events
    assert (world.category[world.successor] == world.category).all()
    assert np.array_equal(np.sort(world.successor), np.arange(config.items))
    assert np.bincount(world.category).max() - np.bincount(world.category).min() <= 1
    np.testing.assert_allclose(world.taste.sum(axis=2), 1)
    for state in (0, 1):
        np.testing.assert_allclose(np.bincount(world.category, weights=world.popularity[state]), 1)
    history = Ragged.from_lengths(n, drawn.item)
    chance = world.next_item(np.arange(config.users), history, np.full(config.users, drawn.time.max()))
    np.testing.assert_allclose(chance.sum(axis=1), 1)
    if not config.repeats:
        assert (chance[history.rows, history.values] == 0).all()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"sequence": 0.6},
        {"sequence": 0.0},
        {"sequence": 0.5, "repeats": True},
        {"taste_drift": 1.0, "popularity_drift": 0.8},
    ],
    ids=str,
)
def test_the_chances_are_those_of_the_events(asked: dict[str, Any]) -> None:
    """Each item is the last event as often as the chances say, and so is each rank of the best list."""
    chance, item = last_events(WorldConfig(**SMALL, **asked))
    users = np.arange(len(item))

    def agree(expected: np.ndarray, seen: np.ndarray, variance: np.ndarray) -> None:
        assert np.abs(seen - expected).max() <= 4.5 * np.sqrt(variance.max()) + 1e-9

    agree(chance.sum(axis=0), np.bincount(item, minlength=120), (chance * (1 - chance)).sum(axis=0))
    order = np.argsort(-chance, axis=1)
    ranked = np.take_along_axis(chance, order, 1)
    rank = np.argsort(order, axis=1)[users, item]
    agree(ranked.sum(axis=0), np.bincount(rank, minlength=120), (ranked * (1 - ranked)).sum(axis=0))


def test_no_list_beats_the_known_answer() -> None:
    log, world = make(**SMALL, sequence=0.3)
    split = make_split(log)
    cases = split.test
    chance = world.probabilities(log, cases.queries)
    assert chance.dtype == np.float32
    found = {}
    for name, scores in {
        "known": chance,
        "popular": np.broadcast_to(split.train.item_counts, chance.shape),
        "series": (chance > world.config.sequence / 2) + 1e-6 * split.train.item_counts,
        "tastes": world.draws(np.array(log.users.ids, int)[cases.queries.users] - 1, cases.queries.times)[
            :, np.array(log.items.ids, int) - 1
        ],
    }.items():
        lists = Lists.from_scores(scores, 10, exclude=cases.seen)
        found[name] = evaluate(lists, cases.truth, ["ndcg@10"])["ndcg@10"].mean()
    assert found["known"] > max(found["series"], found["tastes"]) > found["popular"]
    best = -np.sort(-chance, axis=1)[:, :10] @ (1 / np.log2(np.arange(2, 12)))  # what it should reach
    assert found["known"] == pytest.approx(best.mean(), abs=4 * best.std() / np.sqrt(len(best)) + 0.02)


def test_a_model_finds_what_is_hidden_in_the_events() -> None:
    """EASE sees neither categories nor series; its weights tell the first, and it stays below the known answer."""
    log, world = make(users=1_500, items=300, events=45_000, breadth=1.0)
    split = make_split(log)
    ndcg = {}
    for model in (EASE(), Popular()):
        model.fit(split.train, valid=split.valid, rng=np.random.default_rng(0))
        lists = model.retrieve(split.test.queries, 10, exclude=split.test.seen)
        ndcg[type(model).__name__] = evaluate(lists, split.test.truth, ["ndcg@10"])["ndcg@10"].mean()
        if isinstance(model, EASE):
            kind = world.category[np.array(log.items.ids, int) - 1]
            same = (kind[:, None] == kind) & ~np.eye(300, dtype=bool)
            apart = kind[:, None] != kind
            assert model.weights_[same].mean() > 10 * abs(model.weights_[apart].mean())
    known = Lists.from_scores(world.probabilities(log, split.test.queries), 10, exclude=split.test.seen)
    best = evaluate(known, split.test.truth, ["ndcg@10"])["ndcg@10"].mean()
    assert best - 0.05 > ndcg["EASE"] > ndcg["Popular"] + 0.05


@pytest.mark.parametrize("slope", [0.5, 1.0])
def test_popularity_has_the_slope_asked_for(slope: float) -> None:
    drawn = walks(World(WorldConfig(users=4_000, items=2_000, events=400_000, popularity=slope, repeats=True, activity=0.1)))
    counts = -np.sort(-np.bincount(drawn.item, minlength=2_000))
    rank = np.arange(1, 2_001)
    middle = slice(5, 1_000)  # the tail of small counts bends
    fitted = np.polyfit(np.log(rank[middle]), np.log(counts[middle]), 1)[0]
    assert fitted == pytest.approx(-slope, abs=0.08)


def test_drift_moves_tastes_and_popularity() -> None:
    def shares(**drift: float) -> tuple[float, float]:
        config = WorldConfig(**SMALL, sequence=0.0, repeats=True, active=1.0, breadth=0.5, **drift)
        world, drawn = World(config), walks(World(config))
        late = world.share_of_span(drawn.time) > 0.5
        own = world.category[drawn.item] == world.taste[0, drawn.user].argmax(axis=1)
        early_counts, late_counts = (np.bincount(drawn.item[part], minlength=120) for part in (~late, late))
        return own[~late].mean() - own[late].mean(), float(np.corrcoef(early_counts, late_counts)[0, 1])

    still, steady = shares()
    assert abs(still) < 0.02
    assert steady > 0.97
    assert shares(taste_drift=1.0)[0] > 0.2
    assert shares(popularity_drift=1.0)[1] < 0.6


def test_sequences_are_as_strong_as_asked() -> None:
    config = WorldConfig(**SMALL, repeats=True, sequence=0.4)
    world, drawn = World(config), walks(World(config))
    same = drawn.user[1:] == drawn.user[:-1]
    follows = world.successor[drawn.item[:-1]] == drawn.item[1:]
    assert follows[same].mean() == pytest.approx(0.4, abs=0.02)  # and a little by chance


def test_ratings_are_their_means_with_noise() -> None:
    config = WorldConfig(**SMALL, noise=0.3)
    world, drawn = World(config), walks(World(config))
    error = drawn.value - np.clip(world.ratings(drawn.user, drawn.item, drawn.time), 0.5, 5)
    assert abs(error.mean()) < 0.02
    assert error.std() == pytest.approx(np.sqrt(0.3**2 + 0.5**2 / 12), abs=0.03)


def test_text_tells_category_and_series_and_nothing_else() -> None:
    log, world = make(**{**SMALL, "categories": 20, "items": 200})
    table = log.item_table.to_dicts()
    number = np.array(log.items.ids, int) - 1
    words: dict[int, set[str]] = {}
    titles: dict[int, set[str]] = {}
    for row, item in zip(table, number.tolist(), strict=True):
        said = row["description"].removeprefix("About ").removesuffix(".").replace(" and ", ", ").split(", ")
        words.setdefault(int(world.category[item]), set()).update(said)
        titles.setdefault(int(world.series[item]), set()).add(row["title"].split(", part ")[0])
        assert row["title"].endswith(f"part {world.part[item] + 1}")
        assert row["price"] > 0
    assert all(len(w) == 8 for w in words.values())
    assert len(set.union(*words.values())) == 8 * 20
    assert all(len(t) == 1 for t in titles.values())
    assert len(set.union(*titles.values())) == len(titles)


def test_the_same_parameters_make_the_same_world() -> None:
    log, world = make(**SMALL)
    assert load(DataConfig(make=WorldConfig(**SMALL))).fingerprint() == log.fingerprint()
    assert make(**SMALL, seed=1)[0].fingerprint() != log.fingerprint()
    dearer = make(**SMALL, noise=2.0)[0]  # one parameter moves what it is about
    assert dearer.events.drop(VALUE).equals(log.events.drop(VALUE))
    assert "12" in repr(world)


def test_files_have_movielens_shape(tmp_path: Path) -> None:
    log, world = make(**SMALL)
    write(world, tmp_path)
    assert (tmp_path / "ratings.csv").read_text().startswith("userId,movieId,rating,timestamp\n1,")
    back = read(tmp_path / "ratings.csv", tmp_path / "movies.csv")
    assert (back.users, back.items) == (log.users, log.items)
    assert back.events.sort(USER, ITEM).equals(log.events.sort(USER, ITEM))
    ids = [int(u) for u in back.users.decode(back.events[USER])]
    assert ids == sorted(ids)
    assert back.events[TIME].to_list() != log.events[TIME].to_list()  # by item, as MovieLens has it
    assert set(back.item_table.columns) == {"item", "title", "genres", "description", "price"}


@pytest.mark.parametrize("shape", ["ml-100k", "ml-1m"])
def test_shapes_of_known_sets(shape: str) -> None:
    config = WorldConfig.model_validate(SHAPES[shape])
    drawn = walks(World(config))
    assert (len(drawn.user), drawn.user.max() + 1) == (config.events, config.users)
    assert 20 <= np.bincount(drawn.user).min() < 25


def test_what_cannot_be_made_is_said() -> None:
    with pytest.raises(ValidationError, match="at most 25 events each"):
        WorldConfig(users=10, items=100, events=1_000)
    with pytest.raises(ValidationError, match="more than 40 events"):
        WorldConfig(users=10, items=100, events=40)
    for endless in ({"activity": 1000.0}, {"popularity": 1000.0}, {"days": 1e300}):  # beyond what numbers can hold
        with pytest.raises(ValidationError, match="less than or equal to"):
            WorldConfig.model_validate(endless)
    with pytest.raises(ValidationError, match="categories for 2 items"):
        WorldConfig(users=1, items=2, events=5, categories=3, repeats=True)
    with pytest.raises(DataError, match="find too few new items"):
        make(users=1, items=200, events=50, categories=2, popularity=9.0, curiosity=0.0)
    log, _ = make(**SMALL)
    with pytest.raises(DataError, match="not of this world"):
        World(WorldConfig(users=10, items=100, events=100)).probabilities(log, Queries.of(Ragged.empty(1)))
    with pytest.raises(ValidationError, match="give either set, path or make"):
        DataConfig(set="ml-100k", make=WorldConfig())
