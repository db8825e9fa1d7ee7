"""The agent with a language model: a turn from the user's words to an answer that the candidates vouch for."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace

from llm4rec.agents.dialogue import Dialogue
from llm4rec.agents.loop.answering import Draft, picked, written
from llm4rec.agents.loop.config import LoopConfig
from llm4rec.agents.loop.critic import complaint
from llm4rec.agents.loop.demonstrations import Demonstrations
from llm4rec.agents.loop.protocol import Step, as_data
from llm4rec.agents.loop.strategies import plan_first, reason_act
from llm4rec.agents.loop.work import BRIEF, Over, Unusable, Work, is_brief, prompt
from llm4rec.agents.rule import RuleAgent
from llm4rec.agents.toolbox import Toolbox
from llm4rec.agents.tools import Session, toolbox
from llm4rec.agents.turn import Ending, Turn
from llm4rec.core import BudgetError
from llm4rec.features.values import Encoder
from llm4rec.llm.meter import Metered
from llm4rec.llm.prices import Price
from llm4rec.llm.values import ChatModel, Loadable, Message

#: Yields turns and returns the last one.
Growing = Generator[Turn, None, Turn]
_FACT_KEYS = ("id", "text", "attribute", "detail")
_STRATEGIES = {"plan": plan_first, "react": reason_act}
_LONGEST_SUMMARY = 2_000  # characters


class LLMAgent:
    """Answers requests by asking a language model which tools to call.

    Items reach an answer through the candidates alone: the model names ids, code writes their names, and a
    name that the model wrote itself is struck unless the turn has a ground for it. What goes wrong is counted
    in ``Turn.failures``, and ends in one of three ways:

    - a tool's error goes back to the model, which may do better;
    - a bound that is reached (``Turn.ended``) ends the turn with the candidates that it has found, listed by
      code; if it found none, or has a critic that did not pass them, the rule agent answers;
    - an answer of the model that cannot be used, after one bounded repair, and a failure of the transport
      leave the whole request to the rule agent (``Turn.by``).

    Whatever is wrong with the set-up (no server, no key, a miss in a replay, a run's budget) is raised: who
    serves users catches it, who measures must not.

    Every question goes through ``model``. Behind a :class:`llm4rec.llm.Stored` one, a turn replays from the store: the
    same session, request, tools and config ask the same questions.

    Args:
        model: who is asked.
        config: of the loop.
        price: of the model's tokens; by default the one of a :class:`llm4rec.llm.Metered` model.
        tools: the registry; by default all tools of the session's engine.
        encoder: for the choice of demonstrations; None for BM25.
        critic: who reads the answers, if ``config.critic``; by default the model itself.

    Raises:
        BudgetError: for a bound in US dollars and a model without a price.
        DataError: for a file of demonstrations that cannot be read.
    """

    def __init__(
        self,
        model: ChatModel,
        config: LoopConfig | None = None,
        *,
        price: Price | None = None,
        tools: Toolbox[Session] | None = None,
        encoder: Encoder | None = None,
        critic: ChatModel | None = None,
    ) -> None:
        self.config = LoopConfig.model_validate({}) if config is None else config
        self.model, self.critic = model, critic or model
        self.price = model.price if price is None and isinstance(model, Metered) else price
        if self.config.max_usd is not None and self.price is None:
            todo = "set price_in and price_out in its table, or leave the bound out"
            raise BudgetError(f"the price of {model.name!r} is not known", where="agent.max_usd", todo=todo)
        self._tools = tools
        self._rule = RuleAgent(tools)
        path = self.config.demonstrations or (BRIEF if is_brief(self.config, model) else None)
        self._demonstrations = None if path is None else Demonstrations.read(path, encoder)

    @property
    def name(self) -> str:
        """``plan`` or ``react``, after the strategy."""
        return self.config.strategy

    def warm(self) -> None:
        """Load what the first turn would have to wait for: a model in this process, and who finds examples."""
        if isinstance(self.model, Loadable):
            self.model.load()
        if self._demonstrations is not None:
            self._demonstrations.like("", 1)

    def answer(self, session: Session, text: str) -> Turn:
        """Return what becomes of a request."""
        *_, last = self.steps(session, text)
        return last

    def steps(self, session: Session, text: str) -> Iterator[Turn]:
        """Yield the turn as it grows: the plan, then each call that was made, last the answer."""
        tools = (toolbox(session.engine) if self._tools is None else self._tools).without(*self.config.withheld)
        work = Work(self.model, self.critic, self.config, self.price, tools, text, self._opening(session, text))
        turn = Turn((), (), session, "", by=self.name)
        try:
            for step in self._answered(work, turn):
                turn = step
                yield turn
        except Over as over:
            turn = yield from self._cut(work, turn, session, over.ending)
        except Unusable:
            turn = yield from self._stood_in(work, turn, session, "answered")
        yield self._remembered(work, turn, text)

    # -- the turn -----------------------------------------------------------------------------
    def _answered(self, work: Work, turn: Turn) -> Iterator[Turn]:
        """Yield the turn up to an answer that may be given; raises ``Over`` and ``Unusable``."""
        reader = self._rule.reader(turn.session)
        for _ in range(self.config.revisions + 1):
            turn, draft = yield from _STRATEGIES[self.config.strategy](work, turn, reader)
            refused = complaint(work, draft) if self.config.critic else None
            if refused is None:
                yield _given(work, turn, draft)
                return
            work.failures.append("critique:revise")
            remark = f"A critic refused the answer: {as_data(refused, 1)}. Do better, then answer again."
            work.steps.append(Step(remark=remark))
        raise Unusable

    def _cut(self, work: Work, turn: Turn, before: Session, ending: Ending) -> Growing:
        """Yield the turn as a bound ended it: what it has found so far, or else the rule agent's answer."""
        held = turn.session.candidates
        if self.config.critic or held is None or not len(held) or held is before.candidates:
            return (yield from self._stood_in(work, turn, before, ending))
        session, shown, _ = picked(turn.session, None, self.config.shown)
        last = replace(turn, session=session, shown=shown, text=written("", shown, session), ended=ending)
        yield work.marked(last)
        return work.marked(last)

    def _stood_in(self, work: Work, turn: Turn, before: Session, ending: Ending) -> Growing:
        """Yield the rule agent's turn in place of the model's, behind the calls that this one made."""
        session = replace(before, calls=turn.session.calls)
        made = turn.calls
        for step in self._rule.steps(session, work.request):
            told = replace(step, plan=(*made, *step.plan), calls=(*made, *step.calls), ended=ending)
            turn = work.marked(told)
            yield turn
        return turn

    # -- memory -------------------------------------------------------------------------------
    def _opening(self, session: Session, text: str) -> Message:
        """Return the user's part of the conversation: what is known, what was said, and the request."""
        c, held, dialogue = self.config, session.candidates, session.dialogue
        brief = is_brief(c, self.model)
        if brief:  # a small model takes what it is told of answers for requests, so it is told the user's words alone
            text = " ".join([*(exchange.user for exchange in dialogue.said[-c.window :] if c.window), text])
        facts = () if session.memory is None or session.user is None else session.memory.list(session.user)[::-1][: c.facts]
        told = [{k: v for k, v in fact.as_dict().items() if k in _FACT_KEYS} for fact in facts]
        catalogue = session.engine.catalogue
        items = () if held is None else held.items[: c.listed].tolist()
        listed = [{"item": catalogue.items.ids[i], "name": catalogue.names[i]} for i in items]
        (message,) = prompt("request").messages(
            request=text,
            strategy=c.strategy,
            ending="show" if brief else "answer",
            examples=() if self._demonstrations is None else self._demonstrations.like(text, c.examples),
            summary=dialogue.summary,
            said=dialogue.said[-c.window :] if c.window and not brief else (),
            facts=as_data(told, c.facts) if told else "",
            held=as_data(listed, c.listed) if listed and not brief else "",
        )
        return message

    def _remembered(self, work: Work, turn: Turn, text: str) -> Turn:
        """Return the finished turn, its exchange in the dialogue, and what no longer fits there in the summary."""
        dialogue = turn.session.dialogue.with_exchange(text, turn.text, self._ids(turn))
        if (excess := len(dialogue.said) - self.config.window) > 0:
            dialogue = dialogue.folded(self.config.window, self._summary(work, dialogue, excess))
        return work.marked(replace(turn, session=replace(turn.session, dialogue=dialogue)))

    def _ids(self, turn: Turn) -> list[str]:
        """Return the outside ids of what a turn showed."""
        return turn.session.engine.catalogue.items.decode(turn.shown)

    def _summary(self, work: Work, dialogue: Dialogue, excess: int) -> str:
        """Return the summary with the oldest exchanges in it; if none can be had, the user's own words of them behind it."""
        gone = dialogue.said[:excess]
        try:
            messages = prompt("summary").messages(summary=dialogue.summary, said=gone)
            return work.ask("summary", messages, max_tokens=self.config.summary_tokens).text.strip()
        except (Over, Unusable):
            words = [dialogue.summary, *(exchange.user for exchange in gone)]
            return " ".join(filter(None, words))[-_LONGEST_SUMMARY:]


def _given(work: Work, turn: Turn, draft: Draft) -> Turn:
    """Return the turn with an answer."""
    work.failures.extend(draft.failures)
    return work.marked(replace(turn, session=draft.session, shown=draft.shown, text=draft.text))
