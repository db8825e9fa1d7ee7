"""Every format, and every kind of bad input: one line that names the file, the line and the way out."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from llm4rec.core import DataError
from llm4rec.core.columns import ITEM, TIME, USER, VALUE
from llm4rec.data import DataConfig, Log, load, read
from llm4rec.data.formats import opened
from llm4rec.data.tables import read_events

EVENTS = "user_id,movieId,rating,timestamp\nu1,i1,4,100\nu1,i2,2.5,200\nu2,i1,5,150\n"
ATOMIC = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
ITEMS = 'movieId,title,genres\ni1,Heat,Crime|Drama\ni2,"Love, Actually",\ni3,Unseen,Horror\n'

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return put


def rows(log: Log) -> list[tuple[Any, ...]]:
    """Return the events under outside ids, in source order."""
    e = log.events
    return list(zip(log.users.decode(e[USER]), log.items.decode(e[ITEM]), e[TIME].to_list(), e[VALUE].to_list(), strict=True))


EXPECTED = [("u1", "i1", 100, 4.0), ("u1", "i2", 200, 2.5), ("u2", "i1", 150, 5.0)]


# -- formats --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.csv", EVENTS),
        ("e.csv", "\ufeff" + EVENTS.replace("\n", "\r\n")),
        ("e.csv", "\n\n" + EVENTS.replace("u2", "\n  u2  ") + "\n\n"),
        ("e.tsv", EVENTS.replace(",", "\t")),
        ("e.dat", EVENTS.split("\n", 1)[1].replace(",", "::")),
        ("e.inter", ATOMIC + EVENTS.split("\n", 1)[1].replace(",", "\t")),
        ("e.txt", EVENTS),
        ("e.csv.gz", gzip.compress(EVENTS.encode())),
        ("e.csv", EVENTS.replace("u1,i1", '"u1","i1"')),
        ("e.csv", EVENTS.replace("100", "100.0").replace("150", "1970-01-01x").replace("1970-01-01x", "150")),
        ("e.csv", "user_id,movieId,rating,timestamp\nu1,i1,4,1970-01-01T00:01:40Z\nu1,i2,2.5,1970-01-01 00:03:20.9\n"
                  "u2,i1,5,1970-01-01T02:02:30+02:00\n"),
    ],
)  # fmt: skip
def test_formats_give_the_same_events(write: Write, name: str, content: str | bytes) -> None:
    log = read(write(name, content))
    assert rows(log) == EXPECTED
    assert log.clock == "utc"
    assert log.name == "e"


def test_parquet_with_types_of_its_own(write: Write, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "userId": [1.0, 1.0, 2.0],
            "itemId": [10, 11, 10],
            "rating": [4, 2, 5],
        }
    ).with_columns(pl.from_epoch(pl.Series([100, 200, 150]), time_unit="s").dt.cast_time_unit("ms").alias("timestamp"))
    frame.write_parquet(tmp_path / "e.parquet")
    assert rows(read(tmp_path / "e.parquet")) == [("1", "10", 100, 4.0), ("1", "11", 200, 2.0), ("2", "10", 150, 5.0)]


def test_latin_1_needs_to_be_named(write: Write) -> None:
    path = write("e.csv", EVENTS.replace("u2", "zoë").encode("latin-1"))
    with pytest.raises(DataError, match=r"e\.csv, line 4: is not utf-8 text \(byte 0xeb\); .*encoding = \"latin-1\""):
        read(path)
    assert "zoë" in read(path, encoding="latin-1").users


def test_own_column_names_and_no_header(write: Write) -> None:
    own = write("own.csv", EVENTS.replace("user_id", "who").replace("movieId", "what"))
    assert rows(read(own, columns={"user": "who", "item": "what"})) == EXPECTED
    bare = write("bare.csv", EVENTS.split("\n", 1)[1])
    assert rows(read(bare, names=("user", "item", "value", "time"))) == EXPECTED
    assert rows(read(own, columns={"user": "who", "item": "what", "value": ""}))[0] == ("u1", "i1", 100, 1.0)


def test_without_times_the_order_counts(write: Write) -> None:
    log = read(write("e.csv", "user,item\nu1,a\nu2,a\nu1,b\nu1,c\n"))
    assert log.clock == "order"
    assert rows(log) == [("u1", "a", 0, 1.0), ("u2", "a", 0, 1.0), ("u1", "b", 1, 1.0), ("u1", "c", 2, 1.0)]


def test_behaviors_are_coded(write: Write) -> None:
    log = read(write("e.csv", "user,item,event\nu1,a,view\nu1,b,buy\nu2,a,view\n"))
    assert log.behaviors == ("buy", "view")
    assert log.events["behavior"].to_list() == [1, 0, 1]


@pytest.mark.parametrize(
    ("unit", "factor"), [("ms", 10**3), ("us", 10**6), ("ns", 10**9)],
)  # fmt: skip
def test_other_units_are_refused_then_converted(write: Write, unit: str, factor: int) -> None:
    seconds = [1_500_000_000, 1_500_000_100]
    path = write("e.csv", "user,item,time\n" + "".join(f"u,i{i},{t * factor + 7}\n" for i, t in enumerate(seconds)))
    with pytest.raises(DataError, match=rf'cannot be seconds since 1970; set time_unit = "{unit}"'):
        read(path)
    assert read(path, time_unit=unit).events[TIME].to_list() == seconds


def test_times_that_only_order(write: Write) -> None:
    path = write("e.csv", "user,item,time\nu,a,300000000000\nu,b,100000000000\n")
    log = read(path, time_unit="order")
    assert log.clock == "order"
    assert log.events[TIME].to_list() == [300_000_000_000, 100_000_000_000]


@pytest.mark.parametrize(
    "ids", [("7", "12"), ("007", "12"), ("7", "007"), ("+7", "-7"), ("7", "1e3"), ("0", "9" * 18), ("7", "9" * 30)]
)
@pytest.mark.parametrize("place", [0, 150])
def test_ids_stay_as_they_are_written(write: Write, ids: tuple[str, str], place: int) -> None:
    """Whole numbers are read as numbers; that one row, early or late, is none changes no other id."""
    lines = [f"{u},{i % 40},3,{i}\n" for i in range(300) for u in ("1", "20")]
    lines.insert(place, f"{ids[0]},{ids[1]},3,1000\n")
    lines.insert(place, f"\n {ids[1]} ,{ids[0]},3,1000\n")
    log = read(write("e.csv", "user,item,rating,time\n" + "".join(lines)), duplicates="keep")
    assert set(log.users) == {"1", "20", *ids}
    assert set(log.items) == {*map(str, range(40)), *ids}
    assert (ids[0], ids[1], 1000, 3.0) in rows(log)
    assert len(log.events) == 602


#: Ids that something on the way from a file to a table or a page might read as something else.
ODD_IDS = (
    "a\nb", "x\ty", "a,b", 'q"q', "<b>&amp;</b>", "片 \u200b", "\u202eabc", "e\u0301", "\u00e9", "007", "7", "7.0", "-0",
    "null", "NaN", "9223372036854775808", "99999999999999999999999", "../x", "👩‍👩‍👧", "a" * 3000,
)  # fmt: skip


@pytest.mark.parametrize("form", ["csv", "tsv", "parquet"])
def test_odd_ids_come_back_as_they_went_in(tmp_path: Path, form: str) -> None:
    """Those that only differ in how the same letter is written, or the same number, are different ids."""
    pairs = [(f"{x}", y, n) for n, (x, y) in enumerate(zip(ODD_IDS, reversed(ODD_IDS), strict=True))]
    table = pl.DataFrame(pairs, schema=["user", "item", "time"], orient="row")
    path = tmp_path / f"e.{form}"
    if form == "parquet":
        table.write_parquet(path)
    else:
        table.write_csv(path, separator="," if form == "csv" else "\t")
    assert [row[:2] for row in rows(read(path))] == [pair[:2] for pair in pairs]


def test_blanks_around_an_id_count_where_the_format_has_types(tmp_path: Path, write: Write) -> None:
    """In a text, blanks after a comma are a matter of style; in Parquet, somebody has put them there."""
    pl.DataFrame({"user": ["a", "a ", " a", "7", " 7"], "item": ["x"] * 5}).write_parquet(tmp_path / "e.parquet")
    assert set(read(tmp_path / "e.parquet").users) == {"a", "a ", " a", "7", " 7"}
    assert set(read(write("e.csv", "user, item\na, x\n a,y \n")).users) == {"a"}


def test_an_id_that_is_no_number_in_a_column_of_numbers_is_none(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1.0, float("nan")], "item": [1, 2]}).write_parquet(tmp_path / "e.parquet")
    with pytest.raises(DataError, match="the user is nan"):
        read(tmp_path / "e.parquet")


def test_ids_with_line_breaks_are_told_of(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    """Two stray quotes, far apart, make one valid cell of all lines between them."""
    log = read(write("e.csv", 'user,item\nu,i\nu,"j\nv,i\nv,j",\n'.replace('j",', 'j"')))
    assert len(log.events) == 2
    assert "1 item ids hold line breaks" in caplog.text


def test_whole_numbers_never_become_strings(write: Write) -> None:
    """Strings would take several times the memory and time on a large log."""
    source = opened(write("e.csv", "user,item\n1,10\n2,11\n"), "events", format="auto", encoding="utf-8", names=None)
    events, _, _ = read_events(source, {}, "auto")
    assert (events.schema[USER], events.schema[ITEM]) == (pl.Int64, pl.Int64)


# -- catalogues -----------------------------------------------------------------------------
def test_the_catalogue_spans_the_vocabulary(write: Write) -> None:
    log = read(write("e.csv", EVENTS), write("i.csv", ITEMS))
    assert set(log.items) == {"i1", "i2", "i3"}
    table = dict(zip(log.items, log.item_table.to_dicts(), strict=True))
    assert table["i1"] == {"item": log.items.index("i1"), "title": "Heat", "genres": ["Crime", "Drama"]}
    assert table["i2"]["title"] == "Love, Actually"
    assert table["i2"]["genres"] is None
    assert log.rules["unknown_items"] == 0


def test_unknown_items_are_added_and_counted_or_refused(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    events, items = write("e.csv", EVENTS), write("i.csv", "item_id,title\ni1,Heat\n")
    log = read(events, items)
    assert set(log.items) == {"i1", "i2"}
    assert log.item_table.filter(pl.col("title").is_null()).height == 1
    assert log.rules["unknown_items"] == 1
    assert "1 items of the log are not in the catalogue" in caplog.text
    with pytest.raises(DataError, match=r'1 items of the log are not in the catalogue, such as i2; .*unknown_items = "add"'):
        read(events, items, unknown_items="error")


def test_attribute_types(write: Write) -> None:
    users = "user_id,age,zip,height,note\nu1,24,02139,1.7,x\nu2,30,10001,,\nu9,1,1,1,\n"
    table = read(write("e.csv", EVENTS), users=write("u.csv", users)).user_table
    assert table.schema == {"user": pl.Int32, "age": pl.Int64, "zip": pl.String, "height": pl.Float64, "note": pl.String}
    assert table.height == 2
    items = "item,tags,parts\ni1,a | b,x;y\ni2,,\n"
    log = read(write("e.csv", EVENTS), write("i.csv", items), lists={"parts": ";"})
    assert log.item_table.row(log.items.index("i1"))[1:] == (["a", "b"], ["x", "y"])


def test_atomic_types(write: Write) -> None:
    events = write("e.inter", "user_id:token\titem_id:token\nu\t1\nu\t2\n")
    items = write(
        "e.item",
        "item_id:token\tmovie_title:token_seq\tclass:token_seq\tprice:float\tvector:float_seq\n"
        '1\tThe "Big"  One\tA B\t1.5\t0.5 -1\n2\t\t\t\t\n',
    )
    log = read(events, items)
    row = log.item_table.to_dicts()[log.items.index("1")]
    assert row == {
        "item": row["item"],
        "movie_title": 'The "Big"  One',
        "class": ["A", "B"],
        "price": 1.5,
        "vector": [0.5, -1.0],
    }
    assert log.item_table.schema["vector"] == pl.List(pl.Float32)


def test_movielens_tables(write: Write) -> None:
    log = read(
        write("ratings.dat", "1::10::5::100\n2::11::4::100\n"),
        write("movies.dat", "10::Up: a film (2009)::A|B\n11::Down (2010)::\n"),
        write("users.dat", "1::F::1::10::48067\n2::M::56::16::70072\n"),
    )
    assert log.item_table.columns == ["item", "title", "genres"]
    assert log.user_table.columns == ["user", "gender", "age", "occupation", "zip_code"]


# -- bad input ------------------------------------------------------------------------------
HEADER = "user,item,rating,time\n"
BAD: list[tuple[str, str | bytes, dict[str, Any], str]] = [
    ("e.csv", "", {}, r"e\.csv: is empty"),
    ("e.csv", "\n\n", {}, r"e\.csv: cannot be read"),
    ("e.csv", HEADER, {}, "a header but no events"),
    ("e.csv", HEADER + "\n,,,\n", {}, "a header but no events"),
    ("e.csv", HEADER + "u,i,3,1\nu,i\n", {}, r"line 3: the time is empty \(column 'time'\)"),
    ("e.csv", HEADER + "u,i,3,1\n\nu,i,3,1,9\n", {}, r"line 4: has 5 fields, not 4"),
    ("e.csv", HEADER + '"u\nv",i,3,1\nu,,3,1\n', {}, r"line 4: the item is empty"),
    ("e.csv", HEADER + "u,i,3,1\n  ,i,3,1\n", {}, r"line 3: the user is empty"),
    ("e.csv", HEADER + "u,i,good,1\n", {}, r"line 2: the value is 'good', not a finite number"),
    ("e.csv", HEADER + "u,i,NaN,1\n", {}, r"line 2: the value is 'NaN', not a finite number"),
    ("e.csv", HEADER + "u,i,inf,1\n", {}, r"line 2: the value is 'inf', not a finite number"),
    ("e.csv", HEADER + "u,i,3,1\nu,i,3,soon\n", {}, r"line 3: 'soon' is no time .*ISO dates"),
    ("e.csv", HEADER + "u,i,3,2020-01-01\nu,i,3,2020-13-01\n", {}, r"line 3: '2020-13-01' is no time"),
    ("e.csv", "user,itm,rating\nu,i,3\n", {}, r"no column for the item .*is it 'itm'\? Then say which it is: columns = \{item"),
    ("e.csv", "a,b\n1,2\n", {}, r"no column for the user \(columns: 'a', 'b'\)"),
    ("e.csv", EVENTS, {"columns": {"user": "usr_id"}}, r"no column 'usr_id' \(for 'user'\); did you mean 'user_id'\?"),
    ("e.csv", "user,asin,parent_asin\nu,a,b\n", {}, r"'asin' and 'parent_asin' all look like the item; say which"),
    ("e.csv", "user,item,item\nu,a,b\n", {}, r"line 1: two columns are named 'item'"),
    ("e.csv", EVENTS, {"encoding": "klingon"}, "unknown encoding 'klingon'"),
    ("e.csv", b"\x00\x01\x02" * 9, {}, r"is not a text file \(it holds NUL bytes\)"),
    ("e.csv", b"PK\x03\x04\xff\xfe", {}, r"line 1: is not utf-8 text"),
    ("e.csv.gz", EVENTS, {}, "cannot be read as a gzip file"),
    ("e.csv.gz", gzip.compress(EVENTS.encode() * 99)[:-20], {}, "cannot be read as a gzip file"),
    ("e.parquet", EVENTS, {}, r"e\.parquet: cannot be read"),
    ("e.json", "[1, 2]", {}, "no column for the user"),
    ("e.xyz", "nothing here\n", {}, "cannot tell the format"),
    ("e.dat", "1::2\n", {}, r"line 1: has 2 fields, not 3 or 4"),
    ("e.dat", "1::2::3::4\n1::2::3\n", {}, r"line 2: does not have 4 fields"),
    ("e.dat", "1::2::3::4\n\n1::::3::4\n", {}, r"line 3: the item is empty"),
    ("e.inter", "user_id\titem_id:token\nu\ti\n", {}, r"line 1: column 'user_id' has no type; write 'user_id:token'"),
    ("e.inter", "user_id:token\titem_id:int\nu\ti\n", {}, r"line 1: column 'item_id' has the unknown type 'int'"),
    ("e.inter", "user_id:token\titem_id:token\trating:float\nu\ti\tx\n", {}, r"line 2: the value is 'x'"),
    ("e.csv", EVENTS, {"min_value": 9}, "the rules leave none of 3 events"),
    ("e.csv", EVENTS, {"user_core": 3}, "the rules leave none of 3 events"),
    ("e.csv", "user,item\nu,i\n", {"min_value": 1}, "min_value needs a column of values"),
    ("e.csv", "user;item\nu;i\n", {}, r"line 1: its columns are parted by ';', not ','; save it with commas or tabs"),
    ("e.csv", "user\titem\nu\ti\n", {}, r'parted by .*; set format = "tsv"'),
    ("e.csv", EVENTS.replace("\n", "\r"), {}, "its lines end in CR alone"),
    ("e.csv", HEADER + 'u,i,3,1\nu,5" disc,3,1\nu,7" disc,3,1\n', {}, r'line 3: a quote \("\) stands alone'),
    ("e.csv", HEADER + 'u,i,3,1\nu,"i,3,1\nu,i,3,1\n', {}, r'line 3: a quote \("\) stands alone'),
    ("e.csv", "u,i,3\n", {"names": ["user", "item"]}, r"e\.csv: has 3 columns for 2 names"),
    ("e.csv", "u,i\n", {"names": ["user", "item", "time"]}, r"e\.csv: has 2 columns for 3 names"),
    ("e.csv", HEADER + "u,i,3,20200131\nu,j,3,20200201\n", {}, r"such as 20200131\) look like dates without dashes"),
    ("e.csv", EVENTS, {"columns": {"user": "movieId", "item": "movieId"}}, "the column 'movieId' cannot be both user and item"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "options", "told"), BAD)
def test_bad_events_get_one_line(write: Write, name: str, content: str | bytes, options: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read(write(name, content), **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("item,title\ni1,A\ni2,B\n\ni1,C\n", r"line 5: item 'i1' stands there twice \(first in line 2\)"),
        ("item,title\ni1,A\n,B\n", r"line 3: the item id is empty"),
        ("item,title\n", "a header but no items"),
        ("name,title\ni1,A\n", "no column for the item"),
        ("item,title\ni1,A,B\n", r"line 2: has 3 fields, not 2"),
    ],
)
def test_bad_catalogues_get_one_line(write: Write, content: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read(write("e.csv", EVENTS), write("i.csv", content))


def test_paths_that_are_no_files(write: Write, tmp_path: Path) -> None:
    write("ratings.csv", EVENTS)
    with pytest.raises(DataError, match=r"rating\.csv: no such file; did you mean 'ratings\.csv'\?"):
        read(tmp_path / "rating.csv")
    with pytest.raises(DataError, match=r"is a folder, not a file; name one file in it: ratings\.csv"):
        read(tmp_path)
    with pytest.raises(DataError, match="no such file, and no such folder"):
        read(tmp_path / "nowhere" / "x.csv")


def test_a_broken_line_behind_unread_columns_is_found(write: Write) -> None:
    path = write("e.csv", "user,item,a,b\nu,i,1,2\nu,i,1,2,3\n")
    with pytest.raises(DataError, match=r"line 3: has 5 fields, not 4"):
        read(path)


def test_parquet_of_the_wrong_types(tmp_path: Path) -> None:
    pl.DataFrame({"user": [["a"]], "item": ["b"]}).write_parquet(tmp_path / "e.parquet")
    with pytest.raises(DataError, match=r"column 'user' holds List\(String\), not single values"):
        read(tmp_path / "e.parquet")
    pl.DataFrame({"user": ["a"], "item": ["b"], "rating": [None]}, schema_overrides={"rating": pl.Float64}).write_parquet(
        tmp_path / "e.parquet"
    )
    with pytest.raises(DataError, match=r"e\.parquet: the value is empty"):
        read(tmp_path / "e.parquet")


@pytest.mark.parametrize(
    "options",
    [{}, {"set": "ml-100k", "path": "x.csv"}, {"path": "x", "user_core": -1}, {"path": "x", "duplicate": "keep"},
     {"path": "x", "columns": {"usr": "a"}}],
)  # fmt: skip
def test_nonsense_in_the_config_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        DataConfig.model_validate(options)


# -- rules ----------------------------------------------------------------------------------
def test_the_rules_act_in_order_and_are_counted(write: Write) -> None:
    events = "user,item,rating,time\n" + "".join(
        f"{line}\n" for line in ["a,x,1,1", "a,x,5,2", "a,y,5,3", "b,x,5,1", "b,y,5,9", "b,y,4,2", "b,z,5,5", "c,x,2,1"]
    )
    items = write("i.csv", "item\nw\nx\ny\nz\n")
    log = read(write("e.csv", events), items, min_value=3, duplicates="first", user_core=2, item_core=2)
    assert rows(log) == [("a", "x", 2, 5.0), ("a", "y", 3, 5.0), ("b", "x", 1, 5.0), ("b", "y", 2, 4.0)]
    assert set(log.items) == {"x", "y"}
    counted = {k: log.rules[k] for k in ("events_read", "below_min_value", "duplicates", "outside_core", "events", "hidden")}
    assert counted == {"events_read": 8, "below_min_value": 2, "duplicates": 1, "outside_core": 1, "events": 4, "hidden": 1}
    assert log.hidden.with_columns(pl.col("user").cast(pl.Int64)).to_dicts() == [
        {"user": log.users.index("a"), "item": log.items.index("x"), "time": 1, "before": 0}
    ]


@pytest.mark.parametrize(("keep", "times"), [("first", [2, 3]), ("last", [9, 3]), ("keep", [9, 2, 3])])
def test_duplicates_follow_the_time_not_the_file(write: Write, keep: str, times: list[int]) -> None:
    log = read(write("e.csv", "user,item,time\nu,a,9\nu,a,2\nu,b,3\n"), duplicates=keep)
    assert log.events[TIME].to_list() == times


def test_the_core_is_a_fixed_point(write: Write) -> None:
    rng = np.random.default_rng(0)
    pairs = {(int(u), int(i)) for u, i in zip(rng.integers(0, 60, 350), rng.integers(0, 50, 350) ** 2 // 50, strict=True)}
    log = read(write("e.csv", "user,item\n" + "".join(f"u{u},i{i}\n" for u, i in sorted(pairs))), user_core=5, item_core=5)
    assert np.bincount(log.events[USER], minlength=log.n_users).min() >= 5
    assert log.item_counts.min() >= 5
    assert log.rules["core_rounds"] > 1
    left = {(u, i) for u, i in pairs}
    while True:  # slow and plain
        users, items = [u for u, _ in left], [i for _, i in left]
        kept = {(u, i) for u, i in left if users.count(u) >= 5 and items.count(i) >= 5}
        if kept == left:
            break
        left = kept
    assert {(f"u{u}", f"i{i}") for u, i in left} == {(u, i) for u, i, *_ in rows(log)}


def test_the_same_log_in_another_order_has_the_same_ids(write: Write) -> None:
    lines = EVENTS.splitlines()
    again = "\n".join([lines[0], *reversed(lines[1:])]) + "\n"
    one, other = read(write("a.csv", EVENTS)), read(write("b.csv", again))
    assert (one.users, one.items) == (other.users, other.items)


def test_a_plain_data_set_has_no_hidden_events(write: Write) -> None:
    log = read(write("e.csv", EVENTS), min_value=3)
    assert len(log.hidden) == 1
    assert not isinstance(log.with_events(log.events), Log)


def test_warnings_go_to_the_logger(write: Write, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.WARNING)
    read(write("e.csv", EVENTS), write("i.csv", "item\nq\n"))
    assert [r.name for r in caplog.records] == ["llm4rec.data"]
    assert capsys.readouterr() == ("", "")


def test_a_config_is_read_from_its_json(write: Write) -> None:
    config = DataConfig(path=write("e.csv", EVENTS), user_core=1)
    assert load(DataConfig.model_validate_json(config.model_dump_json())).fingerprint() == load(config).fingerprint()
