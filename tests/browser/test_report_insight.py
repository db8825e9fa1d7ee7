"""Sections on rankers, explanations and what models know by heart, in a real browser."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl

from llm4rec.experiment.report import write_report
from tests.browser.opened import Opened, needs_browser

pytestmark = needs_browser


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


def test_the_link_of_the_section_stays_in_view_on_a_telephone(browser: Any, report: Path) -> None:
    one = Opened(browser, report, viewport={"width": 390, "height": 844}, reduced_motion="reduce")
    one.page.locator("#h-explained").evaluate("node => node.scrollIntoView()")
    link = one.page.locator('nav a[aria-current="true"]', has_text="Explanations")
    link.wait_for()  # the page's policy admits no predicate of ours
    box, bar = link.bounding_box(), one.page.locator("nav").bounding_box()
    assert box
    assert bar
    assert bar["x"] <= box["x"]
    assert box["x"] + box["width"] <= bar["x"] + bar["width"]
    assert one.complaints == []
    one.context.close()


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
