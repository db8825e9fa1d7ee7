"""The two ways through a turn: a plan first, or one step at a time.  Each yields the turn as it grows and returns a draft."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from llm4rec.agents.loop.answering import Draft, picked, written
from llm4rec.agents.loop.prose import checked
from llm4rec.agents.loop.protocol import Step
from llm4rec.agents.loop.work import Unusable, Work
from llm4rec.agents.reading import Reader
from llm4rec.agents.tools import Session
from llm4rec.agents.turn import Call, Turn
from llm4rec.core import DataError

Growing = Generator[Turn, None, tuple[Turn, Draft]]
_WRITE = "All calls are made. Answer the user now, with the tool answer."
_AGAIN = "That call failed. Plan the calls that are still to be made, the failed one mended; leave out what was done."


def reason_act(work: Work, turn: Turn, reader: Reader) -> Growing:
    """Ask for one call at a time, each in view of what came before, until the call is to answer."""
    ending, enough = work.ending, False
    while True:
        offered = [ending] if work.brief and (enough or work.last) else [*work.tools, ending]
        thought, calls = work.calls("act", offered, turn.session, single=True)
        enough = any(_same(call, made) for call in calls for made in turn.calls)  # a small model has nothing to add
        turn = replace(turn, plan=(*turn.calls, *(c for c in calls if c.tool != ending.name)))
        done: list[Call] = []
        for call in calls:
            if call.tool != ending.name:
                turn = work.do(turn, call)
                done.append(turn.calls[-1])
                yield turn
                continue
            try:
                draft = drafted(work, turn.session, call, reader)
            except DataError as error:
                work.failures.append("call_error")
                done.append(replace(call, error=str(error)))
                continue
            work.steps.append(Step(thought, (*done, replace(call, answer="given"))))
            return turn, draft
        work.steps.append(Step(thought, tuple(done)))


def plan_first(work: Work, turn: Turn, reader: Reader) -> Growing:
    """Ask for all calls at once, make them in order, ask for the rest anew after an error, then for the words.

    After Wang et al., *Plan-and-Solve Prompting*, ACL 2023, arXiv 2305.04091.
    """
    tools = list(work.tools)
    thought, calls = work.calls("plan", tools, turn.session, single=False)
    while True:
        turn = replace(turn, plan=(*turn.calls, *calls))
        yield turn
        done: list[Call] = []
        for call in calls:
            turn = work.do(turn, call)
            done.append(turn.calls[-1])
            yield turn
            if done[-1].error is not None and not work.brief:
                break
        work.steps.append(Step(thought, tuple(done)))
        if done[-1].error is None or work.brief:  # a small model would plan the same anew
            break
        work.steps.append(Step(remark=_AGAIN))
        thought, calls = work.calls("revise", tools, turn.session, single=False)
    if work.brief:
        return turn, drafted(work, turn.session, Call(work.ending.name, {}), reader)
    work.steps.append(Step(remark=_WRITE))
    while True:
        thought, calls = work.calls("answer", [work.ending], turn.session, single=True)
        try:
            draft = drafted(work, turn.session, calls[0], reader)
        except DataError as error:
            work.failures.append("call_error")
            work.steps.append(Step(thought, (replace(calls[0], error=str(error)),)))
            continue
        work.steps.append(Step(thought, (replace(calls[0], answer="given"),)))
        return turn, draft


def _fresh(session: Session) -> Session:
    """Return the session without the candidates that an earlier answer showed, as long as others are left."""
    held, vocabulary = session.candidates, session.engine.catalogue.items
    before = [vocabulary.index(i) for said in session.dialogue.said for i in said.shown if i in vocabulary]
    if held is None or not (new := ~np.isin(held.items, before)).any():
        return session
    return session.with_candidates(held.kept(new, "show", "shown before"))


def _same(a: Call, b: Call) -> bool:
    """Do two calls ask for the same?"""
    return a.tool == b.tool and a.arguments == b.arguments


def drafted(work: Work, session: Session, call: Call, reader: Reader) -> Draft:
    """Return the answer of a call, its ids and words checked; raises ``DataError`` where nothing of it can be used."""
    if call.error is not None or call.tool != work.ending.name:
        raise DataError(call.error or f"{call.tool!r} is no answer", todo=f"call {work.ending.name}")
    arguments: Mapping[str, Any] = call.arguments
    given, _ = work.ending.call(session, arguments)
    session = _fresh(session) if work.brief else session
    after, shown, failures = picked(session, given["items"], work.config.shown)
    if work.brief and not shown:  # nothing to show, and nothing to say about it
        work.failures.append("no_candidate")
        raise Unusable
    words, struck = checked(given["text"], session, work.request, reader)
    return Draft(after, shown, written(words, shown, after), (*failures, *struck))
