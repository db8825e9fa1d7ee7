"""A model of another library, run by that library's own code under this package's protocol."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, field_validator

from llm4rec.core import Cases, Config, Dataset, Lists, Queries, Ragged, ScoringComponent, did_you_mean
from llm4rec.peers.environments import PEERS, PeerError, interpreter
from llm4rec.peers.foreign import Ask, foreign


class PeerConfig(Config):
    """Which model of which library, and its parameters."""

    peer: str = "recbole:SASRec"
    """The library and its name for the model: ``recbole:LightGCN``, ``rectools:SASRec``, ``lenskit:ImplicitMFScorer``."""
    params: dict[str, JsonValue] = Field(default_factory=dict)
    """Parameters of the model and its training under the library's own names; what is absent has the library's default,
    but for RecBole's ``valid_metric``, by which training stops: NDCG@10 here, MRR@10 there."""
    minutes: float = Field(600.0, gt=0)
    """Training is ended as failed after so long, and so is one process of answering, with all batches of its questions."""
    train_minutes: float | None = Field(None, gt=0)
    """Training stops after the first epoch (of RecBole: with its validation) that ends later than this, as if it had
    been the last; absent: by the library's own rules.  RecBole, and the transformers of RecTools."""
    threads: int | None = Field(None, ge=1)
    """Of the library's numerical code; absent: what it chooses."""

    @field_validator("peer")
    @classmethod
    def _known(cls, value: str) -> str:
        library, colon, model = value.partition(":")
        if not colon or not model:
            raise ValueError("must be a library and a model, such as 'recbole:SASRec'")
        if library not in PEERS:
            raise ValueError(f"unknown library {library!r}; {did_you_mean(library, PEERS)}")
        return value

    @property
    def library(self) -> str:
        """The library's key in ``PEERS``."""
        return self.peer.partition(":")[0]

    @property
    def title(self) -> str:
        """Name for tables: ``RecBole SASRec``."""
        return f"{PEERS[self.library].label} {self.model}"

    @property
    def model(self) -> str:
        """The library's own name for the model."""
        return self.peer.partition(":")[2]


class Peer(ScoringComponent[PeerConfig]):
    """A model of RecBole, RecTools or LensKit, trained and asked in that library's own environment.

    The training part and the validation cases go out as files, and the scores of the whole
    catalogue come back: the library never sees a test answer, and masking, ties, lists and metrics
    are those of every other system.  How it samples, validates and stops is its own.

    A query that the peer cannot know is answered by training popularity: a user without training
    events where the model goes by user, a history without an item that it knows where it goes by history.  What was learnt
    is kept as arrays and numbers (never as the library's own, pickled checkpoint) beside the training
    part, from which the library builds the model again before it answers.
    """

    deterministic = False

    @classmethod
    def ready(cls, config: PeerConfig) -> None:
        """Raise ``PeerError`` if the library's environment is not there."""
        interpreter(config.library)

    def fit(self, train: Dataset, *, valid: Cases | None, rng: np.random.Generator) -> Self:
        """Train in the library's environment; ``valid``, if given, serves its own early stopping."""
        histories = train.histories
        self.n_items_ = train.n_items
        self.train_: dict[str, Any] = {
            "users": histories.items.rows.astype(np.int32), "items": histories.items.values,
            "times": histories.times, "values": histories.values,
        }  # fmt: skip
        self.counts_ = np.bincount(self.train_["users"], minlength=train.n_users)
        self.popularity_ = train.item_counts.astype(np.float32)
        self.seed_ = int(rng.integers(2**31))
        with self._working() as (folder, ask):
            if valid is not None:
                np.savez(
                    folder / "valid.npz", users=valid.queries.users, offsets=valid.queries.history.offsets,
                    history=valid.queries.history.values, truth_offsets=valid.truth.offsets, truth=valid.truth.values,
                )  # fmt: skip
            self.training_ = dict(ask(self._job("fit")))
            with np.load(folder / "state.npz", allow_pickle=False) as arrays:
                self.learnt_ = dict(arrays)
            self.told_ = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return self

    def score(self, queries: Queries) -> NDArray[np.float32]:
        """Return float32[n, n_items], the library's scores."""
        parts = list(self._scores(queries))
        return np.concatenate(parts) if parts else np.empty((0, self.n_items_), np.float32)

    def retrieve(self, queries: Queries, k: int, *, exclude: Ragged) -> Lists:
        """Return the ``k`` best items of each query, none of them excluded; one process answers all."""
        parts, start = [], 0
        for scores in self._scores(queries):
            rows = np.arange(start, start + len(scores))
            parts.append(Lists.from_scores(scores, k, exclude=exclude.take(rows)))
            start += len(scores)
        return Lists.concatenate(parts) if parts else Lists.empty(0, k)

    # -- saving -------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return what was learnt, and the training part, by name."""
        flat = {f"{part}.{name}": array for part in ("train_", "learnt_") for name, array in getattr(self, part).items()}
        names = ("n_items_", "counts_", "popularity_", "seed_", "training_", "told_")
        return {name: getattr(self, name) for name in names} | flat

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` returned."""
        for part in ("train_", "learnt_"):
            held = {k.removeprefix(f"{part}."): v for k, v in state.items() if k.startswith(f"{part}.")}
            setattr(self, part, held)
        super().restore({k: v for k, v in state.items() if "." not in k})

    # -- the other side -----------------------------------------------------------------
    def _scores(self, queries: Queries) -> Iterator[NDArray[np.float32]]:
        """Yield the scores of the queries in pieces of ``batch``."""
        users = queries.users
        if self.training_["by"] == "user":
            known = (users >= 0) & (self.counts_[np.maximum(users, 0)] > 0)
        else:
            known = queries.history.lengths > 0
        if not known.any():
            yield from (np.tile(self.popularity_, (len(rows), 1)) for rows, _ in queries.chunks(self.batch))
            return
        with self._working() as (folder, ask):
            np.savez(folder / "state.npz", **self.learnt_)
            (folder / "state.json").write_text(json.dumps(self.told_), encoding="utf-8")
            for rows, chunk in queries.chunks(self.batch):
                scores = np.tile(self.popularity_, (len(rows), 1))
                if known[rows].any():
                    asked = chunk.take(np.flatnonzero(known[rows]))
                    np.savez(
                        folder / "queries.npz", users=asked.users, offsets=asked.history.offsets, history=asked.history.values
                    )
                    ask(self._job("score") | {"queries": "queries.npz", "scores": "scores.npy"})
                    found = np.load(folder / "scores.npy", allow_pickle=False)
                    if np.isnan(found).any():
                        raise PeerError("gives scores that are no numbers", where=self.config.title, todo="did it diverge?")
                    found[np.isneginf(found).all(axis=1)] = self.popularity_  # a history of items that it never saw
                    scores[known[rows]] = found
                yield scores

    @contextmanager
    def _working(self) -> Iterator[tuple[Path, Ask]]:
        """Write the training part into a folder of its own, and start the library's script there."""
        with tempfile.TemporaryDirectory(prefix="llm4rec-peer-") as name:
            folder = Path(name)
            np.savez(folder / "train.npz", **self.train_)
            with foreign(self.config.library, folder, threads=self.config.threads, minutes=self.config.minutes) as ask:
                yield folder, ask

    def _job(self, what: str) -> dict[str, Any]:
        return {
            "do": what, "model": self.config.model, "params": self.config.params, "seed": self.seed_,
            "n_users": len(self.counts_), "n_items": self.n_items_, "train_minutes": self.config.train_minutes,
        }  # fmt: skip
