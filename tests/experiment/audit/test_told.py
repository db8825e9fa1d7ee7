"""Answers that texts, columns and memories tell are found; honest ones pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from llm4rec.core import Ragged, Split
from llm4rec.core.columns import ITEM, USER, VALUE
from llm4rec.experiment.audit.audit import audit, examine
from llm4rec.experiment.audit.finding import Finding
from llm4rec.experiment.audit.subject import AuditConfig, Subject
from llm4rec.prompted.memory.facts import Evidence, Fact
from llm4rec.prompted.memory.memory import Memory
from tests.experiment.audit.made import found, log, split, verdicts
from tests.experiment.audit.systems import subject


def with_item_text(clean: Split, texts: list[str]) -> Split:
    table = clean.train.item_table.with_columns(about=pl.Series(texts, dtype=pl.String))
    return replace(clean, train=replace(clean.train, item_table=table))


def with_user_text(clean: Split, texts: list[str]) -> Split:
    table = clean.train.user_table.with_columns(about=pl.Series(texts, dtype=pl.String))
    return replace(clean, train=replace(clean.train, user_table=table))


def of(findings: list[Finding]) -> dict[str, str]:
    return {f.of: f.verdict for f in findings}


def bought_next(clean: Split, names: list[str]) -> list[str]:
    """For each item the names of what test cases ask for whose history ends with it: an also-bought list."""
    last = Ragged.of([h[-1:] for h in clean.test.queries.history]).values
    texts = [""] * clean.train.n_items
    for item, truth in zip(last.tolist(), clean.test.truth.values.tolist(), strict=True):
        texts[item] += f"also bought: {names[truth]}; "
    return texts


# -- item texts ---------------------------------------------------------------------------------
def test_also_bought_lists_are_found() -> None:
    clean = split()
    assert verdicts(found(clean, "item-text")) == {"ok"}
    by_id = of(found(with_item_text(clean, bought_next(clean, list(clean.train.items.ids))), "item-text"))
    assert by_id["history names the truth, ids"] == "leak"
    titles = clean.train.item_table["title"].to_list()
    by_title = of(found(with_item_text(clean, bought_next(clean, titles)), "item-text"))
    assert by_title["history names the truth, titles"] == "warning"
    assert by_title["history names the truth, ids"] == "ok"


def test_texts_that_name_other_items_at_random_are_no_leak() -> None:
    clean, rng = split(), np.random.default_rng(4)
    texts = [f"like {' and '.join(rng.choice(clean.train.items.ids, 6))}" for _ in range(clean.train.n_items)]
    assert verdicts(found(with_item_text(clean, texts), "item-text")) == {"ok"}


def test_items_that_name_their_buyers_are_found() -> None:
    clean = split()
    texts = [""] * clean.train.n_items
    for user, truth in zip(clean.test.queries.users.tolist(), clean.test.truth.values.tolist(), strict=True):
        texts[truth] += f" loved by {clean.train.users.ids[user]},"
    told = of(found(with_item_text(clean, texts), "item-text"))
    assert told == {
        "history names the truth, ids": "ok",
        "history names the truth, titles": "ok",
        "truth names the user": "leak",
    }


# -- what is told of users ----------------------------------------------------------------------
def test_user_tables_that_name_the_truth_are_found() -> None:
    clean = split()
    assert verdicts(found(clean, "user-text")) == {"ok"}
    titles, texts = clean.train.item_table["title"].to_list(), [""] * clean.train.n_users
    for user, truth in zip(clean.test.queries.users.tolist(), clean.test.truth.values.tolist(), strict=True):
        texts[user] = f"Would love to see {titles[truth]}, they say."
    told = of(found(with_user_text(clean, texts), "user-text"))
    assert told == {"user table, ids": "ok", "user table, titles": "leak"}


def test_profiles_and_requests_that_name_the_truth_are_found() -> None:
    clean = split()
    ids = clean.train.items.ids
    told = tuple(
        f"will take {ids[t]}" if n % 10 == 0 else "likes crime" for n, t in enumerate(clean.test.truth.values.tolist())
    )
    for field, name in (("profiles", "profiles"), ("texts", "requests")):
        queries = replace(clean.test.queries, **{field: told})  # type: ignore[arg-type]
        findings = of(found(replace(clean, test=replace(clean.test, queries=queries)), "user-text"))
        assert findings[f"{name}, ids"] == "leak"
        assert findings[f"{name}, titles"] == "ok"


def test_profiles_of_the_past_are_no_leak() -> None:
    clean = split()
    titles = clean.train.item_table["title"].to_list()
    past = tuple("Lately: " + "; ".join(titles[i] for i in h[-5:]) for h in clean.test.queries.history)
    made = replace(clean, test=replace(clean.test, queries=replace(clean.test.queries, profiles=past)))
    assert verdicts(found(made, "user-text")) == {"ok"}


# -- computed columns ---------------------------------------------------------------------------
def columns(key: str, table: pl.DataFrame) -> Finding:
    clean = split()
    train = replace(clean.train, **{f"{key}_table": table})  # type: ignore[arg-type]
    made = Subject(replace(clean, train=train), AuditConfig(), dataset=log())
    return {f.of: f for f in examine(made, only=["columns"]).findings}[f"{key} table"]


def test_counts_and_means_of_the_whole_log_are_found() -> None:
    clean = split()
    for key in (USER, ITEM):
        plain = getattr(clean.train, f"{key}_table")
        for events, verdict in ((log().events, "leak"), (clean.train.events, "ok")):
            counts = events.group_by(key).agg(pl.len().alias("events"), pl.col(VALUE).mean().round(2).alias("mean"))
            finding = columns(key, plain.join(counts, on=key, how="left", maintain_order="left"))
            assert finding.verdict == verdict, (key, finding)
            assert finding.details["columns"] == (["events", "mean"] if verdict == "leak" else [])
        assert columns(key, plain).verdict == "ok"


def test_favourites_of_the_whole_log_are_found() -> None:
    clean = split()
    genres = clean.train.item_table.select(ITEM, pl.col("genres").list.first().alias("favourite"))
    for events, verdict in ((log().events, "leak"), (clean.train.events, "ok")):
        counts = events.join(genres, on=ITEM).group_by(USER, "favourite").len()
        best = (
            counts.sort(USER, "len", "favourite", descending=[False, True, False]).group_by(USER, maintain_order=True).first()
        )
        table = clean.train.user_table.join(best.select(USER, "favourite"), on=USER, how="left", maintain_order="left")
        assert columns(USER, table).verdict == verdict


@pytest.mark.parametrize("rule", ["min_value = 3.0", "user_core = 11"])
def test_figures_of_the_file_before_its_filters_are_found(log_folder: Path, rule: str) -> None:
    """A catalogue that counts all ratings of the file, of which the experiment drops some."""
    rng = np.random.default_rng(0)
    events = pl.read_csv(log_folder / "events.csv")
    events = events.with_columns(rating=pl.Series(rng.integers(1, 6, len(events))))
    events.write_csv(log_folder / "events.csv")
    items = pl.read_csv(log_folder / "items.csv")
    last = pl.col("timestamp").rank("ordinal", descending=True).over("user_id") <= 2
    text = (log_folder / "spec.toml").read_text().partition("[encoder.words]")[0].replace("[data]", f"[data]\n{rule}")
    (log_folder / "spec.toml").write_text(text + '[systems]\nease = { component = "ease" }\n')
    for rows, verdict in ((events, "leak"), (events.filter(~last), "ok")):
        counts = rows.group_by("item_id").agg(pl.len().alias("ratings"), pl.col("rating").mean().round(2).alias("mean"))
        items.join(counts, on="item_id", how="left").write_csv(log_folder / "items.csv")
        told = audit(log_folder / "spec.toml", log_folder / "out", config=AuditConfig(quick=True), only=["columns"])[0].findings
        (finding,) = [f for f in told if f.of == "item table"]
        assert finding.verdict == verdict, finding
        if verdict == "leak":
            assert finding.details["columns"] == ["mean", "ratings"]
            assert "'ratings' is the number of events of the file before its filters, test included" in finding.line


# -- memories -----------------------------------------------------------------------------------
def facts(tmp_path: Path, *told: Fact) -> Finding:
    path = tmp_path / "memory.jsonl"
    Memory(told).save(path)
    system = f'remembers = {{ retrieve = ["ease"], augment = [{{ component = "user-memory", memory = "{path}" }}] }}'
    with subject(split(), "ease", system) as made:
        (finding,) = examine(made, only=["facts"]).findings
    return finding


def test_facts_that_rest_on_the_future_are_found(tmp_path: Path) -> None:
    clean = split()
    case = clean.test.queries
    user, moment = clean.train.users.ids[int(case.users[0])], int(case.times[0])
    truth, other = (clean.train.items.ids[int(i)] for i in (clean.test.truth[0][0], case.history[0][0]))

    def fact(time: int | None, *evidence: Evidence) -> Fact:
        return Fact("user", user, "profile", "Likes tales.", "hand", None, time, evidence)

    assert facts(tmp_path, fact(None, Evidence(other, moment - 9))).verdict == "ok"
    assert facts(tmp_path, fact(moment + 1, Evidence(truth, moment))).verdict == "ok"  # not told before it is known
    assert facts(tmp_path, fact(None, Evidence(other, moment))).verdict == "leak"
    assert facts(tmp_path, fact(None, Evidence(truth))).verdict == "leak"
    assert facts(tmp_path, fact(moment - 5, Evidence(other, moment - 1))).verdict == "leak"  # dated too early


def test_facts_of_items_without_a_time_are_a_warning(tmp_path: Path) -> None:
    late = int(split().test.queries.times.max())
    fact = Fact("item", split().train.items.ids[0], "summary", "Much loved.", "hand", None, None, (Evidence(time=late),))
    assert facts(tmp_path, fact).verdict == "warning"


# -- the catalogue ------------------------------------------------------------------------------
def test_twins_are_found() -> None:
    clean = split()
    assert verdicts(found(clean, "twins")) == {"ok"}
    titles = clean.train.item_table["title"].to_list()
    titles[int(clean.test.truth[0][0])] = titles[int(clean.test.queries.history[0][0])].upper() + "!"
    table = clean.train.item_table.with_columns(title=pl.Series(titles))
    (finding,) = found(replace(clean, train=replace(clean.train, item_table=table)), "twins")
    assert (finding.verdict, finding.value) == ("warning", 2 / 80)
    assert finding.details["cases"] >= 1
