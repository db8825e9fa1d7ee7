"""What the pages are made of, without a browser or a server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm4rec.app.web import words
from llm4rec.app.web.board import Ask, Board, beside
from llm4rec.app.web.calls import Calls
from llm4rec.app.web.cases import Cases, Find, Stage, journey
from llm4rec.app.web.drawing import Ranks, Scale
from llm4rec.app.web.frame import asset, query, render
from llm4rec.app.web.play import Recipe, read
from llm4rec.app.web.versus import beside as side_by_side
from llm4rec.core import DataError, LLM4RecError, RunError
from llm4rec.experiment.compare import compare
from llm4rec.experiment.report_systems import PALETTE, SHAPES, families
from tests.experiment.made_run import HOSTILE, make_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("pages") / "made")


@pytest.fixture(scope="module")
def board(made: Path) -> Board:
    return Board(made)


@pytest.fixture(scope="module")
def cases(board: Board) -> Cases:
    return Cases(board.run, Calls(board.run.path / "llm.sqlite"), masked=True)


# -- words and scales --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (words.fixed(0.12345), "0.1235"), (words.fixed(None), "–"), (words.fixed(float("nan")), "–"),
        (words.signed(-0.5, 2), "−0.50"), (words.count(1234.4), "1,234"), (words.short(123456.0), "123,000"),
        (words.short(0.001234), "0.00123"), (words.large(12_345), "12.3 k"), (words.large(9_999), "9,999"),
        (words.large(3.2e6), "3.2 M"), (words.seconds(2e-5), "20 µs"), (words.seconds(0.5), "500 ms"),
        (words.seconds(90), "90 s"), (words.seconds(600), "10 min"), (words.seconds(7_200), "2 h"),
        (words.dollars(None), "unknown"), (words.dollars(0), "0"), (words.dollars(0.00123), "$0.0012"),
        (words.dollars(1234.5), "$1,234.50"), (words.pvalue(0.0004), "< .001"), (words.pvalue(0.04), ".040"),
        (words.pvalue(1.0), "1.000"), (words.day(0), "event 0"), (words.day(893_286_638), "1998-04-22"),
        (words.day(2**62), "–"), (words.told(["a", 2.0, 0.5]), "a, 2, 0.5"), (words.told(True), "True"),
        (words.plural(1, "case"), "1 case"), (words.plural(2_000, "case"), "2,000 cases"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_the_report_writes_them(written: str, expected: str) -> None:
    assert written == expected


@given(st.lists(st.floats(-1e6, 1e6), max_size=8), st.booleans())
def test_all_values_lie_on_their_scale(values: list[float], zero: bool) -> None:
    scale = Scale.of(values, zero=zero)
    assert scale.low < scale.high
    assert all(scale.low <= v <= scale.high for v in values)
    assert not zero or scale.low <= 0 <= scale.high
    assert 1 <= len(scale.ticks) <= 12
    assert all(0 <= float(scale.at(v).rstrip("%")) <= 100 for v in (*values, *scale.ticks, -1e9, 1e9))


@given(st.integers(1, 10_000))
def test_ranks_are_drawn_in_their_order(rank: int) -> None:
    here, below = (float(Ranks(100).at(r).rstrip("%")) for r in (rank, rank + 1))
    assert 0 <= here <= below <= 100


def test_labels_of_ticks() -> None:
    assert [Scale.label(v) for v in (0.0, 0.05, -0.25, 10.0)] == ["0", ".05", "−.25", "10"]


def test_families_have_a_colour_and_a_shape_of_their_own() -> None:
    names = ("popularity", "linear", "text", "prompted", "sequential", "linear")
    found = families([{"family": name, "llm": name == "prompted"} for name in names])
    assert list(found) == ["popularity", "linear", "text", "prompted", "sequential"]
    assert [found[f]["color"] for f in ("popularity", "text", "prompted")] == ["grey", "green", "red"]
    assert len({f["color"] for f in found.values()}) == len({f["shape"] for f in found.values()}) == 5
    many = families([{"family": f"f{i}", "llm": False} for i in range(9)])
    assert {f["color"] for f in many.values()} == set(PALETTE)
    assert {f["shape"] for f in many.values()} == set(SHAPES)


def test_links_and_files() -> None:
    assert query("/item", id="a/b&c=<d>") == "/item?id=a%2Fb%26c%3D%3Cd%3E"
    assert query("/", run=("a", "b"), metric=None, part="") == "/?run=a&run=b"
    assert query("/cases", slice_="tail") == "/cases?slice=tail"
    for name in ("../frame.py", "htmx.LICENSE.md", "", "page.css/"):
        assert asset(name) is None
    body, kind = asset("htmx.min.js") or (b"", "")
    assert kind.startswith("text/javascript")
    assert body.startswith(b"var htmx=")


# -- the leaderboard -----------------------------------------------------------------------------
def test_the_table_is_that_of_compare(board: Board, made: Path) -> None:
    for part, full in (("all", True), ("sample", False)):
        table = board.table(Ask(part=part))
        rows = compare([made], metric=board.run.primary, full=full)
        shown = [(e["name"], e["row"].mean, e["row"].p_holm) for e in table["entries"]]
        assert shown == [(r.system, r.mean, r.p_holm) for r in rows]
        assert table["n"] == rows[0].n
        assert table["reference"]["row"].difference is None
    summary = json.loads((made / "summary.json").read_text())
    entry = next(e for e in board.table(Ask(part="sample"))["entries"] if e["name"] == "llm_embedded")
    assert entry["calls"] == summary["llm_embedded"]["llm"]["calls"]
    assert entry["tokens"] == sum(summary["llm_embedded"]["llm"][f"tokens_{way}"] for way in ("in", "out"))


def test_every_column_sorts_and_what_is_unknown_stands_last(board: Board) -> None:
    for sort in ("metric", "system", "difference", "fit", "serve", "query", "calls", "tokens", "usd", "front", "recall@20"):
        up, down = (board.table(Ask(sort=sort, rising=rising, part="sample"))["entries"] for rising in (True, False))
        assert len(up) == len(down)
        assert {e["name"] for e in up} == {e["name"] for e in down}
    money = [e["usd"] for e in board.table(Ask(sort="usd", part="sample"))["entries"]]
    known = [m for m in money if m is not None]
    assert money == sorted(known, reverse=True) + [None] * (len(money) - len(known))


def test_runs_beside_this_one_are_found_and_broken_ones_are_told(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "one")
    shutil.copytree(made, tmp_path / "two")
    shutil.copytree(made, tmp_path / "three")
    (tmp_path / "three" / "summary.json").write_text("{")
    (tmp_path / "notes").mkdir()
    shutil.copytree(made, tmp_path / "talks")
    (tmp_path / "talks" / "cases.parquet").unlink()
    shutil.copytree(made, tmp_path / "ratings")
    spec = tmp_path / "ratings" / "spec.toml"
    spec.write_text(spec.read_text().replace("[protocol]\n", '[protocol]\ntask = "rating"\n'))
    assert [p.name for p in beside(tmp_path / "one")] == ["three", "two"]
    found = Board(tmp_path / "one")
    assert list(found.others) == ["two"]
    assert ["is not JSON" in line for line in found.unread] == [True]
    table = found.table(Ask(runs=("two",)))
    assert table["several"]
    assert {e["key"].partition("/")[0] for e in table["entries"]} == {"one", "two"}
    with pytest.raises(DataError, match="there is no run 'four'"):
        found.table(Ask(runs=("four",)))
    environment = json.loads((tmp_path / "two" / "environment.json").read_text())
    environment["split"]["fingerprint"] = "another"
    (tmp_path / "two" / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(RunError, match="has another split"):
        Board(tmp_path / "one").table(Ask(runs=("two",)))


def test_side_by_side_agrees_with_the_leaderboard(board: Board, made: Path) -> None:
    view = side_by_side(board, ("ease", "sasrec", "popular"))
    rows = {r.system: r for r in compare([made], metric=board.run.primary, full=True, against="ease")}
    primary = board.run.primary
    for column in view["columns"]:
        assert column["figures"][primary].mean == pytest.approx(rows[column["name"]].mean)
    sasrec = view["columns"][1]
    assert sasrec["tests"][primary]["test"].difference == pytest.approx(rows["sasrec"].difference)
    assert sum(sasrec["wins"]) == view["n"] == 300
    results = pl.read_parquet(made / "results.parquet").filter(pl.col("metric") == primary)
    wide = results.group_by("system", "case").agg(pl.col("value").mean()).pivot(on="system", index="case", values="value")
    assert sasrec["wins"][0] == int((wide["sasrec"] > wide["ease"]).sum())


# -- cases -----------------------------------------------------------------------------------------
def test_ranks_of_the_truth_are_those_of_the_lists(cases: Cases, made: Path) -> None:
    lists = pl.read_parquet(made / "lists.parquet")
    table = pl.read_parquet(made / "cases.parquet").sort("case")
    for name in ("ease", "llm_embedded"):
        mine = lists.filter(pl.col("system") == name)
        first = mine.filter(pl.col("stage") == mine["stage"].unique(maintain_order=True)[-1])
        first = first.filter(pl.col("seed") == first["seed"].min())
        asked = set(first["case"].to_list())
        held = dict(first.join(table.select("case", "truth").explode("truth"), on="case").filter(
            pl.col("item") == pl.col("truth")).select("case", "rank").iter_rows())  # fmt: skip
        expected = [held.get(c, 0) if c in asked else -1 for c in table["case"].to_list()]
        assert cases.ranks[name].tolist() == expected


def test_cases_are_found_by_hits_misses_slices_and_words(cases: Cases) -> None:
    hits = cases.find(Find(hit="ease", miss="popular", k=10))
    ease, popular = cases.ranks["ease"], cases.ranks["popular"]
    assert hits.tolist() == np.flatnonzero((ease > 0) & (ease <= 10) & ((popular == 0) | (popular > 10))).tolist()
    assert 0 < len(hits) < len(cases.table)
    failed = cases.find(Find(failed="llm_served"))
    assert len(failed)
    assert (cases.ranks["llm_served"][failed] >= 0).all()
    tail = cases.find(Find(slice_="tail"))
    assert all("tail" in s for s in cases.table["slices"][tail.tolist()].to_list())
    assert cases.find(Find(text="17")).tolist()[0] == 17
    assert 5 in cases.find(Find(text=HOSTILE[:12])).tolist()
    assert not len(cases.find(Find(text="nothing is called so")))
    with pytest.raises(DataError, match="no system 'eas'"):
        cases.find(Find(hit="eas"))


def test_a_case_renders_whole_and_its_words_are_text(cases: Cases, board: Board) -> None:
    number = next(int(r) for r in cases.find(Find(failed="llm_served")))
    for system in ("llm_served", "llm_embedded", None):
        view = cases.case(number, system, None, whole=True)
        page = render(
            "case.html.j2", site=None, **view, title_of=cases.title, seen_of=lambda i: cases.items.get(i, (0, None))[1],
            before=None, after=None,
        )  # fmt: skip
        assert HOSTILE not in page
        assert view["columns"]
        assert f"What became of <bdi>{cases.title(view['follow'])}" in page
    served = cases.case(5, "ease", None, whole=False)
    assert cases.title(served["truth"][0]) == HOSTILE
    for wrong in ({"number": 10**6, "system": None}, {"number": 5, "system": "none"}):
        with pytest.raises(DataError, match="there is no"):
            cases.case(wrong["number"], wrong["system"], None, whole=False)  # type: ignore[arg-type]


def test_a_journey_tells_why_an_item_left() -> None:
    def stage(name: str, items: str, sources: tuple[str, ...] = (), given: int | None = None) -> Stage:
        return Stage(name, name.partition(":")[0], tuple(items), tuple(float(-i) for i in range(len(items))), sources, given)

    stages = [
        stage("retrieve:a", "xyz"), stage("retrieve:b", "zw"), stage("fuse", "zxy", ("retrieve:a", "retrieve:b")),
        stage("rank:llm", "xz", ("fuse",), 2),
    ]  # fmt: skip
    notes = [{"stage": "rank:llm", "dropped": [{"item": "z", "reason": "not in the answer"}]}]

    def told(item: str, masked: set[str] | None = None) -> list[tuple[str, int | None, str | None]]:
        return [(s.stage, s.rank, s.reason) for s in journey(stages, item, notes, masked or set())]

    assert told("x")[-1] == ("rank:llm", 1, None)
    assert told("y")[-1] == ("rank:llm", None, "below depth 2, so the ranker did not see it")
    assert told("z")[-1] == ("rank:llm", 2, "not placed by the ranker: not in the answer")
    assert told("w") == [
        ("retrieve:a", None, "not among the best 3"), ("retrieve:b", 2, None), ("fuse", None, "below rank 3 of the fusion"),
    ]  # fmt: skip
    assert [r for _, _, r in told("q", {"q"})] == ["excluded: the user knows it"] * 2


# -- the playground's form ---------------------------------------------------------------------------
def test_recipes_are_read_from_a_form() -> None:
    third = {"retrieve_3": "als", "rank_3": "llm:x", "depth_3": "5"}
    play = read({"user": " 42 ", "k": "7", "items": "a, b,,", "retrieve_1": "ease", "retrieve_2": "", **third})
    assert (play.user, play.k, play.items) == ("42", 7, ("a", "b"))
    usual = Recipe.model_validate({})
    assert [(r.retrieve, r.rank, r.depth) for r in play.recipes] == [("ease", "", usual.depth), ("als", "llm:x", 5)]
    wrong = {"depth_1": "1", "scoring_1": "guess", "things_1": "a\nb", "history_1": "many", "weight_1": "nan"}
    for name, value in wrong.items():
        with pytest.raises(LLM4RecError, match="list 1"):
            read({"retrieve_1": "ease", name: value})
