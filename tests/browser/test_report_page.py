"""The report in a real browser: no errors, no requests, sorting, keyboard, themes, two widths.

Runs where Chromium is found (``LLM4REC_CHROMIUM`` or the usual names), and skips where it is not.
With ``LLM4REC_SCREENSHOTS=DIR`` each width and theme leaves its pictures there, to be looked at.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.browser.opened import Opened, needs_browser
from tests.experiment.made_run import HOSTILE

pytestmark = needs_browser


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


def test_fronts_detectable_differences_and_slices_are_compared(opened: Opened, summary: dict[str, Any]) -> None:
    page = opened.page
    board = page.locator("#boards table").first
    column = board.locator("thead th").all_text_contents().index("Front")
    for name, row in summary.items():
        if row["sampled"] or row["control"]:
            continue
        shown = board.locator(f'tr[data-system="{name}"] > *').nth(column).text_content()
        over = row["below"]["all"]
        assert shown == (f"below {len(over)}" if over else "◆ on the front")
    reference = page.locator("#difference-tools select").input_value()
    name = next(n for n in summary if n != reference)
    cells = page.locator(f'#difference-rows tr[data-system="{name}"] > *').all_text_contents()
    assert f"{summary[name]['versus'][reference]['detectable']:.4f}" in cells
    assert "cannot be told from none" in page.locator("#difference-rows .note").inner_text()
    against = page.locator("#slice-tools select").last.input_value()
    other = next(n for n in summary if n != against and not summary[n]["sampled"])
    for label, part in summary[other]["slices"].items():
        place = next(
            i for i, head in enumerate(page.locator("#slice-rows table").first.locator("thead th").all_text_contents())
            if head.startswith(label)
        )  # fmt: skip
        test = part["versus"][against]
        sign = "≈" if test["p_holm"] >= 0.05 else "▲" if test["difference"] > 0 else "▼"
        cell = page.locator("#slice-rows table").first.locator(f'tr[data-system="{other}"] > *').nth(place)
        assert cell.locator("small").text_content() == f"{sign} {test['difference']:+.4f}".replace("-", "−")
    page.locator("#slice-tools select").last.select_option("")
    assert page.locator("#slice-rows td small.up, #slice-rows td small.down").count() == 0
