"""Simulated users made from real histories: what the test holds out is what they want."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
from numpy.typing import NDArray

from llm4rec.agents.engine import Engine
from llm4rec.agents.simulate.facets import Facets
from llm4rec.agents.simulate.leak import Secret, scan
from llm4rec.agents.simulate.talk import Goal
from llm4rec.agents.users import Event
from llm4rec.core import Cases
from llm4rec.llm.prompts import plain

#: Items of the end of a history that a persona tells, and facets of all of it.
_TOLD, _TASTES = 5, 3
_LONGEST = 200  # characters of a line of a persona


def goals(
    engine: Engine, cases: Cases, facets: Facets, users: int, *, several: bool, seed: int, first: int, told: str = ""
) -> list[Goal]:
    """Return the goals of so many users, and let the engine know all that these did before their queries.

    Users of whose items nothing can be said are not drawn.

    Args:
        engine: over the training part; the user's later events are added to it.
        cases: the test's, of which known users are drawn.
        facets: of the catalogue.
        users: how many, at most.
        several: is a user after all true items (else after the first alone)?
        seed: of the wishes and their order.
        first: draws the users.
        told: column of the user table whose lines are the persona; a persona is made of the history without one.
    """
    found: list[Goal] = []
    for case in np.random.default_rng(first).permutation(len(cases)).tolist():
        if len(found) == users:
            break
        if (goal := _goal(engine, cases, case, facets, several, seed, told)) is not None:
            found.append(goal)
    _continue(engine, cases, np.array([goal.case for goal in found], np.int64))
    return found


def _goal(engine: Engine, cases: Cases, case: int, facets: Facets, several: bool, seed: int, told: str) -> Goal | None:
    catalogue, user = engine.catalogue, int(cases.queries.users[case])
    if user < 0:
        return None
    targets = cases.truth[case] if several else cases.truth[case][:1]
    secrets = tuple(Secret.of(catalogue.items.ids[i], catalogue.names[i]) for i in targets.tolist())
    rng = np.random.default_rng((seed, case, 0, 2))
    wish = facets.taste(targets, secrets, rng) if several else facets.wish(int(targets[0]), secrets, rng)
    if not wish.facets:
        return None
    if told:
        lines = engine.dataset.user_table[told].cast(pl.List(pl.String))[user]
        persona = tuple(plain(line, _LONGEST) for line in ([] if lines is None else lines) if not scan(line, secrets))
    else:
        persona = _persona(engine, cases.queries.history[case], facets, secrets)
    return Goal(case, engine.dataset.users.ids[user], frozenset(targets.tolist()), secrets, wish, persona)


def _persona(engine: Engine, history: NDArray[np.int32], facets: Facets, secrets: tuple[Secret, ...]) -> tuple[str, ...]:
    """Return lines about a user, from the history alone; another item of the wanted one's name is not told."""
    names = [engine.catalogue.names[i] for i in history[::-1][:_TOLD].tolist()]
    names = [name for name in names if not scan(name, secrets)]
    counts = Counter(f.words for i in history.tolist() for f in facets.of(i))
    often = [words for words, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_TASTES]]
    lines = [f"You often choose: {', '.join(often)}."] if often else []
    lines += [f"You chose lately: {'; '.join(names)}."] if names else []
    return tuple(line for line in lines if not scan(line, secrets))


def _continue(engine: Engine, cases: Cases, rows: NDArray[np.int64]) -> None:
    """Let the engine know what the users of some cases did between the training part and the query."""
    queries = cases.queries.take(rows)
    times = np.zeros(len(queries.history.values), np.int64) if queries.history_times is None else queries.history_times
    values = queries.history_values
    behaviors = queries.history_behaviors
    events = []
    for row, user in enumerate(queries.users.tolist()):
        identifier = engine.dataset.users.ids[user]
        own = engine.users.history(identifier)
        known = Counter(zip(own.items.tolist(), own.times.tolist(), strict=True))
        for at in range(int(queries.history.offsets[row]), int(queries.history.offsets[row + 1])):
            item, time = int(queries.history.values[at]), int(times[at])
            if known[item, time]:
                known[item, time] -= 1
                continue
            value, behavior = 1.0 if values is None else float(values[at]), 0 if behaviors is None else int(behaviors[at])
            events.append(Event(identifier, item, time, value, behavior))
    engine.add(engine.catalogue, events)
