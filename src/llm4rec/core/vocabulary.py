"""The one place where outside ids (strings) meet inside ids (int32)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.core.errors import DataError, did_you_mean


def _order_key(identifier: str) -> bytes:
    return hashlib.blake2b(identifier.encode(), digest_size=8).digest()


class Vocabulary:
    """An immutable, ordered set of outside ids; an id's place is its inside id.

    ``Vocabulary.of`` orders ids by a hash of the id itself.  Inside ids therefore say nothing
    about time or popularity: a tie broken by the lower inside id is broken without bias, and no
    model can read the order of the log from an id (see ``docs/decisions/0002-ids-and-ties.md``).
    """

    __slots__ = ("_ids", "_index", "_kind")

    def __init__(self, ids: Iterable[str], *, kind: str = "id") -> None:
        self._ids: tuple[str, ...] = tuple(map(str, ids))
        self._index: dict[str, int] = {identifier: i for i, identifier in enumerate(self._ids)}
        self._kind = kind
        if len(self._index) != len(self._ids):
            raise DataError(f"duplicate {kind} ids in a vocabulary")

    @classmethod
    def of(cls, ids: Iterable[str], *, kind: str = "id") -> Vocabulary:
        """Make a vocabulary of the distinct ids, whatever their order and repetition."""
        return cls(sorted(set(map(str, ids)), key=lambda x: (_order_key(x), x)), kind=kind)

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._ids == other._ids

    def __hash__(self) -> int:
        return hash(self._ids)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} {self._kind}s)"

    @property
    def ids(self) -> tuple[str, ...]:
        """The outside ids, in order of inside id."""
        return self._ids

    def index(self, identifier: str) -> int:
        """Return one id's inside id; raises ``DataError`` with the nearest known id."""
        try:
            return self._index[identifier]
        except KeyError:
            hint = did_you_mean(identifier, self._ids) if len(self) <= 50_000 else "check its spelling"
            if hint.startswith("known"):
                hint = f"there are {len(self)} known ones, such as {', '.join(self._ids[:3])}"
            raise DataError(f"unknown {self._kind} {identifier!r}", todo=hint) from None

    def encode(self, ids: Sequence[str] | pl.Series, *, missing: int | None = None) -> NDArray[np.int32]:
        """Return int32[n] inside ids; an unknown id becomes ``missing``, or raises ``DataError``."""
        series = pl.Series("id", ids, dtype=pl.String) if not isinstance(ids, pl.Series) else ids.cast(pl.String)
        known = pl.DataFrame(
            {"id": self._ids, "at": np.arange(len(self), dtype=np.int32)}, schema={"id": pl.String, "at": pl.Int32}
        )
        at = series.to_frame("id").join(known, on="id", how="left", maintain_order="left")["at"]
        if missing is None and at.null_count():
            self.index(str(series.filter(at.is_null())[0]))
        return at.fill_null(-1 if missing is None else missing).to_numpy().astype(np.int32)

    def decode(self, inside: Iterable[int]) -> list[str]:
        """Return the outside ids of inside ids; raises ``IndexError`` for one below zero."""
        out = []
        for i in np.asarray(list(inside), dtype=np.int64).tolist():
            if i < 0:
                raise IndexError(f"{i} is no inside id")
            out.append(self._ids[i])
        return out

    def fingerprint(self) -> str:
        """Return a hash of the ids and their order."""
        digest = hashlib.sha256()
        for identifier in self._ids:
            digest.update(identifier.encode() + b"\0")
        return digest.hexdigest()
