"""Do stated memories know what had not happened yet?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llm4rec.core.columns import ITEM, USER
from llm4rec.experiment.audit.finding import Finding
from llm4rec.experiment.audit.subject import Subject
from llm4rec.prompted.memory.facts import Fact
from llm4rec.prompted.memory.memory import Memory


def stated_facts(subject: Subject) -> Iterator[Finding]:
    """Facts of a memory's file that count as known before what they rest on.

    A fact is known from its ``time`` on, and always where it has none.  It is from the future if it is known
    to a query of its user and rests on an event at or after it, or on the very item that is asked for; or if
    it rests on an event after its own time.
    """
    measure = "facts that know the future"
    files = _files(subject)
    if not files:
        yield Finding("facts", "", measure, None, "not applicable", "no memory is stated in a file")
        return
    cases = subject.split.test
    asked = {subject.train.users.ids[u]: at for at, u in enumerate(cases.queries.users.tolist()) if u >= 0}
    first = int(cases.queries.times.min())
    for path in files:
        memory = Memory.load(path)
        early, open_to_all = [], 0
        for fact in memory:
            if _ahead(fact):
                early.append(fact)
            elif fact.subject == USER and fact.of in asked:
                at = asked[fact.of]
                truth = {subject.train.items.ids[i] for i in cases.truth[at].tolist()}
                if fact.known(int(cases.queries.times[at])) and _rests_on(fact, int(cases.queries.times[at]), truth):
                    early.append(fact)
            elif fact.subject == ITEM and fact.known(first):
                open_to_all += any(e.time is not None and e.time >= first for e in fact.evidence)
        n = len(early)
        if n:
            line = f"such as {early[0].text[:60]!r} of {early[0].of}: give each fact the time of its latest evidence"
        elif open_to_all:
            line = f"{open_to_all} facts of items rest on events after the first case, yet are told to all: give them a time"
        else:
            line = f"all {len(memory)} facts are known no earlier than what they rest on"
        yield Finding(
            "facts", path.name, measure, n, "leak" if n else "warning" if open_to_all else "ok", line,
            {"facts": len(memory), "items_without_time": open_to_all, "ids": [f.id for f in early[:20]]},
        )  # fmt: skip


def _ahead(fact: Fact) -> bool:
    """Does a fact rest on an event after its own time?"""
    return fact.time is not None and any(e.time is not None and e.time > fact.time for e in fact.evidence)


def _rests_on(fact: Fact, moment: int, truth: set[str]) -> bool:
    return any((e.time is not None and e.time >= moment) or (e.item in truth) for e in fact.evidence)


def _files(subject: Subject) -> list[Path]:
    """Return the memory files that the systems name, and those of a finished run."""
    named = [] if subject.spec is None else [
        Path(p.params["memory"]) for s in subject.spec.systems.values() for p in s.parts if p.params.get("memory")
    ]  # fmt: skip
    kept = [] if subject.run is None else sorted((subject.run / "models").glob("**/memory.jsonl"))
    return list(dict.fromkeys(path for path in (*named, *kept) if path.is_file()))
