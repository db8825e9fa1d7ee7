"""The tables and files of a made world: events, a catalogue with texts and prices, users.

An item's title names its series by two words of its category and its part, its description draws
further words of the category: so text tells the category and the series, and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core.columns import BEHAVIOR, ITEM, TIME, USER, VALUE
from llm4rec.data.tables import Tables
from llm4rec.data.walks import walks
from llm4rec.data.world import World

#: Category -> its words.  Categories beyond these have made words.
WORDS: Final = {
    "space": "galaxy astronaut rocket planet orbit comet alien starship",
    "cooking": "kitchen recipe chef bakery spice dinner oven flavour",
    "football": "goalkeeper stadium striker penalty referee league kickoff midfield",
    "music": "violin concert melody orchestra singer rhythm piano chorus",
    "ocean": "submarine coral whale harbour sailor lighthouse anchor tide",
    "crime": "detective murder alibi heist suspect sheriff prison evidence",
    "medicine": "surgeon hospital vaccine nurse diagnosis patient clinic therapy",
    "gardening": "orchard tulip greenhouse compost lawn hedge seedling pruning",
    "history": "empire castle medieval dynasty crusade pharaoh archive monarch",
    "computers": "programmer algorithm hacker server keyboard software robot database",
    "fashion": "runway designer velvet corset tailor handbag couture silk",
    "mountains": "summit glacier climber avalanche valley cabin ridge alpine",
    "money": "banker stock inflation mortgage fortune trader dividend loan",
    "school": "teacher homework classroom exam graduation campus pupil lecture",
    "magic": "wizard potion dragon spell wand sorcerer prophecy goblin",
    "travel": "passport airport luggage hostel itinerary souvenir train island",
}
_SOUNDS: Final = ("ba", "ko", "mi", "ru", "te", "la", "vo", "zu", "ne", "shi", "fa", "do", "pel", "tor", "gan", "wix")
_WORDS_EACH: Final = 8


def tables(world: World) -> Tables:
    """Draw a world's events and return its tables, under outside ids "1", "2", ..."""
    drawn = walks(world)
    events = pl.DataFrame(
        {
            USER: drawn.user + 1,
            ITEM: drawn.item + 1,
            TIME: drawn.time,
            VALUE: drawn.value,
            BEHAVIOR: pl.repeat("interaction", len(drawn.user), dtype=pl.Enum(["interaction"]), eager=True),
        }
    )
    users = pl.DataFrame({USER: _ids(world.config.users), "likes": _names(world)[world.taste[0].argmax(axis=1)]})
    return Tables("made", events, catalogue(world), users, "utc", True, {"source": "made"})


def catalogue(world: World) -> pl.DataFrame:
    """Return one row an item: ``item``, ``title``, ``category``, ``description``, ``price``."""
    words = _words(world.config.categories)
    kind = world.category
    # A series' name is two words of the category, its part a number.
    first = world.series % _WORDS_EACH
    second = (first + 1 + world.series // _WORDS_EACH % (_WORDS_EACH - 1)) % _WORDS_EACH
    rng = np.random.default_rng(np.random.SeedSequence(world.config.seed).spawn(5)[4])
    told = rng.permuted(np.tile(np.arange(_WORDS_EACH), (len(kind), 1)), axis=1)[:, :4]  # [items, 4]
    word = [pl.Series(f"word{i}", words[kind, told[:, i]]) for i in range(4)]
    frame = pl.DataFrame(
        [
            pl.Series(ITEM, _ids(world.config.items)),
            pl.Series("first", words[kind, first]),
            pl.Series("second", words[kind, second]),
            pl.Series("number", world.series),
            pl.Series("part", world.part + 1),
            pl.Series("category", _names(world)[kind]),
            pl.Series("price", world.price),
            *word,
        ]
    )
    return frame.select(
        ITEM,
        pl.format("{} {} {}, part {}", pl.col("first").str.to_titlecase(), "second", "number", "part").alias("title"),
        "category",
        pl.format("About {}, {}, {} and {}.", "word0", "word1", "word2", "word3").alias("description"),
        "price",
    )


def write(world: World, folder: Path) -> None:
    """Write ``ratings.csv`` and ``movies.csv`` as MovieLens-25M has them: by user, then item."""
    folder.mkdir(parents=True, exist_ok=True)
    made = tables(world)
    ratings = made.events.sort(USER, ITEM).select(
        pl.col(USER).alias("userId"),
        pl.col(ITEM).alias("movieId"),
        pl.col(VALUE).alias("rating"),
        pl.col(TIME).alias("timestamp"),
    )
    ratings.write_csv(folder / "ratings.csv", float_precision=1)
    assert made.items is not None
    movies = made.items.rename({ITEM: "movieId", "category": "genres"})
    movies.select("movieId", "title", "genres", "description", "price").write_csv(folder / "movies.csv")


def _ids(n: int) -> pl.Series:
    return pl.int_range(1, n + 1, eager=True).cast(pl.String)


def _names(world: World) -> NDArray[np.object_]:
    """Return object[categories], the categories' names."""
    known = list(WORDS)[: world.config.categories]
    return np.array(known + [_made_word(i) for i in range(len(known), world.config.categories)], dtype=object)


def _words(categories: int) -> NDArray[np.object_]:
    """Return object[categories, 8], each category's words; no word is in two."""
    known = [words.split() for words in WORDS.values()][:categories]
    made = [[_made_word(i) + _SOUNDS[j] for j in range(_WORDS_EACH)] for i in range(len(known), categories)]
    return np.array(known + made, dtype=object)


def _made_word(number: int) -> str:
    """Return a word of three or more sounds; another for each number."""
    sounds = []
    for _ in range(3):
        number, sound = divmod(number, len(_SOUNDS))
        sounds.append(_SOUNDS[sound])
    return "".join(sounds) + ("" if not number else str(number))
