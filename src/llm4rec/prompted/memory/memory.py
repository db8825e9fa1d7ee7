"""The memory: an immutable collection of facts with their corrections, as one readable JSONL file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from llm4rec.core import DataError, did_you_mean
from llm4rec.prompted.memory.facts import Fact, FactError, FactKind, SubjectKind

_ID = re.compile(r"[0-9a-f]{16}")


class Memory:
    """Facts about items and users.

    Every change returns a new memory.  What ``edit`` corrects stays, and is told as superseded; of
    what ``forget`` removes nothing stays but the id, so that it is not learnt again.

    Args:
        facts: any; of two with one id the later takes the earlier one's place.
        forgotten: ids that are refused.
    """

    def __init__(self, facts: Iterable[Fact] = (), forgotten: Iterable[str] = ()) -> None:
        self.forgotten = frozenset(forgotten)
        self._facts = {id_: f for f in facts if (id_ := f.id) not in self.forgotten}

    def __len__(self) -> int:
        """Return how many facts there are, superseded ones included."""
        return len(self._facts)

    def __iter__(self) -> Iterator[Fact]:
        """Yield all facts, superseded ones included, in the order in which they came."""
        return iter(self._facts.values())

    def __contains__(self, id_: object) -> bool:
        return id_ in self._facts

    def __getitem__(self, id_: str) -> Fact:
        """Return a fact by id; raises ``DataError``."""
        try:
            return self._facts[id_]
        except KeyError:
            what = "was forgotten" if id_ in self.forgotten else "is not in the memory"
            raise DataError(f"fact {id_!r} {what}", todo=did_you_mean(id_, self._facts) if len(self) else None) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Memory) and self._facts == other._facts and self.forgotten == other.forgotten

    def __hash__(self) -> int:
        return hash((tuple(self._facts), self.forgotten))

    def __repr__(self) -> str:
        return f"Memory({len(self)} facts, {len(self.forgotten)} forgotten)"

    # -- looking --------------------------------------------------------------------------
    @cached_property
    def _superseded(self) -> frozenset[str]:
        return frozenset(f.replaces for f in self if f.replaces is not None)

    @cached_property
    def _by_subject(self) -> Mapping[tuple[str, str], Mapping[str, Fact]]:
        grouped: dict[tuple[str, str], dict[str, Fact]] = {}
        for id_, fact in self._facts.items():
            grouped.setdefault((fact.subject, fact.of), {})[id_] = fact
        return grouped

    def superseded(self, fact: Fact) -> bool:
        """Has an edit taken the fact's place?"""
        return fact.id in self._superseded

    def list(
        self,
        subject: SubjectKind | None = None,
        of: str | None = None,
        kind: FactKind | None = None,
        *,
        superseded: bool = False,
    ) -> tuple[Fact, ...]:
        """Return the facts that hold, in the order in which they came.

        Args:
            subject, of: only of items or of users; only of this outside id.
            kind: only of this kind.
            superseded: return also what edits have replaced.
        """
        whole = self._facts if subject is None or of is None else self._by_subject.get((subject, of), {})
        return tuple(
            f
            for id_, f in whole.items()
            if (subject is None or f.subject == subject)
            and (of is None or f.of == of)
            and (kind is None or f.kind == kind)
            and (superseded or id_ not in self._superseded)
        )

    def frozen(self, at: int) -> Memory:
        """Return the memory as it was just before a moment (UTC s): what is dated at or after it is not there.

        A fact whose correction came later holds again.
        """
        return Memory((f for f in self if f.known(at)), self.forgotten)

    # -- changing -------------------------------------------------------------------------
    def add(self, *facts: Fact) -> Memory:
        """Return a memory with further facts; a forgotten one is not taken up again."""
        return Memory([*self, *facts], self.forgotten)

    def edit(self, id_: str, text: str, *, source: str = "hand", time: int | None = None) -> Memory:
        """Return a memory in which another text stands in the place of a fact's own.

        Args:
            id_: of the fact; raises ``DataError`` for one that is not here, or that was corrected before.
            text: what is right.
            source: who says so.
            time: from when on the correction is known (UTC s); by default from when the fact was.
        """
        old = self[id_]
        if later := [f.id for f in self if f.replaces == id_]:
            raise DataError(f"fact {id_!r} was corrected before", todo=f"edit {later[-1]!r}")
        time = old.time if time is None else time
        return self.add(replace(old, text=text, source=source, time=time, replaces=id_, detail=None))

    def forget(self, id_: str | None = None, *, subject: SubjectKind | None = None, of: str | None = None) -> Memory:
        """Return a memory without a fact, its corrections and what it corrected; or without all of one subject.

        Only the ids stay, and keep the same facts from being learnt again.  Raises ``DataError``
        for an id that is not here.
        """
        if (id_ is None) == (subject is None) or (subject is None) != (of is None):
            raise DataError("forget takes the id of a fact, or a subject and its outside id")
        if id_ is None:
            gone = {f.id for f in self.list(subject, of, superseded=True)}
        else:
            gone = {self[id_].id}
            while more := {f.id for f in self if f.replaces in gone} | {
                self._facts[i].replaces for i in gone if i in self._facts and self._facts[i].replaces is not None
            }:
                if more <= gone:
                    break
                gone |= {i for i in more if i is not None}
        return Memory((f for f in self if f.id not in gone), self.forgotten | gone)

    # -- on disk --------------------------------------------------------------------------
    def lines(self) -> Iterator[str]:
        """Yield the lines of the file: facts in their order, then the ids of those forgotten."""
        for fact in self:
            yield json.dumps(fact.as_dict(), ensure_ascii=False)
        for id_ in sorted(self.forgotten):
            yield json.dumps({"forgotten": id_})

    def save(self, path: Path) -> None:
        """Write one JSON object a line, in UTF-8; the file is whole or the old one."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_text("".join(f"{line}\n" for line in self.lines()), encoding="utf-8")
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that ``save`` or a person wrote.

        A line by hand has no ``id`` and no ``hash``.  Empty lines are skipped.

        Raises:
            DataError: with the line's number, for a line that is no fact, whose hash does not fit, that
                is given twice, or that corrects what is not there.
        """
        path = Path(path)
        facts: dict[str, tuple[int, Fact]] = {}
        forgotten: dict[str, int] = {}
        for number, values in json_lines(path):
            try:
                if set(values) == {"forgotten"}:
                    id_ = values["forgotten"]
                    if not isinstance(id_, str) or not _ID.fullmatch(id_):
                        raise FactError(f"'forgotten' must be the id of a fact, not {id_!r}")
                    forgotten[id_] = number
                    continue
                fact = Fact.from_dict(values)
                if fact.id in facts:
                    raise FactError(f"says again what line {facts[fact.id][0]} says")
            except FactError as error:
                todo = 'delete "id" and "hash" to state it by hand' if "by hand" in str(error) else None
                raise DataError(str(error), where=f"{path}, line {number}", todo=todo) from None
            facts[fact.id] = number, fact
        for number, fact in facts.values():
            if fact.id in forgotten:
                raise DataError(f"was forgotten by line {forgotten[fact.id]}", where=f"{path}, line {number}")
            if fact.replaces is not None and fact.replaces not in facts:
                raise DataError(f"corrects {fact.replaces!r}, which is not there", where=f"{path}, line {number}")
        return cls((fact for _, fact in facts.values()), forgotten)


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSONL file; raises ``DataError`` with the line's number."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    values = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"not JSON ({error})", where=f"{path}, line {number}") from None
                if not isinstance(values, dict):
                    raise DataError("must be a JSON object", where=f"{path}, line {number}")
                yield number, values
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=str(path)) from None
