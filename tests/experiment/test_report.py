"""The report: its figures are the summary's, it loads nothing, and no text of the data becomes markup."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm4rec.core import RunError
from llm4rec.experiment import report_cases
from llm4rec.experiment.report import embeddable, write_report
from llm4rec.experiment.report_cases import choose, feeding
from llm4rec.experiment.report_findings import findings
from llm4rec.metrics import cases_needed
from tests.experiment.made_run import HOSTILE, SAMPLE, USERS, make_run


class Page(HTMLParser):
    """What a browser's parser would see: elements, and the content of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text: list[str] = []
        self._inside: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = dict(attrs) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self.scripts.append((self._inside, data))
            self._inside = None
        else:
            self.text.append(data)

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(next(text for given, text in self.scripts if given.get("id") == "data"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_nothing_is_loaded_from_anywhere(html: str, page: Page) -> None:
    loading = {"src", "href", "srcset", "action", "data", "poster", "xlink:href"}
    targets = [v for _, given in page.elements for k, v in given.items() if k in loading and v]
    assert targets
    assert all(v.startswith("#") or v == "data:," for v in targets)
    assert not {tag for tag, _ in page.elements} & {"iframe", "object", "embed", "img", "audio", "video", "base", "form"}
    style = html[html.index("<style>") : html.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    script = page.scripts[-1][1]
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "EventSource", "import(", "eval(", "innerHTML", "insertAdjacentHTML"):
        assert word not in script, word


def test_policy_admits_the_page_s_own_script_alone(html: str, page: Page) -> None:
    import base64
    import hashlib

    policy = next(g["content"] for t, g in page.elements if g.get("http-equiv") == "Content-Security-Policy") or ""
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1][1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}';" in policy


def test_titles_prompts_and_answers_stay_text(html: str, page: Page) -> None:
    assert HOSTILE not in html
    assert not [1 for tag, _ in page.elements if tag == "img"]
    assert len(page.scripts) == 2
    titles = [title for _, title, _ in page.data["items"]]
    assert HOSTILE in titles
    assert any("</script>" in text for text in page.data["texts"])
    assert not [k for _, given in page.elements for k in given if k.startswith("on")]


def test_hostile_names_in_spec_and_summary_stay_text(copy: Path) -> None:
    summary = json.loads((copy / "summary.json").read_text())
    bad = "<script>alert(1)</script>"
    row = summary["sasrec_text"] | {"label": bad, "family": bad, "note": bad, "component": bad, "failures": {bad: 3}}
    (copy / "summary.json").write_text(json.dumps(summary | {"sasrec_text": row}))
    (copy / "spec.toml").write_text(f'[experiment]\nname = "{bad}"\ndescription = "{bad}"\n')
    environment = json.loads((copy / "environment.json").read_text()) | {"protocol": bad, "machine": {bad: bad}, "git": bad}
    (copy / "environment.json").write_text(json.dumps(environment))
    text = write_report(copy).read_text()
    assert bad not in text
    assert len(Page(text).scripts) == 2
    assert Page(text).data["run"] == bad


@given(st.recursive(st.text() | st.floats() | st.none(), lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=8))
@settings(max_examples=150, deadline=None)
def test_embedded_json_survives_any_text(value: Any) -> None:
    text = str(embeddable({"v": value, "tail": "</script><!--"}))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text)["tail"] == "</script><!--"
    if isinstance(value, str):
        assert json.loads(text)["v"] == value


def test_figures_are_the_summary_s(run: Path, html: str, page: Page) -> None:
    summary = json.loads((run / "summary.json").read_text())
    systems = {s["name"]: s for s in page.data["systems"]}
    assert list(systems) == list(summary)
    shown = " ".join(page.text)
    for name, row in summary.items():
        part = "sample" if row["sampled"] else "all"
        assert systems[name]["metrics"][part] == row["metrics"]
        assert systems[name]["metrics"]["sample"] == row["sample"]["metrics"]
        assert bool(systems[name]["metrics"]["all"]) is not row["sampled"]
        figure = row["metrics"]["ndcg@10"]
        assert f"{figure['mean']:.4f} [{figure['low']:.4f}, {figure['high']:.4f}]" in shown
        for other, test in systems[name]["versus"].items():
            assert test == row["versus"][other] | {"needed": cases_needed(0.01, test["deviation"])}
        assert systems[name]["versus"].keys() == row["versus"].keys()
        assert systems[name]["below"] == row["below"]


def test_cases_are_those_of_the_tables(run: Path, page: Page) -> None:
    data = page.data
    lists = pl.read_parquet(run / "lists.parquet").filter(pl.col("seed") == 1)
    cases = {row["case"]: row for row in pl.read_parquet(run / "cases.parquet").iter_rows(named=True)}
    assert len(data["cases"]) == USERS
    assert sum(one["sample"] for one in data["cases"]) == SAMPLE
    names = [identifier for identifier, _, _ in data["items"]]
    for one in data["cases"][::37]:
        assert [names[i] for i in one["truth"]] == cases[one["case"]]["truth"]
        assert [names[i] for i in one["history"]] == cases[one["case"]]["history"]
        mine = lists.filter(pl.col("case") == one["case"])
        assert set(one["lists"]) == set(mine["system"])
        for system, stages in one["lists"].items():
            for stage, items, scores, length, ranks, sources in stages:
                table = mine.filter((pl.col("system") == system) & (pl.col("stage") == data["stages"][stage])).sort("rank")
                whole = table["item"].to_list()
                assert [names[i] for i in items] == whole[:20]
                assert length == len(whole)
                assert len(scores) == len(items)
                true = cases[one["case"]]["truth"][0]
                assert ranks == [whole.index(true) + 1 if true in whole else 0]
                assert all(len(r) == len(items) for _, r in sources)


def test_stages_come_in_order_and_know_what_feeds_them(page: Page) -> None:
    data = page.data
    one = next(c for c in data["cases"] if "llm_embedded" in c["lists"])
    stages = one["lists"]["llm_embedded"]
    assert [data["stages"][s[0]] for s in stages] == ["retrieve:ease", "retrieve:text", "fuse", "rank:smollm"]
    assert [[data["stages"][i] for i, _ in s[5]] for s in stages] == [[], [], ["retrieve:ease", "retrieve:text"], ["fuse"]]
    assert feeding(["retrieve:a", "rank:b", "rank:c"], "rank:c") == ["rank:b"]
    fused, ranked = stages[2], stages[3]
    for rank, item in zip(ranked[5][0][1], ranked[1], strict=True):
        if rank and rank <= len(fused[1]):
            assert fused[1][rank - 1] == item


def test_size_is_bounded_and_what_is_left_out_is_counted(copy: Path, html: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(html.encode()) < 6e6
    monkeypatch.setattr(report_cases, "CASE_BYTES", 200_000)
    monkeypatch.setattr(report_cases, "TEXT_BYTES", 2_000)
    monkeypatch.setattr(report_cases, "TEXT_LENGTH", 100)
    text = write_report(copy).read_text()
    data = Page(text).data
    assert len(text) < len(html) / 2
    assert len(data["cases"]) + data["left_out"]["cases"] == USERS
    assert data["left_out"]["cases"] > 0
    assert data["left_out"]["texts"] > 0
    assert data["left_out"]["cut"] > 0
    assert all(one["sample"] for one in data["cases"])


def test_choice_takes_the_sample_first_and_is_bounded() -> None:
    chosen = choose(range(5000), range(0, 4000, 4))
    assert chosen == choose(range(5000), range(0, 4000, 4))
    assert len(chosen) == len(set(chosen)) == report_cases.SAMPLE_CASES + report_cases.OTHER_CASES
    assert all(c % 4 == 0 for c in chosen[: report_cases.SAMPLE_CASES])
    assert choose([3, 1, 2], [2, 9]) == [2, 1, 3]


def test_writing_twice_gives_the_same_page(run: Path, html: str) -> None:
    assert write_report(run).read_text() == html
    assert not list(run.glob("*.part"))


FILES = ["spec.toml", "environment.json", "summary.json"]
FILES += [f"{t}.parquet" for t in ("cases", "lists", "results", "notes", "explanations", "catalog")]
FAULTS = [(n, f) for n in FILES for f in ("missing", "garbage", "empty") if (n, f) != ("spec.toml", "empty")]


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_missing_and_broken_files_are_one_line(copy: Path, name: str, fault: str) -> None:
    path = copy / name
    path.unlink() if fault == "missing" else path.write_bytes(b"" if fault == "empty" else b"\x93 not this = [")
    with pytest.raises(RunError) as error:
        write_report(copy)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
    assert not (copy / "report.html.part").exists()


@pytest.mark.parametrize("summary", ["[]", "{}", '{"ease": 3}', '{"ease": null}'])
def test_a_summary_of_another_shape_is_one_line(copy: Path, summary: str) -> None:
    (copy / "summary.json").write_text(summary)
    with pytest.raises(RunError, match=r"summary\.json"):
        write_report(copy)


def test_missing_columns_are_named(copy: Path) -> None:
    pl.read_parquet(copy / "lists.parquet").drop("stage").write_parquet(copy / "lists.parquet")
    with pytest.raises(RunError, match="stage"):
        write_report(copy)


def test_no_directory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such run directory"):
        write_report(tmp_path / "nowhere")


def test_any_field_may_be_missing(copy: Path) -> None:
    summary = json.loads((copy / "summary.json").read_text())
    for n, (name, row) in enumerate(summary.items()):
        kept = list(row)[n % 3 :: 3]
        summary[name] = {k: row[k] if i % 2 else None for i, k in enumerate(kept)}
    summary["bare"] = {}
    (copy / "summary.json").write_text(json.dumps(summary))
    (copy / "environment.json").write_text("{}")
    (copy / "spec.toml").write_text("")
    for name in ("notes", "explanations"):
        pl.DataFrame().write_parquet(copy / f"{name}.parquet")
    page = Page(write_report(copy).read_text())
    assert len(page.data["systems"]) == len(summary)
    assert "not recorded" in " ".join(page.text)


def test_an_older_run_without_profiles_is_reported(copy: Path) -> None:
    (copy / "profiles.parquet").unlink()
    assert not any("profiles" in one for one in Page(write_report(copy).read_text()).data["cases"])
    (copy / "profiles.parquet").write_bytes(b"not this")
    with pytest.raises(RunError, match=r"profiles\.parquet"):
        write_report(copy)


def _system(
    name: str, mean: float, *, llm: bool = False, text: bool = False, control: bool = False, versus: Any = None
) -> dict[str, Any]:
    figure = {"mean": mean, "low": mean - 0.01, "high": mean + 0.01, "n": 100.0}
    return {
        "name": name, "label": name.upper(), "llm": llm, "text": text or llm, "control": control, "seeds": [1],
        "metrics": {"all": {"ndcg@10": figure}, "sample": {}}, "versus": versus or {}, "diagnosis": [],
        "cases": 100, "ms_per_query": 500.0 if llm else 1.0,
        "cost": {"calls": 100, "cached": 0, "tokens_in": 900, "tokens_out": 100, "usd": None},
    }  # fmt: skip


def _versus(difference: float, p: float) -> dict[str, Any]:
    return {
        "metric": "ndcg@10",
        "n": 100,
        "difference": difference,
        "low": difference - 0.01,
        "high": difference + 0.01,
        "p": p,
        "p_holm": p,
    }


def test_findings_say_what_the_figures_say() -> None:
    found = findings(
        [
            _system("plain", 0.10),
            _system("cheat", 0.90, control=True),
            _system("text", 0.14, text=True, versus={"plain": _versus(0.04, 0.001)}),
            _system("llm", 0.12, llm=True, versus={"text": _versus(-0.02, 0.3)}),
        ],
        "ndcg@10",
    )
    by_question = {f["question"]: f for f in found}
    assert by_question["Which system is best?"]["answer"] == "TEXT"
    assert by_question["Do text vectors help?"]["answer"] == "Yes"
    assert "PLAIN, the best without text" in by_question["Do text vectors help?"]["detail"]
    assert by_question["Does the LLM help?"]["answer"] == "Not shown"
    cost = by_question["What does it cost?"]
    assert cost["answer"] == "500 ms a query"
    assert "500 times the time of TEXT" in cost["detail"]
    assert "10 tokens a query" in cost["detail"]
    assert "money unknown" in cost["detail"]


@pytest.mark.parametrize(
    ("difference", "p", "answer"),
    [(0.04, 0.01, "Yes"), (0.04, 0.06, "Not shown"), (-0.04, 0.01, "No, it costs accuracy"), (-0.04, 0.6, "Not shown")],
)
def test_verdict_follows_the_corrected_test_in_either_direction(difference: float, p: float, answer: str) -> None:
    base, llm = 0.2, 0.2 + difference
    direct = [_system("plain", base), _system("llm", llm, llm=True, versus={"plain": _versus(difference, p)})]
    turned = [_system("plain", base, versus={"llm": _versus(-difference, p)}), _system("llm", llm, llm=True)]
    for systems in (direct, turned):
        found = {f["question"]: f for f in findings(systems, "ndcg@10")}["Does the LLM help?"]
        assert found["answer"] == answer
        assert found["interval"]["difference"] == pytest.approx(difference)
        assert found["interval"]["low"] < found["interval"]["high"]


def test_without_an_llm_the_page_says_so() -> None:
    found = {f["question"]: f for f in findings([_system("plain", 0.1)], "ndcg@10")}
    assert found["Does the LLM help?"]["answer"] == "Not asked"
    assert "What does it cost?" not in found


def test_scripts_and_styles_hold_no_address(html: str, page: Page) -> None:
    own = html[html.index("<style>") : html.index("</style>")] + page.scripts[-1][1]
    assert set(re.findall(r"https?://[^\s\"'`;]+", own)) == {"http://www.w3.org/2000/svg"}  # a name, not a place


def test_the_report_says_what_each_retriever_counts(log_folder: Path) -> None:
    from llm4rec.experiment.run import run as run_experiment
    from llm4rec.experiment.spec import read_spec

    spec = log_folder / "spec.toml"
    head = spec.read_text(encoding="utf-8").split("[systems.", 1)[0]
    spec.write_text(head + """
[systems.popular]
component = "popular"

[systems.ease]
component = "ease"

[systems.weighted]
retrieve = ["popular", "ease"]
fusion_weights = [0.25, 0.75]

[systems.plain]
retrieve = ["popular", "ease"]
""", encoding="utf-8")  # fmt: skip
    data = Page(run_experiment(read_spec(spec), log_folder / "out").read_text(encoding="utf-8")).data
    weights = {s["name"]: [stage["weight"] for stage in s["stages"]] for s in data["systems"] if len(s["stages"]) > 1}
    assert weights == {"weighted": [0.25, 0.75, None], "plain": [None, None, None]}


def test_a_real_run_is_reported(log_folder: Path) -> None:
    from llm4rec.experiment.run import run as run_experiment
    from llm4rec.experiment.spec import read_spec

    report = run_experiment(read_spec(log_folder / "spec.toml"), log_folder / "out")
    data = Page(report.read_text(encoding="utf-8")).data
    told = next(s for s in data["systems"] if s["name"] == "told")
    assert told["llm"]
    assert told["sampled"]
    assert not told["metrics"]["all"]
    assert [s["kind"] for s in told["stages"]] == ["retrieve", "rank"]
    assert told["stages"][1]["given"] == 5
    ranked = [one for one in data["cases"] if "told" in one["lists"]]
    assert len(ranked) == sum(one["sample"] for one in data["cases"]) == 20
    assert all(one["notes"]["told"] for one in ranked)
    assert sum("explanations" in one for one in ranked) == 3
    assert {s["name"] for s in data["systems"] if s["text"]} == {"text", "both", "told"}
    (stage,) = told["diagnosis"]
    assert stage["scoring"] == "generate"
    assert len(stage["position"]["first"]) == 5
    assert set(stage["says"]) == {"position", "popularity", "fake", "shuffled", "answers"}
    assert told["explanation"]["claim_precision"]["mean"] == 1.0
    explained = [e for one in ranked for e in one.get("explanations", {}).get("told", [])]
    assert {claim["outcome"] for e in explained for claim in e["claims"]} == {"true"}
    assert all("true" in {mark for _, mark in e["sentence"]} for e in explained if e["claims"])
