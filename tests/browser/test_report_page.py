"""The report in a real browser: no errors, no requests, sorting, keyboard, themes, two widths.

Runs where Chromium is found (``LLM4REC_CHROMIUM`` or the usual names), and skips where it is not.
With ``LLM4REC_SCREENSHOTS=DIR`` each width and theme leaves its pictures there, to be looked at.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from llm4rec.experiment.report import write_report
from tests.experiment.made_run import HOSTILE, make_run

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("LLM4REC_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-dev-shm-usage"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; set LLM4REC_CHROMIUM to its path")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make_run(tmp_path_factory.mktemp("browser") / "run"))


@pytest.fixture(scope="module")
def summary(report: Path) -> dict[str, Any]:
    return json.loads((report.parent / "summary.json").read_text())


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as api:
        browser = api.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


class Opened:
    """A page, and what it complained about and asked for."""

    def __init__(self, browser: Any, report: Path, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.on("dialog", lambda d: (self.complaints.append(d.message), d.dismiss()))
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.goto(report.as_uri())
        self.page.wait_for_selector("#cost svg.plot .label")


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Opened]:
    one = Opened(browser, report)
    yield one
    one.context.close()
    assert one.complaints == []
    assert [u for u in one.requests if not u.startswith(("file:", "data:"))] == []


def column(page: Any, board: int, index: int) -> list[str]:
    """Texts of one column of a leaderboard."""
    table = page.locator("#boards table").nth(board)
    return table.locator(f"tbody tr > *:nth-child({index})").all_inner_texts()


def test_leaderboards_show_the_summary_and_keep_the_two_sets_of_cases_apart(opened: Opened, summary: dict[str, Any]) -> None:
    tables = opened.page.locator("#boards table")
    assert tables.count() == 2
    captions = tables.locator("caption").all_inner_texts()
    assert "All 300 cases" in captions[0]
    assert "Sample of 120 cases" in captions[1]
    for board, part in ((0, "all"), (1, "sample")):
        names = tables.nth(board).locator("tbody tr").evaluate_all("rows => rows.map((r) => r.dataset.system)")
        assert set(names) == {n for n, row in summary.items() if part == "sample" or not row["sampled"]}
        for name, text in zip(names, column(opened.page, board, 2), strict=True):
            figures = summary[name]["sample"]["metrics"] if part == "sample" else summary[name]["metrics"]
            assert text.split()[0] == f"{figures['ndcg@10']['mean']:.4f}"


def test_columns_sort_both_ways_by_mouse_and_keyboard(opened: Opened) -> None:
    page = opened.page
    table = page.locator("#boards table").first
    values = [float(t.split()[0]) for t in column(page, 0, 2)]
    assert values == sorted(values, reverse=True)
    head = table.get_by_role("button", name="nDCG@10", exact=True)
    head.click()
    assert [float(t.split()[0]) for t in column(page, 0, 2)] == sorted(values)
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    table.get_by_role("button", name="System").focus()
    page.keyboard.press("Enter")
    names = table.locator("tbody .who button").all_inner_texts()
    assert names == sorted(names, key=str.lower)
    assert table.locator("th[aria-sort]").inner_text().startswith("System")


def test_another_metric_and_another_reference(opened: Opened, summary: dict[str, Any]) -> None:
    page = opened.page
    page.get_by_label("Compare with").select_option("popular")
    row = page.locator('#boards tr[data-system="sasrec"]').first
    versus = summary["sasrec"]["versus"]["popular"]
    assert f"{versus['difference']:+.4f}" in row.inner_text().replace("−", "-")
    page.get_by_label("Metric", exact=True).first.select_option("recall@20")
    text = page.locator('#boards tr[data-system="sasrec"] td').first.inner_text()
    assert text.split()[0] == f"{summary['sasrec']['metrics']['recall@20']['mean']:.4f}"


def test_labels_of_the_charts_do_not_overlap(opened: Opened) -> None:
    page = opened.page
    plots = page.locator("#cost svg.plot")
    assert plots.count() == 2
    for i in range(2):
        boxes = (
            plots.nth(i)
            .locator("text.label")
            .evaluate_all(
                "nodes => nodes.map((n) => { const b = n.getBBox(); return [b.x, b.y, b.x + b.width, b.y + b.height]; })"
            )
        )
        for a, one in enumerate(boxes):
            for other in boxes[a + 1 :]:
                wide = min(one[2], other[2]) - max(one[0], other[0])
                high = min(one[3], other[3]) - max(one[1], other[1])
                assert not (wide > 2 and high > 2), (one, other)
    assert "Money unknown, so left out: EASE + text, SmolLM2 ranks." in page.locator("#cost").inner_text()


def test_the_cases_open_by_keyboard(opened: Opened) -> None:
    page = opened.page
    page.locator("#case-list").focus()
    page.keyboard.press("Home")
    assert page.locator("#case-title").inner_text() == "Case 0, user u0"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("#case-title").inner_text() == "Case 2, user u2"
    assert page.locator("#case-list").get_attribute("aria-activedescendant") == "option-2"
    page.keyboard.press("End")
    assert page.locator("#case-title").inner_text() == "Case 299, user u299"
    assert "#case=299" in page.url
    page.locator("#boards .who button").first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "case-list"


def test_a_case_shows_its_stages_prompt_answer_and_explanations(opened: Opened, report: Path) -> None:
    page = opened.page
    page.get_by_label("System", exact=True).select_option("llm_embedded")
    page.get_by_label("Search").fill("llm")
    assert "No case fits" in page.locator("#case-list").inner_text()
    page.get_by_label("Search").fill("")
    page.get_by_label("Outcome").select_option("hit")
    ranks = page.locator("#case-list .option div span:last-child").all_inner_texts()
    assert ranks
    assert all(0 < int(t.removeprefix("rank ")) <= 10 for t in ranks)
    page.locator("#case-list .option").first.click()
    case = int(page.locator("#case-title").inner_text().split()[1].rstrip(","))
    heads = page.locator(".stage h4 .t").all_inner_texts()
    assert heads == ["retrieve · ease", "retrieve · text", "fuse", "rank · smollm"]
    lists = pl.read_parquet(report.parent / "lists.parquet")
    catalog = dict(pl.read_parquet(report.parent / "catalog.parquet").select("item", "title").iter_rows())
    mine = lists.filter((pl.col("system") == "llm_embedded") & (pl.col("case") == case) & (pl.col("stage") == "rank:smollm"))
    shown = page.locator(".stage").last.locator("li .t").all_inner_texts()
    assert shown == [catalog[i] for i in mine.sort("rank")["item"]]
    assert page.locator(".stage li.truth").count() >= 2
    assert "The user has watched, in order:" in page.locator(".exchange pre").first.inner_text()
    assert "I would say: 3, 1, 2" in page.locator(".exchange pre").nth(1).inner_text()
    assert "<b>liked</b>" in page.locator("#case details", has_text="remembered of the user").locator("pre").inner_text()
    assert page.locator(".why li").count() == 3


def test_claims_and_sentences_show_what_code_found(opened: Opened) -> None:
    page = opened.page
    page.get_by_label("System", exact=True).select_option("llm_embedded")
    page.get_by_label("Outcome").select_option("hit")
    page.locator("#case-list .option").first.click()
    one = page.locator(".why li").first
    chips = one.locator(".claims > .chip").all_inner_texts()
    assert [c.split()[-1] for c in chips[:3]] == ["true", "false", "unresolvable"]
    assert chips[2].startswith("shared: genres = <b>Noir</b> · shared with ")
    assert chips[3].startswith("count: at least 3 of the history · genres = ")
    assert chips[4] == "fidelity +0.25"
    marked = one.locator(".says mark.unsupported").all_text_contents()
    assert marked == ["Vertigo (nothing supports this)", "Hitchcock (nothing supports this)"]
    assert one.locator(".says mark.true").count() == 1
    assert one.locator(".says mark.false").inner_text().startswith("which is ")
    assert "supported by nothing: <s>1958</s>" in one.inner_text()
    added = page.locator("#case .added").inner_text()
    assert "augment:ItemMemory: <u>facts</u> for 311 items, keywords for 480 items, 41.5 s" in added
    assert "augment:UserMemory: no column of the items" in added


def test_the_curves_step_through_the_slots(opened: Opened) -> None:
    page = opened.page
    cards = page.locator("#ranker-rows > section")
    assert cards.count() == 2
    assert cards.first.locator("svg.curve").count() == 0
    curve = cards.nth(1).locator("svg.curve").first
    curve.focus()
    page.keyboard.press("ArrowRight")
    assert curve.get_attribute("aria-valuenow") == "2"
    assert page.locator("#tip").is_visible()
    assert page.locator("#tip").inner_text() == curve.get_attribute("aria-valuetext")
    assert "true item there placed first" in page.locator("#tip").inner_text()
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    assert curve.get_attribute("aria-valuenow") == "20"
    page.keyboard.press("Home")
    first = curve.get_attribute("aria-valuetext") or ""
    assert "true item there" not in first
    page.keyboard.press("Tab")
    curve.hover(position={"x": curve.evaluate("node => node.clientWidth / 2"), "y": 60})
    assert curve.get_attribute("aria-valuenow") in ("10", "11")
    page.mouse.move(0, 0)
    assert page.locator("#tip").is_hidden()
    cards.nth(1).locator("summary", has_text="figures by slot").click()
    assert cards.nth(1).locator("details tbody tr").count() == 20
    assert cards.nth(1).locator("details tbody tr").first.locator("td").first.inner_text() in first


def test_rankers_explainers_and_memory_have_their_sections(opened: Opened) -> None:
    page = opened.page
    assert page.locator("nav a").all_inner_texts()[4:7] == ["Rankers", "By heart", "Explanations"]
    told = page.locator("#ranker-rows > section").all_inner_texts()
    assert "It does not use the order of the history" in told[0]
    assert "It favours what is shown early" in told[1]
    assert "It uses the history" in told[1]
    assert "<b>unreadable</b> × 4" in told[1]
    known = page.locator("#by-heart-rows > section")
    assert known.count() == 2
    assert known.first.locator("tbody tr").count() == 3
    assert "knows the file </script>" in known.first.inner_text()
    assert "rows: no sign of it; failed calls: timed out × 3" in known.first.inner_text()
    assert "knows the file" not in known.nth(1).inner_text()
    assert "attribute:year: not asked, only 2 items have what is asked" in known.first.inner_text()
    table = page.locator("#explained table")
    assert table.locator("tbody tr").count() == 2
    heads = table.locator("thead button").all_inner_texts()
    assert heads == ["System", "Coverage", "Claim precision", "Unsupported mentions", "Unsupported explanations",
                     "Subjective share", "USR", "Unique forms", "DIV", "FMR", "Fidelity", "Fallback rate"]  # fmt: skip
    names = table.locator("tbody tr")
    for head, first in (("Unsupported mentions", "ease"), ("DIV", "llm_embedded"), ("Unique forms", "llm_embedded")):
        table.get_by_role("button", name=head).click()
        assert names.first.get_attribute("data-system") == first, head
    assert "Not all of them explained the same cases" in table.locator("caption").inner_text()


def test_a_run_without_rankers_or_explanations_has_no_such_section(browser: Any, report: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(report.parent, tmp_path / "plain"))
    rows = json.loads((run / "summary.json").read_text())
    for row in rows.values():
        for key in ("diagnosis", "explanation", "additions"):
            row.pop(key)
    (run / "summary.json").write_text(json.dumps(rows))
    (run / "contamination.json").unlink()
    old = pl.read_parquet(run / "explanations.parquet").drop("unsupported", "fidelity")
    claims = pl.col("claims").list.eval(pl.struct(pl.element().struct.field("kind", "item", "attribute", "value")))
    old.with_columns(claims).write_parquet(run / "explanations.parquet")
    one = Opened(browser, write_report(run))
    links = one.page.locator("nav a").all_inner_texts()
    assert not {"Rankers", "By heart", "Explanations"} & set(links)
    assert one.page.locator("#rankers, #by-heart, #explained, #case .added").count() == 0
    one.page.get_by_label("System", exact=True).select_option("llm_embedded")
    assert one.page.locator(".why .chip").count()
    assert one.page.locator(".why mark, .why .chip.good, .why .chip.bad").count() == 0
    assert one.complaints == []
    one.context.close()


def test_what_is_unknown_leaves_gaps_and_no_errors(browser: Any, report: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(report.parent, tmp_path / "gaps"))
    rows = json.loads((run / "summary.json").read_text())
    gap = {"mean": None, "low": None, "high": None, "n": 0}
    bare = {"gain": {"difference": 0.1}}
    rows["llm_served"]["diagnosis"] = {
        "rank:a": {"position": {"first": [gap, {"mean": 0.5}, gap], "hit": [gap] * 3}, "answers": {"kinds": {"omitted": 1}}},
        "rank:b": {"position": {"first": [gap] * 2, "rank": [gap] * 2}, "agreement": {"mean": 0.1}, "history": {"fake": bare}},
        "rank:c": {"popularity": {"ranker": {"mean": 0.1}}, "history": {"true": gap, "shuffled": bare, "fake": bare}},
        "rank:d": {"scoring": "choice", "popularity": {"ranker": gap}},
        "rank:e": {"answers": {"listings": 0}},
    }
    rows["llm_embedded"] |= {"diagnosis": None, "explanation": {"div": 0.5}, "additions": [{"name": None}]}
    rows["ease"]["explanation"] = {"usr": {"mean": None}}
    (run / "summary.json").write_text(json.dumps(rows))
    (run / "contamination.json").write_text(json.dumps({"a": {}, "b": {"findings": [{}, {"test": "x", "score": gap}]}, "c": 3}))
    one = Opened(browser, write_report(run))
    assert one.page.locator("#ranker-rows > section").count() == 5
    assert one.page.locator("#ranker-rows svg.curve").count() == 3
    assert one.page.locator("#by-heart-rows > section").count() == 3
    assert one.page.locator("#explained tbody tr").count() == 1
    assert "NaN" not in one.page.locator("main").inner_text()
    assert one.page.evaluate("document.querySelector('#ranker-rows').innerHTML.includes('NaN')") is False
    assert one.complaints == []
    one.context.close()


def test_failures_and_dropped_items_are_shown(opened: Opened) -> None:
    page = opened.page
    assert "omitted" in page.locator("#failure-rows thead").inner_text()
    page.get_by_label("System", exact=True).select_option("llm_served")
    page.get_by_label("Outcome").select_option("failed")
    page.locator("#case-list .option").first.click()
    assert "rank:served: omitted" in page.locator("#case .callout").inner_text()
    assert page.locator("#case summary", has_text="1 items dropped by rank:served").count() == 1


def test_hostile_titles_are_read_not_run(opened: Opened) -> None:
    page = opened.page
    page.get_by_label("Search").fill("case 5 user u5")
    page.locator("#case-list .option").first.click()
    assert page.locator(".history .next .t").inner_text() == HOSTILE
    assert page.locator("img").count() == 0


def test_a_link_leads_to_a_case(browser: Any, report: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{report.as_uri()}#case=17&system=ease")
    assert page.locator("#case-title").inner_text() == "Case 17, user u17"
    assert "EASE" in page.locator("#case h3", has_text="Lists of").inner_text()
    context.close()


def test_the_theme_follows_the_reader_and_the_button(browser: Any, report: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    for scheme, expected in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(15, 19, 24)")):
        one = Opened(browser, report, color_scheme=scheme)
        assert one.page.evaluate(background) == expected
        one.page.locator("#theme").click()
        assert one.page.evaluate(background) == "rgb(255, 255, 255)"
        one.page.locator("#theme").click()
        assert one.page.evaluate(background) == "rgb(15, 19, 24)"
        one.page.reload()
        assert one.page.evaluate(background) == "rgb(15, 19, 24)"
        assert one.complaints == []
        one.context.close()


CONTRAST = """() => {
  const wanted = "h1,h2,h3,p,small,b,button,summary,dt,dd,th,caption,.chip,.t,select,label,pre,nav a";
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m.slice(0, 3), 1]; };
  const linear = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = (c) => { const f = c.slice(0, 3).map(linear);
    return .2126 * f[0] + .7152 * f[1] + .0722 * f[2]; };
  const behind = (n) => { for (; n; n = n.parentElement) { const c = getComputedStyle(n).backgroundColor;
    if (c.startsWith("rgb") && parse(c)[3] === 1) return parse(c); } return [255, 255, 255]; };
  const bad = [];
  for (const n of document.querySelectorAll(wanted)) {
    if (!n.checkVisibility() || !n.textContent.trim()) continue;
    const [a, b] = [light(parse(getComputedStyle(n).color)), light(behind(n))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) bad.push(`${n.tagName}.${n.className}: ${n.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return [...new Set(bad)].slice(0, 10);
}"""


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_widths_and_themes(browser: Any, report: Path, width: int, scheme: str) -> None:
    one = Opened(browser, report, color_scheme=scheme, viewport={"width": width, "height": 900})
    page = one.page
    for details in ("#matrix", "#every-metric", "#explained details", ".ranker details"):
        page.locator(f"{details} > summary").click()
    page.get_by_label("System", exact=True).select_option("llm_embedded")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    wanted = os.environ.get("LLM4REC_SCREENSHOTS")
    if wanted:
        Path(wanted).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(wanted) / f"report-{width}-{scheme}.png"), full_page=True)
    assert len(page.screenshot()) > 10_000
    assert one.complaints == []
    one.context.close()


def test_names_and_roles_for_a_screen_reader(opened: Opened) -> None:
    page = opened.page
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, select, input, [role=region], [role=listbox], svg.plot, nav")]
        .filter((n) => !(n.getAttribute("aria-label") || n.textContent.trim() || n.labels?.length))
        .map((n) => n.outerHTML.slice(0, 90))"""
    )
    assert nameless == []
    assert page.evaluate("[...document.querySelectorAll('table')].every((t) => t.tHead && t.querySelector('th[scope]'))")
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
