"""Do texts name the answer: texts of items, columns of users, profiles, what users ask for?

A text names an item by its outside id, or by its title, spelt alike.  Chance is what the same texts name of
other cases' truths: the truths are dealt anew among the cases, so that popular titles, common words and
numbers that happen to be ids count on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from llm4rec.core import Cases, Dataset, Vocabulary
from llm4rec.core.columns import ITEM, USER
from llm4rec.experiment.audit.finding import Finding, Verdict
from llm4rec.experiment.audit.subject import Subject
from llm4rec.prompted.explain.mentions import names_of, words

#: Events from the end of a history whose items' texts count.
_HISTORY = 20
#: Words of a title that are looked for; longer titles by their first ones.
_LONGEST = 8
#: Characters of a text that are read.
_READ = 5_000
#: Cases named above chance that make a finding of what is not due to chance.
_MATTERS = 0.005


def item_texts(subject: Subject) -> Iterator[Finding]:
    """Test cases in which the text of an item of the history names the true item; the truth's text, the user."""
    train, cases = subject.train, subject.split.test
    texts = _texts(train.item_table, ITEM)
    if texts is None:
        yield Finding("item-text", "", "cases whose truth is named", None, "not applicable", "the items have no text")
        return
    history = cases.queries.history.last(_HISTORY)
    shown = sparse.csr_matrix(
        (np.ones(len(history.values), np.float32), history.values, history.offsets), shape=(len(cases), train.n_items)
    )
    # Titles do not count as texts here: a sequel's name holds that of the film before it.
    untitled = _texts(train.item_table.drop("title", strict=False), ITEM)
    by_title = None if untitled is None else _by_title(untitled, train)
    for what, named in (("ids", _by_id(texts, train.items)), ("titles", by_title)):
        if named is None:
            continue
        named.setdiag(0)
        told = _Told.of(shown @ named, cases, subject)
        bad: Verdict = "leak" if what == "ids" else "warning"
        line = (
            f"texts of the history name what comes next by {what} ({told.chance:.2%} by chance): also-bought lists and the "
            "like are made of later events; leave the column out"
        )
        yield told.finding("item-text", f"history names the truth, {what}", bad, line)
    told = _Told.of(_of_users(_by_id(texts, train.users), cases.queries.users), cases, subject)
    line = f"texts of true items name the very user that is asked ({told.chance:.2%} by chance): leave the column out"
    yield told.finding("item-text", "truth names the user", "leak", line)


def user_texts(subject: Subject) -> Iterator[Finding]:
    """Test cases whose user's table row, profile or request names the true item."""
    train, cases = subject.train, subject.split.test
    users, sources = cases.queries.users, dict[str, Sequence[str]]()
    table = _texts(train.user_table, USER)
    if table is not None:
        sources["user table"] = [table[u] if u >= 0 else "" for u in users.tolist()]
    for name, told in (("profiles", cases.queries.profiles), ("requests", cases.queries.texts), *subject.profiles.items()):
        if told is not None:
            sources[name] = told
    if not sources:
        yield Finding("user-text", "", "cases whose truth is named", None, "not applicable", "nothing is told of the users")
    for name, texts in sources.items():
        for what, named in (("ids", _by_id(texts, train.items)), ("titles", _by_title(texts, train))):
            if named is not None:
                found = _Told.of(named, cases, subject)
                line = (
                    f"the {name} name the very item that is asked for, by {what} ({found.chance:.2%} by chance): make them "
                    "from events before the query alone"
                )
                yield found.finding("user-text", f"{name}, {what}", "leak", line)


@dataclass(frozen=True)
class _Told:
    """The share of true items that are named, beside that of truths dealt anew."""

    value: float
    chance: float
    p: float
    level: float

    @classmethod
    def of(cls, named: sparse.csr_matrix, cases: Cases, subject: Subject) -> _Told:
        """Test bool CSR [n, n_items], what is named to each case."""
        rng, n_items = subject.rng(), named.shape[1]
        entries = sparse.csr_matrix(named)
        entries.sum_duplicates()
        rows = np.repeat(np.arange(entries.shape[0], dtype=np.int64), np.diff(entries.indptr))
        keys = np.sort(rows[entries.data > 0] * n_items + entries.indices[entries.data > 0])

        def share(at: NDArray[np.integer]) -> float:
            asked = at.astype(np.int64) * n_items + cases.truth.values
            place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
            return float((keys[place] == asked).mean())

        if not len(keys) or not len(cases):
            return cls(0.0, 0.0, 1.0, subject.config.level)
        value = share(cases.truth.rows)
        null = np.array([share(rng.permutation(len(cases))[cases.truth.rows]) for _ in range(subject.config.permutations)])
        p = float((1 + (null >= value - 1e-12).sum()) / (1 + len(null)))
        return cls(value, float(null.mean()), p, subject.config.level)

    def finding(self, check: str, of: str, bad: Verdict, line: str) -> Finding:
        """Return the finding: ``bad`` with ``line`` if more is named than by chance, and enough to matter."""
        found = self.p <= self.level and self.value - self.chance >= _MATTERS
        said = line if found else f"no more than of other cases' truths ({self.chance:.2%}, p = {self.p:.3f})"
        details = {"chance": self.chance, "p": self.p}
        return Finding(check, of, "share of the truth that is named", self.value, bad if found else "ok", said, details)


def _texts(table: pl.DataFrame, key: str) -> list[str] | None:
    """Return each row's texts, lists and numbers as one text; None where the table has no column but its key."""
    columns = [
        (
            pl.col(c).cast(pl.List(pl.String)).list.join(" ; ")
            if isinstance(t, pl.List)
            else pl.col(c).cast(pl.String, strict=False)
        )
        for c, t in table.schema.items()
        if c != key and (isinstance(t, pl.List) or not t.is_nested())
    ]
    if not columns:
        return None
    return table.select(pl.concat_str(columns, separator=" \n ", ignore_nulls=True).str.slice(0, _READ))[:, 0].to_list()


def _by_id(texts: Sequence[str], vocabulary: Vocabulary) -> sparse.csr_matrix:
    """Return CSR [texts, ids]: which outside ids stand in each text, as words of their own."""
    told = pl.DataFrame({"text": np.arange(len(texts)), "word": pl.Series(texts, dtype=pl.String)})
    found = told.with_columns(pl.col("word").str.extract_all(r"[^\s,;|\"'\[\](){}<>]+")).explode("word").drop_nulls()
    bare = found.with_columns(pl.col("word").str.strip_chars_end(".!?:"))  # an id may end a sentence
    ids = pl.DataFrame({"word": vocabulary.ids, "at": np.arange(len(vocabulary))}, schema={"word": pl.String, "at": pl.Int64})
    return _matrix(pl.concat([found, bare]).unique().join(ids, on="word"), (len(texts), len(vocabulary)))


def _of_users(named: sparse.csr_matrix, users: NDArray[np.integer]) -> sparse.csr_matrix:
    """Return CSR [n, items]: whose texts name the user of each case; nobody's name one who is unknown (-1)."""
    nobody = sparse.csr_matrix((1, named.shape[0]), dtype=named.dtype)
    return sparse.csr_matrix(sparse.vstack([named.T, nobody], format="csr")[np.where(users < 0, named.shape[1], users)])


def _by_title(texts: Sequence[str], train: Dataset) -> sparse.csr_matrix | None:
    """Return CSR [texts, items]: which titles stand in each text, spelt alike; None without titles.

    An item whose title is that of another one counts with it.
    """
    if "title" not in train.item_table.columns:
        return None
    titles = train.item_table["title"].cast(pl.String).fill_null("").to_list()
    names = [(" ".join(words(form)[:_LONGEST]), at) for at, title in enumerate(titles) for form in names_of(title)]
    known = pl.DataFrame(names, schema={"word": pl.String, "at": pl.Int64}, orient="row").filter(pl.col("word") != "").unique()
    lengths = sorted(set(known["word"].str.count_matches(" ").to_list()))
    read = pl.DataFrame({"text": np.arange(len(texts)), "word": [list(words(t or "")) for t in texts]})
    flat = read.cast({"word": pl.List(pl.String)}).explode("word").drop_nulls()
    pieces = []
    for n in lengths:
        shifted = [pl.col("word").shift(-i).over("text") for i in range(n + 1)]
        grams = flat.select("text", pl.concat_str(shifted, separator=" ").alias("word")).drop_nulls()
        pieces.append(grams.join(known, on="word").select("text", "at").unique())
    found = pl.concat(pieces) if pieces else pl.DataFrame(schema={"text": pl.Int64, "at": pl.Int64})
    return _matrix(found, (len(texts), train.n_items))


def _matrix(found: pl.DataFrame, shape: tuple[int, int]) -> sparse.csr_matrix:
    data = np.ones(len(found), np.float32)
    return sparse.csr_matrix((data, (found["text"].to_numpy(), found["at"].to_numpy())), shape=shape)
