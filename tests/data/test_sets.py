"""The named sets as they are published, and what ``describe`` says of them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from llm4rec.core import DataError, Dataset
from llm4rec.core.columns import ITEM, USER
from llm4rec.data import Log, SetInfo, SplitConfig, describe, load_set, make_split, read, sets
from llm4rec.data.sets import local, titled

LOCAL = [info for info in sets() if info.place != "asset"]


def item(log: Log, identifier: str) -> dict[str, object]:
    return log.item_table.row(log.items.index(identifier), named=True)


@pytest.fixture
def shared(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLM4REC_SHARED", str(shared_data))
    return shared_data


# -- the list ---------------------------------------------------------------------------------
def test_every_set_has_its_terms() -> None:
    assert [info.name for info in sets()] == [
        "ml-100k", "movietweetings", "ml-latest-small", "ml-1m-agent4rec", "amazon14-beauty", "amazon18-office",
    ]  # fmt: skip
    for info in sets():
        assert info.licence
        assert info.citation
        assert info.origin.startswith("https://")
        assert isinstance(info.available, bool)


def test_a_misspelt_set_gets_the_nearest_name() -> None:
    with pytest.raises(DataError, match="unknown data set 'ml100k'; did you mean 'ml-100k'"):
        load_set("ml100k")
    with pytest.raises(ValidationError, match="user_cor"):
        load_set("ml-100k", user_cor=5)


def test_a_set_that_is_not_here_says_where_to_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM4REC_SHARED", str(tmp_path))
    assert not LOCAL[0].available
    with pytest.raises(DataError, match=r"movietweetings is not on .*put ratings\.dat, movies\.dat from https") as caught:
        load_set("movietweetings")
    assert str(tmp_path / "movietweetings-100k") in str(caught.value)
    monkeypatch.delenv("LLM4REC_SHARED")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLM4REC_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "sets" / "made"
    folder.mkdir(parents=True)
    (folder / "x.csv.gz").write_bytes(b"")
    made = SetInfo("made", "", "", "", "https://x", 1, 1, 1, "made", ("x.csv",))
    assert local(made) == folder


def test_titles() -> None:
    frame = pl.DataFrame(
        {
            "title": [
                "Matrix, The (1999)", "Seventh Seal, The (Sjunde inseglet, Det)", "American President, The", "L.A. (1986) ",
                "Big Bang Theory, The (2007-)", "Fawlty Towers (1975-1979)", "Uomo, L' (1990)", "Paris, Texas (1984)",
                "Up in the Air", "A, B (and C, The) (2000)", "1984 (1984)",
            ]
        }
    )  # fmt: skip
    assert titled(frame).select("title", "year").rows() == [
        ("The Matrix", 1999), ("The Seventh Seal (Det Sjunde inseglet)", None), ("The American President", None),
        ("L.A.", 1986), ("The Big Bang Theory", 2007), ("Fawlty Towers", 1975), ("L'Uomo", 1990), ("Paris, Texas", 1984),
        ("Up in the Air", None), ("A, B (The and C)", 2000), ("1984", 1984),
    ]  # fmt: skip


# -- the sets -----------------------------------------------------------------------------------
@pytest.mark.shared
@pytest.mark.parametrize("info", LOCAL, ids=lambda info: info.name)
def test_local_sets_have_the_published_size(shared: Path, info: SetInfo) -> None:
    log = load_set(info.name, duplicates="keep")
    assert (log.n_users, log.n_items, len(log.events)) == (info.users, info.items, info.events)
    assert log.rules["unknown_items"] == 0
    assert log.clock == ("order" if info.name.startswith(("amazon", "ml-1m")) else "utc")
    split = make_split(log)
    assert len(split.test) > 0
    if log.clock == "order":
        assert split.rules["test"]["tied_cases"] == 0


@pytest.mark.shared
def test_films_have_title_year_and_genres(shared: Path) -> None:
    log = load_set("movietweetings")
    assert item(log, "0111161")["title"] == "The Shawshank Redemption"
    assert item(log, "0111161")["year"] == 1994
    assert item(log, "0111161")["genres"] == ["Crime", "Drama"]
    log = load_set("ml-latest-small")
    assert item(log, "296")["title"] == "Pulp Fiction"
    assert item(log, "143410")["genres"] == []
    assert "dentist" in item(log, "1955")["tags"]  # type: ignore[operator]


@pytest.mark.shared
def test_beauty_joins_its_texts_by_asin(shared: Path) -> None:
    log = load_set("amazon14-beauty")
    row = item(log, "9788072216")
    assert row["keywords"] == "prada candy by prada eau"
    assert row["attributes"] == ["Prada", "Fragrance", "Women's", "Eau de Parfum"]
    # the first user's sequence is items 1 to 5, whose semantic ids are numbered 0 to 4
    maps = json.loads(gzip.decompress((shared / "amazon14-beauty" / "datamaps.json.gz").read_bytes()))
    codes = json.loads((shared / "amazon14-beauty" / "rqvae_semantic_ids.json").read_text())
    user = log.users.index(maps["id2user"]["1"])
    history = log.items.decode(log.histories.items[user])
    assert history == [maps["id2item"][str(i)] for i in range(1, 6)]
    assert [item(log, i)["semantic_id"] for i in history] == [codes[str(i)] for i in range(5)]


@pytest.mark.shared
def test_office_sequences_agree_with_every_row(shared: Path) -> None:
    log = load_set("amazon18-office", duplicates="keep")
    source = shared / "amazon18-office"
    rows = pl.concat([pl.read_csv(gzip.decompress((source / f"{n}.csv.gz").read_bytes())) for n in ("valid", "test")])
    sequences = {u: log.items.decode(log.histories.items[log.users.index(u)]) for u in rows["user_id"].unique()}
    seen: dict[str, int] = {}
    for user, history, target in rows.select("user_id", "history_item_id", "item_id").rows():
        shown = [str(i) for i in json.loads(history)]
        place = seen.get(user, len(shown))
        assert sequences[user][max(0, place - 10) : place] == shown
        assert sequences[user][place] == str(target)
        seen[user] = place + 1
    assert seen == {u: len(s) for u, s in sequences.items()}
    texts = log.item_table["description"].drop_nulls()
    assert not texts.str.contains(r"</?(p|br|b|li|ul|div|span)\b|^\[['\x22]").any()
    assert texts.len() > 3_000


@pytest.mark.assets
def test_ml_100k_columns(ml100k_whole_split: object, capsys: pytest.CaptureFixture[str]) -> None:
    log = load_set("ml-100k")
    assert item(log, "1") == {
        "item": log.items.index("1"), "title": "Toy Story", "year": 1995, "genres": ["Animation", "Children's", "Comedy"],
    }  # fmt: skip
    assert item(log, "267")["title"] == "unknown"
    assert item(log, "1412")["year"] == 1995
    assert item(log, "11")["title"] == "Seven (Se7en)"
    assert log.item_table["year"].null_count() == 1
    assert log.user_table.columns == ["user", "age", "gender", "occupation", "zip_code"]
    told = describe(log)
    assert told["tied_last"] == pytest.approx(415 / 943)
    assert told["history"] == {"min": 20.0, "q25": 33.0, "median": 65.0, "q75": 148.0, "max": 737.0}
    assert told["time_span"] == ["1997-09-20 03:05:10", "1998-04-22 23:10:38"]
    core = load_set("ml-100k", user_core=5, item_core=5)
    assert (core.n_users, core.n_items, len(core.events)) == (943, 1_349, 99_287)
    assert capsys.readouterr().out == ""


@pytest.mark.assets
def test_low_ratings_are_seen_on_ml_100k(ml100k_whole_split: object) -> None:
    log = load_set("ml-100k", min_value=4)
    assert len(log.events) + log.rules["below_min_value"] == 100_000
    assert 0 < log.rules["below_min_value"] - len(log.hidden) < 50  # of the one user without any high rating
    split = make_split(log, SplitConfig(kind="leave-one-out"))
    assert (split.test.seen.lengths >= split.test.queries.history.lengths).all()
    assert split.test.seen.lengths.sum() > 1.5 * split.test.queries.history.lengths.sum()
    assert set(split.rules["data"]) >= {"below_min_value", "hidden", "events"}


# -- describing ---------------------------------------------------------------------------------
def test_describe_on_a_small_log(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("user,item,rating,time\na,x,1,5\na,y,2,5\nb,x,3,6\nb,y,3,9\nb,z,0,1\nc,x,3,6\n")
    (tmp_path / "i.csv").write_text("item,title,genres\nx,X,A|B\ny,,\nz,Z,A\nw,W,B\n")
    log = read(tmp_path / "e.csv", tmp_path / "i.csv", min_value=1)
    told = describe(log)
    assert json.loads(json.dumps(told)) == told
    assert (told["users"], told["items"], told["events"], told["hidden_events"], told["untouched_items"]) == (3, 4, 5, 1, 2)
    assert told["density"] == pytest.approx(5 / 12)
    assert told["tied_last"] == 0.5
    assert told["history"] == {"min": 1.0, "q25": 1.5, "median": 2.0, "q75": 2.0, "max": 2.0}
    assert told["columns"] == [
        {"column": "title", "type": "String", "filled": 0.75},
        {"column": "genres", "type": "List(String)", "filled": 0.75},
    ]
    empty = describe(Dataset("none", log.users, log.items, log.events.clear(), log.item_table, log.user_table))
    assert (empty["events"], empty["time_span"], empty["tied_last"]) == (0, None, 0.0)
    assert {USER, ITEM} <= set(log.events.columns)


@pytest.mark.shared
def test_personas_belong_to_the_users_whose_films_they_name(shared: Path) -> None:
    log = load_set("ml-1m-agent4rec", duplicates="keep")
    assert (log.n_users, log.n_items, len(log.events)) == (1_000, 3_292, 185_249)
    user = log.user_table.row(log.users.index("3"), named=True)
    assert user["tastes"][0] == "I enjoy romantic comedies."
    assert item(log, "10")["title"] == "The American President"
