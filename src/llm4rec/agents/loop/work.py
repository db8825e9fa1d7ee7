"""One turn at work: what the model is asked within the bounds, and the calls that are made for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm4rec.agents.loop.answering import ANSWERING
from llm4rec.agents.loop.config import LoopConfig
from llm4rec.agents.loop.guard import refusal
from llm4rec.agents.loop.protocol import Step, brief_schema, call_schema, read_json, read_native, signature, spelt
from llm4rec.agents.toolbox import Tool, Toolbox
from llm4rec.agents.tools import Session
from llm4rec.agents.turn import Call, Ending, Question, Turn, carried_out
from llm4rec.llm.meter import Metered
from llm4rec.llm.prices import Price
from llm4rec.llm.prompts import Prompt
from llm4rec.llm.sizes import most_answered, most_tokens
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest, FailureKind, Message
from llm4rec.prompted.wording import load_prompt

_TEMPLATES = Path(__file__).parent / "templates"
#: Demonstrations for the brief protocol, where no others are named.
BRIEF = _TEMPLATES / "brief.jsonl"
#: Failures after which a native question is asked in JSON: the server knows no tools, or the model did not call one.
_NO_TOOLS: frozenset[FailureKind] = frozenset({"rejected", "tool_call", "empty"})


#: Values of an attribute, the most frequent ones, among which a brief call chooses.
_VALUES = 200


class Over(Exception):
    """A bound of the turn is reached."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending


class Unusable(Exception):
    """The model gave no answer that can be used, and the failure is counted."""


class Work:
    """The state of one turn.

    Args:
        model, critic: who is asked, and who reads the answers.
        config: bounds and protocol.
        price: of their tokens, None when unknown.
        tools: what may be called.
        request: the user's words.
        opening: the user's turn of the conversation with the model.
    """

    def __init__(
        self,
        model: ChatModel,
        critic: ChatModel,
        config: LoopConfig,
        price: Price | None,
        tools: Toolbox[Session],
        request: str,
        opening: Message,
    ) -> None:
        self.model, self.critic, self.price = Metered(model, price), Metered(critic, price), price
        self.config, self.tools, self.request = config, tools, request
        self.brief = is_brief(config, model)
        self.native = config.protocol in ("native", "auto") and not self.brief
        self.steps: list[Step] = []
        self.asked: list[Question] = []
        self.failures: list[str] = []
        self._opening = opening

    # -- bounds -----------------------------------------------------------------------------
    def check(self) -> None:
        """Raise :class:`Over` if no further question may be asked."""
        c = self.config
        tokens_in = sum(_tokens(q)[0] for q in self.asked)
        tokens_out = sum(_tokens(q)[1] for q in self.asked)
        if len(self.asked) >= c.max_steps:
            raise Over("steps")
        if c.max_tokens is not None and tokens_in + tokens_out >= c.max_tokens:
            raise Over("tokens")
        if c.max_usd is not None and self.price is not None and self.price.of(tokens_in, tokens_out) >= c.max_usd:
            raise Over("money")
        if c.max_seconds is not None and sum(q.reply.seconds + q.reply.once for q in self.asked) >= c.max_seconds:
            raise Over("time")

    # -- questions ----------------------------------------------------------------------------
    def ask(
        self,
        purpose: str,
        messages: tuple[Message, ...],
        *,
        schema: Mapping[str, Any] | None = None,
        tools: Sequence[Tool[Session]] = (),
        max_tokens: int | None = None,
        model: Metered | None = None,
    ) -> ChatReply:
        """Return a reply without failure.

        Raises:
            Over: if a bound is reached already.
            Unusable: for a reply with a failure, which is counted as ``PURPOSE:KIND``.
        """
        self.check()
        c = self.config
        offered = tuple(tool.as_function() for tool in tools)
        asked, most = model or self.model, max_tokens or c.answer_tokens
        guided = schema is not None and _in_process(asked)
        request = ChatRequest(messages, schema, c.temperature, most, c.seed, tools=offered, guided=guided)
        reply = asked.chat([request])[0]
        self.asked.append(Question(purpose, request, reply))
        if reply.failure is not None:
            self.failures.append(f"{purpose}:{reply.failure}")
            raise Unusable
        return reply

    def calls(
        self, purpose: str, tools: Sequence[Tool[Session]], session: Session, *, single: bool
    ) -> tuple[str, tuple[Call, ...]]:
        """Return what the model wants called in a session, with its thought: one call at a time, or all at once.

        A model that knows no function calls, or makes none, is asked in JSON from then on.
        """
        if self.native:
            try:
                reply = self.ask(purpose, self.messages(tools), tools=tools)
            except Unusable:
                if self.asked[-1].reply.failure not in _NO_TOOLS:
                    raise
            else:
                if reply.calls:
                    return read_native(reply)
                self.failures.append(f"{purpose}:no_call")
            self.native = False
        schema = self._brief(tools, session, single) if self.brief else call_schema(tools, single=single)
        return read_json(self.ask(purpose, self.messages(tools), schema=schema).value)

    def _brief(self, tools: Sequence[Tool[Session]], session: Session, single: bool) -> dict[str, Any]:
        """Return the schema of brief calls, with what is there to be named."""
        held, catalogue = session.candidates, session.engine.catalogue
        ids = [] if held is None else catalogue.items.decode(held.items[: self.config.listed])
        values = {name: sorted(value for value, _ in catalogue.values(name)[:_VALUES]) for name in catalogue.grouping}
        done = [call for step in self.steps for call in step.calls]
        return brief_schema([tool for tool in tools if tool.reads_only], ids, values, done, single=single)

    @property
    def ending(self) -> Tool[Session]:
        """The tool that ends the turn."""
        return ANSWERING["show" if self.brief else "answer"]

    @property
    def last(self) -> bool:
        """Is there but one more question within the bound?"""
        return len(self.asked) + 1 >= self.config.max_steps

    def messages(self, tools: Sequence[Tool[Session]]) -> tuple[Message, ...]:
        """Return the conversation with the model so far, in its protocol."""
        offered = [tool for tool in tools if tool.reads_only or not self.brief]
        lines = [] if self.native else [signature(tool, brief=self.brief) for tool in offered]
        system = prompt("system").messages(tools=lines, brief=self.brief)
        single = self.config.strategy == "react"
        done = spelt(self.steps, native=self.native, single=single, most=self.config.listed)
        return (*system, self._opening, *done)

    # -- calls --------------------------------------------------------------------------------
    def do(self, turn: Turn, call: Call) -> Turn:
        """Return the turn with a call made, or refused; its error is counted.

        Raises:
            Over: if no further call may be made.
        """
        if len(turn.calls) >= self.config.max_calls:
            raise Over("steps")
        refused = call.error or refusal(call, self.request)
        before = turn.session
        if refused is None:
            done, after = carried_out(call, self.tools, before)
            if self.brief and after.candidates is not None and not len(after.candidates):
                refused = "no candidate would be left, so it was not done"
        if refused is not None:
            done, after = replace(call, error=refused), replace(before, calls=before.calls + 1)
        if done.error is not None:
            self.failures.append("call_error" if refused is None or call.error else "call_refused")
        return self.marked(replace(turn, calls=(*turn.calls, done), session=after))

    def marked(self, turn: Turn) -> Turn:
        """Return the turn with what has been asked, what it took, and what went wrong."""
        cost = self.model.tally + self.critic.tally
        told, failures = tuple(self.asked), tuple(self.failures)
        return replace(turn, asked=told, cost=cost, usd=cost.paid(self.price), failures=failures)


def prompt(name: str) -> Prompt:
    """Return a template of the loop."""
    return load_prompt(f"agent/{name}", _TEMPLATES / f"{name}.j2")


def is_brief(config: LoopConfig, model: ChatModel) -> bool:
    """Does an agent speak the brief protocol with a model?"""
    return config.protocol == "brief" or (config.protocol == "auto" and _in_process(model))


def _in_process(model: ChatModel) -> bool:
    """Does a model run in this process, where it can be held to a schema?"""
    return model.identity.get("backend") == "local"


def _tokens(question: Question) -> tuple[int, int]:
    """Return the tokens of a question and its answer, an upper bound where they are not reported."""
    usage, told = question.reply.usage, question.request
    tokens_in = most_tokens(told) if usage.tokens_in is None else usage.tokens_in
    return tokens_in, most_answered(told) if usage.tokens_out is None else usage.tokens_out
