"""A fact: one thing known of an item or a user, with its source, its time and its evidence."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast, get_args

SubjectKind = Literal["item", "user"]
#: ``text``: a field of the catalogue or a note by hand; ``knowledge``: from outside (an encyclopedia,
#: a service); ``summary``: written by a model; ``attribute``: a value, such as a genre; ``event``:
#: something that the user did; ``profile``: a model's words on a user's taste; ``reflection``: on
#: how it changed lately.
FactKind = Literal["text", "knowledge", "summary", "attribute", "event", "profile", "reflection"]

_SUBJECTS, _KINDS = get_args(SubjectKind), get_args(FactKind)
#: Kinds of which a subject has one from each source: a new one takes the old one's place.
_SINGLE: frozenset[FactKind] = frozenset({"summary", "profile", "reflection"})
_ID = 16  # hexadecimal digits
_FIELDS = ("id", "subject", "kind", "attribute", "text", "detail", "source", "time", "evidence", "replaces", "hash")
_NEEDED = ("subject", "kind", "text", "source")
LONGEST = 20_000  # characters of a fact's text


class FactError(ValueError):
    """What is wrong with a fact as it was written down; one line."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What supports a fact: an event (``item``, ``time``), an item alone, or a page (``url``).

    Attributes:
        item: outside id.
        time: of the event (UTC s, or the data set's order).
        url: of the page.
    """

    item: str | None = None
    time: int | None = None
    url: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what is known as JSON values."""
        return {k: v for k, v in (("item", self.item), ("time", self.time), ("url", self.url)) if v is not None}


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is known.

    Attributes:
        subject: ``"item"`` or ``"user"``.
        of: outside id of that item or user.
        kind: see :data:`FactKind`.
        text: what is known, in words; of an attribute, its value.
        source: who says so: a file, a service, a model's name, ``"history"``, ``"hand"``.
        attribute: what kind of attribute a value belongs to (``"genres"``), else None.
        time: from when on it is known (UTC s); None for what the catalogue always knew.
        evidence: what supports it.
        replaces: ``id`` of the fact that this one corrects, or None.
        detail: how much or how often, in words ("12 of 30"); changes as evidence comes in.
    """

    subject: SubjectKind
    of: str
    kind: FactKind
    text: str
    source: str
    attribute: str | None = None
    time: int | None = None
    evidence: tuple[Evidence, ...] = ()
    replaces: str | None = None
    detail: str | None = None

    def __post_init__(self) -> None:
        if self.subject not in _SUBJECTS or self.kind not in _KINDS:
            raise FactError(f"no such fact: {self.kind!r} of {self.subject!r}")
        if not self.of or not self.text.strip() or not self.source:
            raise FactError("a fact needs a subject, a text and a source")
        if len(self.text) > LONGEST:
            raise FactError(f"its text has {len(self.text)} characters, more than {LONGEST}")

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits for what is said of whom by whom.

        Evidence, detail and time are no part of it, so a fact that is computed anew from a longer history
        is the same fact, and stays forgotten or corrected.  Of summaries, profiles and reflections
        the words are no part of it either.
        """
        words = "" if self.kind in _SINGLE else self.text
        parts = (self.subject, self.of, self.kind, self.attribute, words, self.source, self.replaces)
        spelt = "".join("-" if part is None else f"{len(part)}:{part}" for part in parts)  # no two facts spell alike
        return hashlib.sha256(spelt.encode("utf-8", "surrogatepass")).hexdigest()[:_ID]

    @property
    def hash(self) -> str:
        """SHA-256 of everything, in hexadecimal: the guard of a line on disk."""
        text = json.dumps(self._fields(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def known(self, at: int | None) -> bool:
        """Was it known before a moment (UTC s)?  Always, for ``at=None``."""
        return at is None or self.time is None or self.time < at

    # -- as JSON --------------------------------------------------------------------------
    def _fields(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "id": self.id, "subject": f"{self.subject}:{self.of}", "kind": self.kind, "attribute": self.attribute,
            "text": self.text, "detail": self.detail, "source": self.source, "time": self.time,
            "evidence": [e.as_dict() for e in self.evidence], "replaces": self.replaces,
        }  # fmt: skip
        return {k: v for k, v in values.items() if v is not None and v != []}

    def as_dict(self) -> dict[str, Any]:
        """Return the fact as JSON values, with ``id`` and ``hash``."""
        return self._fields() | {"hash": self.hash}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fact:
        """Read what ``as_dict`` wrote, or somebody wrote by hand without ``id`` and ``hash``.

        Raises:
            FactError: for unknown or missing fields, wrong types, or an ``id`` or ``hash`` that does not
                fit the rest.
        """
        if unknown := sorted(set(values) - set(_FIELDS)):
            raise FactError(f"unknown field {unknown[0]!r} (known: {', '.join(_FIELDS)})")
        if missing := [name for name in _NEEDED if not isinstance(values.get(name), str) or not values[name].strip()]:
            raise FactError(f"{missing[0]!r} must be a text")
        subject, _, of = values["subject"].partition(":")
        if subject not in _SUBJECTS or not of:
            raise FactError(f"'subject' must be 'item:ID' or 'user:ID', not {values['subject']!r}")
        if values["kind"] not in _KINDS:
            raise FactError(f"'kind' must be one of {', '.join(_KINDS)}, not {values['kind']!r}")
        for name in ("attribute", "detail", "replaces"):
            if not isinstance(values.get(name), str | None):
                raise FactError(f"{name!r} must be a text")
        fact = cls(
            cast(SubjectKind, subject), of, values["kind"], values["text"], values["source"], values.get("attribute"),
            moment(values.get("time")), _evidence(values.get("evidence", [])), values.get("replaces"),
            values.get("detail"),
        )  # fmt: skip
        for name, right in (("id", fact.id), ("hash", fact.hash)):
            if name in values and values[name] != right:
                raise FactError(f"its {name} does not fit the rest: the line was changed by hand")
        return fact


def moment(value: Any) -> int | None:
    """Return a time as UTC s: from a whole number, an ISO 8601 text (UTC where no zone is named), or None.

    Raises:
        FactError: for anything else.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            read = datetime.fromisoformat(value)
        except ValueError:
            raise FactError(f"'time' must be seconds or ISO 8601, not {value!r}") from None
        return math.ceil((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp())
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**62:
        raise FactError(f"'time' must be seconds or ISO 8601, not {value!r}")
    return value


def _evidence(values: Any) -> tuple[Evidence, ...]:
    """Read the evidence of a fact; raises ``FactError``."""
    if not isinstance(values, list) or not all(isinstance(v, dict) and v for v in values):
        raise FactError("'evidence' must be a list of objects")
    for value in values:
        if unknown := sorted(set(value) - {"item", "time", "url"}):
            raise FactError(f"unknown field {unknown[0]!r} in 'evidence' (known: item, time, url)")
        if not isinstance(value.get("item"), str | None) or not isinstance(value.get("url"), str | None):
            raise FactError("'item' and 'url' of evidence must be texts")
    return tuple(Evidence(v.get("item"), moment(v.get("time")), v.get("url")) for v in values)
