"""What P5 is trained on: the tasks of a training part, their prompts and their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core import DataError, Dataset
from llm4rec.core.columns import ITEM, TIME, USER
from llm4rec.core.order import stable_order

Task = Literal["sequential", "direct", "rating", "explanation", "summary"]

#: Task -> what is asked; where P5 has about ten wordings a task, here is one.
PROMPTS: Mapping[Task, str] = {
    "sequential": "user {user} has taken {history} and takes next",
    "direct": "what does user {user} take",
    "rating": "how does user {user} rate {item}",
    "explanation": "why does user {user} take {item}",
    "summary": "summarise what user {user} says of {item} : {review}",
}
#: Task -> the column of the texts that answers it.
ANSWERS: Mapping[Task, str] = {"explanation": "explanation", "summary": "summary"}
#: Different ratings, at most, for ``rating`` to be a task.
_VALUES = 32


class Examples:
    """The examples of each task: training events by their places in the histories, or rows of the texts.

    Args:
        train: the training part.
        texts: what ``read_texts`` returned, or None.
        asked: tasks that are wanted.
        length: most recent events that ``sequential`` looks at.

    Attributes:
        tasks: those that the data have.
        values: float64[r], the different ratings, rising.
    """

    def __init__(self, train: Dataset, texts: pl.DataFrame | None, asked: Sequence[Task], length: int) -> None:
        histories = train.histories
        self._events, self._owner, self._length = histories.items, histories.items.rows, length
        self._texts, self._ratings = texts, histories.values
        self.values = np.unique(histories.values.astype(np.float64))
        there: dict[Task, bool] = {"sequential": True, "direct": True, "rating": 2 <= len(self.values) <= _VALUES}
        there |= {task: texts is not None and texts[column].drop_nulls().len() > 0 for task, column in ANSWERS.items()}
        self.tasks = tuple(task for task in asked if there[task])

    def draw(self, task: Task, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return int64[m], an epoch's examples in random order, at most so many of a user; 0 for all."""
        if task in ANSWERS:
            assert self._texts is not None
            rows = np.flatnonzero(self._texts[ANSWERS[task]].is_not_null().to_numpy())
            owner = self._texts[USER].to_numpy()
        else:
            rows, owner = np.arange(len(self._owner)), self._owner
            if task == "sequential":  # there is something before it
                rows = rows[rows > self._events.offsets[owner]]
        drawn = rng.permutation(rows)
        if most:
            order = stable_order(owner[drawn])
            starts = np.flatnonzero(np.diff(owner[drawn][order], prepend=-1))
            nth = np.empty(len(drawn), np.int64)
            nth[order] = np.arange(len(drawn)) - np.repeat(starts, np.diff(np.append(starts, len(drawn))))
            drawn = drawn[nth < most]
        return drawn.astype(np.int64)

    def users(self, task: Task, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return int64[m], whose examples these are."""
        owner = self._texts[USER].to_numpy() if task in ANSWERS and self._texts is not None else self._owner
        return owner[rows].astype(np.int64)

    def items(self, task: Task, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return int64[m], the items that these examples are about, or whose IDs answer them."""
        items = self._texts[ITEM].to_numpy() if task in ANSWERS and self._texts is not None else self._events.values
        return items[rows].astype(np.int64)

    def parts(self, task: Task, rows: NDArray[np.int64]) -> dict[str, Any]:
        """Return what fills a prompt beside the user: ``history`` int64[m, t], -1 pads; ``item``; ``review``."""
        if task == "direct":
            return {}
        if task == "sequential":
            first = self._events.offsets[self._owner[rows]]
            longest = int(np.minimum(rows - first, self._length).max(initial=1))
            at = rows[:, None] - np.arange(longest, 0, -1)  # [m, t]
            return {"history": np.where(at >= first[:, None], self._events.values[np.maximum(at, 0)], -1)}
        parts: dict[str, Any] = {"item": self.items(task, rows)}
        if task == "summary":
            assert self._texts is not None
            parts["review"] = self._texts["review"].fill_null("").gather(rows).to_list()
        return parts

    def answers(self, task: Task, rows: NDArray[np.int64]) -> list[str]:
        """Return the texts that answer examples of ``rating``, ``explanation`` or ``summary``."""
        if task == "rating":
            return [rating(value) for value in self._ratings[rows].tolist()]
        assert self._texts is not None
        answers: list[str] = self._texts[ANSWERS[task]].gather(rows).to_list()
        return answers

    def sentences(self) -> list[str]:
        """Return all text that is read or written."""
        told = [*PROMPTS.values(), *map(rating, self.values.tolist())]
        if self._texts is not None:
            told += [text for column in ("review", *ANSWERS.values()) for text in self._texts[column].drop_nulls().to_list()]
        return told


def rating(value: float) -> str:
    """Return a rating as it is written."""
    return f"{value:g}"


def read_texts(path: Path, train: Dataset) -> pl.DataFrame:
    """Return the texts of training events: inside ids ``user`` and ``item``, and ``review``, ``summary``, ``explanation``.

    A text of an event that training does not have (a held-out one, say) is left out.  Where users return to items,
    only ``time`` (seconds, as in the log) tells which event a text belongs to.

    Raises:
        DataError: if the file cannot be read, lacks the ids, or lacks times that are needed.
    """
    try:
        table = pl.read_ndjson(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"cannot be read ({error})", where=str(path), todo="write one JSON object a line") from None
    if missing := [column for column in (USER, ITEM) if column not in table.columns]:
        raise DataError(f"has no {' and no '.join(map(repr, missing))}", where=str(path))
    texts = [
        (pl.col(c) if c in table.columns else pl.lit(None)).cast(pl.String).str.strip_chars().replace("", None).alias(c)
        for c in ("review", "summary", "explanation")
    ]
    ids = [pl.Series(c, v.encode(table[c], missing=-1)) for c, v in ((USER, train.users), (ITEM, train.items))]
    on = [USER, ITEM]
    if TIME in table.columns:
        on, ids = [*on, TIME], [*ids, table[TIME].cast(pl.Int64, strict=False)]
    elif train.events.select(on).is_duplicated().any():
        what = "has no 'time', and users of this log return to items: texts of held-out events could not be told apart"
        raise DataError(what, where=str(path), todo="give each text the time of its event, in seconds")
    known = table.select(texts).with_columns(ids)
    return known.join(train.events.select(on).unique(), on=on, how="semi", maintain_order="left")
