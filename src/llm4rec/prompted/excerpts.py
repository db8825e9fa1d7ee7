"""Excerpts of the files of a data set whose last line is cut: the questions of the contamination probe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Config, Dataset, SpecError, did_you_mean
from llm4rec.core.columns import ITEM, TIME, USER, VALUE
from llm4rec.llm.prompts import plain

_USUAL = ("year", "genres")  # attributes that are asked by default, where a set has them


class ContaminationConfig(Config):
    """Parameters of :func:`llm4rec.prompted.contamination.probe_contamination`."""

    tests: tuple[Literal["titles", "rows", "attributes"], ...] = ("titles", "rows", "attributes")
    """Which tests are made."""
    attributes: tuple[str, ...] | None = None
    """Columns of the item table that are asked for; by default year and genres, where there are any."""
    cases: int = Field(default=100, ge=1, le=10_000)
    """Questions of each test, drawn by seed; each is asked twice, the second time with the wrong key."""
    choices: int = Field(default=10, ge=2, le=50)
    """Continuations to choose from, the true one included (fewer where a set has few values)."""
    lines: int = Field(default=8, ge=1, le=50)
    """Whole lines before the cut one: examples of the format, or the rows that come before."""
    written: int = Field(default=25, ge=0, le=10_000)
    """Of the cases, how many are also asked to be written out, to count exact matches; 0 asks none."""
    method: Literal["auto", "likelihood", "choice"] = "auto"
    """By the log-probability of each continuation, or by a number that the model answers in JSON;
    "auto" takes the first where the model can be scored."""
    header: str | None = None
    """Line before the lines of the file; by default one with the set's name."""
    item_separator: str = Field(default="|", min_length=1, max_length=4)
    """Stands between an item's fields, as in the public file."""
    row_separator: str = Field(default="\t", min_length=1, max_length=4)
    """Stands between the fields of a row of the log, as in the public file."""
    level: float = Field(default=0.99, gt=0.5, lt=1.0)
    """Confidence of the intervals; a test finds something if the difference is above 0 at this level."""
    seed: int = Field(default=0, ge=0)
    """Draws the cases and their foils."""


@dataclass(frozen=True, slots=True)
class Case:
    """A line that is cut, with the right key and with a wrong one, and how it may go on.

    Attributes:
        shown: the excerpt up to the cut.
        control: the same with the wrong key.
        key: what stands on the cut line, with the right key.
        choices: continuations, none twice, in the order drawn.
        truth: place of the true one.
    """

    shown: str
    control: str
    key: str
    choices: tuple[str, ...]
    truth: int


Draw = Callable[[np.random.Generator], "list[Case] | str"]


def questions(dataset: Dataset, config: ContaminationConfig) -> Iterator[tuple[str, Draw]]:
    """Yield each test's name and a function that draws its cases, or says why there are none."""
    table = dataset.item_table
    titled = "title" in table.columns
    if "titles" in config.tests:
        yield "titles", lambda rng: _titles(dataset, config, rng) if titled else "the items have no titles"
    if "rows" in config.tests:
        yield "rows", lambda rng: _rows(dataset, config, rng)
    if "attributes" in config.tests:
        named = config.attributes
        for column in named if named is not None else [c for c in _USUAL if c in table.columns]:
            if column not in table.columns or column in (ITEM, "title"):
                others = [c for c in table.columns if c not in (ITEM, "title")]
                raise SpecError(f"no attribute {column!r}", where="attributes", todo=did_you_mean(column, others))

            def draw(rng: np.random.Generator, column: str = column) -> list[Case] | str:
                return _attribute(dataset, column, config, rng) if titled else "the items have no titles"

            yield f"attribute:{column}", draw


def _header(dataset: Dataset, config: ContaminationConfig, what: str) -> str:
    return config.header if config.header is not None else f"{what} of the data set {dataset.name}:"


def _titles(dataset: Dataset, config: ContaminationConfig, rng: np.random.Generator) -> list[Case] | str:
    ids, names = dataset.items.ids, _names(dataset.item_table)
    years = dataset.item_table["year"].to_list() if "year" in dataset.item_table.columns else [0] * len(names)
    for what, values in (("titles", names), ("years", [f"{year!s:>9}" for year in years])):
        if _follows(ids, values):
            return f"ids stand in order of {what}, so a title can be guessed"
    lines = [(f"{plain(i)}{config.item_separator}", value) for i, value in zip(ids, _unique(names), strict=True)]
    return _keyed(lines, _header(dataset, config, "Items"), config, rng)


def _attribute(dataset: Dataset, column: str, config: ContaminationConfig, rng: np.random.Generator) -> list[Case] | str:
    table = dataset.item_table
    names = [plain(str(title or "")) for title in table["title"]] if column == "year" else _names(table)
    values = [_text(value) for value in table[column].to_list()]
    # A title that two items share does not say whose value is asked.
    lines = [
        (f"{name}{config.item_separator}" if name else "", value) for name, value in zip(_unique(names), values, strict=True)
    ]
    return _keyed(lines, _header(dataset, config, f"Title and {column} of items"), config, rng)


def _keyed(
    lines: Sequence[tuple[str, str]], header: str, config: ContaminationConfig, rng: np.random.Generator
) -> list[Case] | str:
    """Draw cases from lines of key and value; the whole lines before the cut are the same for all of them."""
    usable = [i for i, (key, value) in enumerate(lines) if key and value]
    if len(usable) < config.lines + 3:
        return f"only {len(usable)} items have what is asked"
    values = {lines[i][1] for i in usable}
    if len(values) < 2:
        return "all items have the same"
    most = min(config.choices, max(2, len(values) - 1))  # one is left over, for the wrong key
    order = rng.permutation(usable).tolist()
    examples, asked = order[: config.lines], order[config.lines :]
    before = "\n".join([header, *("".join(lines[i]) for i in examples)]) + "\n"
    cases = []
    for i in asked[: config.cases]:
        key, value = lines[i]
        choices = [value]
        for j in rng.permutation(asked).tolist():
            if len(choices) == most:
                break
            if lines[j][1] not in choices:
                choices.append(lines[j][1])
        # The wrong key has none of the choices for its value, if that can be; else at least not the true one.
        others = [j for j in asked if lines[j][1] not in choices] or [j for j in asked if lines[j][1] != value]
        wrong = lines[others[int(rng.integers(len(others)))]][0]
        cases.append(_case(before + key, before + wrong, key, choices, rng))
    return cases


def _rows(dataset: Dataset, config: ContaminationConfig, rng: np.random.Generator) -> list[Case] | str:
    """Draw rows; the foils are the rows that the same user has next in the file."""
    events, between, n = dataset.events, config.row_separator, len(dataset.events)
    users, items = events[USER].to_numpy(), events[ITEM].to_numpy()
    values, times = events[VALUE].to_numpy(), events[TIME].to_numpy()
    by_user = np.argsort(users, kind="stable")
    starts = np.searchsorted(users[by_user], np.arange(dataset.n_users + 1))
    header = _header(dataset, config, "Rows")

    def line(row: int) -> str:
        fields = [plain(dataset.users.ids[users[row]]), plain(dataset.items.ids[items[row]]), f"{values[row]:g}"]
        return between.join([*fields, str(times[row])] if dataset.clock == "utc" else fields)

    def before(at: int) -> str:
        return "\n".join([header, *map(line, range(at - config.lines, at))]) + "\n"

    cases: list[Case] = []
    places = _places(dataset.items.ids)
    near: list[tuple[bool, float]] = []  # is the truth nearest to the id in the row before?  How probable is that by chance?
    for at in map(int, rng.permutation(np.arange(config.lines, n)) if n > 4 * config.lines else ()):
        user = users[at]
        own = by_user[starts[user] : starts[user + 1]]
        context = slice(at - config.lines, at)
        taken = {int(items[at]), *items[context][users[context] == user].tolist()}
        choices = [int(items[at])]
        for row in np.roll(own, -int(np.searchsorted(own, at))).tolist():
            if len(choices) < config.choices and int(items[row]) not in taken:
                taken.add(int(items[row]))
                choices.append(int(items[row]))
        elsewhere = int(rng.integers(config.lines, n))
        apart = abs(elsewhere - at) > config.lines and user not in users[elsewhere - config.lines : elsewhere + 1]
        if len(choices) < 2 or not apart:
            continue
        key = f"{plain(dataset.users.ids[user])}{between}"
        texts = [plain(dataset.items.ids[i]) for i in choices]
        cases.append(_case(before(at) + key, before(elsewhere) + key, key, texts, rng))
        gaps = np.abs(places[choices] - places[items[at - 1]])
        near.append((bool(gaps.argmin() == 0), 1 / len(choices)))
        if len(cases) == config.cases:
            break
    if not cases:
        return "no user has rows enough"
    hits, chance = np.array(near, dtype=np.float64).T
    if hits.sum() > chance.sum() + 4 * np.sqrt((chance * (1 - chance)).sum()):
        return "rows stand in order of item ids, so the next one can be guessed"
    return cases


def _follows(ids: Sequence[str], values: Sequence[str]) -> bool:
    """Do ids stand in order of values, or nearly (a rank correlation beyond .5)?"""
    if len(set(values)) < 2:
        return False
    _, ranks = np.unique(np.array(values), return_inverse=True)
    return bool(abs(np.corrcoef(_places(ids), np.argsort(np.argsort(ranks, kind="stable")))[0, 1]) > 0.5)


def _places(ids: Sequence[str]) -> NDArray[np.int64]:
    """Return int64[n], the place of each id in order: of numbers where all are numbers, else of text."""
    numeric = all(i.isdecimal() for i in ids)
    order = sorted(range(len(ids)), key=lambda i: (int(ids[i]) if numeric else 0, ids[i]))
    return np.argsort(np.array(order, dtype=np.int64))


def _case(shown: str, control: str, key: str, choices: Sequence[str], rng: np.random.Generator) -> Case:
    """Return the case with its choices, the true one first, in random order."""
    order = rng.permutation(len(choices)).tolist()
    return Case(shown, control, key, tuple(choices[i] for i in order), order.index(0))


def _names(table: pl.DataFrame) -> list[str]:
    """Return titles, with the year where there is one, as the public files of films have them."""
    years = table["year"].to_list() if "year" in table.columns else [None] * len(table)
    titles = [plain(str(title or "")) for title in table["title"]]
    return [f"{t} ({y})" if t and y is not None else t for t, y in zip(titles, years, strict=True)]


def _unique(names: Sequence[str]) -> list[str]:
    """Return the names, "" in place of those that occur more than once."""
    counts = Counter(names)
    return [name if counts[name] == 1 else "" for name in names]


def _text(value: Any) -> str:
    """Return an attribute's value as it stands in a line; "" if there is none."""
    if value is None or value == []:
        return ""
    return plain(", ".join(map(str, value)) if isinstance(value, list) else str(value))
