"""Requests from dialogues between people, as cases over a catalogue: what was said, what was named, what came next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llm4rec.agents.engine import Engine
from llm4rec.agents.simulate.titles import Finding, Found, TitleMatcher, titles_in
from llm4rec.agents.users import Event
from llm4rec.data.dialogues import Request

_SIDES = {"seeker": "User", "recommender": "Recommender"}


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment at which the recommender of a dialogue named films.

    Attributes:
        case: number of the request in its set.
        user: outside id under which the engine knows what was named so far.
        text: what was said so far, a line each.
        mentioned: inside ids of what was named so far and is in the catalogue.
        truth: inside ids of what the recommender named next and is in the catalogue.
        logged: inside ids of a logged answer, in order, each once; None where there is none.
    """

    case: int
    user: str
    text: str
    mentioned: tuple[int, ...]
    truth: tuple[int, ...]
    logged: tuple[int, ...] | None = None

    @property
    def new(self) -> tuple[int, ...]:
        """What of the truth was not named before: to repeat the rest is no recommendation."""
        return tuple(i for i in self.truth if i not in self.mentioned)


@dataclass(frozen=True, slots=True)
class Mapped:
    """The moments of a set whose truth is in the catalogue at least in part, and how much of it is.

    Attributes:
        moments: those cases.
        requests: of the set.
        truth: what became of the true titles: ``mapped``, ``ambiguous``, ``unknown``.
        repeated: true titles, of those mapped, that had been named before.
        answers: what became of the titles of logged answers, besides ``repeated`` (within the answer) and ``mentioned``
            (named before), which are mapped, too; and ``unreadable`` answers, in which no list of titles was found.
    """

    moments: tuple[Moment, ...]
    requests: int
    truth: Mapping[str, int]
    repeated: int
    answers: Mapping[str, int]


def matcher_of(engine: Engine) -> TitleMatcher:
    """Return a matcher for an engine's catalogue."""
    table = engine.catalogue.table
    years = table["year"].cast(int, strict=False).to_list() if "year" in table.columns else None
    return TitleMatcher(engine.catalogue.names, years)


def mapped(requests: Sequence[Request], matcher: TitleMatcher, name: str) -> Mapped:
    """Return the moments of a set over a catalogue."""
    truth: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    repeated, moments = 0, []
    for case, request in enumerate(requests):
        found = [matcher.find(title) for title in request.truth]
        truth.update(f.kind for f in found)
        items = _items(found)
        mentioned = _items([matcher.find(title) for title in request.mentioned])
        repeated += sum(i in mentioned for i in items)
        logged = None
        if request.logged is not None:
            logged = _logged(request.logged, matcher, mentioned, answers)
        if items:
            text = "\n".join(f"{_SIDES[said.side]}: {said.text}" for said in request.before)
            moments.append(Moment(case, f"{name}/{request.dialogue}/{request.at}", text, mentioned, items, logged))
    kinds: tuple[Finding, ...] = ("mapped", "ambiguous", "unknown")
    return Mapped(tuple(moments), len(requests), {k: truth[k] for k in kinds}, repeated, dict(answers))


def introduced(engine: Engine, moments: Sequence[Moment]) -> None:
    """Make what each moment's dialogue had named the history of its user."""
    events = [Event(m.user, item, at) for m in moments for at, item in enumerate(m.mentioned)]
    engine.add(engine.catalogue, events)


def _items(found: Sequence[Found]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(f.item for f in found if f.item >= 0))


def _logged(answer: str, matcher: TitleMatcher, mentioned: Sequence[int], counts: Counter[str]) -> tuple[int, ...]:
    """Return the items of a logged answer and count what became of its titles."""
    titles = titles_in(answer)
    if not titles:
        counts["unreadable"] += 1
    items: list[int] = []
    for title in titles:
        found = matcher.find(title)
        counts["titles"] += 1
        counts[found.kind] += 1
        if found.item in items:
            counts["repeated"] += 1
        elif found.item >= 0:
            counts["mentioned"] += found.item in mentioned
            items.append(found.item)
    return tuple(items)
