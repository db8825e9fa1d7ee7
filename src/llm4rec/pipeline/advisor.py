"""A language model that chooses the arm: from what the arms are, what they brought so far, and what the request is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llm4rec.core import Exchange, Note, Resources
from llm4rec.llm.prompts import Prompt, plain
from llm4rec.llm.values import ChatModel, ChatReply, ChatRequest
from llm4rec.pipeline.contexts import Context
from llm4rec.pipeline.controller import Choice, Chooser, ChooserConfig

_PROMPT = Prompt(
    """=== system
You run a recommender. For each request you choose which of several systems answers it, so that the item that the user takes
next stands high in the list.
=== user
The systems:
{% for name, about in arms %}
- {{ name }}: {{ about }}
{% endfor %}
{% if feedback %}
What they brought so far (mean {{ metric }}, what they cost taken off):
{% for line in feedback %}
- {{ line }}
{% endfor %}
{% endif %}
The request: {{ request }}.
Which system?
""",
    where="the advisor's template",
)


class AdvisorConfig(ChooserConfig):
    """Parameters of :class:`Advisor`."""

    llm: str = Field(min_length=1)
    """Name of an ``[llm.NAME]`` table."""
    about: dict[str, str] = Field(default_factory=dict)
    """What each arm is, in words, by arm."""
    feedback: bool = True
    """Tell what each arm brought on validation cases, for short and for long histories."""
    max_tokens: int = Field(64, ge=8)
    """Longest answer, in tokens."""


class Advisor(Chooser[AdvisorConfig]):
    """Asks a language model for the arm, by a schema that names the arms.

    While it learns, arms are tried in turn, at random, and no model is asked; what it learns is the mean reward of each
    arm for short and for long histories, which the question tells.  Requests that read alike are one question.  An
    answer that cannot be used is counted, and the arm with the best mean answers.
    """

    deterministic = False

    def __init__(self, config: AdvisorConfig, model: ChatModel | None = None) -> None:
        super().__init__(config)
        self.model = model

    @classmethod
    def create(cls, config: AdvisorConfig, resources: Resources) -> Self:
        """Take the model from the run's."""
        return cls(config, resources.llm(config.llm))

    def begin(self, arms: Sequence[str], features: int) -> None:
        """See :class:`Chooser`."""
        self.arms_ = list(arms)
        self.plays_, self.sums_ = np.zeros((len(arms), 2), np.int64), np.zeros((len(arms), 2))

    def explore(self, context: Context, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the arms in turn, shuffled, so that each is tried as often."""
        return rng.permutation(np.arange(len(context)) % len(self.arms_))

    def learn(self, context: Context, arms: NDArray[np.int64], rewards: NDArray[np.float64]) -> None:
        """See :class:`Chooser`."""
        short = context.short.astype(np.int64)
        np.add.at(self.plays_, (arms, short), 1)
        np.add.at(self.sums_, (arms, short), rewards)

    def choose(self, context: Context) -> Choice:
        """See :class:`Chooser`."""
        words = [context.words(row) for row in range(len(context))]
        asked = list(dict.fromkeys(words))
        requests = [self._question(text) for text in asked]
        assert self.model is not None, "made without a model"
        answers = {text: self._read(q, r) for text, q, r in zip(asked, requests, self.model.chat(requests), strict=True)}
        arms, notes = zip(*(answers[text] for text in words), strict=True) if words else ((), ())
        return Choice(np.array(arms, np.int64), tuple(notes))

    def _question(self, text: str) -> ChatRequest:
        c = self.config
        arms = [(name, plain(c.about.get(name, "no description"), 400)) for name in self.arms_]
        messages = _PROMPT.messages(arms=arms, feedback=self._feedback() if c.feedback else (), metric=c.metric, request=text)
        schema = {
            "type": "object",
            "properties": {"system": {"type": "string", "enum": self.arms_}},
            "required": ["system"],
            "additionalProperties": False,
        }
        return ChatRequest(messages, schema, max_tokens=c.max_tokens)

    def _feedback(self) -> list[str]:
        means = np.divide(self.sums_, self.plays_, out=np.full(self.sums_.shape, np.nan), where=self.plays_ > 0)
        told = [(name, long, short) for name, (long, short) in zip(self.arms_, means.tolist(), strict=True)]
        return [f"{name}: {_figure(short)} for short histories, {_figure(long)} for long ones" for name, long, short in told]

    def _read(self, request: ChatRequest, reply: ChatReply) -> tuple[int, Note]:
        exchange = Exchange("\n".join(m.content for m in request.messages), reply.text or reply.detail, reply.failure)
        if reply.failure is not None:
            means = self.sums_.sum(axis=1) / np.maximum(self.plays_.sum(axis=1), 1)
            return int(np.argmax(means)), Note(failures=(reply.failure,), exchanges=(exchange,))
        return self.arms_.index(reply.value["system"]), Note(exchanges=(exchange,))

    def facts(self) -> dict[str, Any]:
        """Return plays and mean rewards, for long and for short histories."""
        means = np.divide(self.sums_, self.plays_, out=np.zeros(self.sums_.shape), where=self.plays_ > 0)
        rows = zip(self.arms_, self.plays_.tolist(), means.tolist(), strict=True)
        return {name: {"plays": plays, "reward": rewards} for name, plays, rewards in rows}


def _figure(value: float) -> str:
    return "never tried" if value != value else f"{value:.3f}"
