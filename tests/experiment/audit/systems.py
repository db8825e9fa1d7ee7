"""Components that cheat or guess, and specifications that name them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Cases, Config, Dataset, Queries, ScoringComponent, Split
from llm4rec.experiment.audit.audit import examine
from llm4rec.experiment.audit.bench import Bench
from llm4rec.experiment.audit.finding import Finding
from llm4rec.experiment.audit.subject import AuditConfig, Subject
from llm4rec.experiment.catalog import Entry
from llm4rec.experiment.spec import Spec, parse_spec


class Nothing(Config):
    """No parameters."""


class Guess(ScoringComponent[Nothing]):
    """Scores at random, the same for every user."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        self.scores_ = np.random.default_rng(9).random(train.n_items, dtype=np.float32)
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        return np.broadcast_to(self.scores_, (len(queries), len(self.scores_)))


class Flat(Guess):
    """Scores every item alike."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        self.scores_ = np.zeros(train.n_items, dtype=np.float32)
        return self


class Wisher(ScoringComponent[Nothing]):
    """Reads from the user table what the user will take next."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        self.wish_, self.n_items_ = train.user_table["wish"].to_numpy().copy(), train.n_items
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        scores = np.zeros((len(queries), self.n_items_), dtype=np.float32)
        scores[np.arange(len(queries)), self.wish_[queries.users]] = 1.0
        return scores


class Marked(ScoringComponent[Nothing]):
    """Prefers items that the item table marks, the same for every user."""

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        self.marks_ = train.item_table["mark"].to_numpy().astype(np.float32)
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        return np.broadcast_to(self.marks_, (len(queries), len(self.marks_)))


class Placed(Config):
    """Where the truth is put."""

    share: float = 1.0
    """Of the users, whose truth comes first; the others' comes last."""
    place: int = 1
    """Place of the truth of the others, from 1; 0 for last."""


class Oracle(ScoringComponent[Placed]):
    """Knows the truth and puts it where the config says, so that its figures are known."""

    truth: ClassVar[dict[int, int]] = {}

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        self.n_items_ = train.n_items
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        scores = np.random.default_rng(1).permutation(self.n_items_).astype(np.float32)
        out = np.tile(scores, (len(queries), 1))
        for row, user in enumerate(queries.users.tolist()):
            first = user % 100 < 100 * self.config.share
            others = self.n_items_ - self.config.place if self.config.place else -1
            out[row, self.truth[user]] = (self.n_items_ if first else others) + 0.5
        return out


CHEATS = {
    "guess": Entry(Guess, "Guess", "made"),
    "flat": Entry(Flat, "Flat", "made"),
    "wisher": Entry(Wisher, "Wisher", "made"),
    "marked": Entry(Marked, "Marked", "made"),
    "marked-text": Entry(Marked, "Marked text", "text"),
    "oracle": Entry(Oracle, "Oracle", "made"),
}


def spec(*systems: str, rules: str = "") -> Spec:
    """Return a specification with the systems; each is a line ``name = { component = ... }``."""
    lines = "\n".join(s if "=" in s else f'{s} = {{ component = "{s}" }}' for s in systems)
    return parse_spec(f'[experiment]\nname = "made"\nks = [5, 10]\n[data]\nset = "ml-100k"\n{rules}\n[systems]\n{lines}\n')


@contextmanager
def subject(
    split: Split, *systems: str, dataset: Dataset | None = None, rules: str = "", config: AuditConfig | None = None
) -> Iterator[Subject]:
    """Give a made split with systems as the subject of an audit."""
    told = spec(*systems, rules=rules)
    with Bench.opened(told, split) as bench:
        yield Subject(split, config or AuditConfig(), told.protocol, told, dataset, None, bench)


def findings(split: Split, systems: Sequence[str], check: str, **options: object) -> dict[str, Finding]:
    """Return what one check finds of each system."""
    with subject(split, *systems, **options) as made:  # type: ignore[arg-type]
        return {f.of: f for f in examine(made, only=[check]).findings}
