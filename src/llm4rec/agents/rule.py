"""An agent without a language model: it reads a request by rules and answers through the tools.

The baseline of every agent that thinks, and what answers when no language model can be asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from llm4rec.agents.reading import Condition, Reader, Request
from llm4rec.agents.toolbox import Toolbox
from llm4rec.agents.tools import Session, toolbox
from llm4rec.agents.turn import Call, Turn, carried_out
from llm4rec.llm.prompts import plain

#: Items proposed before conditions are put, and shown unless a number is asked for.
_WIDE, _SHOWN = 200, 5
_LONGEST_NAME = 100  # characters


class RuleAgent:
    """Answers requests by rules.

    Named items are looked for alike, attribute values and years become filters, what the user's memory
    says is disliked is filtered out, anything else in quotation marks or with a capital is searched
    for, and the default system puts in order. The same request in the same session gives the same answer.

    Args:
        tools: the registry; by default all tools of the session's engine.
    """

    name = "rule"

    def __init__(self, tools: Toolbox[Session] | None = None) -> None:
        self._tools = tools
        self._reader: Reader | None = None

    def answer(self, session: Session, text: str) -> Turn:
        """Return what becomes of a request."""
        *_, last = self.steps(session, text)
        return last

    def steps(self, session: Session, text: str) -> Iterator[Turn]:
        """Yield the turn as it grows: the plan, then each call that was made, last the answer."""
        tools = toolbox(session.engine) if self._tools is None else self._tools
        request = self.reader(session).read(text)
        turn = Turn(tuple(self._plan(request, session)), (), session, "", request=request, by=self.name)
        yield turn
        for call in turn.plan:
            done, after = carried_out(call, tools, turn.session)
            turn = replace(turn, calls=(*turn.calls, done), session=after)
            yield turn
        if request.act == "recommend" and turn.session.candidates is not None:
            shown = turn.session.candidates.head(request.k or _SHOWN, "answer")
            turn = replace(turn, session=turn.session.with_candidates(shown), shown=tuple(shown.items.tolist()))
        yield replace(turn, text=self._words(request, turn))

    def reader(self, session: Session) -> Reader:
        """Return the reader over the session's catalogue; made on first use and when items came in."""
        if self._reader is None or self._reader.catalogue is not session.engine.catalogue:
            self._reader = Reader(session.engine.catalogue)
        return self._reader

    # -- planning -------------------------------------------------------------------------
    def _plan(self, request: Request, session: Session) -> Iterator[Call]:
        match request.act:
            case "recall":
                yield Call("recall", {})
            case "remember":
                facts = [c for c in request.conditions if c.operator in ("is", "is not")]
                for c in facts:
                    stance = "likes" if c.operator == "is" else "dislikes"
                    yield Call("remember", {"text": c.value, "attribute": c.attribute, "stance": stance})
                if not facts and request.text:
                    yield Call("remember", {"text": request.text[:1_000]})
            case "forget":
                for fact in self._facts(session):
                    if request.everything or any(fact.text == c.value for c in request.conditions):
                        yield Call("forget", {"fact": fact.id})
            case "explain":
                yield Call("explain_items", self._items(request, session))
            case "recommend":
                yield from self._recommend(request, session)

    def _recommend(self, request: Request, session: Session) -> Iterator[Call]:
        catalogue = session.engine.catalogue
        conditions = list(request.conditions)
        asked = {(c.attribute, c.value) for c in conditions}
        disliked = [f for f in self._facts(session) if f.detail == "dislikes" and f.attribute in catalogue.attributes]
        conditions += [Condition(f.attribute, "is not", f.text) for f in disliked if (f.attribute, f.text) not in asked]
        ranker = session.engine.system(None)
        for at, alternatives in enumerate(request.like):
            counts = session.engine.popularity
            item = max(alternatives, key=lambda i: counts[i])  # of several of one name, the best known
            yield Call("similar_items", {"item": catalogue.items.ids[item], "k": _WIDE, "add": at > 0})
        positive = [c for c in conditions if c.operator != "is not"]
        if request.like or request.words:
            if request.words and not request.like:
                yield Call("search_items", {"words": request.words[:1_000], "k": _WIDE})
        elif positive and ranker.ranks:
            first = positive[0]
            conditions.remove(first)
            yield Call("filter_items", {**_filter(first), "among": "catalogue"})
        else:
            yield Call("recommend", {"k": max(_WIDE, request.k or 0)})
        for condition in conditions:
            yield Call("filter_items", _filter(condition))
        if request.unlike:
            yield Call("drop_items", {"items": [catalogue.items.ids[i] for i in dict.fromkeys(request.unlike)]})
        if positive and not request.like and not request.words and ranker.ranks:
            yield Call("rank_items", {"k": _WIDE})

    def _facts(self, session: Session) -> tuple[Any, ...]:
        return () if session.memory is None or session.user is None else session.memory.list(session.user)

    def _items(self, request: Request, session: Session) -> dict[str, Any]:
        if not request.like:
            return {}
        return {"items": [session.engine.catalogue.items.ids[alternatives[0]] for alternatives in request.like]}

    # -- words ----------------------------------------------------------------------------
    def _words(self, request: Request, turn: Turn) -> str:
        """Return the answer in words, from what the calls returned."""
        errors = [call.error for call in turn.calls if call.error]
        names = turn.session.engine.catalogue.names
        match request.act:
            case "remember":
                kept = [c.answer["remembered"] for c in turn.calls if c.answer]
                told = [f"{f.get('detail', 'that')}: {plain(f['text'], _LONGEST_NAME)}" for f in kept]
                return f"Kept: {'; '.join(told)}." if told else _sorry(errors, "There was nothing to keep.")
            case "forget":
                gone = sum(1 for c in turn.calls if c.answer)
                return f"Forgotten: {gone} {'fact' if gone == 1 else 'facts'}."
            case "recall":
                facts = [f for c in turn.calls if c.answer for f in c.answer["facts"]]
                told = [" ".join(filter(None, (f.get("detail"), plain(f["text"], _LONGEST_NAME)))) for f in facts]
                return f"Kept about you: {'; '.join(told)}." if told else _sorry(errors, "Nothing is kept about you.")
            case "explain":
                entries = [e for c in turn.calls if c.answer for e in c.answer["items"]]
                told = [
                    f"{plain(e['name'], _LONGEST_NAME)}: {e['why'] or 'nothing in your history says why.'}" for e in entries
                ]
                return "\n".join(told) or _sorry(errors, "There is nothing to explain yet.")
        held = turn.session.candidates
        if held is None or not len(held):
            conditions = [c for call in turn.plan if call.tool == "filter_items" for c in [call.arguments]]
            told = [f"{c['attribute']} {c['operator']} {c['value']}" for c in conditions]
            return _sorry(errors, f"Nothing in the catalogue fits{': ' + ', '.join(told) if told else ''}.")
        return "\n".join(f"{at}. {plain(names[i], _LONGEST_NAME)}" for at, i in enumerate(held.items.tolist(), 1))


def _filter(condition: Condition) -> dict[str, Any]:
    return {"attribute": condition.attribute, "operator": condition.operator, "value": condition.value}


def _sorry(errors: list[str], otherwise: str) -> str:
    return f"That did not work: {errors[0]}" if errors else otherwise
