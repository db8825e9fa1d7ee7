"""The named sets: where each comes from, its terms, and how its files become tables.

Films are told by ``title``, ``year`` (Int32, null where unknown) and ``genres`` (List[String]);
``docs/data.md`` lists every column.  Nothing here is shipped with the package: ``ml-100k`` is an
asset, the other sets are read from a folder that the user has (see ``local``).
"""

from __future__ import annotations

import csv
import gzip
import html
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from llm4rec import assets
from llm4rec.core import DataError, did_you_mean
from llm4rec.core.columns import BEHAVIOR, ITEM, TIME, USER, VALUE
from llm4rec.data.formats import Table, opened
from llm4rec.data.source import Source, guarded
from llm4rec.data.tables import Tables, read_catalogue, read_events


@dataclass(frozen=True, slots=True)
class SetInfo:
    """What is known of a named set without loading it.

    Attributes:
        name, about: key and one line on it.
        licence, citation: as stated by the authors.
        origin: where the authors publish it, or the copy that these files follow.
        users, items, events: of the whole set, before any rule.
        place: ``"asset"`` (downloaded once) or the folder's name below ``LLM4REC_SHARED``.
        files: needed in that folder (each may be packed as ``.gz``).
    """

    name: str
    about: str
    licence: str
    citation: str
    origin: str
    users: int
    items: int
    events: int
    place: str
    files: tuple[str, ...] = ()

    @property
    def available(self) -> bool:
        """Could it be loaded now without a download?"""
        if self.place == "asset":
            return assets.is_cached(self.name)
        return any(self.missing(folder) == () for folder in _folders(self))

    def missing(self, folder: Path) -> tuple[str, ...]:
        """Return the files that the folder lacks."""
        return tuple(f for f in self.files if not (folder / f).is_file() and not (folder / f"{f}.gz").is_file())


def sets() -> list[SetInfo]:
    """Return every named set, by name."""
    return [info for info, _ in _SETS.values()]


def named(name: str) -> Tables:
    """Return a named set's tables.

    Raises:
        DataError: there is no such set (with the nearest name), or its files are not here.
        AssetError: it has to be downloaded and cannot be.
    """
    if name not in _SETS:
        raise DataError(f"unknown data set {name!r}", todo=did_you_mean(name, _SETS))
    info, read = _SETS[name]
    return read(assets.fetch(name) if info.place == "asset" else local(info))


def _folders(info: SetInfo) -> list[Path]:
    if given := os.environ.get("LLM4REC_SHARED"):
        return [Path(given).expanduser() / info.place]
    beside = [Path.cwd().parent, Path(__file__).resolve().parents[3].parent]  # of the working folder, of a checkout
    return [*(b / "shared" / "data" / info.place for b in beside), assets.home() / "sets" / info.place]


def local(info: SetInfo) -> Path:
    """Return the folder that holds the set: below ``LLM4REC_SHARED`` if that is set, else below
    ``../shared/data`` (of the working folder or the checkout), else in the cache under ``sets``.
    """
    folders = _folders(info)
    for folder in folders:
        if not info.missing(folder):
            return folder
    raise DataError(
        f"{info.name} is not on this machine (looked in {', '.join(dict.fromkeys(map(str, folders)))})",
        todo=f"put {', '.join(info.files)} from {info.origin} into {folders[-1]}, or set LLM4REC_SHARED",
    )


# -- reading --------------------------------------------------------------------------------
def _file(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_file() else folder / f"{name}.gz"


def _open(folder: Path, name: str, table: Table) -> Source:
    return opened(_file(folder, name), table, format="auto", encoding="utf-8", names=None)


def _text(folder: Path, name: str) -> str:
    path = _file(folder, name)

    def read() -> str:
        return (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()

    return guarded(path, read)


def _json(folder: Path, name: str) -> Any:
    return guarded(_file(folder, name), lambda: json.loads(_text(folder, name)))


def _sequences(user: pl.Series, items: pl.Series) -> pl.DataFrame:
    """Return events of lists of item ids, one list a user; ``time`` is the place in the list."""
    return (
        pl.DataFrame({USER: user, ITEM: items})
        .explode(ITEM)
        .with_columns(
            pl.int_range(pl.len()).over(USER).cast(pl.Int64).alias(TIME),
            pl.lit(1.0, pl.Float32).alias(VALUE),
            pl.lit("interaction").alias(BEHAVIOR),
        )
    )


_ARTICLE = r"The|An|A|Les|Le|La|L'|Der|Die|Das|Den|Det|Il|Lo|El|Los|Las|Une|Un|O"


def titled(items: pl.DataFrame) -> pl.DataFrame:
    """Return films with ``title`` and ``year`` apart and articles in front.

    A trailing "(1995)" or "(1995-1999)" leaves the title and becomes the year where there is none
    yet; "Matrix, The" becomes "The Matrix", also within brackets.
    """
    year = pl.col("year") if "year" in items.columns else pl.lit(None, pl.String)
    title = pl.col("title").str.strip_chars()
    within = title.str.extract(r"\((\d{4})(?:[-–](?:\d{4})?)?\)$")
    bare = title.str.replace(r"\s*\(\d{4}(?:[-–](?:\d{4})?)?\)$", "")
    fronted = (
        bare.str.replace(rf"^([^(]+), ({_ARTICLE})( \(.*)?$", "${2} ${1}${3}")
        .str.replace(rf"\(([^()]+), ({_ARTICLE})\)", "(${2} ${1})")
        .str.replace_all("L' ", "L'", literal=True)
    )
    return items.with_columns(
        fronted.alias("title"), pl.coalesce(year.cast(pl.Int32, strict=False), within.cast(pl.Int32)).alias("year")
    )


def _ml_100k(folder: Path) -> Tables:
    events, clock, _ = read_events(_open(folder, "ml-100k.inter", "events"), {}, "auto")
    items = read_catalogue(_open(folder, "ml-100k.item", "items"), ITEM, {}, {})
    users = read_catalogue(_open(folder, "ml-100k.user", "users"), USER, {}, {})
    items = items.rename({"movie_title": "title", "release_year": "year", "class": "genres"})
    items = titled(items.with_columns(pl.col("title").replace("unkonwn", "unknown")))
    return Tables("ml-100k", events, items, users, clock, True)


def _movietweetings(folder: Path) -> Tables:
    events, clock, _ = read_events(_open(folder, "ratings.dat", "events"), {}, "auto")
    items = read_catalogue(_open(folder, "movies.dat", "items"), ITEM, {}, {})
    return Tables("movietweetings", events, titled(items).select(ITEM, "title", "year", "genres"), None, clock, True)


def _ml_latest_small(folder: Path) -> Tables:
    events, clock, _ = read_events(_open(folder, "ratings.csv", "events"), {}, "auto")
    items = titled(read_catalogue(_open(folder, "movies.csv", "items"), ITEM, {}, {})).select(ITEM, "title", "year", "genres")
    tags = _open(folder, "tags.csv", "events")
    given = tags.collect(tags.frame.select(pl.col("movieId").alias(ITEM), "tag", pl.col("timestamp").cast(pl.Int64)))
    by_item = given.sort("timestamp", maintain_order=True).group_by(ITEM).agg(pl.col("tag").unique(maintain_order=True))
    items = items.join(by_item.rename({"tag": "tags"}), on=ITEM, how="left", maintain_order="left")
    return Tables("ml-latest-small", events, items, None, clock, True)


def _amazon14_beauty(folder: Path) -> Tables:
    """The attribute codes count only attributes of at least 5 items, in the order of ``datamaps``
    (each of the 637 then has the number of items that ``datamaps`` states); the codes of the semantic
    ids start at item 0, those of the sequences at item 1.
    """
    maps = _json(folder, "datamaps.json")
    asin = maps["id2item"]
    frequent = [name for code, name in maps["id2attribute"].items() if maps["attributeid2num"][code] >= 5]
    attributes = {
        asin[i]: [frequent[code - 1] for code in codes] for i, codes in _json(folder, "Beauty_item2attributes.json").items()
    }
    semantic = {asin[str(int(i) + 1)]: codes for i, codes in _json(folder, "rqvae_semantic_ids.json").items()}
    rows = pl.Series(_text(folder, "Beauty.txt").splitlines()).str.split(" ")
    user = rows.list.first().replace_strict(maps["id2user"])
    items = rows.list.slice(1).list.eval(pl.element().replace_strict(asin))
    keywords = dict(line.split(" ", 1) for line in _text(folder, "item_keywords.txt").splitlines())
    known = pl.DataFrame({ITEM: list(asin.values())}).with_columns(
        pl.Series("keywords", [keywords.get(a) for a in asin.values()], dtype=pl.String),
        pl.Series("attributes", [attributes.get(a) for a in asin.values()], dtype=pl.List(pl.String)),
        pl.Series("semantic_id", [semantic.get(a) for a in asin.values()], dtype=pl.List(pl.String)),
    )
    return Tables("amazon14-beauty", _sequences(user, items), known, None, "order")


def _amazon18_office(folder: Path) -> Tables:
    """Each row shows up to 10 items before the next one; a user's rows follow one another without a
    gap, so the first row's history and then every row's next item is the longest known sequence.
    """
    rows = pl.concat(
        [
            source.collect(source.frame.select("user_id", "history_item_id", "item_id"))
            for source in (_open(folder, "valid.csv", "events"), _open(folder, "test.csv", "events"))
        ]
    )
    users = rows.group_by("user_id", maintain_order=True).agg(pl.col("history_item_id").first(), pl.col("item_id"))
    history = users["history_item_id"].str.strip_chars("[]").str.split(", ")
    events = _sequences(users["user_id"], history.list.concat(users["item_id"]))
    catalogue, semantic = _json(folder, "item.json"), _json(folder, "semantic_ids.json")
    items = pl.DataFrame(
        {
            ITEM: list(catalogue),
            "title": [html.unescape(item["title"]) for item in catalogue.values()],
            "brand": [html.unescape(item["brand"]) or None for item in catalogue.values()],
            "description": [html.unescape(item["description"]) for item in catalogue.values()],
            "semantic_id": [semantic.get(i) for i in catalogue],
        }
    )
    prose = (
        pl.col("description")
        .str.replace_all(r"""^\s*\[\s*['"]|['"]\s*\]\s*$|['"],\s*['"]""", " ")
        .str.replace_all(r"(?s)<!--.*?-->|<(script|style).*?</(script|style)>|<[^>]*>|</?[a-z]*\s*$", " ")
        .str.replace_all(r"\\n|\s+", " ")
        .str.strip_chars()
    )
    return Tables("amazon18-office", events, items.with_columns(prose.replace(["", "[]"], None)), None, "order")


def _ml_1m_agent4rec(folder: Path) -> Tables:
    """Row ``i`` of the personas belongs to user ``i``: the films that it names are those of the user's training part.  The
    source has no times; its training part stands first here, then its validation and its test part.
    """
    parts = [_text(folder, f"cf_data/{part}.txt").splitlines() for part in ("train", "valid", "test")]
    likes: dict[str, list[str]] = {}
    for line in (line for part in parts for line in part):
        user, *liked = line.split()
        likes.setdefault(user, []).extend(liked)
    personas = list(csv.DictReader(_text(folder, "all_personas_like.csv").splitlines()))
    tastes = [[taste.strip() for taste in row["taste"].split("|") if taste.strip()] for row in personas]
    users = pl.DataFrame({USER: [str(i) for i in range(len(tastes))], "tastes": tastes})
    films = list(csv.DictReader(_text(folder, "movie_detail.csv").splitlines()))
    items = pl.DataFrame(
        {
            ITEM: [film["movie_id"] for film in films],
            "title": [film["title"] for film in films],
            "genres": [film["genres"].split("|") for film in films],
            "summary": [film["summary"] for film in films],
        }
    )
    events = _sequences(pl.Series(likes.keys(), dtype=pl.String), pl.Series(likes.values()))
    items = titled(items).select(ITEM, "title", "year", "genres", "summary")
    return Tables("ml-1m-agent4rec", events, items, users, "order")


_ACADEMIC = "none stated; Amazon review data, academic use"
_SETS: Final[Mapping[str, tuple[SetInfo, Callable[[Path], Tables]]]] = {
    info.name: (info, read)
    for info, read in (
        (
            SetInfo(
                "ml-100k", assets.ASSETS["ml-100k"].about, assets.ASSETS["ml-100k"].licence,
                assets.ASSETS["ml-100k"].citation, assets.ASSETS["ml-100k"].origin, 943, 1_682, 100_000, "asset",
            ),
            _ml_100k,
        ),
        (
            SetInfo(
                "movietweetings", "MovieTweetings 100K: film ratings tweeted in 2013, from 0 to 10", "MIT",
                "Dooms, De Pessemier and Martens, MovieTweetings, CrowdRec at RecSys 2013",
                "https://github.com/sidooms/MovieTweetings (snapshots/100K)", 16_554, 10_506, 100_000,
                "movietweetings-100k", ("ratings.dat", "movies.dat"),
            ),
            _movietweetings,
        ),
        (
            SetInfo(
                "ml-latest-small", "MovieLens latest-small of 2016: ratings, genres and free tags",
                "GroupLens terms: redistribution under the same terms, acknowledgement",
                "Harper and Konstan, The MovieLens Datasets: History and Context, ACM TiiS 5(4), 2015",
                "https://grouplens.org/datasets/movielens/latest/", 671, 9_125, 100_004,
                "ml-latest-small", ("ratings.csv", "movies.csv", "tags.csv"),
            ),
            _ml_latest_small,
        ),
        (
            SetInfo(
                "ml-1m-agent4rec", "1,000 users of MovieLens-1M, each with a persona that ChatGPT wrote",
                "repository MIT; GroupLens terms: research, no redistribution",
                "Zhang et al., On Generative Agents in Recommendation, SIGIR 2024; Harper and Konstan, ACM TiiS 5(4), 2015",
                "https://github.com/LehengTHU/Agent4Rec", 1_000, 3_292, 185_249, "ml-1m-agent4rec",
                ("cf_data/train.txt", "cf_data/valid.txt", "cf_data/test.txt", "all_personas_like.csv", "movie_detail.csv"),
            ),
            _ml_1m_agent4rec,
        ),
        (
            SetInfo(
                "amazon14-beauty", "Amazon 2014 Beauty, 5-core, sequences without times (as in S3-Rec)", _ACADEMIC,
                "He and McAuley, Ups and Downs, WWW 2016; Zhou et al., S3-Rec, CIKM 2020",
                "https://github.com/RUCAIBox/CIKM2020-S3Rec (sequences, attributes), "
                "https://github.com/Wenyueh/LLM-RecSys-ID (ids), https://github.com/agiresearch/IDGenRec (keywords), "
                "https://github.com/HonghuiBao2000/LETTER (semantic ids)",
                22_363, 12_101, 198_502, "amazon14-beauty",
                ("Beauty.txt", "Beauty_item2attributes.json", "datamaps.json", "item_keywords.txt",
                 "rqvae_semantic_ids.json"),
            ),
            _amazon14_beauty,
        ),
        (
            SetInfo(
                "amazon18-office", "Amazon 2018 Office Products, rebuilt from MiniOneRec's validation and test rows",
                _ACADEMIC, "Ni, Li and McAuley, EMNLP 2019; MiniOneRec, 2025",
                "https://github.com/AkaliKong/MiniOneRec", 3_231, 3_459, 22_447, "amazon18-office",
                ("valid.csv", "test.csv", "item.json", "semantic_ids.json"),
            ),
            _amazon18_office,
        ),
    )
}  # fmt: skip
