"""The two ways through a turn: a plan first, or one step at a time.  Each yields the turn as it grows and returns a draft."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any

from llm4rec.agents.loop.answering import ANSWERING, Draft, picked, written
from llm4rec.agents.loop.prose import checked
from llm4rec.agents.loop.protocol import Step
from llm4rec.agents.loop.work import Work
from llm4rec.agents.reading import Reader
from llm4rec.agents.tools import Session
from llm4rec.agents.turn import Call, Turn
from llm4rec.core import DataError

Growing = Generator[Turn, None, tuple[Turn, Draft]]
_ANSWER = ANSWERING["answer"]
_WRITE = "All calls are made. Answer the user now, with the tool answer."
_AGAIN = "That call failed. Plan the calls that are still to be made, the failed one mended; leave out what was done."


def reason_act(work: Work, turn: Turn, reader: Reader) -> Growing:
    """Ask for one call at a time, each in view of what came before, until the call is to answer."""
    tools = [*work.tools, _ANSWER]
    while True:
        thought, calls = work.calls("act", tools, single=True)
        turn = replace(turn, plan=(*turn.calls, *(c for c in calls if c.tool != _ANSWER.name)))
        done: list[Call] = []
        for call in calls:
            if call.tool != _ANSWER.name:
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
    thought, calls = work.calls("plan", tools, single=False)
    while True:
        turn = replace(turn, plan=(*turn.calls, *calls))
        yield turn
        done: list[Call] = []
        for call in calls:
            turn = work.do(turn, call)
            done.append(turn.calls[-1])
            yield turn
            if done[-1].error is not None:
                break
        work.steps.append(Step(thought, tuple(done)))
        if done[-1].error is None:
            break
        work.steps.append(Step(remark=_AGAIN))
        thought, calls = work.calls("revise", tools, single=False)
    work.steps.append(Step(remark=_WRITE))
    while True:
        thought, calls = work.calls("answer", [_ANSWER], single=True)
        try:
            draft = drafted(work, turn.session, calls[0], reader)
        except DataError as error:
            work.failures.append("call_error")
            work.steps.append(Step(thought, (replace(calls[0], error=str(error)),)))
            continue
        work.steps.append(Step(thought, (replace(calls[0], answer="given"),)))
        return turn, draft


def drafted(work: Work, session: Session, call: Call, reader: Reader) -> Draft:
    """Return the answer of a call, its ids and words checked; raises ``DataError`` where nothing of it can be used."""
    if call.error is not None or call.tool != _ANSWER.name:
        raise DataError(call.error or f"{call.tool!r} is no answer", todo="call answer")
    arguments: Mapping[str, Any] = call.arguments
    given, _ = _ANSWER.call(session, arguments)
    after, shown, failures = picked(session, given["items"], work.config.shown)
    words, struck = checked(given["text"], session, work.request, reader)
    return Draft(after, shown, written(words, shown, after), (*failures, *struck))
