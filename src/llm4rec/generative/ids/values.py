"""What an item's ID is: a row of tokens that names this item alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from llm4rec.core import Ragged, RunError
from llm4rec.core.order import dense


@dataclass(frozen=True, slots=True)
class ItemIDs:
    """One ID for each item of the catalogue: a row of tokens, whose lengths may differ.

    No two items share an ID, and no ID is the beginning of another, so that whoever follows one
    token by token knows when it is over.

    Attributes:
        codes: int32 tokens in ``[0, n_tokens)``, a row for each item in order of inside id, none empty.
        n_tokens: size of the alphabet.  In IDs of fixed depth each level has tokens of its own (code c of
            level l is the token ``offset_l + c``) unless the scheme says otherwise.
        words: how each token is written, each differently, for text models and for people; None if the
            scheme says nothing.
        collisions: items that would have had the ID of another one, had the scheme not resolved it; None where it
            knows of none to resolve.

    Raises:
        ValueError: if a row is empty, a token lies outside, two items share an ID, or one begins another.
    """

    codes: Ragged
    n_tokens: int
    words: tuple[str, ...] | None = None
    collisions: int | None = None

    def __post_init__(self) -> None:
        if not self.codes.lengths.all():
            raise ValueError(f"item {int(np.argmin(self.codes.lengths))} has an empty ID")
        values = self.codes.values
        if len(values) and (int(values.min()) < 0 or int(values.max()) >= self.n_tokens):
            raise ValueError(f"tokens must lie in [0, {self.n_tokens})")
        if self.words is not None:
            object.__setattr__(self, "words", tuple(self.words))
            if len(self.words) != self.n_tokens or len(set(self.words)) != self.n_tokens:
                raise ValueError(f"there must be {self.n_tokens} different words, one a token")
        padded = self.padded()
        order = np.lexsort(padded.T[::-1]) if self.depth else np.empty(0, np.int64)
        # In this order whatever stands between an ID and one that it begins, it begins too: neighbours tell.
        first, second = padded[order[:-1]], padded[order[1:]]
        begins = ((first == second) | (first < 0)).all(axis=1)
        if begins.any():
            at = int(np.argmax(begins))
            one, other = int(order[at]), int(order[at + 1])
            what = "share an ID" if np.array_equal(first[at], second[at]) else "have IDs of which one begins the other"
            raise ValueError(f"items {one} and {other} {what}: {self.codes[one].tolist()}")

    @classmethod
    def of(cls, rows: Iterable[Iterable[int]], n_tokens: int, words: Iterable[str] | None = None) -> Self:
        """Make IDs of Python rows (for tests and small catalogues)."""
        return cls(Ragged.of([list(row) for row in rows]), n_tokens, None if words is None else tuple(words))

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def n_items(self) -> int:
        return len(self.codes)

    @property
    def depth(self) -> int:
        """Tokens of the longest ID."""
        return int(self.codes.lengths.max(initial=0))

    def padded(self) -> NDArray[np.int32]:
        """Return int32[n_items, depth], each ID from its first token on; -1 behind its last."""
        return self.codes.padded(self.depth, align="left")

    def find(self, codes: NDArray[np.integer]) -> NDArray[np.int32]:
        """Return int32[n], the item of each ID of int[n, t], padded with -1 behind its last token; -1 for no item's.

        Sorts the IDs level by level at each call; who looks up often keeps a trie.
        """
        own = self.padded()
        asked = np.full((len(codes), self.depth), -1, dtype=np.int64)
        width = min(self.depth, codes.shape[1])
        asked[:, :width] = codes[:, :width]
        lost = (codes[:, width:] >= 0).any(axis=1) | ((codes < -1) | (codes >= self.n_tokens)).any(axis=1)
        node, at = np.zeros(len(own), np.int64), np.where(lost, -1, 0)  # where the prefixes end, -1: nowhere
        for level in range(self.depth):
            known, step = dense(node * (self.n_tokens + 1) + own[:, level] + 1)
            wanted = np.where(at < 0, -1, at * (self.n_tokens + 1) + asked[:, level] + 1)
            place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
            at = np.where(known[place] == wanted, place, -1)
            node = step.astype(np.int64)
        item = np.full(len(own) + 1, -1, dtype=np.int32)  # the last is for nowhere
        item[node] = np.arange(len(own))
        return item[at] if self.depth else np.full(len(codes), -1, np.int32)

    def written(self) -> tuple[str, ...]:
        """Return the word of each token: ``words``, or ``<0>``, ``<1>``, ... where the scheme says nothing."""
        return tuple(f"<{token}>" for token in range(self.n_tokens)) if self.words is None else self.words

    def shuffled(self, rng: np.random.Generator) -> Self:
        """Return the same IDs, each given to another item: the control that knows no item from its ID."""
        return replace(self, codes=self.codes.take(rng.permutation(len(self.codes))))

    # -- saving -------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """Return ``offsets`` int64 and ``values`` int32, and the rest as JSON values."""
        return {
            "offsets": self.codes.offsets, "values": self.codes.values, "n_tokens": self.n_tokens,
            "words": None if self.words is None else list(self.words), "collisions": self.collisions,
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Take over what ``state`` returned."""
        words = None if state["words"] is None else tuple(state["words"])
        return cls(Ragged(state["offsets"], state["values"]), int(state["n_tokens"]), words, state["collisions"])

    def save(self, folder: Path) -> None:
        """Write ``offsets.npy``, ``values.npy`` and ``ids.json`` into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        state = self.state()
        for name in ("offsets", "values"):
            np.save(folder / f"{name}.npy", state.pop(name), allow_pickle=False)
        (folder / "ids.json").write_text(json.dumps(state) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        try:
            state = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
            arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("offsets", "values")}
            return cls.from_state(state | arrays)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"cannot read item IDs ({error})", where=str(folder), todo="build them again") from None
